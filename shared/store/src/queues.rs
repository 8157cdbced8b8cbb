//! The rows that say which queues are paused.

use domain::{ContentType, Tenant, Timestamp};

use crate::{
    StoreError,
    dynamodb::{Condition, Item, Table, number, text},
    schema::types_key,
};

/// The rows of paused queues in the one DynamoDB table. A queue without a row is not paused.
#[derive(Clone, Debug)]
pub struct QueueTable {
    pub(crate) table: Table,
}

impl QueueTable {
    /// Pauses a queue. One that is paused stays so, since when it was.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn pause(
        &self,
        tenant: &Tenant,
        content_type: &ContentType,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let row = Item::from([
            ("pk".to_owned(), text(pk(tenant, content_type))),
            ("day".to_owned(), text(types_key(tenant))),
            ("created_at".to_owned(), number(now.0)),
        ]);
        self.table.put("pause queue", row, Condition::Absent).await.map(|_| ())
    }

    /// Ends a queue's pause, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn resume(&self, tenant: &Tenant, content_type: &ContentType) -> Result<(), StoreError> {
        let paused = Condition::Is("attribute_exists(pk)", Item::new());
        self.table.delete("resume queue", pk(tenant, content_type), paused).await.map(|_| ())
    }

    /// Whether a queue is paused now. One read unit.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn is_paused(&self, tenant: &Tenant, content_type: &ContentType) -> Result<bool, StoreError> {
        Ok(self.table.get("read pause", pk(tenant, content_type)).await?.is_some())
    }
}

fn pk(tenant: &Tenant, content_type: &ContentType) -> String {
    format!("{PREFIX}{tenant}#{content_type}")
}

const PREFIX: &str = "queue#";

/// The queue that a partition key says is paused.
pub(crate) fn queue_of_pk(pk: &str) -> Option<ContentType> {
    pk.strip_prefix(PREFIX)?.split_once('#')?.1.parse().ok()
}
