//! `PUT /{id}/progress`: progress, which is also the heartbeat.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a conversion is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProgressRequest {
    /// 0 to 100. 100 does not complete the job; only a result does.
    #[serde(deserialize_with = "crate::decode::whole")]
    pub percentage: u64,
    /// For a person. What is longer than 500 characters is cut.
    #[serde(default)]
    pub message: String,
    /// When the worker saw this. Kept by nobody: only the server's clock counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// The stage the conversion is in. What is longer than 100 characters is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

/// Whether to go on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProgressResponse {
    /// False when the job was cancelled.
    pub success: bool,
    /// For a person.
    pub message: String,
    /// True when the job was cancelled: stop working on it.
    pub cancelled: bool,
    /// When the lease ends unless the worker is heard of before.
    pub lease_expires_in_seconds: u64,
    /// How often to report.
    pub report_every_seconds: u64,
}
