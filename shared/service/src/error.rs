use api::{Kind, Problem, Rejected};
use domain::{JobId, Refused};
use store::StoreError;
use thiserror::Error;

/// Why a use case did not do what was asked. [`Error::problem`] is for the caller; the rest is for the log.
#[derive(Debug, Error)]
pub enum Error {
    /// The request itself cannot be accepted.
    #[error("{}", .0.detail)]
    Rejected(Box<Problem>),
    /// There is no such job for this tenant. The original's clients know this text.
    #[error("Job {0} not found")]
    NoJob(String),
    /// The job's state does not admit it.
    #[error("{0}")]
    Refused(JobId, Refused),
    /// The source object is gone.
    #[error("the source of job {0} is not stored any more")]
    SourceExpired(JobId),
    /// The table or the object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others changed the same job again and again while this call tried to.
    #[error("job {0} changed too often to be written")]
    Contended(JobId),
    /// A fault of this program.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The request cannot be accepted, for this reason.
    #[must_use]
    pub fn rejected(kind: Kind, detail: impl Into<String>) -> Self {
        Self::Rejected(Box::new(Problem::new(kind, detail)))
    }

    /// One field has a value that it cannot have.
    #[must_use]
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::from(Rejected::field(field, message))
    }

    /// Whether the same call may work later without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Contended(_) => true,
            Self::Store(error) => error.retryable(),
            Self::Rejected(_)
            | Self::NoJob(_)
            | Self::Refused(..)
            | Self::SourceExpired(_)
            | Self::Internal(_) => false,
        }
    }

    /// What the caller is told. Internal causes are not in it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Rejected(problem) => (**problem).clone(),
            Self::NoJob(_) => Problem::new(Kind::NotFound, self.to_string()),
            Self::Refused(id, refused) => Problem {
                job_status: Some(refused.status().to_string()),
                ..Problem::new(kind_of(refused), format!("Job {id}: {refused}."))
            },
            Self::SourceExpired(id) => Problem::new(
                Kind::SourceExpired,
                format!(
                    "The source of job {id} is not stored any more; upload it again and create a new job."
                ),
            ),
            Self::Store(_) | Self::Contended(_) if self.retryable() => {
                Problem::new(Kind::Unavailable, "The job store cannot be reached now; repeat the call later.")
            }
            Self::Store(_) | Self::Contended(_) | Self::Internal(_) => Problem::new(
                Kind::Internal,
                "The server failed; its log has the cause under this answer's request id.",
            ),
        }
    }

    /// The cause that only the log may have.
    #[must_use]
    pub fn internal_cause(&self) -> Option<String> {
        match self {
            Self::Store(_) | Self::Contended(_) | Self::Internal(_) => Some(self.to_string()),
            Self::Rejected(_) | Self::NoJob(_) | Self::Refused(..) | Self::SourceExpired(_) => None,
        }
    }
}

fn kind_of(refused: &Refused) -> Kind {
    match refused {
        Refused::StaleLease { .. }
        | Refused::NoLeaseToken { .. }
        | Refused::RunTimeout { .. }
        | Refused::OtherOutcome { .. } => Kind::StaleLease,
        Refused::NotDue { .. }
        | Refused::Ended { .. }
        | Refused::NotRetryable { .. }
        | Refused::TakenOver { .. }
        | Refused::TooManyAttempts { .. }
        | Refused::NotEnded { .. } => Kind::Refused,
    }
}

impl From<Rejected> for Error {
    fn from(Rejected(problem): Rejected) -> Self {
        Self::Rejected(problem)
    }
}
