use std::borrow::Cow;
use std::io;

use s3s::{S3Error, S3ErrorCode};

/// Why a request to the object store failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// The client can be told.
    #[error("{code:?}: {message}")]
    Refused { code: S3ErrorCode, message: Cow<'static, str> },
    #[error("the object database failed")]
    Database(#[from] rusqlite::Error),
    /// The writer has logged the cause.
    #[error("the change was not committed")]
    NotCommitted { full: bool },
    #[error("cannot {action}")]
    File {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the file {file} of an object's bytes is missing")]
    MissingBlob { file: String },
    #[error("a row of the object database is damaged")]
    Damaged(#[from] serde_json::Error),
    #[error("a worker thread failed")]
    Worker(#[from] tokio::task::JoinError),
}

impl ObjectError {
    pub(crate) fn refused(code: S3ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    pub(crate) fn file(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, source }
    }

    /// Whether there is no room left on the disk, which freeing some can mend.
    fn is_full(&self) -> bool {
        match self {
            Self::Database(error) => is_full(error),
            Self::File { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::NotCommitted { full } => *full,
            Self::Refused { .. } | Self::MissingBlob { .. } | Self::Damaged(_) | Self::Worker(_) => false,
        }
    }
}

pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// Says to the client what it may know, and to the log what the operator must.
impl From<ObjectError> for S3Error {
    fn from(error: ObjectError) -> Self {
        let full = error.is_full();
        if let ObjectError::Refused { code, message } = error {
            return Self::with_message(code, message);
        }
        if !matches!(error, ObjectError::NotCommitted { .. }) {
            tracing::error!(error = &error as &dyn std::error::Error, "the object store failed");
        }
        if full {
            Self::with_message(S3ErrorCode::ServiceUnavailable, "There is no room left to store this.")
        } else {
            Self::with_message(
                S3ErrorCode::InternalError,
                "We encountered an internal error. Please try again.",
            )
        }
    }
}
