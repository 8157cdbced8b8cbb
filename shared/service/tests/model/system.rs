//! The system beside the model: two servers over one table, each with its own way to the engines and its own clock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use api::Scope;
use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use domain::{FileName, Jitter, Timestamp};
use serde_json::json;
use service::{Caller, Rules, Service, SourceRoots, WebhookNetworks, World};
use sha2::{Digest, Sha256};
use store::{Endpoint, StorageKey, Store};
use uuid::Uuid;

use crate::{
    backend::Backend,
    crash::{Process, Wires},
    job::Millis,
    mutants::Mutant,
};

/// When every history begins. Ahead of the machine's clock, so that no row is ever past its time to live.
pub(crate) const BEGIN: Millis = 4_102_444_800_000;

/// By how much the second server's clock is ahead.
const AHEAD: Millis = 3_000;

/// How long an attempt may run when its creation does not say.
pub(crate) const RUN: Duration = Duration::from_secs(600);

pub(crate) const TENANTS: [&str; 2] = ["t", "u"];

/// The clock of a history and its share of every backoff, in hundredths.
#[derive(Debug)]
pub(crate) struct Clock {
    now: AtomicI64,
    jitter: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> Millis {
        self.now.load(Ordering::Relaxed)
    }

    /// Lets time pass, or sets the clock back.
    pub(crate) fn turn(&self, by: Millis) {
        self.now.fetch_add(by, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "at most a hundred")]
    pub(crate) fn jitter(&self) -> f64 {
        self.jitter.load(Ordering::Relaxed) as f64 / 100.0
    }
}

struct Moment {
    clock: Arc<Clock>,
    ahead: Millis,
}

impl World for Moment {
    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now() + self.ahead)
    }

    fn jitter(&self) -> Jitter {
        Jitter::new(self.clock.jitter())
    }
}

/// One server. Its store outlives it, as nothing of a process is in there.
pub(crate) struct Server {
    pub(crate) service: Service,
    pub(crate) process: Arc<Process>,
    store: Store,
    ahead: Millis,
    clock: Arc<Clock>,
}

impl Server {
    async fn new(backend: &Backend, wires: &Wires, clock: &Arc<Clock>, ahead: Millis) -> Self {
        let process = Arc::new(Process::default());
        let mut connection = backend.connection.clone();
        for endpoint in [&mut connection.dynamodb, &mut connection.s3] {
            if let Endpoint::At { http, .. } = endpoint {
                let engine = http.take().unwrap_or_else(|| Builder::new().build_http());
                *http = Some(wires.way(&process, engine));
            }
        }
        let store = Store::connect(&connection).await;
        let service = service(&store, clock, ahead);
        Self { service, process, store, ahead, clock: Arc::clone(clock) }
    }

    /// A new process that remembers nothing takes the place of this one.
    pub(crate) fn restart(&mut self) {
        self.process.renew();
        self.service = service(&self.store, &self.clock, self.ahead);
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.now() + self.ahead
    }
}

fn service(store: &Store, clock: &Arc<Clock>, ahead: Millis) -> Service {
    let rules = Rules {
        run_timeouts: BTreeMap::new(),
        other_run_timeout: RUN,
        longest_wait: Duration::ZERO,
        poll_again: Duration::from_secs(10),
        seen_every: Duration::from_secs(60),
        source_roots: SourceRoots::default(),
        webhook_networks: WebhookNetworks::default(),
    };
    Service::new(store.clone(), rules, Arc::new(Moment { clock: Arc::clone(clock), ahead }))
}

/// The engines, the servers, and the clock of one history after another.
pub(crate) struct Place {
    pub(crate) backend: Backend,
    pub(crate) wires: Wires,
    pub(crate) clock: Arc<Clock>,
    pub(crate) servers: [Server; 2],
    /// A way to the same table on which nothing ever happens.
    pub(crate) observer: Store,
    sources: BTreeMap<&'static str, StorageKey>,
}

impl Place {
    pub(crate) async fn new(backend: Backend, mutant: Option<Mutant>) -> Self {
        let wires = Wires { mutant, ..Wires::default() };
        let clock = Arc::new(Clock { now: AtomicI64::new(BEGIN), jitter: AtomicI64::new(50) });
        let observer = Store::connect(&backend.connection).await;
        observer.ensure().await.unwrap();
        let source = |tenant: &str| StorageKey::Source {
            tenant: tenant.parse().unwrap(),
            upload: Uuid::now_v7(),
            name: FileName::from_client("report.pdf"),
        };
        let sources = TENANTS.map(|tenant| (tenant, source(tenant))).into();
        let servers = [
            Server::new(&backend, &wires, &clock, 0).await,
            Server::new(&backend, &wires, &clock, AHEAD).await,
        ];
        let place = Self { backend, wires, clock, servers, observer, sources };
        place.upload_sources().await;
        place
    }

    /// Stores what jobs are made of, which goes with a job that is deleted.
    pub(crate) async fn upload_sources(&self) {
        for key in self.sources.values() {
            let sha256 = Sha256::digest(b"bytes").into();
            self.observer.handoff.put(key, "bytes".into(), &sha256).await.unwrap();
        }
    }

    /// Begins another history: no rows, fresh servers, the first moment again.
    pub(crate) async fn begin(&mut self, jitter: Millis) {
        self.wipe().await;
        self.clock.now.store(BEGIN, Ordering::Relaxed);
        self.clock.jitter.store(jitter, Ordering::Relaxed);
        self.servers.iter_mut().for_each(Server::restart);
    }

    pub(crate) fn source(&self, tenant: &str) -> String {
        self.sources[tenant].to_string()
    }

    /// Deletes every row that was written, by requests that cost less than the SDK's.
    async fn wipe(&self) {
        let rows: Vec<String> = {
            let mut recorder = self.wires.recorder();
            recorder.take_written();
            recorder.objects.clear();
            std::mem::take(&mut recorder.rows).into_keys().collect()
        };
        for some in rows.chunks(25) {
            let delete = |pk: &String| json!({ "DeleteRequest": { "Key": { "pk": { "S": pk } } } });
            let deletes: Vec<_> = some.iter().map(delete).collect();
            let body = json!({ "RequestItems": { self.table(): deletes } });
            self.send("BatchWriteItem", &body).await;
        }
    }

    fn table(&self) -> &str {
        &self.backend.connection.table
    }

    async fn send(&self, operation: &str, body: &serde_json::Value) {
        let Endpoint::At { url, .. } = &self.backend.connection.dynamodb else {
            panic!("no test goes to AWS")
        };
        let Some(engine) = self.wires.engine.get() else { return };
        let mut request = HttpRequest::new(SdkBody::from(body.to_string()));
        request.set_method("POST").unwrap();
        request.set_uri(format!("{url}/")).unwrap();
        let headers = request.headers_mut();
        headers.insert("x-amz-target", format!("DynamoDB_20120810.{operation}"));
        headers.insert("content-type", "application/x-amz-json-1.0");
        // A DynamoDB on this machine wants to see a signature and does not check it.
        headers.insert("x-amz-date", "20260101T000000Z");
        headers.insert(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
        );
        let answer =
            aws_smithy_runtime_api::client::http::HttpConnector::call(engine, request).await.unwrap();
        assert!(answer.status().is_success(), "{operation}: {:?}", answer.body());
    }
}

pub(crate) fn caller(tenant: &str, key: &str) -> Caller {
    Caller { tenant: tenant.parse().unwrap(), key: key.parse().unwrap(), scopes: Scope::ALL.to_vec() }
}
