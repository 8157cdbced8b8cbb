use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use domain::{ContentType, Job, JobId, Pending, State, Tenant, Timestamp, Wait};

use crate::{
    StoreError,
    dynamodb::{Condition, Item, Put, Table, number},
    events,
    row::{decode, encode, job_of_pk, pk},
    schema::DUE_INDEX,
};

/// The rows of jobs in the one DynamoDB table.
#[derive(Clone, Debug)]
pub struct JobTable {
    pub(crate) table: Table,
    pub(crate) layout: Layout,
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

/// What became of a deletion.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// The row is gone, by this or by an earlier try whose answer was lost.
    Deleted,
    /// Somebody had changed the job, and it is still there. What it is now.
    Lost(Box<Job>),
}

/// What the `due` index says of one live job. It is a hint: only the row is the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveHint {
    /// The job.
    pub id: JobId,
    /// The queue it is in.
    pub queue: String,
    /// Whether it is in a partition that no poll looks at any more, because there are fewer of them than there were.
    pub stray: bool,
    /// Whether it waits for its turn.
    pub waiting: bool,
    /// Whether it runs. If it does neither, it waits for the end of a backoff.
    pub running: bool,
    /// When it is due.
    pub due_at: Timestamp,
    /// When its wait or run times out.
    pub deadline: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A page of all that the `due` index holds.
#[derive(Clone, Debug, Default)]
pub struct LivePage {
    /// The live jobs.
    pub hints: Vec<LiveHint>,
    /// How many events are to be delivered.
    pub undelivered: u64,
    /// How many events were given up.
    pub dead: u64,
    /// Where the next page begins; absent on the last.
    pub next: Option<LivePlace>,
}

/// A place in the `due` index, to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct LivePlace(pub(crate) Item);

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

    /// Whether the table answers and has the index that everything is scheduled by.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.table
            .client
            .query()
            .table_name(&self.table.name)
            .index_name(DUE_INDEX)
            .key_condition_expression("due_key = :nobodys")
            .expression_attribute_values(":nobodys", AttributeValue::S("nobodys".to_owned()))
            .limit(1)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| StoreError::of("look at the index `due`", error))
    }

    /// Writes a new job.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn create(&self, job: &Job) -> Result<Creation, StoreError> {
        let item = encode(job, &self.layout)?;
        match replacement(self.table.put("create job", item, Condition::Absent).await?, job)? {
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
        self.table.get("read job", pk(id)).await?.map(decode).transpose()
    }

    /// Writes `new` in place of `read`, if the row is still at the revision that was read. When the job has ended by
    /// this and owes its webhook an event, that is written with it: both or neither.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn replace(&self, read: &Job, new: &Job) -> Result<Replacement, StoreError> {
        let (item, condition) = (encode(new, &self.layout)?, unchanged(read));
        let put = match new.event_since(read) {
            None => self.table.put("write job", item, condition).await?,
            Some(event) => {
                let event = events::encode(&event, self.layout.retention)?;
                self.table.put_both("end job", item, condition, event).await?
            }
        };
        replacement(put, new)
    }

    /// Deletes a job, if its row is still at the revision that was read.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn delete(&self, read: &Job) -> Result<Deletion, StoreError> {
        match self.table.delete("delete job", pk(read.id), unchanged(read)).await? {
            Put::Written | Put::Lost(None) => Ok(Deletion::Deleted),
            Put::Lost(Some(now)) => Ok(Deletion::Lost(Box::new(decode(now)?))),
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
            .table
            .client
            .query()
            .table_name(&self.table.name)
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
        self.table.meter.read(output.consumed_capacity());
        Ok(output.items.unwrap_or_default().iter().filter_map(id_of).collect())
    }

    /// The jobs of one queue's shard that run and whose lease has not lapsed, of the first `most` that run or back off. These
    /// are hints.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn running(
        &self,
        tenant: &Tenant,
        content_type: &ContentType,
        shard: u32,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<JobId>, StoreError> {
        let queue = due_key(Due::Returning, tenant, content_type, shard);
        let output = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .index_name(DUE_INDEX)
            .key_condition_expression("due_key = :queue AND due_at > :now")
            .expression_attribute_values(":queue", AttributeValue::S(queue))
            .expression_attribute_values(":now", AttributeValue::N(now.0.to_string()))
            .limit(i32::try_from(most).unwrap_or(i32::MAX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of("query running jobs", error))?;
        self.table.meter.read(output.consumed_capacity());
        let items = output.items.unwrap_or_default();
        let running = items.iter().filter_map(|item| live_hint(item, self.layout.shards));
        Ok(running.filter(|hint| hint.running).map(|hint| hint.id).collect())
    }

    /// A page of all live jobs, of one of `segments` equal parts.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn live(
        &self,
        segment: u32,
        segments: u32,
        from: Option<LivePlace>,
    ) -> Result<LivePage, StoreError> {
        let output = self
            .table
            .client
            .scan()
            .table_name(&self.table.name)
            .index_name(DUE_INDEX)
            .segment(i32::try_from(segment).unwrap_or(0))
            .total_segments(i32::try_from(segments).unwrap_or(1))
            .set_exclusive_start_key(from.map(|place| place.0))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of("scan live jobs", error))?;
        self.table.meter.read(output.consumed_capacity());
        let mut page = LivePage::default();
        for item in output.items.unwrap_or_default() {
            match item.get("due_key").and_then(|key| key.as_s().ok()) {
                Some(key) if key.starts_with("event#") => page.undelivered += 1,
                Some(key) if key.starts_with("dead#") => page.dead += 1,
                Some(_) | None => page.hints.extend(live_hint(&item, self.layout.shards)),
            }
        }
        page.next = output.last_evaluated_key.filter(|key| !key.is_empty()).map(LivePlace);
        Ok(page)
    }
}

/// The row is still what was read. The revision alone does not say so: a job that was deleted and created anew under the
/// same idempotency key may have come to the same one.
fn unchanged(read: &Job) -> Condition {
    Condition::Is(
        "rev = :read AND created_at = :created",
        Item::from([
            (":read".to_owned(), number(read.revision)),
            (":created".to_owned(), number(read.created_at.0)),
        ]),
    )
}

/// What became of a conditional put of `job`.
fn replacement(put: Put, job: &Job) -> Result<Replacement, StoreError> {
    match put {
        Put::Written => Ok(Replacement::Written),
        Put::Lost(item) => {
            let now = item.map(decode).transpose()?;
            // The SDK repeats a write whose answer was lost; then what is in the way is the write itself.
            if now.as_ref() == Some(job) {
                return Ok(Replacement::Written);
            }
            Ok(Replacement::Lost(now.map(Box::new)))
        }
    }
}

fn id_of(item: &Item) -> Option<JobId> {
    job_of_pk(item.get("pk")?.as_s().ok()?)
}

fn live_hint(item: &Item, shards: u32) -> Option<LiveHint> {
    let queue = item.get("due_key")?.as_s().ok()?.clone();
    let time = |name: &str| item.get(name)?.as_n().ok()?.parse().ok().map(Timestamp);
    Some(LiveHint {
        id: id_of(item)?,
        stray: queue.rsplit('#').next()?.parse::<u32>().is_ok_and(|shard| shard >= shards),
        waiting: queue.starts_with(Due::Waiting.prefix()),
        running: item
            .get("status")
            .and_then(|status| status.as_s().ok())
            .is_some_and(|is| is == "processing"),
        queue,
        due_at: time("due_at")?,
        deadline: time("deadline")?,
        created_at: time("created_at")?,
    })
}
