//! The functions over engines that cannot always be reached.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::Scope;
use async_trait::async_trait;
use bytes::Bytes;
use domain::Tried;
use engines::Engines as Embedded;
use gateway::answer;
use runtime::{App, Auth, Deadline, Invocation, JobSettings};
use serde_json::{Value, json};
use service::{Courier, Message, Service};
use store::{Connection, Endpoint, Store};
use system_tests::{JOBS, TestWorld, put_presigned, sha256_hex};
use tokio::time::Instant;

use crate::{engines::Engine, line::Line};

/// The table's and the bucket's name.
pub(crate) const NAME: &str = "remote-jobs";
/// Whose jobs there are.
pub(crate) const TENANT: &str = "t";

/// The time of a function: `Timeout` of the template.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(28);

/// One table and one bucket, and the way to them.
pub(crate) struct Scene {
    pub(crate) line: Line,
    pub(crate) world: Arc<TestWorld>,
    pub(crate) dynamodb: Engine,
    pub(crate) s3: Engine,
    pub(crate) embedded: Embedded,
    /// The key that calls are made with, of the scope `admin`.
    pub(crate) key: String,
    pub(crate) courier: Received,
    connection: Connection,
}

/// What is asked of a function.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// A call of the API.
    Call { method: &'static str, path: String, headers: Vec<(&'static str, String)>, body: Value },
    /// What the schedule asks of `sweep-jobs`.
    Sweep,
    /// What the schedule asks of `deliver-events`.
    Deliver,
}

impl Wanted {
    /// Whether a job is to be deleted.
    pub(crate) fn is_deletion(&self) -> bool {
        matches!(self, Self::Call { method: "DELETE", path, .. } if path.starts_with(JOBS))
    }
}

/// What a function says.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Whether it says when to come again.
    pub(crate) retry_after: bool,
    pub(crate) body: Value,
}

impl Answered {
    pub(crate) fn is_success(&self) -> bool {
        matches!(self.status, 200 | 307)
    }

    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert!(self.is_success(), "{}: {}", self.status, self.body);
        self.body
    }
}

/// Takes every message, and counts them.
#[derive(Debug, Default)]
pub(crate) struct Received(AtomicU64);

impl Received {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Courier for Received {
    async fn carry(&self, _: &Message) -> Tried {
        self.0.fetch_add(1, Ordering::Relaxed);
        Tried::Taken
    }
}

/// A call of the API without further headers.
pub(crate) fn call(method: &'static str, path: impl Into<String>, body: Value) -> Wanted {
    Wanted::Call { method, path: path.into(), headers: Vec::new(), body }
}

/// A call under a lease.
pub(crate) fn under(lease: &str, method: &'static str, path: impl Into<String>, body: Value) -> Wanted {
    Wanted::Call { method, path: path.into(), headers: vec![("lease-token", lease.to_owned())], body }
}

/// A call that may be repeated because of its key.
pub(crate) fn once(method: &'static str, path: impl Into<String>, body: Value) -> Wanted {
    let headers = vec![("idempotency-key", "once".to_owned())];
    Wanted::Call { method, path: path.into(), headers, body }
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let embedded = Embedded::in_memory().unwrap();
        let (line, dynamodb, s3) = (Line::default(), Engine::default(), Engine::default());
        let key = embedded.s3_credentials();
        let credentials = (key.access_key_id().to_owned(), key.secret_access_key().to_owned());
        let at = |url: &str, http| Endpoint::At {
            url: url.to_owned(),
            credentials: credentials.clone(),
            http: Some(http),
        };
        let connection = Connection {
            table: NAME.to_owned(),
            bucket: NAME.to_owned(),
            shards: 1,
            retention: Duration::from_secs(30 * 24 * 3600),
            dynamodb: at("http://dynamodb.embedded", dynamodb.client(&line, embedded.dynamodb_http())),
            s3: at("http://127.0.0.1:9000", s3.client(&line, embedded.s3_http())),
        };
        let (world, courier) = (Arc::default(), Received::default());
        let mut scene = Self { line, world, dynamodb, s3, embedded, key: String::new(), courier, connection };
        scene.store().await.ensure().await.unwrap();
        scene.key = scene.new_key(&[Scope::Admin]).await;
        scene
    }

