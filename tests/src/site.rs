use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use gateway::{Config, Gateway};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Answer, Client, JOBS, TestWorld};

/// How long something that is done at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway in this process that keeps everything in memory, under a clock that the test moves, and clients of it.
pub struct Site {
    /// The gateway.
    pub gateway: Gateway,
    /// Its clock.
    pub world: Arc<TestWorld>,
    /// A client with the first start's key, of the tenant `default`.
    pub admin: Client,
    /// A client that uploads, creates, reads and ends the tenant's jobs.
    pub ingest: Client,
    /// A client that takes the tenant's jobs.
    pub worker: Client,
}

/// A job that a worker holds.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The job's id.
    pub job_id: String,
    /// The lease token.
    pub token: String,
    /// The poll's whole answer.
    pub answer: Answer,
}

impl Site {
    /// Starts one.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts one whose files under `root` may be named by path.
    pub async fn with_root(root: &Path) -> Self {
        Self::with(|config| config.jobs.source_roots = vec![root.to_owned()]).await
    }

    /// Starts one with a changed configuration.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let world = Arc::new(TestWorld::default());
        let mut config = Config::in_memory().unwrap();
        config.world = Arc::clone(&world) as Arc<dyn service::World>;
        // The test sweeps when it wants to; and a clock that the test moves would look like one that jumped.
        config.sweep_every = Duration::from_secs(24 * 3600);
        config.watch_clock_every = Duration::from_secs(24 * 3600);
        change(&mut config);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let gateway = Gateway::start(config).await.unwrap();
        let base = Client::new(&format!("{scheme}://127.0.0.1:{}", gateway.address.port()));
        let keyed = async |scope| {
            let tenant = "default".parse().unwrap();
            base.keyed(&gateway.service.keys().make("test", tenant, &[scope]).await.unwrap().text)
        };
        let (ingest, worker) = (keyed(api::Scope::Ingest).await, keyed(api::Scope::Worker).await);
        let admin = base.keyed(gateway.admin_key.as_deref().unwrap());
        Self { gateway, world, admin, ingest, worker }
    }

    /// A client of `tenant` with these scopes.
    pub async fn client(&self, tenant: &str, scopes: &[&str]) -> Client {
        let key = json!({"name": "test", "tenant": tenant, "scopes": scopes});
        let made = self.admin.post("/api/v1/keys", &key).await.ok();
        self.admin.keyed(made["api_key"].as_str().unwrap())
    }

    /// Creates an audio job of a small upload, with these fields besides, and gives its id.
    pub async fn job(&self, fields: &Value) -> String {
        let source = self.ingest.upload("talk.mp3", b"sound").await;
        let mut job =
            json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "task-1"});
        job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let made = self.ingest.post(JOBS, &job).await.ok();
        made["job_id"].as_str().unwrap().to_owned()
    }

    /// Takes the next audio job as `worker_id`, which must be there.
    pub async fn claim(&self, worker_id: &str) -> Claim {
        let poll = json!({"worker_id": worker_id, "content_types": ["audio"]});
        let answer = self.worker.post(&format!("{JOBS}/poll"), &poll).await;
        let granted = answer.ok();
        let text =
            |field: &str| granted[field].as_str().unwrap_or_else(|| panic!("no job: {granted}")).to_owned();
        Claim { job_id: text("job_id"), token: text("lease_token"), answer }
    }

    /// Creates a job and takes it.
    pub async fn claimed_job(&self, fields: &Value) -> Claim {
        let job_id = self.job(fields).await;
        let claim = self.claim("gpu-1").await;
        assert_eq!(claim.job_id, job_id);
        claim
    }

    /// Reports 10 % under a claim.
    pub async fn heartbeat(&self, claim: &Claim) -> Answer {
        self.leased(claim, Method::PUT, "progress", &json!({"percentage": 10, "message": "at it"})).await
    }

    /// Makes a call on a claimed job under its lease.
    pub async fn leased(&self, claim: &Claim, method: Method, verb: &str, body: &Value) -> Answer {
        self.worker.leased(method, &format!("{JOBS}/{}/{verb}", claim.job_id), &claim.token, body).await
    }

    /// Sweeps once, to the end.
    pub async fn sweep(&self) {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        assert!(self.gateway.service.sweep(until).await.unwrap().complete);
    }

    /// The list of dead events, once there are this many, which may take a moment.
    pub async fn dead_events(&self, count: usize) -> Answer {
        let until = Instant::now() + PATIENCE;
        loop {
            let listed = self.admin.get("/api/v1/events").await;
            if listed.ok()["events"].as_array().unwrap().len() == count {
                return listed;
            }
            assert!(Instant::now() < until, "there are not {count} dead events: {}", listed.text());
        }
    }

    /// Where a job stands.
    pub async fn status(&self, job_id: &str) -> Value {
        self.ingest.get(&format!("{JOBS}/{job_id}/status")).await.ok()
    }
}
