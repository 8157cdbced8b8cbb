//! The functions, each as a process of its own that has just been started, over one table and bucket whose calls are
//! written down under the function that made them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api::{Function, Scope};
use async_trait::async_trait;
use bytes::Bytes;
use domain::Tried;
use engines::Engines;
use http_body_util::Full;
use runtime::{App, Auth, JobSettings, Request};
use serde_json::Value;
use service::{Courier, Message, Service};
use store::{Connection, Endpoint, Store};
use system_tests::TestWorld;

use crate::recorder::{Recorder, Seen};

const TABLE: &str = "jobs";
const BUCKET: &str = "handoff";
const S3_URL: &str = "http://127.0.0.1:9000";

/// What a role allows: an action, and what of the stack it is allowed on.
pub(crate) type Grant = (String, String);

pub(crate) struct Scene {
    pub(crate) recorder: Recorder,
    /// What each function has needed so far.
    pub(crate) needed: BTreeMap<String, BTreeSet<Grant>>,
    /// The calls that were made, by method and the path of their route.
    pub(crate) called: BTreeSet<(String, &'static str)>,
    /// The keys of rows that were written in one transaction with a job's.
    pub(crate) written_with_jobs: Vec<String>,
    pub(crate) world: Arc<TestWorld>,
    engines: Engines,
    connection: Connection,
    key: String,
}

/// A function's answer.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answered {
    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert!(matches!(self.status, 200 | 307), "{}: {}", self.status, self.body);
        self.body
    }

    pub(crate) fn refused(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.body);
    }
}

/// Says of every message that its receiver is gone, or that it took it.
pub(crate) struct Says(pub(crate) Tried);

#[async_trait]
impl Courier for Says {
    async fn carry(&self, _: &Message) -> Tried {
        self.0.clone()
    }
}

impl Scene {
    /// Before the table and the bucket are made.
    pub(crate) fn empty() -> Self {
        let engines = Engines::in_memory().unwrap();
        let recorder = Recorder::default();
        let key = engines.s3_credentials();
        let connection = Connection {
            table: TABLE.to_owned(),
            bucket: BUCKET.to_owned(),
            shards: 1,
            retention: Duration::from_secs(30 * 24 * 3600),
            dynamodb: Endpoint::At {
                url: "http://dynamodb.embedded".to_owned(),
                credentials: ("any".to_owned(), "any".to_owned()),
                http: Some(recorder.before(engines.dynamodb_http())),
            },
            s3: Endpoint::At {
                url: S3_URL.to_owned(),
                credentials: (key.access_key_id().to_owned(), key.secret_access_key().to_owned()),
                http: Some(recorder.before(engines.s3_http())),
            },
        };
        let world = Arc::new(TestWorld::default());
        Self {
            recorder,
            needed: BTreeMap::new(),
            called: BTreeSet::new(),
            written_with_jobs: Vec::new(),
            world,
            engines,
            connection,
            key: String::new(),
        }
    }

