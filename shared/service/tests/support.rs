//! What the tests of the use cases share: a service over a store of its own, a clock that only the test moves, and
//! the usual callers, requests and calls.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::{
    Scope,
    create::CreateJobRequest,
    manage::CancelRequest,
    poll::{ClaimedJob, LeaseGrant, PollRequest, PollResponse},
    progress::ProgressRequest,
    result::ResultRequest,
    rfc3339,
};
use aws_sdk_dynamodb::{
    config::{BehaviorVersion, Credentials, Region},
    types::AttributeValue,
};
use bytes::Bytes;
use domain::{ContentType, Jitter, Job, Timestamp};
use serde_json::{Map, Value};
use service::{Caller, Error, Rules, Service, SourceRoots, WebhookNetworks, World};
use sha2::{Digest, Sha256};
use store::{Connection, Endpoint, StorageKey, Store};
use tokio::time::Instant;
use uuid::Uuid;

use crate::backend::Backend;

/// When every test begins. Ahead of the machine's clock, so that no row is ever past its time to live.
const BEGIN: Timestamp = Timestamp(4_102_444_800_000);

/// A clock that stands still, and half of the longest backoff.
pub(crate) struct TestWorld {
    clock: Arc<AtomicI64>,
    /// By how many milliseconds this server's clock is ahead.
    ahead: i64,
}

impl World for TestWorld {
    fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed) + self.ahead)
    }

    fn jitter(&self) -> Jitter {
        Jitter::new(0.5)
    }
}

/// A service, and what it stands on.
pub(crate) struct Place {
    pub(crate) service: Service,
    pub(crate) backend: Backend,
    clock: Arc<AtomicI64>,
}

impl Deref for Place {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    /// A place whose worker was noted already, so that its polls write nothing of it.
    pub(crate) async fn with_known_worker() -> Self {
        let place = Self::new().await;
        assert!(place.try_claim().await.is_none());
        place
    }

    pub(crate) async fn with_rules(rules: impl FnOnce(&mut Rules)) -> Self {
        Self::with(|_| {}, rules).await
    }

    pub(crate) async fn with(
        connection: impl FnOnce(&mut Connection),
        rules: impl FnOnce(&mut Rules),
    ) -> Self {
        let mut backend = Backend::new();
        connection(&mut backend.connection);
        Self::over(backend, rules).await
    }

    /// Over the embedded engines whatever the environment says, for tests that stop the runtime's clock: it would
    /// jump while an answer is on its way over the network.
    pub(crate) async fn in_process(rules: impl FnOnce(&mut Rules)) -> Self {
        Self::over(Backend::embedded(), rules).await
    }

    async fn over(backend: Backend, change: impl FnOnce(&mut Rules)) -> Self {
        let store = Store::connect(&backend.connection).await;
        store.ensure().await.unwrap();
        let mut rules = Rules {
            run_timeouts: BTreeMap::from([(ContentType::Document, Duration::from_secs(600))]),
            other_run_timeout: Duration::from_secs(1800),
            longest_wait: Duration::ZERO,
            poll_again: Duration::from_secs(10),
            seen_every: Duration::from_secs(60),
            source_roots: SourceRoots::default(),
            webhook_networks: WebhookNetworks::default(),
        };
        change(&mut rules);
        let clock = Arc::new(AtomicI64::new(BEGIN.0));
        let world = Arc::new(TestWorld { clock: Arc::clone(&clock), ahead: 0 });
        Self { service: Service::new(store, rules, world), backend, clock }
    }

    /// The same table behind another server, which remembers nothing of this one.
    pub(crate) async fn another(&self) -> Service {
        self.another_ahead(0).await
    }

    /// As [`Place::another`], with a clock that is this many milliseconds ahead.
    pub(crate) async fn another_ahead(&self, ahead: i64) -> Service {
        self.another_by(ahead, |_| {}).await
    }

