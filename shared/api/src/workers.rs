//! `GET /api/v1/remote-workers`, `DELETE /api/v1/remote-workers/{worker_id}`: who converts.

use domain::ContentType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListWorkersRequest {
    /// Only those that convert this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub content_type: Option<ContentType>,
}

/// A tenant's workers that were seen in the last week, the live ones first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListWorkersResponse {
    /// The workers, each under the name that it gives itself.
    pub workers: Vec<WorkerView>,
    /// How long ago a live worker was seen at most, unless it runs a job.
    pub live_within_seconds: u64,
    /// True when there are more workers than one answer holds, which is 1000. Those that were not seen for days are left
    /// out first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A worker, as its polls and its jobs tell.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkerView {
    /// What it calls itself.
    pub worker_id: String,
    /// The types that it converts.
    pub content_types: Vec<String>,
    /// What program it is, as `product/version`, if it says so.
    pub version: Option<String>,
    /// When it was last heard of. Not every poll is noted, so that it may have been later.
    pub last_seen: String,
    /// Whether it was seen within `live_within_seconds`, or runs a job whose lease has not lapsed.
    pub live: bool,
    /// The jobs that it runs.
    pub running_jobs: Vec<String>,
}

/// What became of a worker that says goodbye.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaveResponse {
    /// What it called itself.
    pub worker_id: String,
    /// False when no such worker was known.
    pub left: bool,
}
