//! `POST /import`: a job of the original system goes on here.

use domain::ContentType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A job of the original system, as its job file has it, with its files where they are here. Fields that the original
/// has and that are not named here are ignored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ImportRequest {
    /// The job's id there, a UUID, which it keeps.
    pub job_id: String,
    /// Its status there. `pending` and `processing` begin anew here; the others are history.
    #[schemars(with = "String")]
    pub status: domain::Status,
    /// What the source is.
    #[schemars(with = "String")]
    pub content_type: ContentType,
    /// The `source_file_path` of an upload, as for a new job. Needed for jobs that are to be done here; others keep the
    /// name of their file only.
    pub source_file_path: String,
    /// Options for the converter, handed on unread.
    #[serde(default)]
    pub task_options: Map<String, Value>,
    /// The ingestion service's id for the work the job belongs to.
    pub ingestion_task_id: String,
    /// Who ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// When it was created, as RFC 3339 or as Python's `isoformat` of a UTC time without an offset.
    pub created_at: String,
    /// When it was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// What it was converted into: `content`, `metadata`, `processing_time`. Needed for a completed job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_data: Option<crate::result::ResultDocument>,
    /// Retries spent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub retry_count: Option<u64>,
    /// How many retries there may be. By default 3, at most 20.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub max_retries: Option<u64>,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ImportResponse {
    /// The job's id.
    pub job_id: String,
    /// What the job is here.
    pub status: String,
    /// False when it had been imported before, and nothing was changed.
    pub imported: bool,
}
