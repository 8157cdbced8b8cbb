use std::{sync::Arc, time::Duration};

use api::{Function, Route, Scope};
use bytes::Bytes;
use deliver_events::{LONGEST_ROUND, Wanted};
use engines::Engines;
use http_body_util::Full;
use runtime::{App, Auth, EnvVar, JobSettings};
use serde_json::Value;
use service::{Courier, Delivered, Service, Swept, WebhookNetworks};
use store::{Connection, Endpoint, HintQueues, Store, Units};
use tokio::time::Instant;

use crate::{Queues, Recorder, Seen, TestWorld};

const TABLE: &str = "jobs";
/// The bucket of [`Functions`], with which the path of every request to S3 begins.
pub const BUCKET: &str = "handoff";
const S3_URL: &str = "http://127.0.0.1:9000";

/// The functions as AWS runs them, over one table and bucket in memory: each is called as a process of its own that has
/// just been started, so that nothing is remembered from call to call, and what it asks of DynamoDB, S3 and SQS is seen.
pub struct Functions {
    /// Sees what the functions ask.
    pub recorder: Recorder,
    /// The clock of the functions.
    pub world: Arc<TestWorld>,
    /// Where idle workers wait for hints.
    pub queues: Queues,
    /// How long a poll may be held open: not at all, as on AWS, unless a test says otherwise.
    pub longest_wait: Duration,
    /// When an idle worker that is given no hints is to ask again.
    pub poll_again: Duration,
    /// Where webhooks may be besides at globally routable addresses.
    pub webhook_networks: WebhookNetworks,
    engines: Engines,
    connection: Connection,
    key: String,
}

/// A call of the API, and what it took.
pub struct Called {
    /// The route that was found.
    pub route: &'static Route,
    /// The status of the answer.
    pub status: u16,
    /// The body of the answer, or where it redirects to.
    pub body: Value,
    /// What the function asked of DynamoDB, S3 and SQS.
    pub seen: Vec<Seen>,
    /// What DynamoDB charged for it.
    pub units: Units,
}

impl Called {
    /// The body of a success.
    pub fn ok(self) -> Value {
        assert!(matches!(self.status, 200 | 307), "{}: {}", self.status, self.body);
        self.body
    }

    /// The call was refused with this status.
    pub fn refused(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.body);
    }
}

impl Functions {
    /// Before the table and the bucket are made.
    #[must_use]
    pub fn empty() -> Self {
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
        let world = Arc::<TestWorld>::default();
        let queues = Queues::new(Arc::clone(&world));
        Self {
            recorder,
            world,
            queues,
            longest_wait: Duration::ZERO,
            poll_again: JobSettings::from_env().unwrap().poll_again,
            webhook_networks: WebhookNetworks::default(),
            engines,
            connection,
            key: String::new(),
        }
    }

    /// With a table, a bucket, and a key that may do everything for the tenant `t`.
    pub async fn new() -> Self {
        let functions = Self::empty();
        functions.store().await.ensure().await.unwrap();
        functions.of_tenant("t").await
    }

    /// The same with a key for another tenant.
    pub async fn of_tenant(&self, tenant: &str) -> Self {
        let keys = self.app().await.service;
        let key = keys.keys().make("test", tenant.parse().unwrap(), &[Scope::Admin]).await.unwrap();
        self.recorder.take();
        Self {
            recorder: self.recorder.clone(),
            world: Arc::clone(&self.world),
            queues: self.queues.clone(),
            longest_wait: self.longest_wait,
            poll_again: self.poll_again,
            webhook_networks: self.webhook_networks.clone(),
            engines: self.engines.clone(),
            connection: self.connection.clone(),
            key: key.text,
        }
    }

