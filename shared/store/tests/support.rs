//! What the tests of the store share: a store of their own, jobs, and ways to look and to meddle behind its back.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Region},
    types::AttributeValue,
};
use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
            http_client_fn,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use domain::{
    ContentType, Credential, FileName, Holder, Jitter, Job, JobId, LeaseTerms, Limits, Priority, ResultRef,
    Source, Spec, Submission, Submitted, TaskOptions, Timestamp, TokenHash,
};
use store::{Connection, Creation, Endpoint, Replacement, Store, StoreError};
use uuid::Uuid;

use crate::backend::Backend;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// A store with its table and bucket, and its backend.
pub(crate) struct Place {
    pub(crate) store: Store,
    pub(crate) backend: Backend,
}

impl Deref for Place {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A store whose connection `change` has changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Connection)) -> Self {
        let mut backend = Backend::new();
        change(&mut backend.connection);
        let store = Store::connect(&backend.connection).await;
        store.ensure().await.unwrap();
        Self { store, backend }
    }

    /// The same table and bucket, with what `fault` makes of the way to DynamoDB.
    pub(crate) async fn behind(&self, fault: impl FnOnce(SharedHttpClient) -> SharedHttpClient) -> Store {
        let mut connection = self.backend.connection.clone();
        let Endpoint::At { http, .. } = &mut connection.dynamodb else { panic!("no test goes to AWS") };
        *http = Some(fault(http.take().unwrap_or_else(network)));
        Store::connect(&connection).await
    }

    /// A client that knows nothing of jobs.
    pub(crate) fn raw(&self) -> Client {
        let Endpoint::At { url, http, .. } = &self.backend.connection.dynamodb else {
            panic!("no test goes to AWS")
        };
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("any", "any", None, None, "test"))
            .endpoint_url(url)
            .http_client(http.clone().unwrap_or_else(network))
            .build();
        Client::from_conf(config)
    }

    pub(crate) fn table(&self) -> &str {
        &self.backend.connection.table
    }

    /// The row with this partition key, as it is stored.
    pub(crate) async fn row(&self, pk: &str) -> Option<Item> {
        let key = AttributeValue::S(pk.to_owned());
        let got = self.raw().get_item().table_name(self.table()).key("pk", key).consistent_read(true);
        got.send().await.unwrap().item
    }

    /// The row of a job that is there.
    pub(crate) async fn row_of(&self, job: &Job) -> Item {
        self.row(&pk(job)).await.unwrap()
    }

    /// Writes any row.
    pub(crate) async fn put_row(&self, item: Item) {
        self.raw().put_item().table_name(self.table()).set_item(Some(item)).send().await.unwrap();
    }

    pub(crate) async fn delete_row(&self, pk: &str) {
        let key = AttributeValue::S(pk.to_owned());
        self.raw().delete_item().table_name(self.table()).key("pk", key).send().await.unwrap();
    }

    /// Writes a new job and gives it back.
    pub(crate) async fn created(&self, job: Job) -> Job {
        assert_eq!(self.jobs.create(&job).await.unwrap(), Creation::Created);
        job
    }

    /// Writes `new` over `read`, as nobody else does, and gives it back.
    pub(crate) async fn replaced(&self, read: &Job, new: Job) -> Job {
        assert_eq!(self.jobs.replace(read, &new).await.unwrap(), Replacement::Written);
        new
    }

    pub(crate) async fn read(&self, job: &Job) -> Job {
        self.jobs.get(job.id).await.unwrap().unwrap()
    }
}

fn network() -> SharedHttpClient {
    Builder::new().build_http()
}

pub(crate) fn pk(job: &Job) -> String {
    format!("job#{}", job.id)
}

/// The moment `seconds` after most jobs are created.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp(1_781_000_000_000).plus(Duration::from_secs(seconds))
}

/// A document job of tenant `t`, created at `at(0)` with an id of its own.
pub(crate) fn new_job() -> Job {
    job_with(|_| {})
}

pub(crate) fn job_with(change: impl FnOnce(&mut Spec)) -> Job {
    let mut spec = Spec {
        content_type: ContentType::Document,
        ingestion_task_id: "task-1".to_owned(),
        source: Source {
            key: "sources/t/00000000-0000-0000-0000-000000000001/report.pdf".to_owned(),
            name: FileName::from_client("report.pdf"),
            size_bytes: 1000,
            etag: "\"e\"".to_owned(),
            sha256: None,
        },
        task_options: TaskOptions::Inline("{}".to_owned()),
        limits: Limits {
            queue: Duration::from_secs(300),
            run: Duration::from_secs(600),
            total: None,
            max_retries: 3,
        },
        priority: Priority::Normal,
        request_hash: None,
        webhook: None,
    };
    change(&mut spec);
    Job::create(JobId(Uuid::now_v7()), tenant("t"), spec, at(0))
}

