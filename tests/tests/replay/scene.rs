//! The functions over one table and bucket, with jobs for the events to speak of.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime},
};

use api::{Function, ROUTES};
use lambda_http::{Context, LambdaEvent, request::LambdaRequest};
use runtime::{App, Request};
use serde_json::{Value, json};
use system_tests::{Functions, JOBS, sha256_hex};

pub(crate) struct Scene {
    pub(crate) functions: Functions,
    /// What stands in the events for what differs from run to run.
    pub(crate) values: BTreeMap<&'static str, String>,
}

/// An answer in the form that API Gateway takes.
pub(crate) struct Answered {
    pub(crate) status: u64,
    /// The headers' values by their names in small letters, of either kind of API.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()
    }

    /// The detail of a problem with this status.
    pub(crate) fn problem(&self, status: u64) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

impl Scene {
    /// With a job that waits.
    pub(crate) async fn new() -> Self {
        let functions = Functions::new().await;
        let key = functions.key().to_owned();
        let mut scene = Self { functions, values: BTreeMap::from([("KEY", key)]) };
        let id = scene.created(&json!({})).await;
        scene.values.insert("ENCODED_JOB_ID", id.replace('-', "%2D"));
        scene.values.insert("JOB_ID", id);
        scene
    }

    /// Creates an audio job with these fields besides, and gives its id.
    pub(crate) async fn created(&self, fields: &Value) -> String {
        let file = json!({"filename": "a.mp3", "size_bytes": 5, "sha256": sha256_hex(b"sound")});
        let place = self.functions.call("POST", &format!("{JOBS}/uploads"), "", &file).await.ok();
        self.functions.presigned(&place["put"], b"sound").await;
        let path = &place["source_file_path"];
        let mut job = json!({"source_file_path": path, "content_type": "audio", "ingestion_task_id": "task"});
        job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let made = self.functions.call("POST", JOBS, "", &job).await.ok();
        made["job_id"].as_str().unwrap().to_owned()
    }

    /// Takes the job that waits, and gives its id and the lease token.
    pub(crate) async fn claimed(&self) -> (String, String) {
        let poll = json!({"worker_id": "gpu-1", "content_types": ["audio"]});
        let job = self.functions.call("POST", &format!("{JOBS}/poll"), "", &poll).await.ok();
        let text = |field: &str| job[field].as_str().unwrap().to_owned();
        (text("job_id"), text("lease_token"))
    }

    /// One event, with the values put in.
    pub(crate) fn event(&self, name: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("events/{name}.json"));
        let text = std::fs::read_to_string(path).unwrap();
        let filled =
            self.values.iter().fold(text, |text, (name, value)| text.replace(&format!("${name}"), value));
        serde_json::from_str(&filled).unwrap()
    }

    /// Lets the function answer that API Gateway would give the event to.
    pub(crate) async fn replay(&self, name: &str) -> Answered {
        answered(self.functions.app().await, &self.event(name), context(Duration::from_secs(20))).await
    }
}

/// What Lambda says of an invocation that may take this long.
pub(crate) fn context(time: Duration) -> Context {
    let until = (SystemTime::now() + time).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut context = Context::default();
    context.request_id = "8f507cfc-xmpl-4697-b07a-ac58fc914c95".to_owned();
    context.xray_trace_id =
        Some("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1".to_owned());
    context.deadline = u64::try_from(until.as_millis()).unwrap();
    context
}

pub(crate) async fn answered(app: App, event: &Value, context: Context) -> Answered {
    let function = function(event);
    let request: LambdaRequest = serde_json::from_str(&event.to_string()).unwrap();
    let handle = |app: App, request: Request| gateway::answer(app, function, request);
    let answer = runtime::answer_event(&app, &handle, LambdaEvent::new(request, context)).await.unwrap();
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer["isBase64Encoded"], false, "nothing that is answered is binary");
    // A REST API takes lists of values, an HTTP API single ones; each answer has one of both.
    let headers: BTreeMap<String, String> = match event["version"].as_str() {
        Some(_) => answer["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        None => answer["multiValueHeaders"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, values)| (name.clone(), text(&values[0])))
            .collect(),
    };
    Answered {
        status: answer["statusCode"].as_u64().unwrap(),
        headers,
        body: answer["body"].as_str().unwrap_or_default().to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Which function an event goes to: that of its route or, when it has none, the one of all other routes.
fn function(event: &Value) -> Function {
    let context = &event["requestContext"];
    let (method, path) = match context["routeKey"].as_str() {
        Some(key) => key.split_once(' ').unwrap_or(("", key)),
        None => (context["httpMethod"].as_str().unwrap(), context["resourcePath"].as_str().unwrap()),
    };
    let route = ROUTES.iter().find(|route| route.method == method && route.path == path);
    route.map_or(Function::CreateJob, |route| route.function)
}
