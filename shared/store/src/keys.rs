use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use domain::{KeyId, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::{
    StoreError,
    dynamodb::{Condition, Item, Put, Table},
};

/// The rows of API keys in the one table.
#[derive(Clone, Debug)]
pub struct KeyTable {
    pub(crate) table: Table,
}

/// An API key as it is stored: without its secret, of which only the SHA-256 is kept. The secret is random, so a
/// plain hash cannot be searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public half.
    pub id: KeyId,
    /// What a person calls it.
    pub name: String,
    /// Whose jobs it sees.
    pub tenant: Tenant,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The SHA-256 of the secret half.
    pub secret_sha256: [u8; 32],
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it ends by itself, because another key took its place.
    pub expires_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct KeyRow {
    pk: String,
    name: String,
    tenant: Tenant,
    scopes: Vec<String>,
    secret_sha256: ByteArray<32>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    // Not `expires_at`, by which the table removes rows: an ended key is still to be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
}

const PREFIX: &str = "key#";

impl KeyTable {
    /// Writes a new key. False when the id is taken, and nothing was written.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn create(&self, key: &KeyRecord) -> Result<bool, StoreError> {
        self.put(key, Condition::Absent).await
    }

    /// Reads a key, revoked or not.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer or the row is no key.
    pub async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.table.get("read key", format!("{PREFIX}{id}")).await?.map(decode).transpose()
    }

    /// Ends a key, if it is still as it was read. False when it is not, and nothing was written.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn revoke(&self, read: &KeyRecord, now: Timestamp) -> Result<bool, StoreError> {
        let revoked = KeyRecord { revoked_at: Some(now), ..read.clone() };
        let condition =
            Condition::Is("secret_sha256 = :read AND attribute_not_exists(revoked_at)", secret_of(read));
        self.put(&revoked, condition).await
    }

    /// Writes a new key and lets the one whose place it takes end at `expires_at`: both or neither. False when the old key
    /// is not as it was read, and nothing was written.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn rotate(
        &self,
        read: &KeyRecord,
        expires_at: Timestamp,
        new: &KeyRecord,
    ) -> Result<bool, StoreError> {
        let ending = KeyRecord { expires_at: Some(expires_at), ..read.clone() };
        let condition = Condition::Is(
            "secret_sha256 = :read AND attribute_not_exists(revoked_at) AND attribute_not_exists(ends_at)",
            secret_of(read),
        );
        match self.table.put_both("rotate key", encode(&ending)?, condition, encode(new)?).await? {
            Put::Written => Ok(true),
            // What is in the way may be this very write, repeated by the SDK after a lost answer. Only the new row tells:
            // another rotation in the same moment leaves the old key the same end.
            Put::Lost(_) => Ok(self.get(&new.id).await?.as_ref() == Some(new)),
        }
    }

    /// Every key, oldest first. Reads the whole table: for operators, not for a hot path.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer or a row is no key.
    pub async fn list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let mut keys = Vec::new();
        let mut from = None;
        loop {
            let output = self
                .table
                .client
                .scan()
                .table_name(&self.table.name)
                .filter_expression("begins_with(pk, :prefix)")
                .expression_attribute_values(":prefix", AttributeValue::S(PREFIX.to_owned()))
                .set_exclusive_start_key(from)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| StoreError::of("list keys", error))?;
            self.table.meter.read(output.consumed_capacity());
            for item in output.items.unwrap_or_default() {
                keys.push(decode(item)?);
            }
            from = output.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                keys.sort_by_key(|key| key.created_at);
                return Ok(keys);
            }
        }
    }

    async fn put(&self, key: &KeyRecord, condition: Condition) -> Result<bool, StoreError> {
        written(self.table.put("write key", encode(key)?, condition).await?, key)
    }
}

/// Whether a put of `key` was written.
fn written(put: Put, key: &KeyRecord) -> Result<bool, StoreError> {
    match put {
        Put::Written => Ok(true),
        // What is in the way may be this very write, repeated by the SDK after a lost answer.
        Put::Lost(item) => Ok(item.map(decode).transpose()?.as_ref() == Some(key)),
    }
}

/// The value `:read` of conditions: a row with another secret is another key, whatever its id.
fn secret_of(key: &KeyRecord) -> Item {
    Item::from([(":read".to_owned(), AttributeValue::B(key.secret_sha256.to_vec().into()))])
}

fn unreadable(error: &serde_dynamo::Error) -> StoreError {
    StoreError::Unreadable { what: "an API key's row".to_owned(), cause: error.to_string() }
}

fn encode(key: &KeyRecord) -> Result<Item, StoreError> {
    serde_dynamo::to_item(KeyRow {
        pk: format!("{PREFIX}{}", key.id),
        name: key.name.clone(),
        tenant: key.tenant.clone(),
        scopes: key.scopes.clone(),
        secret_sha256: ByteArray::new(key.secret_sha256),
        created_at: key.created_at,
        revoked_at: key.revoked_at,
        ends_at: key.expires_at,
    })
    .map_err(|error| unreadable(&error))
}

fn decode(item: Item) -> Result<KeyRecord, StoreError> {
    let row: KeyRow = serde_dynamo::from_item(item).map_err(|error| unreadable(&error))?;
    let id = row.pk.strip_prefix(PREFIX).and_then(|id| id.parse().ok()).ok_or_else(|| {
        StoreError::Unreadable { what: format!("row {:?}", row.pk), cause: "it is no API key's".to_owned() }
    })?;
    Ok(KeyRecord {
        id,
        name: row.name,
        tenant: row.tenant,
        scopes: row.scopes,
        secret_sha256: row.secret_sha256.into_array(),
        created_at: row.created_at,
        revoked_at: row.revoked_at,
        expires_at: row.ends_at,
    })
}
