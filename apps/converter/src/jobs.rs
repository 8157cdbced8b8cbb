//! The jobs that run, as others see them: the server through their heartbeats, a person through `status` and the bars.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::poll::ClaimedJob;
use jiff::Timestamp;
use progress::{
    handler::{DisplayedProgress, DisplayedStatus, JobStore},
    printable,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use crate::heartbeat::Reporter;

/// What a job is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its source comes from the server.
    Downloading,
    /// A converter runs.
    Converting,
    /// Its result goes to the server.
    Submitting,
}

/// A job that runs. Its texts move no terminal's cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningJob {
    /// The job's id.
    pub job_id: String,
    /// Which attempt this is, from 1.
    pub attempt: u64,
    /// What the source is.
    pub content_type: String,
    /// The source's name.
    pub source: String,
    /// The source's size in bytes.
    pub bytes: u64,
    /// What the job is at.
    pub phase: Phase,
    /// What converts it, once that is chosen.
    pub converter: Option<String>,
    /// How much of the download or the conversion is done, 0 to 100.
    pub percentage: u8,
    /// What was said last.
    pub message: String,
    /// When it was claimed, by this machine's clock.
    pub since: String,
    /// How many seconds it has run.
    pub seconds: u64,
    /// How many seconds ago it made progress.
    pub seconds_since_progress: u64,
    /// Whether that is longer ago than the setting `stall_seconds`.
    pub stalled: bool,
}

/// How many jobs ended since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// With a result that the server accepted.
    pub finished: u64,
    /// With a failure that the server accepted.
    pub failed: u64,
}

/// The jobs that run in this process.
#[derive(Debug)]
pub struct Jobs {
    stall_after: Duration,
    rows: Mutex<BTreeMap<String, Row>>,
    completed: Mutex<Completed>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Row {
    /// All but the two counts of seconds.
    job: RunningJob,
    since: Instant,
    progressed: watch::Sender<Instant>,
    reporter: Reporter,
}

impl Jobs {
    /// None yet. One that makes no progress for so long is stalled.
    #[must_use]
    pub fn new(stall_after: Duration) -> Self {
        Self {
            stall_after,
            rows: Mutex::default(),
            completed: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// After how long without progress a run is stalled.
    #[must_use]
    pub fn stall_after(&self) -> Duration {
        self.stall_after
    }

    /// The jobs, the one that runs longest first.
    #[must_use]
    pub fn all(&self) -> Vec<RunningJob> {
        let rows = lock(&self.rows);
        let mut rows: Vec<&Row> = rows.values().collect();
        rows.sort_by_key(|row| row.since);
        rows.into_iter()
            .map(|row| RunningJob {
                seconds: row.since.elapsed().as_secs(),
                seconds_since_progress: row.progressed.borrow().elapsed().as_secs(),
                ..row.job.clone()
            })
            .collect()
    }

    /// How many ended.
    #[must_use]
    pub fn completed(&self) -> Completed {
        *lock(&self.completed)
    }

    /// Is told of every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Adds a job that was just claimed. Whoever gets the receiver learns when it made progress.
    pub(crate) fn begin(&self, run: &str, job: &ClaimedJob, reporter: Reporter) -> watch::Receiver<Instant> {
        let clean = |text: &str| printable(text).into_owned();
        let now = Instant::now();
        let (progressed, progress) = watch::channel(now);
        let job = RunningJob {
            job_id: clean(&job.job_id),
            attempt: job.lease.attempt,
            content_type: clean(&job.content_type),
            source: clean(&job.lease.download.filename),
            bytes: job.lease.download.size_bytes,
            phase: Phase::Downloading,
            converter: None,
            percentage: 0,
            message: "Downloading".to_owned(),
            since: Timestamp::now().to_string(),
            seconds: 0,
            seconds_since_progress: 0,
            stalled: false,
        };
        lock(&self.rows).insert(run.to_owned(), Row { job, since: now, progressed, reporter });
        self.changed.send_replace(());
        progress
    }

    /// Takes a job out that runs no more.
    pub(crate) fn end(&self, run: &str) {
        lock(&self.rows).remove(run);
        self.changed.send_replace(());
    }

    /// Changes a job, if it runs. What `change` answers is whether that is progress.
    pub(crate) fn change(&self, run: &str, change: impl FnOnce(&mut RunningJob, &Reporter) -> bool) {
        if let Some(row) = lock(&self.rows).get_mut(run)
            && change(&mut row.job, &row.reporter)
        {
            row.job.stalled = false;
            row.progressed.send_replace(Instant::now());
        }
        self.changed.send_replace(());
    }

    /// Says that a job has made no progress for so long. What was said, if that is new.
    pub(crate) fn stall(&self, run: &str, idle: Duration) -> Option<String> {
        let mut news = None;
        self.change(run, |job, reporter| {
            // How soon a result is accepted is not this machine's doing.
            if job.phase != Phase::Submitting {
                let message =
                    format!("No progress for {}; last: {} ({}%)", spelled(idle), job.message, job.percentage);
                news = (!job.stalled).then(|| message.clone());
                job.stalled = true;
                reporter.stalled(message);
            }
            false
        });
        news
    }

    fn count(&self, status: DisplayedStatus) {
        let mut completed = lock(&self.completed);
        match status {
            DisplayedStatus::Failed => completed.failed += 1,
            DisplayedStatus::Pending | DisplayedStatus::Processing | DisplayedStatus::Finished => {
                completed.finished += 1;
            }
        }
    }
}

impl JobStore for Jobs {
    type Error = Infallible;

    fn update(&self, run: &str, progress: &DisplayedProgress) -> Result<(), Infallible> {
        if progress.completed {
            self.count(progress.status);
            return Ok(());
        }
        self.change(run, |job, reporter| {
            let before = (job.percentage, job.message.clone());
            job.percentage = job.percentage.max(progress.percentage);
            if !progress.summary.is_empty() {
                job.message.clone_from(&progress.summary);
            }
            // A converter that says the same again and again is no further.
            let is_further = before != (job.percentage, job.message.clone());
            if is_further || !job.stalled {
                reporter.report(progress);
            }
            is_further
        });
        Ok(())
    }
}

/// A length of time as a person says it, in minutes from two on.
pub(crate) fn spelled(length: Duration) -> String {
    match length.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// What a thread left that panicked is as good as before: every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
