use thiserror::Error;

use crate::Status;

/// A value that a caller gave and that its type does not admit. The text names what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidValue(pub String);

/// Why a transition is not possible from the state the job is in. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The caller does not hold the job's current lease: another attempt runs, or this one has ended.
    #[error(
        "this attempt no longer holds the job, which is {status}; stop working on it and discard its result"
    )]
    StaleLease {
        /// What the job is now.
        status: Status,
    },
    /// The attempt has run for as long as one attempt may.
    #[error("this attempt has run past its timeout; stop working on it and discard its result")]
    RunTimeout,
    /// The same lease already had another outcome accepted.
    #[error("this attempt was already reported as {first}; the first report counts")]
    OtherOutcome {
        /// What was reported first: `completed` or `failed`.
        first: &'static str,
    },
    /// The job is not waiting for a worker now.
    #[error("the job is {status} and not due for a worker")]
    NotDue {
        /// What the job is now.
        status: Status,
    },
    /// The job has ended.
    #[error("the job is {status} and cannot be {wanted} any more")]
    Ended {
        /// What the job is now.
        status: Status,
        /// What was asked for, as a participle: `cancelled`.
        wanted: &'static str,
    },
    /// A retry by hand needs a job that failed, timed out or was cancelled.
    #[error("the job is {status}; only a failed, timed-out or cancelled job can be retried")]
    NotRetryable {
        /// What the job is now.
        status: Status,
    },
    /// The ingestion side continued with a local conversion, so this job stays ended for good.
    #[error("the caller took this job over and converted it locally; it cannot be retried")]
    TakenOver,
    /// The job has used up every attempt it can ever have.
    #[error("the job has had {0} attempts, the most a job can have; create a new job")]
    TooManyAttempts(usize),
}

/// A stored combination that no sequence of transitions can produce.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("inconsistent job: {0}")]
pub struct Inconsistent(pub &'static str);
