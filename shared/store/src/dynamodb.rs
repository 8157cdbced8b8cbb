//! The calls to DynamoDB that every kind of row shares.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::{
        delete_item::DeleteItemError,
        put_item::PutItemError,
        transact_write_items::{TransactWriteItemsError, builders::TransactWriteItemsFluentBuilder},
    },
    types::{
        AttributeValue, CancellationReason, KeysAndAttributes, Put as PutWrite, ReturnConsumedCapacity,
        ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    },
};

use crate::{Meter, StoreError};

pub(crate) type Item = HashMap<String, AttributeValue>;

/// The most rows that DynamoDB reads in one request.
const MOST_KEYS: usize = 100;
/// How long to wait before rows are asked for again that DynamoDB did not get to, doubled each time in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// How often in a row DynamoDB may get to none of them: 1.6 seconds in all.
const MOST_PAUSES: u32 = 6;

/// The one table, and what it has charged.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) meter: Arc<Meter>,
}

/// What must hold of the row that a write replaces.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// There is none.
    Absent,
    /// It is at this revision.
    Revision(u64),
    /// As this expression with these values says.
    Is(&'static str, Item),
}

/// What became of a conditional put.
#[derive(Debug)]
pub(crate) enum Put {
    /// It was written.
    Written,
    /// The condition does not hold. The row that is there, if there is one.
    Lost(Option<Item>),
}

/// How new a row must be that is read with many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// As it is now.
    Now,
    /// As it was within the last second or so, for half the units.
    Lately,
}

impl Condition {
    fn expression(&self) -> &'static str {
        match self {
            Self::Absent => "attribute_not_exists(pk)",
            Self::Revision(_) => "rev = :read",
            Self::Is(expression, _) => expression,
        }
    }

    fn values(self) -> Option<Item> {
        match self {
            Self::Absent => None,
            Self::Revision(revision) => Some(Item::from([(":read".to_owned(), number(revision))])),
            Self::Is(_, values) => Some(values).filter(|values| !values.is_empty()),
        }
    }
}

