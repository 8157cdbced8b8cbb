//! Jobs that another system began.

use crate::{
    Attempt, Holder, Job, JobId, KeyId, LeaseTerms, Outcome, Pending, ResultRef, Spec, State, Tenant,
    Timestamp, Wait, WorkerId,
};

/// Where a job of another system stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Imported {
    /// It is still to be done, from the start: whatever ran there does not report here.
    Open {
        /// Retries spent there.
        retries: u32,
    },
    /// It was converted there.
    Completed {
        /// Who ran it.
        worker: WorkerId,
        /// When that began.
        started_at: Timestamp,
        /// When it was done.
        at: Timestamp,
        /// The result, as it is stored here.
        result: ResultRef,
    },
    /// It failed there.
    Failed {
        /// When.
        at: Timestamp,
        /// Why.
        error: String,
    },
    /// It timed out there.
    Timeout {
        /// When.
        at: Timestamp,
        /// Why.
        error: String,
    },
    /// It was cancelled there.
    Cancelled {
        /// When.
        at: Timestamp,
    },
}

impl Job {
    /// A job that began in another system at `created_at`, as it goes on here from `now`. Its limits count from now, and
    /// nobody is told of an end that it had there. `key` is who imports it.
    #[must_use]
    pub fn import(
        id: JobId,
        tenant: Tenant,
        spec: Spec,
        imported: Imported,
        (created_at, now): (Timestamp, Timestamp),
        key: KeyId,
    ) -> Self {
        let mut job = Self::create(id, tenant, spec, created_at.min(now));
        job.opened_at = now;
        job.updated_at = now;
        job.state = match imported {
            Imported::Open { retries } => {
                job.retries = retries.min(job.spec.limits.max_retries);
                State::Pending(Pending { since: now, wait: Wait::Turn })
            }
            Imported::Completed { worker, started_at, at, result } => {
                job.attempts.push(Attempt {
                    worker,
                    holder: Holder::Key(key),
                    started_at,
                    ended_at: at,
                    terms: LeaseTerms::WholeRun,
                    outcome: Outcome::Completed,
                });
                State::Completed { at, result }
            }
            Imported::Failed { at, error } => State::Failed { at, error },
            Imported::Timeout { at, error } => State::Timeout { at, error },
            Imported::Cancelled { at } => State::Cancelled { at },
        };
        job
    }
}
