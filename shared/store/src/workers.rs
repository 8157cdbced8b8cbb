//! The rows that say which workers there are.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use domain::{ContentType, Tenant, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    StoreError,
    dynamodb::{Condition, Freshness, Item, Put, Table, number, text},
    schema::{DAY_INDEX, workers_key},
};

const PREFIX: &str = "worker#";
/// How much of the digest of a worker's types is in its key, in bytes. Whose types have the same are one worker.
const TYPES_DIGEST: usize = 4;

/// The rows of workers in the one DynamoDB table, one for each name that a tenant's workers give themselves and the types
/// that they convert under it: names are not always unique, and a worker must not hide another of other types.
#[derive(Clone, Debug)]
pub struct WorkerTable {
    pub(crate) table: Table,
}

/// A worker as a poll of it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRecord {
    /// What it calls itself.
    pub id: WorkerId,
    /// The types that it converts.
    pub content_types: Vec<ContentType>,
    /// What program it is, if it says so.
    pub version: Option<String>,
    /// When it was seen.
    pub seen_at: Timestamp,
}

/// A tenant's workers.
#[derive(Debug, Default)]
pub struct Workers {
    /// The workers, in no order. One whose row is no worker's is an error of its own.
    pub records: Vec<Result<WorkerRecord, StoreError>>,
    /// Whether there are more.
    pub more: bool,
}

#[derive(Serialize, Deserialize)]
struct Row {
    pk: String,
    /// The partition of the index by which a tenant's workers are found.
    day: String,
    /// The beginning of the day on which it was seen. The index is written anew when it changes, which is once a day.
    created_at: Timestamp,
    types: Vec<ContentType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    seen_at: Timestamp,
    /// For DynamoDB's TTL, in seconds.
    expires_at: i64,
}

impl WorkerTable {
    /// How long a row stays after its worker was seen, in milliseconds: a week.
    pub const KEPT: i64 = 7 * 24 * 3600 * 1000;

    /// Writes that a worker was seen, unless it was seen later. One write unit; on a new day, or of a new worker, one or two
    /// more for the index.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn note(&self, tenant: &Tenant, seen: &WorkerRecord) -> Result<(), StoreError> {
        let row = serde_dynamo::to_item(Row {
            pk: pk(tenant, seen),
            day: workers_key(tenant),
            created_at: seen.seen_at.day().begin(),
            types: seen.content_types.clone(),
            version: seen.version.clone(),
            seen_at: seen.seen_at,
            expires_at: (seen.seen_at.0 + Self::KEPT).div_euclid(1000),
        })
        .map_err(|error| unreadable("a worker's row".to_owned(), &error))?;
        let seen_at = Item::from([(":seen".to_owned(), number(seen.seen_at.0))]);
        let not_later = Condition::Is("attribute_not_exists(pk) OR seen_at <= :seen", seen_at);
        self.table.put("note worker", row, not_later).await.map(|_| ())
    }

    /// Removes the rows of this name, whatever types they say. False when there was none. One read unit for about fifty of
    /// the tenant's workers, and one write unit for each row, two with the index.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer. Some of the rows may be gone then.
    pub async fn forget(&self, tenant: &Tenant, id: &WorkerId) -> Result<bool, StoreError> {
        let pks = self.pks(tenant, usize::MAX).await?;
        let mut left = false;
        for pk in pks.into_iter().filter(|pk| id_of_pk(pk).as_ref() == Some(id)) {
            let known = Condition::Is("attribute_exists(pk)", Item::new());
            let gone = self.table.delete("forget worker", pk, known).await?;
            left |= matches!(gone, Put::Written);
        }
        Ok(left)
    }

    /// At most `most` of a tenant's workers, those that were not seen for days left out first. Half a read unit for each, and
    /// one for about fifty more in the index.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn list(&self, tenant: &Tenant, most: usize) -> Result<Workers, StoreError> {
        // One more, which tells whether there are more.
        let mut pks = self.pks(tenant, most.saturating_add(1)).await?;
        let more = pks.len() > most;
        pks.truncate(most);
        let items = self.table.get_many("read workers", pks, Freshness::Lately).await?;
        Ok(Workers { records: items.into_iter().map(|item| decode(tenant, item)).collect(), more })
    }

    /// The keys of at most `most` of a tenant's workers, of those that were seen on the last day first.
    async fn pks(&self, tenant: &Tenant, most: usize) -> Result<Vec<String>, StoreError> {
        let (mut pks, mut from) = (Vec::new(), None);
        loop {
            let left = most.saturating_sub(pks.len());
            let output = self
                .table
                .client
                .query()
                .table_name(&self.table.name)
                .index_name(DAY_INDEX)
                .key_condition_expression("#day = :workers")
                .expression_attribute_names("#day", "day")
                .expression_attribute_values(":workers", text(workers_key(tenant)))
                .scan_index_forward(false)
                .limit(i32::try_from(left).unwrap_or(i32::MAX))
                .set_exclusive_start_key(from)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| StoreError::of("list workers", error))?;
            self.table.meter.read(output.consumed_capacity());
            let found = output.items.unwrap_or_default();
            pks.extend(found.iter().filter_map(|item| item.get("pk")?.as_s().ok().cloned()));
            from = output.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() || pks.len() >= most {
                return Ok(pks);
            }
        }
    }
}

fn pk(tenant: &Tenant, worker: &WorkerRecord) -> String {
    format!("{PREFIX}{tenant}#{}#{}", types_digest(&worker.content_types), worker.id)
}

/// The same for the same types in another order.
fn types_digest(content_types: &[ContentType]) -> String {
    let mut digest = Sha256::new();
    for content_type in BTreeSet::from_iter(content_types) {
        // No type has a comma.
        digest.update(content_type.as_str());
        digest.update(",");
    }
    hex::encode(&digest.finalize()[..TYPES_DIGEST])
}

fn id_of_pk(pk: &str) -> Option<WorkerId> {
    // No tenant and no digest has a `#`; a worker's name may.
    pk.strip_prefix(PREFIX)?.splitn(3, '#').nth(2)?.parse().ok()
}

fn decode(tenant: &Tenant, item: Item) -> Result<WorkerRecord, StoreError> {
    let what = || format!("a worker of tenant {tenant}");
    let row: Row = serde_dynamo::from_item(item).map_err(|error| unreadable(what(), &error))?;
    let id = id_of_pk(&row.pk).ok_or_else(|| StoreError::Unreadable {
        what: what(),
        cause: format!("{:?} is no worker's key", row.pk),
    })?;
    Ok(WorkerRecord { id, content_types: row.types, version: row.version, seen_at: row.seen_at })
}

fn unreadable(what: String, error: &serde_dynamo::Error) -> StoreError {
    StoreError::Unreadable { what, cause: error.to_string() }
}
