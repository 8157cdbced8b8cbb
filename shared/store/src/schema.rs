//! The table and its indexes, made on one machine and in tests. On AWS the template makes them.

use std::time::Duration;

use aws_sdk_dynamodb::{
    client::Waiters,
    error::{DisplayErrorContext, SdkError},
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
        ProjectionType, ScalarAttributeType, TimeToLiveSpecification, TimeToLiveStatus,
    },
};

use domain::Tenant;

use crate::{
    StoreError,
    connect::time_to_make,
    dynamodb::{Table, built},
};

/// How long a new table may take to become usable.
const LONGEST_CREATION: Duration = Duration::from_secs(120);

/// The sparse index of what is due next.
pub(crate) const DUE_INDEX: &str = "due";
/// The index of a tenant's jobs by the day of their creation. Two partitions hold what [`types_key`] and
/// [`workers_key`] say instead.
pub(crate) const DAY_INDEX: &str = "by_day";
/// The index of a tenant's jobs by the ingestion service's id.
pub(crate) const TASK_INDEX: &str = "by_task";

/// The partition of the `by_day` index that holds, in place of the jobs of a day, the rows of a tenant's content types that
/// nobody would look for: paused ones, and custom ones with statistics.
pub(crate) fn types_key(tenant: &Tenant) -> String {
    format!("{tenant}#types")
}

/// The partition of the `by_day` index that holds the rows of a tenant's workers.
pub(crate) fn workers_key(tenant: &Tenant) -> String {
    format!("{tenant}#workers")
}

impl Table {
    /// Makes the table if it is not there.
    ///
    /// # Errors
    /// [`StoreError`] when the table can neither be described nor made.
    pub(crate) async fn ensure(&self) -> Result<(), StoreError> {
        let text = ScalarAttributeType::S;
        let created = self
            .client
            .create_table()
            .table_name(&self.name)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk", text.clone())?)
            .attribute_definitions(attribute("due_key", text.clone())?)
            .attribute_definitions(attribute("due_at", ScalarAttributeType::N)?)
            .attribute_definitions(attribute("day", text.clone())?)
            .attribute_definitions(attribute("task", text)?)
            .attribute_definitions(attribute("created_at", ScalarAttributeType::N)?)
            .key_schema(key("pk", KeyType::Hash)?)
            .global_secondary_indexes(index(
                DUE_INDEX,
                "due_key",
                "due_at",
                &["deadline", "created_at", "status"],
            )?)
            .global_secondary_indexes(index(DAY_INDEX, "day", "created_at", &[])?)
            .global_secondary_indexes(index(TASK_INDEX, "task", "created_at", &[])?)
            .customize()
            .config_override(aws_sdk_dynamodb::config::Config::builder().timeout_config(time_to_make()))
            .send()
            .await;
        match created {
            Ok(_) => self.wait_until_active().await?,
            Err(SdkError::ServiceError(service)) if service.err().is_resource_in_use_exception() => {}
            Err(error) => return Err(StoreError::of("create table", error)),
        }
        // Looked at also when the table was there: whoever made it may have stopped before this.
        if self.has_ttl().await? { Ok(()) } else { self.set_ttl().await }
    }

    /// DynamoDB takes some seconds to make a table, which takes no call meanwhile.
    async fn wait_until_active(&self) -> Result<(), StoreError> {
        let waited =
            self.client.wait_until_table_exists().table_name(&self.name).wait(LONGEST_CREATION).await;
        waited.map(|_| ()).map_err(|error| StoreError::Unavailable {
            operation: "wait for the new table",
            cause: DisplayErrorContext(error).to_string(),
        })
    }

    async fn has_ttl(&self) -> Result<bool, StoreError> {
        let described = self
            .client
            .describe_time_to_live()
            .table_name(&self.name)
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
            .table_name(&self.name)
            .time_to_live_specification(ttl.map_err(built)?)
            .customize()
            .config_override(aws_sdk_dynamodb::config::Config::builder().timeout_config(time_to_make()))
            .send()
            .await
            .map_err(|error| StoreError::of("set time to live", error))?;
        Ok(())
    }
}

/// An index by `hash` and `range`, with the keys and `also` in it.
fn index(name: &str, hash: &str, range: &str, also: &[&str]) -> Result<GlobalSecondaryIndex, StoreError> {
    let projection = Projection::builder();
    let projection = if also.is_empty() {
        projection.projection_type(ProjectionType::KeysOnly)
    } else {
        let also = also.iter().map(|name| (*name).to_owned()).collect();
        projection.projection_type(ProjectionType::Include).set_non_key_attributes(Some(also))
    };
    GlobalSecondaryIndex::builder()
        .index_name(name)
        .key_schema(key(hash, KeyType::Hash)?)
        .key_schema(key(range, KeyType::Range)?)
        .projection(projection.build())
        .build()
        .map_err(built)
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, StoreError> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().map_err(built)
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, StoreError> {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(built)
}