    pub(crate) async fn new() -> Self {
        let mut scene = Self::empty();
        let service = scene.service().await;
        service.store().ensure().await.unwrap();
        let key = service.make_key("test", "t".parse().unwrap(), &[Scope::Admin]).await.unwrap();
        scene.key = key.text;
        scene.recorder.take();
        scene
    }

    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.connection).await
    }

    async fn service(&self) -> Service {
        let rules = JobSettings::from_env().unwrap().rules(Duration::ZERO).unwrap();
        Service::new(self.store().await, rules, Arc::clone(&self.world) as Arc<dyn service::World>)
    }

    async fn app(&self) -> App {
        App { service: self.service().await, auth: Auth::Keys }
    }

    /// Makes a call, under a lease if there is one, with a body unless it is null.
    pub(crate) async fn call(&mut self, method: &str, path: &str, lease: &str, body: &Value) -> Answered {
        let without_query = path.split('?').next().unwrap();
        let route = api::find(&method.parse().unwrap(), without_query).unwrap().route;
        self.called.insert((method.to_owned(), route.path));
        let function = route.function;
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .header("lease-token", lease)
            .body(body)
            .unwrap();
        let response = self.answer(function, request).await;
        let location = response.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        let body = location.map_or_else(|| serde_json::from_slice(response.body()).unwrap(), Value::String);
        self.note(&format!("{function:?}"), &body);
        Answered { status: response.status().as_u16(), body }
    }

    async fn answer(&self, function: Function, request: Request) -> runtime::Response {
        let app = self.app().await;
        match function {
            Function::CreateJob => create_job::handle(app, request).await,
            Function::PollJobs => poll_jobs::handle(app, request).await,
            Function::ReportProgress => report_progress::handle(app, request).await,
            Function::SubmitResult => submit_result::handle(app, request).await,
            Function::JobStatus => job_status::handle(app, request).await,
            Function::DownloadSource => download_source::handle(app, request).await,
            Function::ManageJob => manage_job::handle(app, request).await,
            Function::Gateway => panic!("the gateway's calls are not on AWS"),
        }
    }

    pub(crate) async fn sweep(&mut self) {
        let swept = sweep_jobs::handle(self.app().await).await.unwrap();
        assert!(swept.complete);
        self.note("SweepJobs", &Value::Null);
    }

    pub(crate) async fn deliver(&mut self, tried: Tried) -> service::Delivered {
        let delivered = deliver_events::handle(self.app().await, &Says(tried)).await.unwrap();
        self.note("DeliverEvents", &Value::Null);
        delivered
    }

    /// Makes the presigned request that an answer described.
    pub(crate) async fn presigned(&self, described: &Value, body: &'static [u8]) {
        let url: http::Uri = described["url"].as_str().unwrap().parse().unwrap();
        let mut request = http::Request::builder()
            .method(described["method"].as_str().unwrap())
            .uri(url.path_and_query().unwrap().as_str())
            .header("host", url.authority().unwrap().as_str());
        for (name, value) in described["headers"].as_object().unwrap() {
            if name != "host" {
                request = request.header(name, value.as_str().unwrap());
            }
        }
        let request = request.body(Full::new(Bytes::from_static(body))).unwrap();
        assert_eq!(self.engines.serve_s3(request).await.status(), 200);
    }

    /// Removes an object behind the functions' backs, as the bucket's lifecycle does.
    pub(crate) async fn lose(&self, key: &str) {
        self.store().await.handoff.delete(&[key.to_owned()]).await.unwrap();
        self.recorder.take();
    }

    /// Writes down what a function needed: for what it did, and for what others may do by the URLs that it signed.
    fn note(&mut self, function: &str, answer: &Value) {
        let needed = self.needed.entry(function.to_owned()).or_default();
        for seen in self.recorder.take() {
            if seen.operation == "TransactWriteItems" {
                let with = &seen.json()["TransactItems"][1]["Put"]["Item"]["pk"]["S"];
                self.written_with_jobs.push(with.as_str().unwrap().to_owned());
            }
            needed.extend(if seen.operation.is_empty() { s3(&seen) } else { dynamodb(&seen) });
        }
        signed(answer, "GET", &mut |method, url| {
            let url: http::Uri = url.parse().unwrap();
            let target = url.path_and_query().unwrap().to_string();
            let (operation, body) = (String::new(), String::new());
            needed.extend(s3(&Seen { method: method.to_owned(), target, operation, body, status: 200 }));
        });
    }
}

/// Every presigned URL in an answer, with its method.
fn signed(value: &Value, method: &str, found: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) if text.contains("X-Amz-Signature=") => found(method, text),
        Value::Array(values) => values.iter().for_each(|value| signed(value, method, found)),
        Value::Object(fields) => {
            let method = fields.get("method").and_then(Value::as_str).unwrap_or(method);
            fields.values().for_each(|value| signed(value, method, found));
        }
        _ => {}
    }
}

/// What a request to DynamoDB needs. A transaction needs what its writes would need one by one.
fn dynamodb(seen: &Seen) -> Vec<Grant> {
    let request = seen.json();
    let resource = match request["IndexName"].as_str() {
        Some(index) => format!("${{Table.Arn}}/index/{index}"),
        None => "Table.Arn".to_owned(),
    };
    let operations: Vec<String> = if seen.operation == "TransactWriteItems" {
        let writes = request["TransactItems"].as_array().unwrap().iter();
        writes.flat_map(|write| write.as_object().unwrap().keys().map(|kind| format!("{kind}Item"))).collect()
    } else {
        vec![seen.operation.clone()]
    };
    operations.into_iter().map(|operation| (format!("dynamodb:{operation}"), resource.clone())).collect()
}

/// What a request to S3 needs. To be told that an object is not there takes the right to list the bucket.
fn s3(seen: &Seen) -> Vec<Grant> {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let path = path.strip_prefix(&format!("/{BUCKET}")).unwrap().trim_start_matches('/');
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let grant = |action: &str, key: &str| {
        (format!("s3:{action}"), format!("${{Bucket.Arn}}/{}/*", key.split('/').next().unwrap()))
    };
    let list = || ("s3:ListBucket".to_owned(), "Bucket.Arn".to_owned());
    match (seen.method.as_str(), path) {
        ("GET", "") => vec![list()],
        ("POST", "") if has("delete") => {
            let keys = seen.body.split("<Key>").skip(1);
            keys.map(|rest| grant("DeleteObject", rest.split("</Key>").next().unwrap())).collect()
        }
        ("GET" | "HEAD", key) if seen.status == 404 => vec![grant("GetObject", key), list()],
        ("GET" | "HEAD", key) => vec![grant("GetObject", key)],
        ("PUT", key) => vec![grant("PutObject", key)],
        ("POST", key) if has("uploads") || has("uploadId") => vec![grant("PutObject", key)],
        ("DELETE", key) if has("uploadId") => vec![grant("AbortMultipartUpload", key)],
        other => panic!("nobody knows what {other:?} needs"),
    }
}
