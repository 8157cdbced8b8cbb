use api::{
    events::{
        EventView, ListEventsRequest, ListEventsResponse, RedriveRequest, RotateSecretRequest,
        WebhookSecretResponse,
    },
    import::{ImportRequest, ImportResponse},
    keys::{CreateKeyRequest, CreateKeyResponse, KeyView, ListKeysResponse, RotateKeyRequest},
    statistics::{QueueRequest, QueueResponse},
    status::HealthResponse,
};

use super::{EVENTS, KEYS, WEBHOOK_SECRET, jobs, queue};
use crate::{
    Client, Error,
    base_url::segment,
    client::{CALL, Call, LONG_CALL},
};

impl Client {
    /// Lets no worker claim from a queue until it is resumed.
    ///
    /// # Errors
    /// As of any call.
    pub async fn pause_queue(&self, content_type: &str) -> Result<QueueResponse, Error> {
        self.submit(Call::post(queue(content_type, "/pause"), &QueueRequest {})).await
    }

    /// Ends a queue's pause.
    ///
    /// # Errors
    /// As of any call.
    pub async fn resume_queue(&self, content_type: &str) -> Result<QueueResponse, Error> {
        self.submit(Call::post(queue(content_type, "/resume"), &QueueRequest {})).await
    }

    /// Takes over a job of the original system. It may be repeated: only the first call changes anything.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::Invalid`] with the fields that do not fit.
    pub async fn import_job(&self, request: &ImportRequest) -> Result<ImportResponse, Error> {
        self.submit(Call::post(jobs("/import"), request).within(LONG_CALL)).await
    }

    /// A page of the events whose delivery was given up, the last one first.
    ///
    /// # Errors
    /// As of any call.
    pub async fn list_events(&self, request: &ListEventsRequest) -> Result<ListEventsResponse, Error> {
        self.get_with(EVENTS, request, CALL).await
    }

    /// Sends an event out again.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::Refused`] unless its delivery was given up, [`api::Kind::NotFound`] when there is
    /// no such event.
    pub async fn redrive_event(&self, event_id: &str) -> Result<EventView, Error> {
        self.submit(Call::post(format!("{EVENTS}/{}/redrive", segment(event_id)), &RedriveRequest {})).await
    }

    /// Replaces what the tenant's events are signed with. For a day they are signed with both.
    ///
    /// # Errors
    /// As of any call.
    pub async fn rotate_webhook_secret(&self) -> Result<WebhookSecretResponse, Error> {
        self.submit(Call::post(format!("{WEBHOOK_SECRET}/rotate"), &RotateSecretRequest {})).await
    }

    /// Creates an API key, on one machine. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// As of any call.
    pub async fn create_key(&self, request: &CreateKeyRequest) -> Result<CreateKeyResponse, Error> {
        self.submit(Call::post(KEYS.to_owned(), request)).await
    }

    /// The API keys of all tenants, on one machine.
    ///
    /// # Errors
    /// As of any call.
    pub async fn list_keys(&self) -> Result<ListKeysResponse, Error> {
        self.get(KEYS).await
    }

    /// Puts a new API key in the place of another, which goes on working for an overlap. On one machine.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::NotFound`] when there is no such key, [`api::Kind::Refused`] when it was rotated or
    /// revoked before.
    pub async fn rotate_key(
        &self,
        key_id: &str,
        request: &RotateKeyRequest,
    ) -> Result<CreateKeyResponse, Error> {
        self.submit(Call::post(format!("{KEYS}/{}/rotate", segment(key_id)), request)).await
    }

    /// Revokes an API key, on one machine.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::NotFound`] when there is no such key.
    pub async fn revoke_key(&self, key_id: &str) -> Result<KeyView, Error> {
        self.delete(&format!("{KEYS}/{}", segment(key_id))).await
    }

    /// Whether the service is up.
    ///
    /// # Errors
    /// As of any call.
    pub async fn health(&self) -> Result<HealthResponse, Error> {
        self.get("/health").await
    }
}
