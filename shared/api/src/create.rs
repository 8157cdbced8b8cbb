//! `POST /`: a new job.

use domain::{ContentType, WebhookUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A job to create.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CreateJobRequest {
    /// The `source_file_path` of an upload; or, on one machine, the absolute path of a file under one of
    /// `MORAG_SOURCE_ROOTS`; or, for `web` and `youtube`, an `http://` or `https://` URL.
    pub source_file_path: String,
    /// `audio`, `video`, `document`, `image`, `web`, `youtube`, or a custom type spelled `x-…`.
    #[schemars(with = "String")]
    pub content_type: ContentType,
    /// Options for the converter, handed on unread.
    #[serde(default)]
    pub task_options: Map<String, Value>,
    /// The ingestion service's id for the work the job belongs to.
    pub ingestion_task_id: String,
    /// How long one attempt may run. By default what the content type's setting says.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub timeout_seconds: Option<u64>,
    /// How long the job may wait for a worker. By default 300 with `fallback_to_local`, else 86,400.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub queue_timeout_seconds: Option<u64>,
    /// How long the whole job may take, whatever happens. By default there is no such limit.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub total_timeout_seconds: Option<u64>,
    /// Whether the caller will convert locally when this fails. By default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_to_local: Option<bool>,
    /// By default `normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<PriorityName>,
    /// How many failed, timed-out or lapsed attempts are followed by another. By default 3, at most 20.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub max_retries: Option<u64>,
    /// Who is told when the job has ended, by the rules of Standard Webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub webhook_url: Option<WebhookUrl>,
}

/// How urgent a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriorityName {
    /// Two hours ahead of low.
    High,
    /// One hour ahead of low.
    Normal,
    /// In the order of creation.
    Low,
}

/// The job that was created, or that the same idempotency key created before.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CreateJobResponse {
    /// The job's id.
    pub job_id: String,
    /// Its status, `pending` unless the job is an earlier one.
    pub status: String,
    /// When it was created.
    pub created_at: String,
}
