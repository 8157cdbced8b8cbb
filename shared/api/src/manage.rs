//! `POST /{id}/cancel` and `POST /{id}/retry`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ends a job.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CancelRequest {
    /// True when the caller continues with a local conversion. It is remembered for good, and a retry is refused.
    #[serde(default)]
    pub takeover: bool,
}

/// Sends an ended job back to its queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RetryRequest {}

/// What the job is now.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ManageResponse {
    /// The job's id.
    pub job_id: String,
    /// Its status.
    pub status: String,
    /// `local` once the caller has taken the job over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_by: Option<String>,
}

/// The job and its files are gone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeleteResponse {
    /// The job's id.
    pub job_id: String,
    /// How many stored objects went with it.
    pub deleted_objects: u64,
}