    /// As [`Place::another`], with other rules.
    pub(crate) async fn another_with(&self, change: impl FnOnce(&mut Rules)) -> Service {
        self.another_by(0, change).await
    }

    async fn another_by(&self, ahead: i64, change: impl FnOnce(&mut Rules)) -> Service {
        let store = Store::connect(&self.backend.connection).await;
        let mut rules = Rules {
            run_timeouts: BTreeMap::new(),
            other_run_timeout: Duration::from_secs(600),
            longest_wait: Duration::ZERO,
            poll_again: Duration::from_secs(10),
            seen_every: Duration::from_secs(60),
            source_roots: SourceRoots::default(),
            webhook_networks: WebhookNetworks::default(),
        };
        change(&mut rules);
        Service::new(store, rules, Arc::new(TestWorld { clock: Arc::clone(&self.clock), ahead }))
    }

    /// A service whose DynamoDB and S3 nobody listens for.
    pub(crate) async fn out_of_reach() -> Service {
        let nobody = Endpoint::At {
            url: "http://127.0.0.1:1".to_owned(),
            credentials: ("any".to_owned(), "any".to_owned()),
            http: None,
        };
        let mut place = Self::in_process(|_| {}).await;
        place.backend.connection.dynamodb = nobody.clone();
        place.backend.connection.s3 = nobody;
        place.another().await
    }

