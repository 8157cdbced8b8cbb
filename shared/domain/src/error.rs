use thiserror::Error;

use crate::Status;

/// A value that a caller gave and that its type does not admit. The text names what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidValue(pub String);

/// Why a transition is not possible from the state the job is in. Nothing changed. Each text says what the job is and
/// what the caller may do.
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
    /// The job is leased to whoever knows a token, and the call came without one.
    #[error(
        "the job is {status} under a lease that the header Lease-Token proves, and the call came without it; send the lease_token of the poll's answer"
    )]
    NoLeaseToken {
        /// What the job is now.
        status: Status,
    },
    /// The attempt has run for as long as one attempt may.
    #[error(
        "this attempt has run past its timeout and the job is {status}; submit a result that is finished, else stop working on it"
    )]
    RunTimeout {
        /// What the job is now.
        status: Status,
    },
    /// The same lease already had another outcome accepted.
    #[error(
        "this attempt was already reported as {first} and the job is {status}; the first report counts, forget the job"
    )]
    OtherOutcome {
        /// What the job is now.
        status: Status,
        /// What was reported first: `completed` or `failed`.
        first: &'static str,
    },
    /// The job is not waiting for a worker now.
    #[error("the job is {status} and not due for a worker; poll for another")]
    NotDue {
        /// What the job is now.
        status: Status,
    },
    /// The job has ended and cannot be cancelled any more.
    #[error("the job is {status} and cannot be cancelled any more; {}", what_else(*.status))]
    Ended {
        /// What the job is now.
        status: Status,
    },
    /// A retry by hand needs a job that failed, timed out or was cancelled.
    #[error(
        "the job is {status}; only a failed, timed-out or cancelled job can be retried; {}",
        what_else(*.status)
    )]
    NotRetryable {
        /// What the job is now.
        status: Status,
    },
    /// The ingestion side continued with a local conversion, so this job stays ended for good.
    #[error(
        "the job is {status}, and the caller took it over and converted it locally; it cannot be retried, create a new job instead"
    )]
    TakenOver {
        /// What the job is now.
        status: Status,
    },
    /// The job has used up every attempt it can ever have.
    #[error("the job is {status} after {most} attempts, the most a job can have; create a new job")]
    TooManyAttempts {
        /// What the job is now.
        status: Status,
        /// How many attempts that is.
        most: usize,
    },
    /// Only a job that has ended can be deleted.
    #[error("the job is {status}; cancel it first, then delete it")]
    NotEnded {
        /// What the job is now.
        status: Status,
    },
}

impl Refused {
    /// What the job is now.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::StaleLease { status }
            | Self::NoLeaseToken { status }
            | Self::RunTimeout { status }
            | Self::OtherOutcome { status, .. }
            | Self::NotDue { status }
            | Self::Ended { status }
            | Self::NotRetryable { status }
            | Self::TakenOver { status }
            | Self::TooManyAttempts { status, .. }
            | Self::NotEnded { status } => *status,
        }
    }
}

/// What a caller may do with a job of this status.
fn what_else(status: Status) -> &'static str {
    match status {
        Status::Pending | Status::Processing => "cancel it first, or wait for its end",
        Status::Completed => "its result can be fetched",
        Status::Failed | Status::Timeout | Status::Cancelled => {
            "retry it, or cancel it with `takeover` to convert locally"
        }
    }
}

/// A stored combination that no sequence of transitions can produce.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("inconsistent job: {0}")]
pub struct Inconsistent(pub &'static str);
