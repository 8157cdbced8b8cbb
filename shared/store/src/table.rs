use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::put_item::PutItemError,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
        Projection, ProjectionType, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure,
        ScalarAttributeType, TimeToLiveSpecification, TimeToLiveStatus,
    },
};
use domain::{ContentType, Job, JobId, Pending, State, Tenant, Timestamp, Wait};

use crate::{
    Meter, StoreError,
    row::{Item, decode, encode, job_of_pk, pk},
};

/// The table's sparse index of what is due next.
const DUE_INDEX: &str = "due";

/// The rows of jobs in the one DynamoDB table.
#[derive(Clone, Debug)]
pub struct JobTable {
    pub(crate) client: Client,
    pub(crate) table: String,
    pub(crate) layout: Layout,
    pub(crate) meter: Arc<Meter>,
}

/// How jobs are spread over the `due` index, and how long their rows stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) shards: u32,
    pub(crate) retention: Duration,
}

/// What of a queue is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Jobs that come back at a known time: lapsed leases, runs past their timeout, ended backoffs.
    Returning,
    /// Jobs that wait for their turn.
    Waiting,
}

impl Due {
    fn prefix(self) -> &'static str {
        match self {
            Self::Returning => "return",
            Self::Waiting => "queue",
        }
    }
}

/// What became of a creation.
#[derive(Clone, Debug, PartialEq)]
pub enum Creation {
    /// The row was written.
    Created,
    /// A job with this id was there already; it is unchanged.
    Exists(Box<Job>),
}

/// What became of a conditional write.
#[derive(Clone, Debug, PartialEq)]
pub enum Replacement {
    /// The row was written, now or by an earlier try whose answer was lost.
    Written,
    /// Somebody else had changed the job, and nothing was written. What it is now, unless it is gone.
    Lost(Option<Box<Job>>),
}

/// What the `due` index says of one live job. It is a hint: only the row is the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveHint {
    /// The job.
    pub id: JobId,
    /// The queue it is in.
    pub queue: String,
    /// Whether it waits for its turn.
    pub waiting: bool,
    /// When it is due.
    pub due_at: Timestamp,
    /// When its wait or run times out.
    pub deadline: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A page of all live jobs.
#[derive(Clone, Debug, Default)]
pub struct LivePage {
    /// What the page holds.
    pub hints: Vec<LiveHint>,
    /// Where the next page begins; absent on the last.
    pub next: Option<HashMap<String, AttributeValue>>,
}

impl Layout {
    /// The partition of the `due` index that a job is in while it is live.
    pub(crate) fn due_key(&self, job: &Job) -> Option<String> {
        let due = match &job.state {
            State::Pending(Pending { wait: Wait::Turn, .. }) => Due::Waiting,
            State::Pending(Pending { wait: Wait::Backoff, .. }) | State::Processing(_) => Due::Returning,
            State::Completed { .. }
            | State::Failed { .. }
            | State::Timeout { .. }
            | State::Cancelled { .. } => {
                return None;
            }
        };
        let shard = u32::try_from(job.id.0.as_u128() % u128::from(self.shards)).unwrap_or(0);
        Some(due_key(due, &job.tenant, &job.spec.content_type, shard))
    }
}

fn due_key(due: Due, tenant: &Tenant, content_type: &ContentType, shard: u32) -> String {
    format!("{}#{tenant}#{content_type}#{shard}", due.prefix())
}

