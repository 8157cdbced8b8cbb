//! One job's place among those that run, from its claim to its end.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::poll::ClaimedJob;
use progress::handler::ProgressHandler;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::{
    heartbeat::Reporter,
    jobs::{Jobs, Phase},
};

/// What follows the progress of the jobs that run.
pub type Progress = ProgressHandler<Arc<Jobs>>;

/// A job that runs. Dropping it takes it out of the jobs that run.
#[derive(Debug)]
pub struct Run {
    progress: Arc<Progress>,
    /// The job may come back to this machine while an attempt that lost it still ends.
    name: String,
    _watch: AbortOnDropHandle<()>,
}

impl Run {
    /// Puts a job that was just claimed among those that run. What becomes of it is told to this reporter.
    #[must_use]
    pub fn begin(progress: &Arc<Progress>, job: &ClaimedJob, reporter: &Reporter) -> Self {
        let name = format!("{}-{}", job.job_id, job.lease.attempt);
        let jobs = progress.store();
        let progressed = jobs.begin(&name, job, reporter.clone());
        let watching = watch(Arc::clone(jobs), name.clone(), progressed).in_current_span();
        Self { progress: Arc::clone(progress), name, _watch: AbortOnDropHandle::new(tokio::spawn(watching)) }
    }

    /// So many bytes of the source are here.
    pub fn downloaded(&self, done: u64, total: u64) {
        self.progress.store().change(&self.name, |job, reporter| {
            let percentage = done.saturating_mul(100).checked_div(total).unwrap_or(0).min(100);
            job.percentage = u8::try_from(percentage).unwrap_or(100);
            job.message = format!("Downloading: {} of {} MiB", done >> 20, total >> 20);
            reporter.say(job.message.clone());
            true
        });
    }

    /// The source is here, and this converter begins.
    pub fn converting(&self, converter: &str) {
        self.progress.store().change(&self.name, |job, reporter| {
            job.phase = Phase::Converting;
            job.converter = Some(converter.to_owned());
            job.percentage = 0;
            "Converting".clone_into(&mut job.message);
            reporter.say(job.message.clone());
            true
        });
    }

    /// The converter wrote a line.
    pub fn line(&self, line: &str) {
        self.progress.process_log_line(line, &self.name);
    }

    /// The result goes to the server.
    pub fn submitting(&self) {
        self.progress.store().change(&self.name, |job, reporter| {
            job.phase = Phase::Submitting;
            job.percentage = 100;
            "Submitting".clone_into(&mut job.message);
            reporter.say(job.message.clone());
            true
        });
    }

    /// The server has the result, or why there is none.
    pub fn completed(&self, success: bool, summary: &str) {
        self.progress.handle_job_completion(&self.name, success, summary);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.progress.forget(&self.name);
        self.progress.store().end(&self.name);
    }
}

/// Says so when a run makes no progress for too long. It wakes no more often than that.
async fn watch(jobs: Arc<Jobs>, name: String, mut progressed: watch::Receiver<Instant>) {
    let after = jobs.stall_after();
    loop {
        let last = *progressed.borrow_and_update();
        let mut idle = after;
        sleep_until(last + idle).await;
        while matches!(progressed.has_changed(), Ok(false)) {
            if let Some(message) = jobs.stall(&name, idle) {
                tracing::warn!(reason = message, "stalled");
            }
            idle += after;
            sleep_until(last + idle).await;
        }
        if progressed.has_changed().is_err() {
            return;
        }
    }
}
