//! A tenant's jobs by when they were created.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use domain::{Day, Job, JobId, Tenant, Timestamp};

use crate::{
    JobTable, StoreError,
    dynamodb::{Freshness, Item, number, text},
    row::{day_key, decode, job_of_pk, pk, task_key},
    schema::{DAY_INDEX, TASK_INDEX},
};

/// Which of a tenant's jobs are looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf<'a> {
    /// Those created on this day.
    Day(Day),
    /// Those of one ingestion task.
    Task {
        /// The ingestion service's id.
        id: &'a str,
        /// Only those created on this day.
        day: Option<Day>,
    },
}

/// A job's place on a shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// When it was created.
    pub created_at: Timestamp,
    /// The job. Of those created in one moment the order is the index's own, and always the same.
    pub id: JobId,
}

/// A stretch of a shelf, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The jobs.
    pub places: Vec<Place>,
    /// Whether more follow.
    pub more: bool,
}

impl Shelf<'_> {
    fn index(self) -> (&'static str, &'static str) {
        match self {
            Self::Day(_) => (DAY_INDEX, "day"),
            Self::Task { .. } => (TASK_INDEX, "task"),
        }
    }

    /// The partition. It is made of the tenant here, and of nothing that came from outside.
    fn partition(self, tenant: &Tenant) -> String {
        match self {
            Self::Day(day) => day_key(tenant, day.begin()),
            Self::Task { id, .. } => task_key(tenant, id),
        }
    }

    /// The first and the last moment that can be on the shelf.
    fn bounds(self) -> (Timestamp, Timestamp) {
        match self {
            Self::Day(day) | Self::Task { day: Some(day), .. } => (day.begin(), day.end()),
            Self::Task { day: None, .. } => (Timestamp(i64::MIN), Timestamp(i64::MAX)),
        }
    }

    /// Whether a job at this place can be on this shelf.
    #[must_use]
    pub fn has_room_for(self, place: &Place) -> bool {
        let (first, last) = self.bounds();
        (first..=last).contains(&place.created_at)
    }
}

impl JobTable {
    /// The jobs that come after `after` on a shelf, or the newest, at most `most`. What is created meanwhile comes before
    /// `after`, so who goes on sees every job once that was there at the beginning.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn listed(
        &self,
        tenant: &Tenant,
        shelf: Shelf<'_>,
        after: Option<Place>,
        most: u32,
    ) -> Result<Stretch, StoreError> {
        let (index, hash) = shelf.index();
        let (partition, (first, last)) = (shelf.partition(tenant), shelf.bounds());
        let start = after.map(|place| {
            Item::from([
                ("pk".to_owned(), text(pk(place.id))),
                (hash.to_owned(), text(&partition)),
                ("created_at".to_owned(), number(place.created_at.0)),
            ])
        });
        let output = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .index_name(index)
            .key_condition_expression("#shelf = :shelf AND created_at BETWEEN :first AND :last")
            .expression_attribute_names("#shelf", hash)
            .expression_attribute_values(":shelf", text(&partition))
            .expression_attribute_values(":first", number(first.0))
            .expression_attribute_values(":last", number(last.0))
            .set_exclusive_start_key(start)
            .scan_index_forward(false)
            // One more, which tells whether there are more.
            .limit(i32::try_from(most).unwrap_or(i32::MAX).saturating_add(1))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of("list jobs", error))?;
        self.table.meter.read(output.consumed_capacity());
        let goes_on = output.last_evaluated_key().is_some_and(|key| !key.is_empty());
        let mut places: Vec<Place> = output.items.unwrap_or_default().iter().filter_map(place_of).collect();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let more = goes_on || places.len() > most;
        places.truncate(most);
        Ok(Stretch { places, more })
    }

    /// These jobs as they are now, in no order; those that are gone are left out. One whose row is no job's is an error of
    /// its own.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn get_many(&self, ids: &[JobId]) -> Result<Vec<Result<Job, StoreError>>, StoreError> {
        // What is in the index is in the table, but perhaps not yet in the copy of it that a cheaper read would see.
        let items =
            self.table.get_many("read jobs", ids.iter().copied().map(pk).collect(), Freshness::Now).await?;
        Ok(items.into_iter().map(decode).collect())
    }
}

fn place_of(item: &Item) -> Option<Place> {
    Some(Place {
        created_at: Timestamp(item.get("created_at")?.as_n().ok()?.parse().ok()?),
        id: job_of_pk(item.get("pk")?.as_s().ok()?)?,
    })
}
