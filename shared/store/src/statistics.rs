//! The rows that count ended jobs: one for each tenant, content type and day.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use domain::{Bucket, ContentType, Day, RunTimes, Status, Tenant, Timestamp};

use crate::{
    StoreError,
    dynamodb::{Freshness, Item, Table, number, text},
    queues::queue_of_pk,
    schema::{DAY_INDEX, types_key},
};

const PREFIX: &str = "stat#";

/// How long counts stay after their day, in seconds: longer than anybody asks for.
const KEPT: i64 = 30 * 24 * 3600;

/// The rows of counts in the one DynamoDB table.
///
/// A row's attributes are its counters. Their names are short, because every count pays for the whole row: a letter for an
/// outcome and two digits for the hour (`c07`), or `h` and one digit of base 36 each for size and time of a conversion.
#[derive(Clone, Debug)]
pub struct StatisticsTable {
    pub(crate) table: Table,
}

/// A job that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Whose it was.
    pub tenant: &'a Tenant,
    /// What its source was.
    pub content_type: &'a ContentType,
    /// When it ended.
    pub at: Timestamp,
    /// How it ended. One that has not is not counted.
    pub status: Status,
    /// How long its conversion took, if it was converted.
    pub conversion: Option<Bucket>,
}

/// What one row counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayCounts {
    /// The content type.
    pub content_type: ContentType,
    /// The day.
    pub day: Day,
    /// How many jobs ended, by the hour of the day and how they ended.
    pub ended: BTreeMap<(u8, Status), u64>,
    /// How long conversions took.
    pub run_times: RunTimes,
}

/// The content types of a tenant that are not among [`ContentType::KNOWN`] or whose queue is paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    /// Custom types of which jobs have ended in the last 30 days.
    pub custom: BTreeSet<ContentType>,
    /// Types whose queue is paused.
    pub paused: BTreeSet<ContentType>,
}

impl StatisticsTable {
    /// Counts an end: one write unit as long as the row is smaller than 1 KB. It has no condition, see
    /// `docs/decisions/0010-ended-jobs-are-counted-by-the-day.md`.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn count(&self, ended: &Ended<'_>) -> Result<(), StoreError> {
        let Some(letter) = letter(ended.status) else { return Ok(()) };
        let day = ended.at.day();
        let mut counters = vec![format!("{letter}{:02}", hour(ended.at))];
        counters.extend(ended.conversion.and_then(cell));
        let mut set = Item::from([("expires_at".to_owned(), number(day.end().0.div_euclid(1000) + KEPT))]);
        if matches!(ended.content_type, ContentType::Custom(_)) {
            // So that the type can be found. The others are known.
            set.insert("day".to_owned(), text(types_key(ended.tenant)));
            set.insert("created_at".to_owned(), number(day.begin().0));
        }
        let pk = pk(ended.tenant, ended.content_type, day);
        self.table.count("count end", pk, &counters, set).await
    }

    /// What was counted of these types on these days, in no order. Half a read unit for each row of up to 4 KB, whether
    /// it is there or not.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn days(
        &self,
        tenant: &Tenant,
        types: &[ContentType],
        days: &[Day],
    ) -> Result<Vec<DayCounts>, StoreError> {
        let of_type = |content_type| days.iter().map(move |day| pk(tenant, content_type, *day));
        let pks = types.iter().flat_map(of_type).collect();
        let items = self.table.get_many("read statistics", pks, Freshness::Lately).await?;
        Ok(items.iter().filter_map(counts_of).collect())
    }

    /// The tenant's types that have to be looked up.
    ///
    /// # Errors
    /// [`StoreError`] when the table does not answer.
    pub async fn types(&self, tenant: &Tenant) -> Result<Types, StoreError> {
        let (mut types, mut from) = (Types::default(), None);
        loop {
            let output = self
                .table
                .client
                .query()
                .table_name(&self.table.name)
                .index_name(DAY_INDEX)
                .key_condition_expression("#day = :types")
                .expression_attribute_names("#day", "day")
                .expression_attribute_values(":types", text(types_key(tenant)))
                .set_exclusive_start_key(from)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| StoreError::of("list content types", error))?;
            self.table.meter.read(output.consumed_capacity());
            for item in output.items.unwrap_or_default() {
                let Some(pk) = item.get("pk").and_then(|pk| pk.as_s().ok()) else { continue };
                types.paused.extend(queue_of_pk(pk));
                types.custom.extend(of_pk(pk).map(|(content_type, _)| content_type));
            }
            from = output.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(types);
            }
        }
    }
}

