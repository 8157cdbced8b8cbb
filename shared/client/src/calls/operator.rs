use api::{
    keys::{CreateKeyRequest, CreateKeyResponse, KeyView, ListKeysResponse},
    status::HealthResponse,
};

use crate::{Client, Error, base_url::segment, client::Call};

const KEYS: &str = "/api/v1/keys";

impl Client {
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
