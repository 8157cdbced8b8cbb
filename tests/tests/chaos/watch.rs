//! Where every job stands, asked again and again past the proxy.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use api::status::{AttemptView, StatusResponse};
use tokio::{sync::watch, time::sleep};

use crate::chaos::Chaos;

/// How long between two rounds.
const PAUSE: Duration = Duration::from_millis(200);

/// The last answer for each job, by its id.
pub(crate) struct Watch {
    statuses: Mutex<HashMap<String, StatusResponse>>,
    /// How often all jobs have been asked for.
    rounds: watch::Sender<u64>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { statuses: Mutex::default(), rounds: watch::Sender::new(0) }
    }
}

impl Watch {
    /// Every job's status.
    pub(crate) fn all(&self) -> HashMap<String, StatusResponse> {
        self.statuses.lock().unwrap().clone()
    }

    /// The jobs for which this holds.
    pub(crate) fn of(&self, holds: impl Fn(&StatusResponse) -> bool) -> Vec<StatusResponse> {
        self.statuses.lock().unwrap().values().filter(|job| holds(job)).cloned().collect()
    }

    /// All attempts that this converter made.
    pub(crate) fn attempts_of(&self, worker: &str) -> Vec<AttemptView> {
        let statuses = self.statuses.lock().unwrap();
        let attempts = statuses.values().flat_map(|job| &job.attempts);
        attempts.filter(|attempt| attempt.worker_id == worker).cloned().collect()
    }

    /// A job that is known.
    pub(crate) fn job(&self, job_id: &str) -> StatusResponse {
        self.statuses.lock().unwrap()[job_id].clone()
    }

    /// The jobs that this converter runs, as the gateway sees it from now on.
    pub(crate) async fn held_by(&self, worker: &str) -> Vec<StatusResponse> {
        self.fresh().await;
        self.of(|job| job.status == "processing" && job.worker_id.as_deref() == Some(worker))
    }

    /// Waits until every job was asked for that had not ended before this call.
    async fn fresh(&self) {
        let mut rounds = self.rounds.subscribe();
        let now = *rounds.borrow();
        // The round at hand may have asked for some jobs already.
        rounds.wait_for(|round| *round >= now + 2).await.unwrap();
    }

    fn is_completed(&self, job_id: &str) -> bool {
        self.statuses.lock().unwrap().get(job_id).is_some_and(|job| job.status == "completed")
    }
}

/// Asks for ever.
pub(crate) async fn run(chaos: &Chaos) {
    loop {
        for name in chaos.names() {
            let ended = chaos.converter(name).ended_by_itself();
            assert!(ended.is_none(), "seed {}: `{name}` ended by itself: {ended:?}", chaos.seed);
        }
        if round(chaos).await {
            chaos.watch.rounds.send_modify(|rounds| *rounds += 1);
        }
        sleep(PAUSE).await;
    }
}

/// Asks for every job that may have changed. False when the gateway is not there.
async fn round(chaos: &Chaos) -> bool {
    let created: Vec<String> = chaos.jobs.lock().unwrap().iter().map(|job| job.id.clone()).collect();
    for job_id in created {
        if chaos.watch.is_completed(&job_id) {
            continue;
        }
        match chaos.direct.status(&job_id).await {
            Ok(status) => {
                let lost = ["failed", "timeout", "cancelled"].contains(&status.status.as_str());
                chaos.watch.statuses.lock().unwrap().insert(job_id.clone(), status);
                assert!(!lost, "seed {}: lost {}", chaos.seed, chaos.report(&job_id));
            }
            Err(error) if error.retryable() => return false,
            Err(error) => panic!("seed {}: status of job {job_id}: {error}", chaos.seed),
        }
    }
    true
}
