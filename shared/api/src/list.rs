//! `GET /`: a tenant's jobs, page by page.

use domain::{ContentType, Day};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which jobs. Every filter that is given must fit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListRequest {
    /// `pending`, `processing`, `completed`, `failed`, `timeout` or `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub status: Option<domain::Status>,
    /// What the source is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub content_type: Option<ContentType>,
    /// The day of creation in UTC, `YYYY-MM-DD`. Without it, and without `ingestion_task_id`, the last 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub day: Option<Day>,
    /// The creator's id for the work the jobs belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingestion_task_id: Option<String>,
    /// The most jobs in one answer, 1 to 200. By default 50.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub limit: Option<u64>,
    /// Where the page begins: what the answer before it said. It goes with the same filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of jobs, the one that was created last first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListResponse {
    /// The jobs. A page may hold fewer than asked for, and even none, and yet not be the last.
    pub jobs: Vec<JobSummary>,
    /// Where the next page begins; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A job, briefly.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    /// The job's id.
    pub job_id: String,
    /// `pending`, `processing`, `completed`, `failed`, `timeout` or `cancelled`.
    pub status: String,
    /// What the source is.
    pub content_type: String,
    /// The name of the source file.
    pub filename: String,
    /// The creator's id for the work the job belongs to.
    pub ingestion_task_id: String,
    /// When it was created.
    pub created_at: String,
    /// When anything about it last changed.
    pub updated_at: String,
    /// When it ended, in whatever way.
    pub completed_at: Option<String>,
    /// Who runs it, or ran it last.
    pub worker_id: Option<String>,
    /// How far the running or last attempt is, 0 to 100.
    pub percentage: u8,
    /// How many retries were spent.
    pub retry_count: u32,
    /// Why it failed, or why its last attempt did.
    pub error_message: Option<String>,
}
