//! What a job's webhook is sent, and `GET /events`, `POST /events/{id}/redrive`, `GET /webhook-secret`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body that a job's webhook is sent when the job has ended, signed by the rules of Standard Webhooks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventBody {
    /// `remote_job.completed`, `remote_job.failed`, `remote_job.timeout` or `remote_job.cancelled`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When the job ended.
    pub timestamp: String,
    /// The job.
    pub data: EventData,
}

/// How the job ended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventData {
    /// The job's id.
    pub job_id: String,
    /// `completed`, `failed`, `timeout` or `cancelled`.
    pub status: String,
    /// The creator's id for the work the job belongs to.
    pub ingestion_task_id: String,
    /// What the source was.
    pub content_type: String,
    /// When the job was created.
    pub created_at: String,
    /// When it ended.
    pub completed_at: String,
    /// Why it ended, unless it was converted or cancelled.
    pub error_message: Option<String>,
    /// How many attempts there were.
    pub attempts: u32,
    /// `local` when the caller had taken the job over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_by: Option<String>,
    /// The path that redirects to the result, under the server that the job was created at, when there is one.
    pub result_path: Option<String>,
}

/// Which events.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListEventsRequest {
    /// The most events in one answer, 1 to 100. By default 50.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub limit: Option<u64>,
    /// Where the page begins: what the answer before it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of events whose delivery was given up, the last one first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListEventsResponse {
    /// The events.
    pub events: Vec<EventView>,
    /// Where the next page begins; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An event and its delivery.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// The event's id, which its receiver is given as `webhook-id`.
    pub event_id: String,
    /// The job that ended.
    pub job_id: String,
    /// How it ended.
    pub status: String,
    /// Who was to be told: scheme, host and path. The query may be a secret and is left out.
    pub url: String,
    /// `due`, `delivered` or `dead`.
    pub delivery: String,
    /// How often delivery was begun since the event was recorded or redriven.
    pub tries: u32,
    /// What went wrong with the last try.
    pub last_error: Option<String>,
    /// When the job ended.
    pub ended_at: String,
    /// When the next try is due, or when the event was delivered or given up.
    pub at: String,
}

/// Sends an event out again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RedriveRequest {}

/// What a tenant's events are signed with.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct WebhookSecretResponse {
    /// The secret, `whsec_` and base64. A secret.
    pub secret: String,
    /// The secret before it, while events are signed with both, for a day after a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// When the previous secret ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<String>,
}

impl std::fmt::Debug for WebhookSecretResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSecretResponse").field("secret", &"…").finish_non_exhaustive()
    }
}

/// Replaces the secret. Events are signed with the old one too for a day.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RotateSecretRequest {}