    /// A client of the table that knows nothing of jobs.
    pub(crate) fn raw(&self) -> aws_sdk_dynamodb::Client {
        let Endpoint::At { url, http, .. } = &self.backend.connection.dynamodb else {
            panic!("no test goes to AWS")
        };
        let network = || aws_smithy_http_client::Builder::new().build_http();
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("any", "any", None, None, "test"))
            .endpoint_url(url)
            .http_client(http.clone().unwrap_or_else(network))
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }

    /// Writes any row.
    pub(crate) async fn put_row(&self, row: HashMap<String, AttributeValue>) {
        let table = &self.backend.connection.table;
        self.raw().put_item().table_name(table).set_item(Some(row)).send().await.unwrap();
    }

    /// The partition keys of all rows there are.
    pub(crate) async fn rows(&self) -> BTreeSet<String> {
        let mut pages =
            self.raw().scan().table_name(&self.backend.connection.table).into_paginator().items().send();
        let mut rows = BTreeSet::new();
        while let Some(row) = pages.next().await {
            rows.insert(row.unwrap()["pk"].as_s().unwrap().clone());
        }
        rows
    }

    /// The keys of all objects there are.
    pub(crate) async fn objects(&self) -> Vec<String> {
        self.store().handoff.list("").await.unwrap()
    }

    /// Sweeps to the end.
    pub(crate) async fn swept(&self) -> service::Swept {
        self.sweep(Instant::now() + Duration::from_secs(60)).await.unwrap()
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.fetch_add(i64::try_from(seconds * 1000).unwrap(), Ordering::Relaxed);
    }

    /// Sets the clock back.
    pub(crate) fn set_back(&self, seconds: u64) {
        self.clock.fetch_sub(i64::try_from(seconds * 1000).unwrap(), Ordering::Relaxed);
    }

    /// How many seconds have passed.
    pub(crate) fn clock(&self) -> u64 {
        self.now().since(BEGIN).as_secs()
    }

    /// Lets every object expire that is stored now.
    pub(crate) async fn expire_objects(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(46 * 24 * 3600);
        let swept = self.backend.engines.sweep(i64::try_from(now.as_millis()).unwrap()).await.unwrap();
        assert!(swept.expired_objects > 0);
    }

    /// Stores a file as its upload does and gives its path.
    pub(crate) async fn uploaded(&self, name: &str) -> String {
        self.uploaded_by("t", name).await
    }

    pub(crate) async fn uploaded_by(&self, tenant: &str, name: &str) -> String {
        let key = StorageKey::Source {
            tenant: tenant.parse().unwrap(),
            upload: Uuid::now_v7(),
            name: domain::FileName::from_client(name),
        };
        self.store().handoff.put(&key, "bytes".into(), &sha256(b"bytes")).await.unwrap();
        key.to_string()
    }

    /// A request for the conversion of a document that was just uploaded.
    pub(crate) async fn request(&self) -> CreateJobRequest {
        request(&self.uploaded("report.pdf").await)
    }

    /// Creates a document job and gives its id.
    pub(crate) async fn created(&self) -> String {
        self.created_with(|_| {}).await
    }

    pub(crate) async fn created_with(&self, change: impl FnOnce(&mut CreateJobRequest)) -> String {
        let mut request = self.request().await;
        change(&mut request);
        self.create(&caller(), &request, None).await.unwrap().job_id
    }

    /// Stores the row of a document job that no version of this system has written, due now and past its deadline in
    /// a minute.
    pub(crate) async fn unreadable(&self) {
        let id = self.created_with(|request| request.queue_timeout_seconds = Some(60)).await;
        let job = self.job(&id).await;
        let broken = Job { id: domain::JobId(Uuid::now_v7()), revision: 0, ..job.clone() };
        self.store().jobs.create(&broken).await.unwrap();
        assert!(self.store().jobs.get(broken.id).await.is_err());
        self.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap();
    }

    /// Claims the next document job as a worker that knows leases.
    pub(crate) async fn claim(&self) -> Held {
        self.try_claim().await.unwrap()
    }

    pub(crate) async fn try_claim(&self) -> Option<Held> {
        let answer = self.poll(&caller(), &polling("document"), true).await.unwrap();
        let token = answer.lease.map(|lease| lease.lease_token);
        answer.job_id.map(|id| Held { id, token })
    }

    /// Claims the next document job as a client of the original system.
    pub(crate) async fn claim_as_original(&self) -> Held {
        let answer = self.poll(&caller(), &polling("document"), false).await.unwrap();
        Held { id: answer.job_id.unwrap(), token: None }
    }

    /// A job that was just created and claimed.
    pub(crate) async fn claimed(&self) -> Held {
        let id = self.created().await;
        let held = self.claim().await;
        assert_eq!(held.id, id);
        held
    }

    /// As [`Place::claimed`], while `waiting` waits in the same queue and keeps waiting.
    pub(crate) async fn claimed_after(&self, waiting: &str) -> Held {
        use api::create::PriorityName::High;
        let id = self.created_with(|request| request.priority = Some(High)).await;
        let held = self.claim().await;
        assert!(held.id == id && held.id != waiting);
        held
    }

    /// The job as it is stored.
    pub(crate) async fn job(&self, id: &str) -> Job {
        self.store().jobs.get(id.parse().unwrap()).await.unwrap().unwrap()
    }

    pub(crate) async fn status_of(&self, id: &str) -> String {
        self.job(id).await.status().to_string()
    }

    pub(crate) async fn heartbeat(&self, held: &Held) -> Result<api::progress::ProgressResponse, Error> {
        self.report_progress(&caller(), &held.id, held.token(), &progress(10, "page 1")).await
    }

    pub(crate) async fn submit(&self, held: &Held, result: &ResultRequest) -> Result<String, Error> {
        let answer = self.submit_result(&caller(), &held.id, held.token(), result).await?;
        assert!(!answer.ingestion_continued);
        Ok(answer.status)
    }

    /// What a GET of a presigned URL gives.
    pub(crate) async fn fetched(&self, url: &str) -> (u16, Bytes) {
        let (parts, body) = self.backend.send("GET", url, &BTreeMap::new(), "").await;
        (parts.status.as_u16(), body)
    }
}

/// A job that a worker was given, and what proves it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) token: Option<String>,
}

