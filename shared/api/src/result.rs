//! `PUT /{id}/result`, `POST /{id}/release`, and the document a result is kept as.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What an attempt came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ResultRequest {
    /// Whether the conversion worked.
    pub success: bool,
    /// The Markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What is known about the source and its conversion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// How long the conversion took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing_time: Option<f64>,
    /// False when another attempt would fail the same way. By default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// The `source_file_path` of a result upload, in place of `content` and `metadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_key: Option<String>,
}

/// What the job became.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ResultResponse {
    /// `completed`; or, after a failure, `pending` when another attempt will follow and `failed` when none will.
    pub status: String,
    /// True when a continuation of the ingestion is durably recorded.
    pub ingestion_continued: bool,
}

/// What a completed job's result object holds. A worker that uploads it itself may add fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResultDocument {
    /// The Markdown.
    #[serde(default)]
    pub content: String,
    /// What is known about the source and its conversion.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// How long the conversion took, in seconds.
    #[serde(default)]
    pub processing_time: Option<f64>,
}

/// Gives a job back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseRequest {
    /// Why, for the log. What is longer than 500 characters is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the job became.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseResponse {
    /// `pending`, unless the job was given back too often.
    pub status: String,
}