impl JobTable {
    /// How many partitions each queue is spread over.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.layout.shards
    }

    /// Writes a new job.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn create(&self, job: &Job) -> Result<Creation, StoreError> {
        let written = self.put("create job", job, "attribute_not_exists(pk)", None).await?;
        match written {
            Replacement::Written => Ok(Creation::Created),
            Replacement::Lost(Some(existing)) => Ok(Creation::Exists(existing)),
            Replacement::Lost(None) => Err(StoreError::Unavailable {
                operation: "create job",
                cause: "the row in the way vanished while it was read".to_owned(),
            }),
        }
    }

    /// Reads a job as it is now.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer or the row is no job.
    pub async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(pk(id)))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of("read job", error))?;
        self.meter.read(output.consumed_capacity());
        output.item.map(decode).transpose()
    }

    /// Writes `new` in place of `read`, if the row is still at the revision that was read.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn replace(&self, read: &Job, new: &Job) -> Result<Replacement, StoreError> {
        self.put("write job", new, "revision = :read", Some(read.revision)).await
    }

    async fn put(
        &self,
        operation: &'static str,
        job: &Job,
        condition: &str,
        read: Option<u64>,
    ) -> Result<Replacement, StoreError> {
        let sent = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(encode(job, &self.layout)?))
            .condition_expression(condition)
            .set_expression_attribute_values(read.map(|revision| {
                HashMap::from([(":read".to_owned(), AttributeValue::N(revision.to_string()))])
            }))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        let error = match sent {
            Ok(output) => {
                self.meter.wrote(output.consumed_capacity());
                return Ok(Replacement::Written);
            }
            Err(error) => error,
        };
        match failed_condition(error) {
            Ok(item) => {
                self.meter.lost_condition();
                let now = item.map(decode).transpose()?;
                // The SDK repeats a write whose answer was lost; then what is in the way is the write itself.
                if now.as_ref() == Some(job) {
                    return Ok(Replacement::Written);
                }
                Ok(Replacement::Lost(now.map(Box::new)))
            }
            Err(error) => Err(StoreError::of(operation, *error)),
        }
    }

    /// The jobs of one queue's shard that are due, the longest due first, at most `most`. These are hints.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn due(
        &self,
        due: Due,
        tenant: &Tenant,
        content_type: &ContentType,
        shard: u32,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<JobId>, StoreError> {
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(DUE_INDEX)
            .key_condition_expression("due_key = :queue AND due_at <= :now")
            .expression_attribute_values(
                ":queue",
                AttributeValue::S(due_key(due, tenant, content_type, shard)),
            )
            .expression_attribute_values(":now", AttributeValue::N(now.0.to_string()))
            .limit(i32::try_from(most).unwrap_or(i32::MAX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of("query due jobs", error))?;
        self.meter.read(output.consumed_capacity());
        Ok(output.items.unwrap_or_default().iter().filter_map(id_of).collect())
    }

    /// A page of all live jobs, of one of `segments` equal parts.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn live(
        &self,
        segment: u32,
        segments: u32,
        from: Option<HashMap<String, AttributeValue>>,
    ) -> Result<LivePage, StoreError> {
        let output = self
            .client
            .scan()
            .table_name(&self.table)
            .index_name(DUE_INDEX)
            .segment(i32::try_from(segment).unwrap_or(0))
            .total_segments(i32::try_from(segments).unwrap_or(1))
            .set_exclusive_start_key(from)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of("scan live jobs", error))?;
        self.meter.read(output.consumed_capacity());
        let hints = output.items.unwrap_or_default().iter().filter_map(live_hint).collect();
        Ok(LivePage { hints, next: output.last_evaluated_key.filter(|key| !key.is_empty()) })
    }

    /// Makes the table if it is not there: on one machine and in tests. On AWS the template makes it.
    ///
    /// # Errors
    /// [`StoreError`] when the table can neither be described nor made.
    pub async fn ensure(&self) -> Result<(), StoreError> {
        let created = self
            .client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("due_key", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("due_at", ScalarAttributeType::N)?)
            .key_schema(key("pk", KeyType::Hash)?)
            .global_secondary_indexes(due_index()?)
            .send()
            .await;
        match created {
            Ok(_) => {}
            Err(SdkError::ServiceError(service)) if service.err().is_resource_in_use_exception() => {}
            Err(error) => return Err(StoreError::of("create table", error)),
        }
        // Looked at also when the table was there: whoever made it may have stopped before this.
        if self.has_ttl().await? { Ok(()) } else { self.set_ttl().await }
    }

    async fn has_ttl(&self) -> Result<bool, StoreError> {
        let described = self
            .client
            .describe_time_to_live()
            .table_name(&self.table)
            .send()
            .await
            .map_err(|error| StoreError::of("describe time to live", error))?;
        let status = described.time_to_live_description().and_then(|ttl| ttl.time_to_live_status());
        Ok(matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)))
    }

    async fn set_ttl(&self) -> Result<(), StoreError> {
        let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name("expires_at").build();
        self.client
            .update_time_to_live()
            .table_name(&self.table)
            .time_to_live_specification(ttl.map_err(built)?)
            .send()
            .await
            .map_err(|error| StoreError::of("set time to live", error))?;
        Ok(())
    }
}

/// The item in the way of a conditional put, or the error that it was otherwise.
pub(crate) fn failed_condition(
    error: SdkError<PutItemError>,
) -> Result<Option<Item>, Box<SdkError<PutItemError>>> {
    match error {
        SdkError::ServiceError(service) if service.err().is_conditional_check_failed_exception() => {
            match service.into_err() {
                PutItemError::ConditionalCheckFailedException(failed) => {
                    Ok(failed.item.filter(|item| !item.is_empty()))
                }
                _ => Ok(None),
            }
        }
        other => Err(Box::new(other)),
    }
}

fn id_of(item: &Item) -> Option<JobId> {
    job_of_pk(item.get("pk")?.as_s().ok()?)
}

fn live_hint(item: &Item) -> Option<LiveHint> {
    let queue = item.get("due_key")?.as_s().ok()?.clone();
    let time = |name: &str| item.get(name)?.as_n().ok()?.parse().ok().map(Timestamp);
    Some(LiveHint {
        id: id_of(item)?,
        waiting: queue.starts_with(Due::Waiting.prefix()),
        queue,
        due_at: time("due_at")?,
        deadline: time("deadline")?,
        created_at: time("created_at")?,
    })
}

fn due_index() -> Result<GlobalSecondaryIndex, StoreError> {
    let projection = Projection::builder()
        .projection_type(ProjectionType::Include)
        .non_key_attributes("deadline")
        .non_key_attributes("created_at")
        .build();
    GlobalSecondaryIndex::builder()
        .index_name(DUE_INDEX)
        .key_schema(key("due_key", KeyType::Hash)?)
        .key_schema(key("due_at", KeyType::Range)?)
        .projection(projection)
        .build()
        .map_err(built)
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, StoreError> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().map_err(built)
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, StoreError> {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(built)
}

/// The SDK's builders fail on missing fields, which only a bug here leaves out.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn built(error: aws_sdk_dynamodb::error::BuildError) -> StoreError {
    StoreError::Rejected { operation: "build request", cause: error.to_string() }
}
