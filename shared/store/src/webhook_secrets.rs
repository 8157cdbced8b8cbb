//! The rows of what events are signed with, one for each tenant.

use std::fmt;

use domain::{Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::{
    StoreError,
    dynamodb::{Condition, Item, Put, Table},
};

const PREFIX: &str = "webhook-secret#";

/// The rows of webhook secrets in the one DynamoDB table.
#[derive(Clone, Debug)]
pub struct WebhookSecretTable {
    pub(crate) table: Table,
}

/// A key for HMAC-SHA256. It is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SigningSecret(ByteArray<32>);

impl SigningSecret {
    /// A secret of these bytes, which must be random.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(ByteArray::new(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// What a tenant's events are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSecrets {
    /// Whose events.
    pub tenant: Tenant,
    /// Grows by one with every change. A write is conditional on it.
    pub revision: u64,
    /// The newest secret.
    pub current: SigningSecret,
    /// The secrets before it, the newest first, some of which may have ended.
    pub previous: Vec<PreviousSecret>,
}

/// A secret that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// The secret.
    pub secret: SigningSecret,
    /// Until when events are signed with it too.
    pub until: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Row {
    pk: String,
    rev: u64,
    secret: SigningSecret,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    previous: Vec<PreviousSecret>,
}

impl WebhookSecretTable {
    /// Reads a tenant's secrets, if it has any yet.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer or the row holds no secrets.
    pub async fn get(&self, tenant: &Tenant) -> Result<Option<WebhookSecrets>, StoreError> {
        self.table.get("read webhook secret", pk(tenant)).await?.map(decode).transpose()
    }

    /// Writes a tenant's first secrets, and gives those that hold: these, or those that somebody else wrote before.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn create(&self, first: WebhookSecrets) -> Result<WebhookSecrets, StoreError> {
        match self.table.put("write webhook secret", encode(&first)?, Condition::Absent).await? {
            Put::Written => Ok(first),
            Put::Lost(Some(there)) => decode(there),
            Put::Lost(None) => Err(StoreError::Unavailable {
                operation: "write webhook secret",
                cause: "the row in the way vanished while it was read".to_owned(),
            }),
        }
    }

    /// Writes `new` in place of `read`, if the row is still at the revision that was read, and gives the secrets that
    /// hold: these, or those that somebody else wrote before.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn replace(
        &self,
        read: &WebhookSecrets,
        new: WebhookSecrets,
    ) -> Result<WebhookSecrets, StoreError> {
        let condition = Condition::Revision(read.revision);
        match self.table.put("write webhook secret", encode(&new)?, condition).await? {
            Put::Written => Ok(new),
            Put::Lost(Some(there)) => decode(there),
            Put::Lost(None) => Err(StoreError::Unavailable {
                operation: "write webhook secret",
                cause: "the row was removed while it was read".to_owned(),
            }),
        }
    }
}

fn pk(tenant: &Tenant) -> String {
    format!("{PREFIX}{tenant}")
}

fn encode(secrets: &WebhookSecrets) -> Result<Item, StoreError> {
    serde_dynamo::to_item(Row {
        pk: pk(&secrets.tenant),
        rev: secrets.revision,
        secret: secrets.current.clone(),
        previous: secrets.previous.clone(),
    })
    .map_err(|error| unreadable(error.to_string()))
}

fn decode(item: Item) -> Result<WebhookSecrets, StoreError> {
    let row: Row = serde_dynamo::from_item(item).map_err(|error| unreadable(error.to_string()))?;
    let tenant = row.pk.strip_prefix(PREFIX).and_then(|tenant| tenant.parse().ok());
    Ok(WebhookSecrets {
        tenant: tenant.ok_or_else(|| unreadable("its key names no tenant".to_owned()))?,
        revision: row.rev,
        current: row.secret,
        previous: row.previous,
    })
}

fn unreadable(cause: String) -> StoreError {
    StoreError::Unreadable { what: "a tenant's webhook secret".to_owned(), cause }
}
