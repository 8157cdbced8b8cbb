//! What a conversion that came to nothing means for the command.

use api::Kind;
use client::Client;
use ingestion::{ConversionError, FallbackReason};

use crate::{exit, failure::Failure};

/// Whether a remote conversion came to nothing because of how its job ended, so that nothing will ever come of that job.
/// A result that cannot be fetched is asked for once more, which tells whether it is gone or only out of reach now.
pub(super) async fn is_of_an_end(error: &ConversionError, client: &Client) -> bool {
    let (reason, job_id) = match error {
        ConversionError::Remote { reason, job_id, .. }
        | ConversionError::Local { fallback: Some(reason), job_id, .. } => (reason, job_id),
        ConversionError::Local { fallback: None, .. }
        | ConversionError::File { .. }
        | ConversionError::Empty { .. }
        | ConversionError::Invalid(_)
        | ConversionError::Cancelled { .. } => return false,
    };
    match (reason, job_id) {
        (FallbackReason::ResultUnavailable(_), Some(job_id)) => {
            client.result(job_id).await.is_err_and(|error| error.kind() == Some(Kind::NotFound))
        }
        (reason, _) => is_final(reason),
    }
}

fn is_final(reason: &FallbackReason) -> bool {
    match reason {
        FallbackReason::Failed(_)
        | FallbackReason::Timeout(_)
        | FallbackReason::Cancelled
        | FallbackReason::JobGone
        | FallbackReason::UnusableResult(_) => true,
        FallbackReason::Refused(_)
        | FallbackReason::Unauthorized(_)
        | FallbackReason::Unreachable(_)
        | FallbackReason::UploadFailed(_)
        | FallbackReason::Deadline
        | FallbackReason::ResultUnavailable(_) => false,
    }
}

pub(super) fn not_converted(error: ConversionError) -> Failure {
    match error {
        ConversionError::File { path, source } => Failure::File { path, source },
        ConversionError::Empty { .. } => {
            Failure::NotConverted { message: error.to_string(), code: exit::LOCAL_FILE }
        }
        ConversionError::Invalid(message) => Failure::Usage(message),
        ConversionError::Remote { reason, job_id, .. } => {
            let of = job_id.map(|job_id| format!("Job {job_id}: ")).unwrap_or_default();
            Failure::NotConverted { message: format!("{of}{reason}"), code: code(&reason) }
        }
        ConversionError::Local { message, decision, fallback, .. } => {
            let why = match fallback {
                Some(reason) => reason.to_string(),
                None => decision.to_string(),
            };
            let message = format!("It cannot be converted on this machine: {message} ({why})");
            Failure::NotConverted { message, code: exit::JOB_NOT_COMPLETED }
        }
        ConversionError::Cancelled { .. } => Failure::Interrupted { hint: None },
    }
}

/// The exit code for why a remote conversion came to nothing.
fn code(reason: &FallbackReason) -> u8 {
    match reason {
        FallbackReason::Refused(_) => exit::REFUSED,
        FallbackReason::Unauthorized(_) => exit::KEY_REFUSED,
        FallbackReason::Unreachable(_) => exit::UNREACHABLE,
        FallbackReason::UploadFailed(_) | FallbackReason::ResultUnavailable(_) => exit::SERVER_FAILED,
        FallbackReason::Failed(_)
        | FallbackReason::Timeout(_)
        | FallbackReason::Cancelled
        | FallbackReason::Deadline
        | FallbackReason::JobGone
        | FallbackReason::UnusableResult(_) => exit::JOB_NOT_COMPLETED,
    }
}
