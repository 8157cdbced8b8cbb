//! `/api/v1/keys`: API keys, on one machine. On AWS they are made by command line against the table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A key to create.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CreateKeyRequest {
    /// What a person calls it.
    pub name: String,
    /// What it may do: `ingest`, `worker`, `admin`.
    pub scopes: Vec<ScopeName>,
    /// Whose jobs it sees. By default the creating key's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A scope's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScopeName {
    /// Upload, create, read and end jobs.
    Ingest,
    /// Take and run jobs.
    Worker,
    /// Everything, keys included.
    Admin,
}

impl From<ScopeName> for crate::Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Ingest => Self::Ingest,
            ScopeName::Worker => Self::Worker,
            ScopeName::Admin => Self::Admin,
        }
    }
}

/// Puts a new key in the place of another.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RotateKeyRequest {
    /// How long the old key goes on working, in seconds. By default 86400, a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<u64>,
}

/// The new key. Its secret is shown this once.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CreateKeyResponse {
    /// What goes behind `Authorization: Bearer`. A secret.
    pub api_key: String,
    /// The key as it is listed.
    pub key: KeyView,
}

impl std::fmt::Debug for CreateKeyResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateKeyResponse").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    /// The public half.
    pub key_id: String,
    /// What a person calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Whose jobs it sees.
    pub tenant: String,
    /// When it was created.
    pub created_at: String,
    /// When it was revoked, if it was. It stops working within 60 seconds of that.
    pub revoked_at: Option<String>,
    /// When it ends, if another key took its place. It stops working within 60 seconds of that.
    pub expires_at: Option<String>,
}

/// The keys of all tenants.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListKeysResponse {
    /// The keys, oldest first.
    pub keys: Vec<KeyView>,
}