fn pk(tenant: &Tenant, content_type: &ContentType, day: Day) -> String {
    format!("{PREFIX}{tenant}#{content_type}#{day}")
}

fn of_pk(pk: &str) -> Option<(ContentType, Day)> {
    let mut parts = pk.strip_prefix(PREFIX)?.splitn(3, '#').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn hour(at: Timestamp) -> u64 {
    at.since(at.day().begin()).as_secs() / 3600
}

fn letter(status: Status) -> Option<char> {
    match status {
        Status::Pending | Status::Processing => None,
        Status::Completed => Some('c'),
        Status::Failed => Some('f'),
        Status::Timeout => Some('t'),
        Status::Cancelled => Some('x'),
    }
}

fn cell(bucket: Bucket) -> Option<String> {
    let digit = |number: u8| char::from_digit(number.into(), 36);
    Some(['h', digit(bucket.size)?, digit(bucket.time)?].into_iter().collect())
}

fn counts_of(item: &Item) -> Option<DayCounts> {
    let (content_type, day) = of_pk(item.get("pk")?.as_s().ok()?)?;
    let mut counts = DayCounts { content_type, day, ended: BTreeMap::new(), run_times: RunTimes::default() };
    for (name, value) in item {
        let Some(count) = value.as_n().ok().and_then(|count| count.parse().ok()) else { continue };
        match (outcome_of(name), bucket_of(name)) {
            (Some(outcome), _) => drop(counts.ended.insert(outcome, count)),
            (None, Some(bucket)) => counts.run_times.add(bucket, count),
            (None, None) => {}
        }
    }
    Some(counts)
}

fn outcome_of(name: &str) -> Option<(u8, Status)> {
    let status = Status::ALL
        .into_iter()
        .find(|status| letter(*status).is_some_and(|letter| name.starts_with(letter)))?;
    let hour = name.get(1..)?.parse().ok().filter(|_| name.len() == 3)?;
    Some((hour, status))
}

fn bucket_of(name: &str) -> Option<Bucket> {
    let digits: Vec<u8> = name
        .strip_prefix('h')?
        .chars()
        .map(|digit| digit.to_digit(36).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    match digits[..] {
        [size, time] => Some(Bucket { size, time }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counters_are_read_as_they_are_named() {
        for size in [0, 5, 1_000_000, u64::MAX] {
            for run in [0, 7, 3600, 1_000_000] {
                let bucket = Bucket::of(size, Duration::from_secs(run));
                let name = cell(bucket).unwrap();
                assert_eq!((name.len(), bucket_of(&name), outcome_of(&name)), (3, Some(bucket), None));
            }
        }
        for (name, outcome) in [
            ("c00", Some((0, Status::Completed))),
            ("f23", Some((23, Status::Failed))),
            ("t07", Some((7, Status::Timeout))),
            ("x10", Some((10, Status::Cancelled))),
            ("created_at", None),
            ("expires_at", None),
            ("day", None),
        ] {
            assert_eq!((outcome_of(name), bucket_of(name)), (outcome, None), "{name}");
        }
        assert_eq!(hour(Timestamp(1_795_305_600_000 + 3_600_000 * 23 + 3_599_999)), 23);
    }
}