/// As [`new_job`], with a webhook that is to be told of its end.
pub(crate) fn watched() -> Job {
    job_with(|spec| spec.webhook = Some("https://hooks.example/jobs".parse().unwrap()))
}

pub(crate) fn of_tenant(name: &str, job: Job) -> Job {
    Job { tenant: tenant(name), ..job }
}

pub(crate) fn tenant(name: &str) -> domain::Tenant {
    name.parse().unwrap()
}

/// Half of the longest backoff.
pub(crate) fn half() -> Jitter {
    Jitter::new(0.5)
}

/// A worker whose token hashes to this byte, with a lease of a minute.
pub(crate) fn native(token: u8) -> (Credential, LeaseTerms) {
    let token = Some(TokenHash([token; 32]));
    (Credential { token, key: "k".parse().unwrap() }, LeaseTerms::DEFAULT)
}

/// A client of the original system.
pub(crate) fn legacy() -> (Credential, LeaseTerms) {
    (Credential { token: None, key: "k".parse().unwrap() }, LeaseTerms::WholeRun)
}

pub(crate) fn claimed(job: &Job, worker: &(Credential, LeaseTerms), now: Timestamp) -> Job {
    let (credential, terms) = worker;
    let holder = credential.token.map_or_else(|| Holder::Key(credential.key.clone()), Holder::Token);
    job.claim("gpu-1".parse().unwrap(), holder, *terms, now).unwrap()
}

pub(crate) fn submitted(job: &Job, credential: &Credential, submission: Submission, now: Timestamp) -> Job {
    match job.submit(credential, submission, now, half()).unwrap() {
        Submitted::Accepted(job) => *job,
        Submitted::Repeated(status) => panic!("{status} was submitted before"),
    }
}

pub(crate) fn success() -> Submission {
    Submission::Completed(ResultRef { key: "results/t/1".to_owned(), size_bytes: 10, sha256: [1; 32] })
}

pub(crate) fn failure(retryable: bool) -> Submission {
    Submission::Failed { error: "it broke".to_owned(), retryable }
}

/// How many bytes DynamoDB counts for a row, names included.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
pub(crate) fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.trim_start_matches('-').len().div_ceil(2) + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + value_size(value)).sum::<usize>(),
        AttributeValue::M(map) => 3 + map.len() + size(map),
        other => panic!("no row has {other:?}"),
    }
}

/// What kind of error it is, and why it is one.
pub(crate) fn why<T: std::fmt::Debug>(result: Result<T, StoreError>) -> (&'static str, String) {
    match result.unwrap_err() {
        StoreError::Unavailable { cause, .. } => ("unavailable", cause),
        StoreError::Rejected { cause, .. } => ("rejected", cause),
        StoreError::Unreadable { cause, .. } => ("unreadable", cause),
    }
}

/// The way to a server on which calls of `operation`, or an answer, get lost.
pub(crate) fn loses(what: Lost, operation: &'static str, way: SharedHttpClient) -> SharedHttpClient {
    let lost = Arc::new(AtomicBool::new(false));
    http_client_fn(move |settings, components| {
        let way = way.http_connector(settings, components);
        SharedHttpConnector::new(Loses { what, operation, way, lost: Arc::clone(&lost) })
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lost {
    /// No such call arrives.
    Call,
    /// Every call arrives, and the first answer does not.
    Answer,
}

#[derive(Debug)]
struct Loses {
    what: Lost,
    operation: &'static str,
    way: SharedHttpConnector,
    lost: Arc<AtomicBool>,
}

impl HttpConnector for Loses {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        if !target.ends_with(self.operation) {
            return self.way.call(request);
        }
        let broken = || ConnectorError::io("the connection broke".into());
        if self.what == Lost::Call {
            return HttpConnectorFuture::ready(Err(broken()));
        }
        let first = !self.lost.swap(true, Ordering::Relaxed);
        let answer = self.way.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            if first { Err(broken()) } else { Ok(answer) }
        })
    }
}

/// The way to a server that answers everything with this.
pub(crate) fn always(status: u16, body: &'static str) -> SharedHttpClient {
    http_client_fn(move |_, _| SharedHttpConnector::new(Always { status, body }))
}

#[derive(Debug)]
struct Always {
    status: u16,
    body: &'static str,
}

impl HttpConnector for Always {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = StatusCode::try_from(self.status).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(self.body))))
    }
}