    /// A key of the tenant.
    pub(crate) async fn new_key(&self, scopes: &[Scope]) -> String {
        let service = self.app().await.service;
        service.keys().make("test", TENANT.parse().unwrap(), scopes).await.unwrap().text
    }

    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.connection).await
    }

    /// A function as a process of its own that has just been started.
    pub(crate) async fn app(&self) -> App {
        let rules = JobSettings::from_env().unwrap().rules(Duration::ZERO).unwrap();
        let world = Arc::clone(&self.world) as Arc<dyn service::World>;
        App { service: Service::new(self.store().await, rules, world), auth: Auth::Keys }
    }

    /// Asks a function that has just been started.
    pub(crate) async fn ask(&self, wanted: &Wanted) -> Answered {
        let app = self.app().await;
        match wanted {
            Wanted::Call { method, path, .. } => {
                let function = function_of(method, path);
                // In a box, because futures this deep within each other are more than the compiler takes.
                let response = Box::pin(answer(app, function, self.request(wanted))).await;
                let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
                Answered {
                    status: response.status().as_u16(),
                    retry_after: header("retry-after").is_some_and(|after| after.parse::<u64>().is_ok()),
                    body: header("location").map_or_else(
                        || serde_json::from_slice(response.body()).unwrap_or_default(),
                        |location| location.into(),
                    ),
                }
            }
            Wanted::Sweep => {
                scheduled(Box::pin(sweep_jobs::handle(app, Instant::now() + sweep_jobs::LONGEST_SWEEP)).await)
            }
            Wanted::Deliver => scheduled(Box::pin(self.deliver(app, &self.courier)).await),
        }
    }

    /// Delivers once what is due.
    pub(crate) async fn deliver(
        &self,
        app: App,
        courier: &dyn Courier,
    ) -> Result<service::Delivered, runtime::Error> {
        let until = Instant::now() + deliver_events::LONGEST_ROUND;
        deliver_events::handle(app, courier, deliver_events::Wanted::Due, until).await
    }

    /// The request of a call, as it is when a function is invoked with it.
    pub(crate) fn request(&self, wanted: &Wanted) -> runtime::Request {
        let Wanted::Call { method, path, headers, body } = wanted else { panic!("{wanted:?} is no call") };
        let mut request = http::Request::builder()
            .method(*method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let invocation =
            Invocation { request_id: "1".to_owned(), trace_id: None, deadline: Deadline::after(TIMEOUT) };
        request
            .extension(invocation)
            .body(if body.is_null() { Bytes::new() } else { body.to_string().into() })
            .unwrap()
    }

    /// Makes a presigned upload, and gives the ETag of what was stored by it.
    pub(crate) async fn presigned(&self, described: &Value, body: &'static [u8]) -> String {
        put_presigned(&self.embedded, described, body).await
    }

    /// Uploads a file and gives its path.
    pub(crate) async fn uploaded(&self) -> String {
        let file = json!({"filename": "a.pdf", "size_bytes": 5, "sha256": sha256_hex(b"bytes")});
        let place = self.ask(&call("POST", format!("{JOBS}/uploads"), file)).await.ok();
        self.presigned(&place["put"], b"bytes").await;
        place["source_file_path"].as_str().unwrap().to_owned()
    }

    /// What a job of the type `document` is created by, with a webhook and these fields.
    pub(crate) async fn job(&self, fields: Value) -> Value {
        let mut job = json!({
            "source_file_path": self.uploaded().await, "content_type": "document", "ingestion_task_id": "task",
            "webhook_url": "https://hooks.example/",
        });
        job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        job
    }

    /// The path of a new job.
    pub(crate) async fn created(&self, fields: Value) -> String {
        let job = self.job(fields).await;
        let made = self.ask(&call("POST", JOBS, job)).await.ok();
        format!("{JOBS}/{}", made["job_id"].as_str().unwrap())
    }

    /// The path and the lease token of a job that a worker holds.
    pub(crate) async fn claimed(&self, fields: Value) -> (String, String) {
        self.created(fields).await;
        let claimed = self.ask(&poll()).await.ok();
        let text = |field: &str| claimed[field].as_str().unwrap().to_owned();
        (format!("{JOBS}/{}", text("job_id")), text("lease_token"))
    }

    /// The path of a job that was cancelled.
    pub(crate) async fn cancelled(&self, fields: Value) -> String {
        let path = self.created(fields).await;
        self.ask(&call("POST", format!("{path}/cancel"), json!({}))).await.ok();
        path
    }
}

/// A worker asks for work.
pub(crate) fn poll() -> Wanted {
    let poll = json!({"worker_id": "gpu-1", "content_types": ["document"], "lease_seconds": 60});
    call("POST", format!("{JOBS}/poll"), poll)
}

/// Task options that no row takes.
pub(crate) fn large_options() -> Value {
    json!({"task_options": {"text": "o".repeat(2000)}})
}

/// The function that has the route of a call.
pub(crate) fn function_of(method: &str, path: &str) -> api::Function {
    let path = path.split('?').next().unwrap();
    api::find(&method.parse().unwrap(), path).unwrap().route.function
}

/// A scheduled function has no status: what fails is repeated by the schedule.
fn scheduled<T>(outcome: Result<T, runtime::Error>) -> Answered {
    match outcome {
        Ok(_) => Answered { status: 200, retry_after: false, body: Value::Null },
        Err(error) => {
            let problem = error.problem();
            Answered { status: problem.status, retry_after: true, body: problem.detail.into() }
        }
    }
}
