//! `GET /statistics`: what waits, runs and has ended lately.

use domain::ContentType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Of which queues.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StatisticsRequest {
    /// Only that of this type, which reads less. Older servers tell of all queues nevertheless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub content_type: Option<ContentType>,
}

/// What waits, runs and has ended lately, of one tenant.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StatisticsResponse {
    /// When the queues were counted, by the last sweep that saw every live job. Absent before the first.
    pub as_of: Option<String>,
    /// One entry for each content type that was asked for and has live jobs, has ended jobs lately, or is paused.
    pub queues: Vec<QueueView>,
}

/// One queue, which is one content type of a tenant.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueueView {
    /// The content type.
    pub content_type: String,
    /// True while no worker may claim from it.
    pub paused: bool,
    /// Jobs that wait for a worker.
    pub waiting: u64,
    /// How long ago the oldest of them was created, in seconds. Absent when none waits.
    pub oldest_waiting_seconds: Option<u64>,
    /// Jobs that wait for the end of a backoff.
    pub backing_off: u64,
    /// Jobs that run.
    pub running: u64,
    /// How many jobs ended in the last 24 hours, by how they ended: in the hour that has begun and the 23 before it, in UTC.
    /// Counted as well as can be without slowing an end down: a count may be missed when a server dies.
    pub ended_24h: EndedView,
    /// How long conversions took in the last 14 days. Absent when there were none.
    pub run_time: Option<RunTimeView>,
}

/// Counts of ended jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndedView {
    /// Converted.
    pub completed: u64,
    /// Failed for good.
    pub failed: u64,
    /// Ended by a limit.
    pub timeout: u64,
    /// Ended by a caller.
    pub cancelled: u64,
}

/// How long conversions took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunTimeView {
    /// How many there were.
    pub conversions: u64,
    /// Half of them took at most this long, in seconds. Rounded up, by less than half.
    pub median_seconds: f64,
    /// Nine of ten took at most this long, in seconds. Rounded up, by less than half.
    pub p90_seconds: f64,
}

/// `POST /queues/{content_type}/pause` and `/resume`. Jobs of a paused queue still time out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueueRequest {}

/// What the queue is now.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct QueueResponse {
    /// The content type.
    pub content_type: String,
    /// True while no worker may claim from it.
    pub paused: bool,
}
