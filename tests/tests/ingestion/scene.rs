//! A gateway with everything the functions are, tasks to convert, and who converts them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use client::{ApiKey, Client};
use domain::ContentType;
use ingestion::{
    ConversionTask, Converted, Event, Events, Ingestion, LocalConversion, RemoteSettings, Source,
};
use serde_json::{Map, Value, json};
use system_tests::{FaultyProxy, JOBS, Site};
use tempfile::TempDir;
use tokio::sync::Notify;

pub(crate) struct Scene {
    pub(crate) site: Site,
    folder: TempDir,
}

impl Scene {
    /// With a worker for audio that has been there lately.
    pub(crate) async fn start() -> Self {
        let networks = |config: &mut gateway::Config| {
            config.jobs.webhook_networks = "127.0.0.0/8".parse().unwrap();
        };
        let site = Site::with(networks).await;
        let idle = json!({"worker_id": "gpu-1", "content_types": ["audio"]});
        assert!(site.worker.post(&format!("{JOBS}/poll"), &idle).await.ok()["job_id"].is_null());
        Self { site, folder: TempDir::new().unwrap() }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.site.gateway.address.port()))
    }

    /// The line to the gateway, of whose requests such a share meets a fault.
    pub(crate) async fn line(&self, seed: u64, share: f64) -> FaultyProxy {
        FaultyProxy::start(self.address(), seed, share).await
    }

    /// A client with a key that may ingest and nothing else.
    pub(crate) fn client(&self, url: &str) -> Client {
        let key = ApiKey::from(self.site.ingest.key());
        Client::new(url.parse().unwrap(), Some(key), "test/0").unwrap()
    }

    /// The ingestion client at the end of a line, which waits so long for a gateway that is away.
    pub(crate) fn ingestion(&self, line: &FaultyProxy, patience: Duration) -> Ingestion {
        let settings = RemoteSettings { enabled: true, patience, ..RemoteSettings::default() };
        Ingestion::new(self.client(&line.url), settings)
    }

    /// A recording to be converted remotely within so long.
    pub(crate) fn task(&self, id: &str, within: Duration) -> ConversionTask {
        let path = self.folder.path().join(format!("{id}.mp3"));
        std::fs::write(&path, format!("the sound of {id}")).unwrap();
        let source = Source::File { path, name: "talk.mp3".to_owned() };
        let mut task = ConversionTask::new(id, source, ContentType::Audio, SystemTime::now() + within);
        task.requested = true;
        task
    }

    /// The task's jobs, past all lines.
    pub(crate) async fn jobs(&self, task_id: &str) -> Vec<Value> {
        let listed = self.site.ingest.get(&format!("{JOBS}?ingestion_task_id={task_id}")).await;
        listed.ok()["jobs"].as_array().unwrap().clone()
    }

    /// Whether the control plane has recorded that the caller continues this job locally.
    pub(crate) async fn is_taken_over(&self, job_id: &str) -> bool {
        let again =
            self.site.ingest.post(&format!("{JOBS}/{job_id}/cancel"), &json!({"takeover": true})).await;
        again.status == 200 && again.json()["continued_by"] == "local"
    }
}

/// What a worker makes of a job.
pub(crate) fn content_of(job_id: &str) -> String {
    format!("# Remote {job_id}")
}

/// A local conversion that takes so long, or until it is let go.
pub(crate) struct Local {
    pub(crate) begun: Notify,
    pub(crate) running: AtomicUsize,
    pub(crate) gate: Option<Arc<Notify>>,
    pub(crate) takes: Duration,
}

impl Local {
    pub(crate) fn taking(takes: Duration) -> Self {
        Self { begun: Notify::new(), running: AtomicUsize::new(0), gate: None, takes }
    }

    pub(crate) fn behind(gate: &Arc<Notify>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..Self::taking(Duration::ZERO) }
    }
}

/// Counts down, also when it is dropped half-way.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl LocalConversion for Local {
    async fn convert(
        &self,
        task: &ConversionTask,
        _: &(dyn Fn(u8, &str) + Sync),
    ) -> Result<Converted, String> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&self.running);
        self.begun.notify_one();
        match &self.gate {
            Some(gate) => gate.notified().await,
            None => tokio::time::sleep(self.takes).await,
        }
        let content = format!("# Local {}", task.task_id);
        Ok(Converted { content, metadata: Map::new(), processing_time: 0.1 })
    }
}

/// Says when the job is there and is waited for.
#[derive(Default)]
pub(crate) struct Waiting(pub(crate) Notify);

impl Events for Waiting {
    fn tell(&self, event: Event<'_>) {
        if matches!(event, Event::Remote { .. }) {
            self.0.notify_one();
        }
    }
}
