//! Turns progress into what a job displays, wherever it comes from.

mod displayed;
mod ended;
mod job;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt::{Debug, Display},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use self::{ended::Ended, job::Job};
use crate::stream::may_matter;

pub use displayed::{DisplayedProgress, DisplayedStatus};

/// Where what jobs display is kept.
pub trait JobStore {
    /// Why something could not be kept.
    type Error: Display;

    /// Keeps what a job displays now. Is called for one job at a time in order, for several perhaps at once.
    ///
    /// # Errors
    /// When it could not be kept; it is not tried again, but what comes later is.
    fn update(&self, job_id: &str, progress: &DisplayedProgress) -> Result<(), Self::Error>;
}

impl<S: JobStore> JobStore for Arc<S> {
    type Error = S::Error;

    fn update(&self, job_id: &str, progress: &DisplayedProgress) -> Result<(), S::Error> {
        S::update(self, job_id, progress)
    }
}

/// What became of something that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// The job displays it.
    Updated,
    /// It tells no progress, or a percentage outside 0 to 100.
    NoProgress,
    /// Nobody has said which job this worker or task works on.
    Unmapped,
    /// The job displays something later already.
    Older,
    /// The job has been completed before.
    Ended,
    /// The store did not take it.
    NotStored,
}

/// Follows the progress of jobs. It may be shared by threads.
///
/// Of progress with timestamps the latest counts, and of what has none, or the same, what comes last. A percentage of 0
/// displays as pending, of 1 to 99 as processing, of 100 as finished, but only a completion completes a job, and after
/// it nothing changes what the job displays until the job is registered anew.
///
/// A tool's own progress is of the tool's run and not of the whole conversion. So it never displays more than 99, and
/// once a converter has told how far it is itself, only the message of its tools counts.
#[derive(Debug)]
pub struct ProgressHandler<S> {
    store: S,
    clock: fn() -> Timestamp,
    mappings: Mutex<HashMap<String, String>>,
    jobs: Mutex<HashMap<String, Arc<Mutex<Job>>>>,
    ended: Mutex<Ended>,
}

impl<S: JobStore> ProgressHandler<S> {
    /// A handler that keeps what it makes of progress in this store.
    pub fn new(store: S) -> Self {
        Self::with_clock(store, Timestamp::now)
    }

    /// The same with another clock, for what brings no timestamp.
    pub fn with_clock(store: S, clock: fn() -> Timestamp) -> Self {
        Self { store, clock, mappings: Mutex::default(), jobs: Mutex::default(), ended: Mutex::default() }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Says which job a worker or a task works on from now on. A job that was completed begins anew.
    pub fn register_job_mapping(&self, worker_or_task_id: &str, job_id: &str) {
        lock(&self.mappings).insert(worker_or_task_id.to_owned(), job_id.to_owned());
        lock(&self.ended).remove(job_id);
    }

    /// Takes a mapping back. False when there was none.
    pub fn remove_job_mapping(&self, worker_or_task_id: &str) -> bool {
        lock(&self.mappings).remove(worker_or_task_id).is_some()
    }

    /// Reads a line of a job's log: see the crate for what it may tell. The lines of one run must come in their order.
    pub fn process_log_line(&self, line: &str, job_id: &str) -> Handled {
        if !may_matter(line) {
            return Handled::NoProgress;
        }
        self.with_job(job_id, |job| job.read(line, self.clock))
    }

    /// Takes what a remote worker says about the job that it works on.
    pub fn process_remote_worker_progress(&self, worker_id: &str, percentage: i64, message: &str) -> Handled {
        self.process_mapped("worker", worker_id, percentage, message)
    }

    /// Takes what a task of a local queue says about the job that it works on.
    pub fn process_task_progress(&self, task_id: &str, percentage: i64, message: &str) -> Handled {
        self.process_mapped("task", task_id, percentage, message)
    }

    fn process_mapped(&self, kind: &str, id: &str, percentage: i64, message: &str) -> Handled {
        let Some(job_id) = lock(&self.mappings).get(id).cloned() else {
            tracing::warn!(kind, id, "progress of somebody who is registered for no job");
            return Handled::Unmapped;
        };
        let Some(percentage) = u8::try_from(percentage).ok().filter(|percentage| *percentage <= 100) else {
            return Handled::NoProgress;
        };
        self.with_job(&job_id, |job| job.said(percentage, message, (self.clock)()))
    }

    /// Completes a job: it displays as finished, or as failed with the percentage that it had. What was registered for
    /// it is taken back.
    pub fn handle_job_completion(&self, job_id: &str, success: bool, summary: &str) -> Handled {
        let handled = self.with_job(job_id, |job| Ok(job.completed(success, summary, (self.clock)())));
        if handled == Handled::Updated {
            lock(&self.ended).insert(job_id);
            lock(&self.mappings).retain(|_, mapped| mapped != job_id);
            self.forget(job_id);
        }
        handled
    }

    /// Forgets how far a job was, for one that somebody else goes on with.
    pub fn forget(&self, job_id: &str) {
        lock(&self.jobs).remove(job_id);
    }

    /// Lets a job display what `change` makes of what it displayed before, unless it is completed.
    fn with_job(
        &self,
        job_id: &str,
        change: impl FnOnce(&mut Job) -> Result<DisplayedProgress, Handled>,
    ) -> Handled {
        let job = Arc::clone(lock(&self.jobs).entry(job_id.to_owned()).or_default());
        // Held until the store has it, so that two threads cannot swap what one job displays.
        let mut job = lock(&job);
        if lock(&self.ended).contains(job_id) {
            self.forget(job_id);
            return Handled::Ended;
        }
        let displayed = match change(&mut job) {
            Ok(displayed) => displayed,
            Err(handled) => return handled,
        };
        match self.store.update(job_id, &displayed) {
            Ok(()) => Handled::Updated,
            Err(error) => {
                tracing::error!(job_id, %error, "the progress of a job could not be stored");
                Handled::NotStored
            }
        }
    }
}

/// What a thread left that panicked is as good as before: every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