    /// What the table and the bucket are kept in.
    #[must_use]
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// The environment of functions that are processes of their own, over the same table and bucket at `endpoint`.
    #[must_use]
    pub fn environment(&self, endpoint: &str) -> Vec<(String, String)> {
        let key = self.engines.s3_credentials();
        let variables = [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", key.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", key.secret_access_key()),
            (EnvVar::Table.name(), TABLE),
            (EnvVar::Bucket.name(), BUCKET),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The API key that calls are made with.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The table and the bucket.
    pub async fn store(&self) -> Store {
        Store::connect(&self.connection).await
    }

    /// The use cases, as a function that has just been started has them.
    pub async fn app(&self) -> App {
        let mut rules = JobSettings::from_env().unwrap().rules(self.longest_wait).unwrap();
        rules.poll_again = self.poll_again;
        rules.webhook_networks = self.webhook_networks.clone();
        let world = Arc::clone(&self.world) as Arc<dyn service::World>;
        let service = Service::new(self.store().await, rules, world).with_hints(self.hint_queues().await);
        App { service, auth: Auth::Keys }
    }

    async fn hint_queues(&self) -> HintQueues {
        let endpoint = Endpoint::At {
            url: Queues::URL.to_owned(),
            credentials: ("any".to_owned(), "any".to_owned()),
            http: Some(self.recorder.before(self.queues.http())),
        };
        HintQueues::connect("stack-hints-".to_owned(), &endpoint).await
    }

    /// Makes a call, under a lease if there is one, with a body unless it is null.
    pub async fn call(&self, method: &str, path: &str, lease: &str, body: &Value) -> Called {
        let without_query = path.split('?').next().unwrap();
        let route = api::find(&method.parse().unwrap(), without_query).unwrap().route;
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .header("lease-token", lease)
            .body(body)
            .unwrap();
        let app = self.app().await;
        let meter = Arc::clone(&app.service.store().meter);
        let response = gateway::answer(app, route.function, request).await;
        let location = response.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        Called {
            route,
            status: response.status().as_u16(),
            body: location.map_or_else(|| serde_json::from_slice(response.body()).unwrap(), Value::String),
            seen: self.recorder.take(),
            units: meter.units(),
        }
    }

    /// Sweeps once, and says what was asked and charged for it.
    pub async fn sweep(&self) -> (Swept, Vec<Seen>, Units) {
        let app = self.app().await;
        let meter = Arc::clone(&app.service.store().meter);
        let swept = sweep_jobs::handle(app, Instant::now() + sweep_jobs::LONGEST_SWEEP).await.unwrap();
        (swept, self.recorder.take(), meter.units())
    }

    /// Delivers once what is due, and says what was asked and charged for it.
    pub async fn deliver(&self, courier: &dyn Courier) -> (Delivered, Vec<Seen>, Units) {
        let app = self.app().await;
        let meter = Arc::clone(&app.service.store().meter);
        let delivered =
            deliver_events::handle(app, courier, Wanted::Due, Instant::now() + LONGEST_ROUND).await.unwrap();
        (delivered, self.recorder.take(), meter.units())
    }

    /// Makes the presigned upload that an answer described.
    pub async fn presigned(&self, described: &Value, body: &'static [u8]) {
        put_presigned(&self.engines, described, body).await;
    }

    /// Removes an object behind the functions' backs, as the bucket's lifecycle does.
    pub async fn lose(&self, key: &str) {
        self.store().await.handoff.delete(&[key.to_owned()]).await.unwrap();
        self.recorder.take();
    }
}

/// The name of a function's program, and of its folder: `poll-jobs`.
#[must_use]
pub fn program_of(function: Function) -> &'static str {
    match function {
        Function::CreateJob => "create-job",
        Function::PollJobs => "poll-jobs",
        Function::ReportProgress => "report-progress",
        Function::SubmitResult => "submit-result",
        Function::JobStatus => "job-status",
        Function::DownloadSource => "download-source",
        Function::ManageJob => "manage-job",
        Function::Gateway => panic!("the gateway's calls are no function's"),
    }
}

/// Makes the presigned upload that an answer described, and gives the ETag of what is stored by it.
pub async fn put_presigned(engines: &Engines, described: &Value, body: &'static [u8]) -> String {
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
    let response = engines.serve_s3(request).await;
    assert_eq!(response.status(), 200);
    response.headers()["etag"].to_str().unwrap().to_owned()
}
