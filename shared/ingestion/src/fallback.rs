use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Why a remote conversion came to nothing. It is displayed as a sentence, and serialised as `{reason, explanation}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// The control plane refused the upload or the job: what it said.
    Refused(String),
    /// The control plane does not take the key: what it said.
    Unauthorized(String),
    /// The control plane could not be reached for too long: what went wrong.
    Unreachable(String),
    /// The file did not get to the object store: what went wrong.
    UploadFailed(String),
    /// The job failed: what its worker said.
    Failed(String),
    /// One of the job's limits ran out: which one.
    Timeout(String),
    /// Somebody cancelled the job.
    Cancelled,
    /// The job had not ended when it was to be over.
    Deadline,
    /// There is no such job any more.
    JobGone,
    /// The job is completed, and what it left is no document: what is wrong with it.
    UnusableResult(String),
    /// The job is completed, and its result cannot be fetched: what went wrong.
    ResultUnavailable(String),
}

impl FallbackReason {
    /// The reason as a word for programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unauthorized(_) => "unauthorized",
            Self::Unreachable(_) => "unreachable",
            Self::UploadFailed(_) => "upload_failed",
            Self::Failed(_) => "failed",
            Self::Timeout(_) => "timeout",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::JobGone => "job_gone",
            Self::UnusableResult(_) => "unusable_result",
            Self::ResultUnavailable(_) => "result_unavailable",
        }
    }

    /// Whether the job is completed, so that nobody can take it over and nothing of it will come any more.
    pub(crate) fn is_of_a_completed_job(&self) -> bool {
        matches!(self, Self::UnusableResult(_) | Self::ResultUnavailable(_))
    }
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(said) => write!(f, "The control plane refused the job: {said}"),
            Self::Unauthorized(said) => write!(f, "The control plane does not take the API key: {said}"),
            Self::Unreachable(said) => write!(f, "The control plane cannot be reached: {said}"),
            Self::UploadFailed(said) => write!(f, "The file could not be uploaded: {said}"),
            Self::Failed(said) => write!(f, "The remote conversion failed: {said}"),
            Self::Timeout(said) => write!(f, "The remote job ran out of time: {said}"),
            Self::Cancelled => f.write_str("The remote job was cancelled."),
            Self::Deadline => f.write_str("The remote job was not over in time."),
            Self::JobGone => f.write_str("The remote job is not there any more."),
            Self::UnusableResult(said) => write!(f, "The remote result cannot be used: {said}"),
            Self::ResultUnavailable(said) => write!(f, "The remote result cannot be fetched: {said}"),
        }
    }
}

impl Serialize for FallbackReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("FallbackReason", 2)?;
        fields.serialize_field("reason", self.as_str())?;
        fields.serialize_field("explanation", &self.to_string())?;
        fields.end()
    }
}

/// What became of the remote job when local work continued, or when the task was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// There was none.
    NoJob,
    /// The control plane has recorded that the caller continues, or that the job is cancelled: no result of it is accepted
    /// any more. Or the job is gone.
    Confirmed,
    /// It is completed, with a result that could not be used or fetched, or that nobody wants any more.
    CompletedUnusable,
    /// The control plane could not be asked. The job may still run, and even be completed: its result must not continue
    /// the task that the local one has continued.
    Unconfirmed,
}