impl Table {
    /// Reads a row as it is now.
    pub(crate) async fn get(&self, operation: &'static str, pk: String) -> Result<Option<Item>, StoreError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.name)
            .key("pk", AttributeValue::S(pk))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of(operation, error))?;
        self.meter.read(output.consumed_capacity());
        Ok(output.item)
    }

    /// Reads rows, in no order. Those that are not there are left out.
    pub(crate) async fn get_many(
        &self,
        operation: &'static str,
        pks: Vec<String>,
        freshness: Freshness,
    ) -> Result<Vec<Item>, StoreError> {
        let mut keys: Vec<Item> =
            pks.into_iter().map(|pk| Item::from([("pk".to_owned(), AttributeValue::S(pk))])).collect();
        let mut items = Vec::with_capacity(keys.len());
        let mut pauses = 0;
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(MOST_KEYS));
            let (found, left) = self.get_some(operation, keys, freshness).await?;
            if found.is_empty() && !left.is_empty() {
                self.pause(operation, &mut pauses).await?;
            } else {
                pauses = 0;
            }
            items.extend(found);
            keys = left.into_iter().chain(rest).collect();
        }
        Ok(items)
    }

    /// Reads up to [`MOST_KEYS`] rows: those that were found, and the keys of those that DynamoDB did not get to.
    async fn get_some(
        &self,
        operation: &'static str,
        keys: Vec<Item>,
        freshness: Freshness,
    ) -> Result<(Vec<Item>, Vec<Item>), StoreError> {
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(freshness == Freshness::Now)
            .build()
            .map_err(built)?;
        let output = self
            .client
            .batch_get_item()
            .request_items(&self.name, wanted)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of(operation, error))?;
        output.consumed_capacity().iter().for_each(|consumed| self.meter.read(Some(consumed)));
        let found = output.responses.and_then(|mut tables| tables.remove(&self.name)).unwrap_or_default();
        let left = output.unprocessed_keys.and_then(|mut tables| tables.remove(&self.name));
        Ok((found, left.map(|left| left.keys).unwrap_or_default()))
    }

    async fn pause(&self, operation: &'static str, pauses: &mut u32) -> Result<(), StoreError> {
        if *pauses == MOST_PAUSES {
            let cause = "it got to none of the rows that were asked for".to_owned();
            return Err(StoreError::Unavailable { operation, cause });
        }
        tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(*pauses)).await;
        *pauses += 1;
        Ok(())
    }

    /// Deletes a row if `condition` holds of it.
    pub(crate) async fn delete(
        &self,
        operation: &'static str,
        pk: String,
        condition: Condition,
    ) -> Result<Put, StoreError> {
        let sent = self
            .client
            .delete_item()
            .table_name(&self.name)
            .key("pk", AttributeValue::S(pk))
            .condition_expression(condition.expression())
            .set_expression_attribute_values(condition.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match sent {
            Ok(output) => {
                self.meter.wrote(output.consumed_capacity());
                Ok(Put::Written)
            }
            Err(SdkError::ServiceError(service)) if service.err().is_conditional_check_failed_exception() => {
                self.meter.lost_condition();
                Ok(Put::Lost(match service.into_err() {
                    DeleteItemError::ConditionalCheckFailedException(failed) => present(failed.item),
                    _ => None,
                }))
            }
            Err(error) => Err(StoreError::of(operation, error)),
        }
    }

    /// Adds 1 to each of these attributes of a row, which is made if it is not there, and sets others. The one write
    /// without a condition: additions give the same sum in whichever order they come, so nobody's can be lost to
    /// another's. One whose answer is lost may be repeated by the SDK and count twice.
    pub(crate) async fn count(
        &self,
        operation: &'static str,
        pk: String,
        counters: &[String],
        set: Item,
    ) -> Result<(), StoreError> {
        let (mut add, mut keep) = (Vec::new(), Vec::new());
        let mut call = self.client.update_item().expression_attribute_values(":one", number(1));
        for (at, counter) in counters.iter().enumerate() {
            add.push(format!("#c{at} :one"));
            call = call.expression_attribute_names(format!("#c{at}"), counter);
        }
        for (at, (name, value)) in set.into_iter().enumerate() {
            keep.push(format!("#s{at} = :s{at}"));
            call = call
                .expression_attribute_names(format!("#s{at}"), name)
                .expression_attribute_values(format!(":s{at}"), value);
        }
        let output = call
            .table_name(&self.name)
            .key("pk", AttributeValue::S(pk))
            .update_expression(format!("ADD {} SET {}", add.join(", "), keep.join(", ")))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::of(operation, error))?;
        self.meter.wrote(output.consumed_capacity());
        Ok(())
    }

    /// Writes a row if `condition` holds of the one that is there.
    pub(crate) async fn put(
        &self,
        operation: &'static str,
        item: Item,
        condition: Condition,
    ) -> Result<Put, StoreError> {
        let sent = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression(condition.expression())
            .set_expression_attribute_values(condition.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match sent {
            Ok(output) => {
                self.meter.wrote(output.consumed_capacity());
                Ok(Put::Written)
            }
            Err(SdkError::ServiceError(service)) if service.err().is_conditional_check_failed_exception() => {
                self.meter.lost_condition();
                Ok(Put::Lost(match service.into_err() {
                    PutItemError::ConditionalCheckFailedException(failed) => present(failed.item),
                    _ => None,
                }))
            }
            Err(error) => Err(StoreError::of(operation, error)),
        }
    }

    /// Writes a row if `condition` holds of the one that is there, and with it another that must be new: both or
    /// neither.
    pub(crate) async fn put_both(
        &self,
        operation: &'static str,
        item: Item,
        condition: Condition,
        new: Item,
    ) -> Result<Put, StoreError> {
        let pk = item.get("pk").and_then(|pk| pk.as_s().ok()).cloned().unwrap_or_default();
        let sent = self.transaction([(item, condition), (new, Condition::Absent)])?.send().await;
        let error = match sent {
            Ok(output) => {
                for consumed in output.consumed_capacity() {
                    self.meter.wrote(Some(consumed));
                }
                return Ok(Put::Written);
            }
            Err(error) => error,
        };
        match lost_condition(&error) {
            Some(item) => {
                self.meter.lost_condition();
                Ok(Put::Lost(item))
            }
            // Somebody else is just writing the row, which is a race lost like any other.
            None if is_conflict(&error) => Ok(Put::Lost(self.get(operation, pk).await?)),
            // Capacity ran out, somebody else is just writing the second row, or it is there already: nothing was written.
            None if is_cancelled(&error) => Err(StoreError::Unavailable {
                operation,
                cause: aws_sdk_dynamodb::error::DisplayErrorContext(error).to_string(),
            }),
            None => Err(StoreError::of(operation, error)),
        }
    }

    fn transaction(
        &self,
        writes: [(Item, Condition); 2],
    ) -> Result<TransactWriteItemsFluentBuilder, StoreError> {
        let mut call =
            self.client.transact_write_items().return_consumed_capacity(ReturnConsumedCapacity::Total);
        for (item, condition) in writes {
            let put = PutWrite::builder()
                .table_name(&self.name)
                .set_item(Some(item))
                .condition_expression(condition.expression())
                .set_expression_attribute_values(condition.values())
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .build()
                .map_err(built)?;
            call = call.transact_items(TransactWriteItem::builder().put(put).build());
        }
        Ok(call)
    }
}

type TransactError =
    SdkError<TransactWriteItemsError, aws_smithy_runtime_api::client::orchestrator::HttpResponse>;

fn is_cancelled(error: &TransactError) -> bool {
    matches!(error, SdkError::ServiceError(service) if service.err().is_transaction_canceled_exception())
}

/// Whether another write to the transaction's first row was under way.
fn is_conflict(error: &TransactError) -> bool {
    let SdkError::ServiceError(service) = error else { return false };
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = service.err() else {
        return false;
    };
    let first = cancelled.cancellation_reasons().first();
    first.is_some_and(|reason| reason.code() == Some("TransactionConflict"))
}

/// The row in the way of a transaction's first write, when that is why it did not happen.
fn lost_condition(error: &TransactError) -> Option<Option<Item>> {
    let SdkError::ServiceError(service) = error else { return None };
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = service.err() else { return None };
    let first = cancelled.cancellation_reasons().first()?;
    (first.code() == Some("ConditionalCheckFailed"))
        .then(|| present(CancellationReason::item(first).cloned()))
}

fn present(item: Option<Item>) -> Option<Item> {
    item.filter(|item| !item.is_empty())
}

pub(crate) fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// The SDK's builders fail on missing fields, which only a bug here leaves out.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
pub(crate) fn built(error: aws_sdk_dynamodb::error::BuildError) -> StoreError {
    StoreError::Rejected { operation: "build request", code: None, message: None, cause: error.to_string() }
}
