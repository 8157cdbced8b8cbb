//! The rows in which a sweep says what it saw and where it stopped.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{ContentType, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    LivePlace, StoreError,
    dynamodb::{Condition, Item, Put, Table, number, text},
};

const PK: &str = "sweep";
const PREFIX: &str = "depth#";

/// How long what was seen of a tenant's queues stays, in seconds.
const KEPT: i64 = 30 * 24 * 3600;

/// The rows of sweeps in the one DynamoDB table.
#[derive(Clone, Debug)]
pub struct SweepTable {
    pub(crate) table: Table,
}

/// Where the sweeps stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepRecord {
    /// When the last sweep began that saw every live job.
    pub seen_at: Option<Timestamp>,
    /// Where the last one stopped, if it ran out of time.
    pub resume: Option<LivePlace>,
    revision: u64,
}

/// What a sweep saw of a tenant's queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depths {
    /// When the sweep began.
    pub seen_at: Timestamp,
    /// The queues with live jobs.
    pub queues: BTreeMap<ContentType, Depth>,
}

/// The live jobs of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// Jobs that wait for their turn.
    pub waiting: u64,
    /// When the oldest of them was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// Jobs that wait for the end of a backoff.
    pub backing_off: u64,
    /// Jobs that run.
    pub running: u64,
}

#[derive(Serialize, Deserialize)]
struct DepthRow {
    pk: String,
    seen_at: Timestamp,
    queues: BTreeMap<ContentType, Depth>,
    /// For DynamoDB's TTL, in seconds.
    expires_at: i64,
}

impl SweepTable {
    /// Where the sweeps stand.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn last(&self) -> Result<SweepRecord, StoreError> {
        Ok(self.table.get("read sweep", PK.to_owned()).await?.as_ref().map(record_of).unwrap_or_default())
    }

    /// Writes that a sweep which began at `seen_at` saw every live job, unless a later one has.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn completed(&self, read: &SweepRecord, seen_at: Timestamp) -> Result<(), StoreError> {
        let mut read = read.clone();
        while read.seen_at < Some(seen_at) {
            let new = SweepRecord { seen_at: Some(seen_at), resume: None, revision: read.revision + 1 };
            match self.write(&read, new).await? {
                Put::Lost(Some(now)) => read = record_of(&now),
                Put::Written | Put::Lost(None) => break,
            }
        }
        Ok(())
    }

    /// Writes where a sweep stopped, so that the next one goes on there. Nothing happens when another has written since
    /// `read`.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn stopped(&self, read: &SweepRecord, at: LivePlace) -> Result<(), StoreError> {
        let record = SweepRecord { seen_at: read.seen_at, resume: Some(at), revision: read.revision + 1 };
        self.write(read, record).await.map(|_| ())
    }

    async fn write(&self, read: &SweepRecord, new: SweepRecord) -> Result<Put, StoreError> {
        let mut row = Item::from([("pk".to_owned(), text(PK)), ("rev".to_owned(), number(new.revision))]);
        row.extend(new.seen_at.map(|at| ("seen_at".to_owned(), number(at.0))));
        row.extend(new.resume.map(|at| ("resume".to_owned(), AttributeValue::M(at.0))));
        let condition =
            if read.revision == 0 { Condition::Absent } else { Condition::Revision(read.revision) };
        self.table.put("record sweep", row, condition).await
    }

    /// Writes what a sweep saw of a tenant's queues, unless a later one has. False when one has.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn record(&self, tenant: &Tenant, depths: &Depths) -> Result<bool, StoreError> {
        let row = serde_dynamo::to_item(DepthRow {
            pk: pk(tenant),
            seen_at: depths.seen_at,
            queues: depths.queues.clone(),
            expires_at: depths.seen_at.0.div_euclid(1000) + KEPT,
        })
        .map_err(|error| unreadable(tenant, &error))?;
        let newer = Condition::Is(
            "attribute_not_exists(pk) OR seen_at < :seen",
            Item::from([(":seen".to_owned(), number(depths.seen_at.0))]),
        );
        Ok(matches!(self.table.put("record depths", row, newer).await?, Put::Written))
    }

    /// What the last sweep that saw any saw of a tenant's queues.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer or the row cannot be read.
    pub async fn depths(&self, tenant: &Tenant) -> Result<Option<Depths>, StoreError> {
        let Some(item) = self.table.get("read depths", pk(tenant)).await? else { return Ok(None) };
        let row: DepthRow = serde_dynamo::from_item(item).map_err(|error| unreadable(tenant, &error))?;
        Ok(Some(Depths { seen_at: row.seen_at, queues: row.queues }))
    }
}

fn pk(tenant: &Tenant) -> String {
    format!("{PREFIX}{tenant}")
}

/// What of the row can be read: without the rest the next sweep begins at the beginning.
fn record_of(item: &Item) -> SweepRecord {
    let number = |name: &str| item.get(name)?.as_n().ok();
    SweepRecord {
        seen_at: number("seen_at").and_then(|at| at.parse().ok()).map(Timestamp),
        resume: item.get("resume").and_then(|at| at.as_m().ok()).cloned().map(LivePlace),
        revision: number("rev").and_then(|revision| revision.parse().ok()).unwrap_or(0),
    }
}

fn unreadable(tenant: &Tenant, error: &serde_dynamo::Error) -> StoreError {
    StoreError::Unreadable { what: format!("the depths of tenant {tenant}"), cause: error.to_string() }
}
