//! The rows of events: how jobs ended, to be told to their webhooks.

use aws_sdk_dynamodb::{operation::query::builders::QueryFluentBuilder, types::ReturnConsumedCapacity};
use domain::{
    ContentType, Delivery, Event, EventId, Facts, Inconsistent, Status, Tenant, Timestamp, WebhookUrl,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

use crate::{
    StoreError,
    dynamodb::{Condition, Item, Put, Table, number, text},
    schema::DUE_INDEX,
};

const PREFIX: &str = "event#";
/// The attribute that tells every write of a row apart.
const WRITE: &str = "write";

/// Undelivered events are spread over this many partitions of the `due` index by their tenant, so that one tenant's
/// backlog delays a fraction of the others at most.
pub const EVENT_SHARDS: u32 = 4;

/// The rows of events in the one DynamoDB table.
#[derive(Clone, Debug)]
pub struct EventTable {
    pub(crate) table: Table,
    pub(crate) retention: Duration,
}

/// What the `due` index says of one event. It is a hint: only the row is the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventHint {
    /// When the event's next try is due or, when it is dead, when it died.
    pub at: Timestamp,
    /// The event.
    pub id: EventId,
}

/// A page of hints.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// What the page holds.
    pub hints: Vec<EventHint>,
    /// After which hint the next page begins; absent on the last.
    pub next: Option<EventHint>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    pk: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
    /// For DynamoDB's TTL, in seconds. Present once the event is delivered or dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered_at: Option<Timestamp>,
    tenant: Tenant,
    url: WebhookUrl,
    status: Status,
    #[serde(rename = "type")]
    content_type: ContentType,
    task_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default)]
    continued_locally: bool,
    attempts: u32,
    /// When the job was created. Not `created_at`, which is the key of the index of jobs by day.
    job_created_at: Timestamp,
    rev: u64,
    tries: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl EventTable {
    /// Reads an event as it is now.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer or the row is no event.
    pub async fn get(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        self.table.get("read event", pk(id)).await?.map(decode).transpose()
    }

    /// Writes `new` in place of `read`, if the row is still at the revision that was read. False when it is not.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn replace(&self, read: &Event, new: &Event) -> Result<bool, StoreError> {
        let mut item = encode(new, self.retention)?;
        // Two who claim an event at the same moment write the same; only one of them may take it for their own.
        let write = text(Uuid::new_v4());
        item.insert(WRITE.to_owned(), write.clone());
        match self.table.put("write event", item, Condition::Revision(read.revision)).await? {
            Put::Written => Ok(true),
            // The SDK repeats a write whose answer was lost; then what is in the way is the write itself.
            Put::Lost(now) => Ok(now.is_some_and(|now| now.get(WRITE) == Some(&write))),
        }
    }

    /// A page of one shard's undelivered events whose next try is due, the longest due first, at most `most`.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn due(
        &self,
        shard: u32,
        now: Timestamp,
        most: u32,
        after: Option<EventHint>,
    ) -> Result<EventPage, StoreError> {
        let query = self
            .page(shard_key(shard), most, after)
            .key_condition_expression("due_key = :key AND due_at <= :now")
            .expression_attribute_values(":now", number(now.0));
        self.hints("query due events", query).await
    }

    /// A page of a tenant's dead events, the one that died last first, at most `most`.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn dead(
        &self,
        tenant: &Tenant,
        most: u32,
        after: Option<EventHint>,
    ) -> Result<EventPage, StoreError> {
        let query = self
            .page(dead_key(tenant), most, after)
            .key_condition_expression("due_key = :key")
            .scan_index_forward(false);
        self.hints("query dead events", query).await
    }

    fn page(&self, key: String, most: u32, after: Option<EventHint>) -> QueryFluentBuilder {
        let start = after.map(|EventHint { at, id }| {
            Item::from([
                ("pk".to_owned(), text(pk(id))),
                ("due_key".to_owned(), text(&key)),
                ("due_at".to_owned(), number(at.0)),
            ])
        });
        self.table
            .client
            .query()
            .table_name(&self.table.name)
            .index_name(DUE_INDEX)
            .expression_attribute_values(":key", text(key))
            .limit(i32::try_from(most).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    async fn hints(
        &self,
        operation: &'static str,
        query: QueryFluentBuilder,
    ) -> Result<EventPage, StoreError> {
        let output = query.send().await.map_err(|error| StoreError::of(operation, error))?;
        self.table.meter.read(output.consumed_capacity());
        Ok(EventPage {
            hints: output.items.unwrap_or_default().iter().filter_map(hint).collect(),
            next: output.last_evaluated_key.as_ref().and_then(hint),
        })
    }
}

/// The row of a new event, to be written with the end it tells of.
pub(crate) fn encode(event: &Event, retention: Duration) -> Result<Item, StoreError> {
    let facts = &event.facts;
    let (due_key, due_at, done_at, delivered_at) = match event.delivery {
        Delivery::Due(at) => (Some(shard_key(shard_of(&event.tenant))), Some(at), None, None),
        Delivery::Delivered(at) => (None, None, Some(at), Some(at)),
        Delivery::Dead(at) => (Some(dead_key(&event.tenant)), Some(at), Some(at), None),
    };
    serde_dynamo::to_item(Row {
        pk: pk(event.id),
        due_key,
        due_at,
        expires_at: done_at.map(|at| at.plus(retention).0 / 1000),
        delivered_at,
        tenant: event.tenant.clone(),
        url: event.url.clone(),
        status: facts.status,
        content_type: facts.content_type.clone(),
        task_id: facts.ingestion_task_id.clone(),
        error: facts.error.clone(),
        continued_locally: facts.continued_locally,
        attempts: facts.attempts,
        job_created_at: facts.created_at,
        rev: event.revision,
        tries: event.tries,
        last_error: event.last_error.clone(),
    })
    .map_err(|error| unreadable(&event.id.to_string(), error.to_string()))
}

pub(crate) fn decode(item: Item) -> Result<Event, StoreError> {
    let name = item.get("pk").and_then(|pk| pk.as_s().ok()).cloned().unwrap_or_default();
    let row: Row = serde_dynamo::from_item(item).map_err(|error| unreadable(&name, error.to_string()))?;
    event_of(row).map_err(|error| unreadable(&name, error.to_string()))
}

fn event_of(row: Row) -> Result<Event, Inconsistent> {
    let id: EventId = row
        .pk
        .strip_prefix(PREFIX)
        .and_then(|id| id.parse().ok())
        .ok_or(Inconsistent("the partition key is no event's"))?;
    if matches!(row.status, Status::Pending | Status::Processing) {
        return Err(Inconsistent("an event of no end"));
    }
    let delivery = match (row.due_key, row.due_at, row.delivered_at, row.expires_at) {
        (None, None, Some(at), Some(_)) => Delivery::Delivered(at),
        (Some(key), Some(at), None, None) if key == shard_key(shard_of(&row.tenant)) => Delivery::Due(at),
        (Some(key), Some(at), None, Some(_)) if key == dead_key(&row.tenant) => Delivery::Dead(at),
        _ => return Err(Inconsistent("the due index does not say where the delivery stands")),
    };
    Ok(Event {
        id,
        tenant: row.tenant,
        url: row.url,
        facts: Facts {
            status: row.status,
            content_type: row.content_type,
            ingestion_task_id: row.task_id,
            error: row.error,
            continued_locally: row.continued_locally,
            attempts: row.attempts,
            created_at: row.job_created_at,
            ended_at: id.ended_at,
        },
        revision: row.rev,
        tries: row.tries,
        last_error: row.last_error,
        delivery,
    })
}

fn pk(id: EventId) -> String {
    format!("{PREFIX}{id}")
}

fn hint(item: &Item) -> Option<EventHint> {
    let id = item.get("pk")?.as_s().ok()?.strip_prefix(PREFIX)?.parse().ok()?;
    Some(EventHint { at: item.get("due_at")?.as_n().ok()?.parse().ok().map(Timestamp)?, id })
}

fn shard_of(tenant: &Tenant) -> u32 {
    let mixed =
        tenant.as_str().bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    mixed % EVENT_SHARDS
}

fn shard_key(shard: u32) -> String {
    format!("event#{shard}")
}

fn dead_key(tenant: &Tenant) -> String {
    format!("dead#{tenant}")
}

fn unreadable(name: &str, cause: String) -> StoreError {
    StoreError::Unreadable { what: format!("event {name:?}"), cause }
}
