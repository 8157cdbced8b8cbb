//! Refusals, in the form that the original's clients know: `{"detail": "…"}`.

use std::io;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;

use crate::{pipeline::AcceptError, seams::ShelfError, store::StoreError};

/// Why a call is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A field has a value that it cannot have.
    pub(crate) fn field(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`{name}` {problem}"))
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    }

    pub(crate) fn too_large(most: u64) -> Self {
        let detail = format!(
            "The file is larger than {most} bytes; send a smaller one, or raise MORAG_INGEST_MAX_UPLOAD_BYTES"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// A file could not be written.
    pub(crate) fn of_file(error: &io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::full(),
            _ => {
                tracing::error!(%error, "a file cannot be written");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The file cannot be kept; the service's log says why",
                )
            }
        }
    }

    fn full() -> Self {
        let detail = "The service has no room for it; try again later, or free some space of its disk";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, detail)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::full(),
            StoreError::Sqlite(_) | StoreError::Newer { .. } | StoreError::Row(_) | StoreError::Ending => {
                tracing::error!(%error, "a call cannot be answered");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The service met a fault of its own; its log says more",
                )
            }
        }
    }
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::File(error) => Self::of_file(&error),
            AcceptError::Store(error) => error.into(),
        }
    }
}

impl From<ShelfError> for Refusal {
    fn from(error: ShelfError) -> Self {
        let status =
            if error.retryable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNPROCESSABLE_ENTITY };
        tracing::warn!(error = error.message, "a search failed");
        Self::new(status, error.message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"detail": self.detail}))).into_response()
    }
}
