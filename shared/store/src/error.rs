use std::error::Error;

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use thiserror::Error;

/// Why the table or the object store did not do what was asked. The text is for the log, never for a caller.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot do it now: throttled, unreachable, too slow, or failing.
    #[error("{operation} is not available: {cause}")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// Why not.
        cause: String,
    },
    /// It refused in a way that a repetition does not change: a missing table, a missing permission, a bug.
    #[error("{operation} was refused: {cause}")]
    Rejected {
        /// What was asked.
        operation: &'static str,
        /// What the service calls its refusal, if it was the service that refused.
        code: Option<String>,
        /// What the service says of it to people, if it says anything.
        message: Option<String>,
        /// Why not.
        cause: String,
    },
    /// What is stored cannot be what this system stored.
    #[error("{what} cannot be read: {cause}")]
    Unreadable {
        /// Which row or object.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl StoreError {
    /// Whether the same call may work later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Rejected { .. } | Self::Unreadable { .. } => false,
        }
    }

    /// Sorts what the SDK says, after the SDK's own retries.
    pub(crate) fn of<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let transient = match &error {
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => true,
            // The answer to a HEAD has no body, and what stands before a service may answer without its codes.
            SdkError::ServiceError(service) => {
                matches!(service.raw().status().as_u16(), 429 | 500 | 502 | 503 | 504)
                    || service.err().code().is_some_and(is_transient)
            }
            SdkError::ConstructionFailure(_) => false,
            // The SDK's enum may grow; what is unknown is not worth another try.
            _ => false,
        };
        let (code, message) = (error.code().map(str::to_owned), error.message().map(str::to_owned));
        let cause = DisplayErrorContext(error).to_string();
        if transient {
            Self::Unavailable { operation, cause }
        } else {
            Self::Rejected { operation, code, message, cause }
        }
    }
}

/// The codes that DynamoDB and S3 give for "not now": those that the SDK repeats a call for, and those that it leaves
/// to its caller.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn is_transient(code: &str) -> bool {
    THROTTLING_ERRORS.contains(&code)
        || TRANSIENT_ERRORS.contains(&code)
        || matches!(
            code,
            "InternalError"
                | "InternalServerError"
                | "ServiceUnavailable"
                // Somebody else is just writing the same row, or the same object.
                | "TransactionConflictException"
                | "ReplicatedWriteConflictException"
                | "ConditionalRequestConflict"
                | "OperationAborted"
        )
}