impl Held {
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// Whoever calls, where it does not matter: tenant `t`, with every scope.
pub(crate) fn caller() -> Caller {
    caller_of("t", "k")
}

pub(crate) fn caller_of(tenant: &str, key: &str) -> Caller {
    Caller { tenant: tenant.parse().unwrap(), key: key.parse().unwrap(), scopes: Scope::ALL.to_vec() }
}

pub(crate) fn request(path: &str) -> CreateJobRequest {
    CreateJobRequest {
        source_file_path: path.to_owned(),
        content_type: ContentType::Document,
        task_options: Map::new(),
        ingestion_task_id: "task-1".to_owned(),
        timeout_seconds: None,
        queue_timeout_seconds: None,
        total_timeout_seconds: None,
        fallback_to_local: None,
        priority: None,
        max_retries: None,
        webhook_url: None,
    }
}

/// A poll for these types, with commas between them.
pub(crate) fn polling(content_types: &str) -> PollRequest {
    PollRequest {
        worker_id: "gpu-1".to_owned(),
        content_types: content_types.split(',').map(|name| name.parse().unwrap()).collect(),
        ..PollRequest::default()
    }
}

pub(crate) fn polling_as(worker: &str, content_types: &str) -> PollRequest {
    PollRequest { worker_id: worker.to_owned(), ..polling(content_types) }
}

pub(crate) fn progress(percentage: u64, message: &str) -> ProgressRequest {
    ProgressRequest { percentage, message: message.to_owned(), timestamp: None, stage: None }
}

pub(crate) fn success(content: &str) -> ResultRequest {
    ResultRequest { success: true, content: Some(content.to_owned()), ..ResultRequest::default() }
}

pub(crate) fn failure(retryable: bool) -> ResultRequest {
    ResultRequest {
        error_message: Some("no text in it".to_owned()),
        retryable: Some(retryable),
        ..ResultRequest::default()
    }
}

pub(crate) fn options(json: Value) -> Map<String, Value> {
    let Value::Object(options) = json else { panic!("options are an object") };
    options
}

pub(crate) fn sha256(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// The status and the text that the caller is answered with.
pub(crate) fn problem<T>(result: Result<T, Error>) -> (u16, String) {
    let (status, _, detail) = full_problem(result);
    (status, detail)
}

/// As [`problem`], with the kind's name.
pub(crate) fn full_problem<T>(result: Result<T, Error>) -> (u16, String, String) {
    let Err(error) = result else { panic!("it was not refused") };
    let problem = error.problem();
    let kind = problem.kind.strip_prefix("urn:remote-jobs:").unwrap().to_owned();
    (problem.status, kind, problem.detail)
}

/// The answer for one field that does not fit.
pub(crate) fn field(name: &str, message: &str) -> (u16, String) {
    (422, format!("`{name}` {message}"))
}

/// The answer for a job that this caller does not have.
pub(crate) fn not_found(id: &str) -> (u16, String) {
    (404, format!("Job {id} not found"))
}

/// The answer for a caller that does not hold the job.
pub(crate) fn stale(id: &str, status: &str) -> (u16, String, String) {
    let text = format!(
        "Job {id}: this attempt no longer holds the job, which is {status}; stop working on it and discard its result."
    );
    (409, "stale-lease".to_owned(), text)
}

/// The answer for a caller that sent no token for a job that is leased to one.
pub(crate) fn without_token(id: &str) -> (u16, String, String) {
    let text = format!(
        "Job {id}: the job is processing under a lease that the header Lease-Token proves, and the call came without it; send the lease_token of the poll's answer."
    );
    (409, "stale-lease".to_owned(), text)
}

/// The moment `seconds` after the beginning, as it is answered.
pub(crate) fn at(seconds: u64) -> String {
    rfc3339(BEGIN.plus(Duration::from_secs(seconds)))
}

pub(crate) fn lease(answer: &PollResponse) -> &LeaseGrant {
    answer.lease.as_ref().unwrap()
}

pub(crate) fn ids(jobs: &[ClaimedJob]) -> Vec<&str> {
    jobs.iter().map(|job| job.job_id.as_str()).collect()
}
