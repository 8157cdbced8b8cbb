//! The rows that say where a tenant's idle workers wait for a hint that there is work.

use std::collections::BTreeMap;

use domain::{ContentType, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    StoreError,
    dynamodb::{Condition, Item, Put, Table},
};

const PREFIX: &str = "hints#";

/// How long a row stays in which no class is live any more, in milliseconds.
const KEPT: i64 = 24 * 3600 * 1000;

/// The rows of hints in the one DynamoDB table, one for each tenant.
#[derive(Clone, Debug)]
pub struct HintTable {
    pub(crate) table: Table,
}

/// Workers of one tenant that serve the same content types, and so wait on the same queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintClass {
    /// The types, in order.
    #[serde(rename = "types")]
    pub content_types: Vec<ContentType>,
    /// The URL by which SQS knows the queue.
    #[serde(rename = "queue")]
    pub queue_url: String,
    /// Until when one of them may be waiting.
    #[serde(rename = "until")]
    pub live_until: Timestamp,
}

/// The classes of a tenant's workers that may be waiting, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintClasses {
    /// The classes.
    pub classes: BTreeMap<String, HintClass>,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
struct Row {
    pk: String,
    rev: u64,
    classes: BTreeMap<String, HintClass>,
    /// For DynamoDB's TTL, in seconds.
    expires_at: i64,
}

impl HintClasses {
    /// The classes of which a worker may be waiting at `now`.
    pub fn live(&self, now: Timestamp) -> impl Iterator<Item = &HintClass> {
        self.classes.values().filter(move |class| class.live_until > now)
    }
}

impl HintTable {
    /// A tenant's classes as they are now. One read unit for each 4 KiB of them, which is 20 classes of six types.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer or the row cannot be read.
    pub async fn get(&self, tenant: &Tenant) -> Result<HintClasses, StoreError> {
        let row = self.table.get("read hints", pk(tenant)).await?;
        row.map_or_else(|| Ok(HintClasses::default()), |row| decode(tenant, row))
    }

    /// Writes `classes` in place of `read`, if nobody has written since. Else gives what is there now.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn replace(
        &self,
        tenant: &Tenant,
        read: &HintClasses,
        classes: BTreeMap<String, HintClass>,
    ) -> Result<Result<(), HintClasses>, StoreError> {
        let last = classes.values().map(|class| class.live_until.0).max().unwrap_or_default();
        let row = serde_dynamo::to_item(Row {
            pk: pk(tenant),
            rev: read.revision + 1,
            classes,
            expires_at: (last + KEPT).div_euclid(1000),
        })
        .map_err(|error| unreadable(tenant, &error))?;
        let condition =
            if read.revision == 0 { Condition::Absent } else { Condition::Revision(read.revision) };
        match self.table.put("write hints", row, condition).await? {
            Put::Written => Ok(Ok(())),
            Put::Lost(Some(there)) => Ok(Err(decode(tenant, there)?)),
            // It was there when it was read, and its time to live was over.
            Put::Lost(None) => Ok(Err(HintClasses::default())),
        }
    }
}

fn pk(tenant: &Tenant) -> String {
    format!("{PREFIX}{tenant}")
}

fn decode(tenant: &Tenant, item: Item) -> Result<HintClasses, StoreError> {
    let row: Row = serde_dynamo::from_item(item).map_err(|error| unreadable(tenant, &error))?;
    Ok(HintClasses { classes: row.classes, revision: row.rev })
}

fn unreadable(tenant: &Tenant, error: &serde_dynamo::Error) -> StoreError {
    StoreError::Unreadable { what: format!("the hints of tenant {tenant}"), cause: error.to_string() }
}
