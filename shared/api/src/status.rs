//! `GET /{id}/status` and `GET /health`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long to wait for a job's end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StatusRequest {
    /// Answer once the job has ended, else after this many seconds, at most 20. By default 0.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub wait_seconds: Option<u64>,
}

/// Where a job stands. The first nine fields are the original system's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusResponse {
    /// The job's id.
    pub job_id: String,
    /// `pending`, `processing`, `completed`, `failed`, `timeout` or `cancelled`.
    pub status: String,
    /// Who runs it, or ran it last.
    pub worker_id: Option<String>,
    /// When it was created.
    pub created_at: String,
    /// When its running or last attempt was claimed.
    pub started_at: Option<String>,
    /// When it ended, in whatever way.
    pub completed_at: Option<String>,
    /// Why it failed, or why its last attempt did.
    pub error_message: Option<String>,
    /// How many retries were spent.
    pub retry_count: u32,
    /// When it will probably be done, by its own progress and by how long jobs of its type and size took lately. Absent
    /// while neither tells.
    pub estimated_completion: Option<String>,
    /// How far the running or last attempt is, 0 to 100.
    pub percentage: u8,
    /// What the worker said last.
    pub progress_message: Option<String>,
    /// The same, under the name that the original's job entity has for it.
    pub summary: Option<String>,
    /// When anything about the job last changed.
    pub updated_at: String,
    /// How many retries there may be.
    pub max_retries: u32,
    /// When the present wait or run times out.
    pub timeout_at: Option<String>,
    /// Every attempt, oldest first.
    pub attempts: Vec<AttemptView>,
    /// When the next attempt may begin, while the job waits out a backoff.
    pub next_attempt_at: Option<String>,
    /// The creator's id for the work the job belongs to.
    pub ingestion_task_id: String,
    /// What the source is.
    pub content_type: String,
    /// When to ask again, after a call with `wait_seconds` that did not see the job's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_again_in_seconds: Option<u64>,
}

/// One attempt.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// From 1.
    pub attempt: u64,
    /// Who ran it.
    pub worker_id: String,
    /// When it was claimed.
    pub started_at: String,
    /// When it ended. Absent while it runs.
    pub ended_at: Option<String>,
    /// `running`, `completed`, `failed`, `timed-out`, `lapsed`, `never-heard-of`, `released` or `cancelled`.
    pub outcome: String,
    /// What the worker said when it failed.
    pub error: Option<String>,
}

/// The service is up.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HealthResponse {
    /// Always `ok`.
    pub status: String,
    /// The version of the service.
    pub version: String,
}
