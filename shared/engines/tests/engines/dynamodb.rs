use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, Put, ReturnValue,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, StreamSpecification, StreamViewType,
    TimeToLiveSpecification, TransactWriteItem,
};
use engines::Engines;
use tempfile::TempDir;

use crate::support::dynamodb_client;

const TABLE: &str = "remote-jobs";

async fn create_table(client: &Client, streams: Option<StreamSpecification>) -> Result<(), String> {
    let key = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build().unwrap();
    let pk = AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S);
    client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key)
        .attribute_definitions(pk.build().unwrap())
        .set_stream_specification(streams)
        .send()
        .await
        .map(drop)
        .map_err(|error| error.code().unwrap_or_default().to_owned())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

async fn table() -> (Engines, Client) {
    let engines = Engines::in_memory().unwrap();
    let client = dynamodb_client(&engines);
    create_table(&client, None).await.unwrap();
    (engines, client)
}

#[tokio::test]
async fn a_failed_condition_comes_with_the_item_that_failed_it() {
    let (_engines, client) = table().await;
    let put = client.put_item().table_name(TABLE).item("pk", text("a")).item("owner", text("me"));
    put.clone().send().await.unwrap();
    let error = put
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    let error = error.into_service_error();
    let aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(failed) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(failed.item().unwrap()["owner"], text("me"));
}

#[tokio::test]
async fn a_cancelled_transaction_says_why_and_changes_nothing() {
    let (_engines, client) = table().await;
    client.put_item().table_name(TABLE).item("pk", text("taken")).send().await.unwrap();
    let put = |key: &str| {
        let put = Put::builder().table_name(TABLE).item("pk", text(key));
        let put = put.condition_expression("attribute_not_exists(pk)").build().unwrap();
        TransactWriteItem::builder().put(put).build()
    };
    let error = client
        .transact_write_items()
        .transact_items(put("free"))
        .transact_items(put("taken"))
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(
        cancelled,
    ) = error
    else {
        panic!("{error:?}")
    };
    let codes: Vec<_> =
        cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap()).collect();
    assert_eq!(codes, ["None", "ConditionalCheckFailed"]);
    let free = client.get_item().table_name(TABLE).key("pk", text("free")).send().await.unwrap();
    assert!(free.item().is_none());
}

#[tokio::test]
async fn operations_that_are_not_here_are_unknown() {
    let (_engines, client) = table().await;
    let error = client.list_backups().send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    assert_eq!(error.code(), Some("UnknownOperationException"));
}

#[tokio::test]
async fn an_absent_table_is_a_modelled_error() {
    let (_engines, client) = table().await;
    let get = client.get_item().table_name("nowhere").key("pk", text("a")).send().await;
    assert!(get.unwrap_err().into_service_error().is_resource_not_found_exception());
}

#[tokio::test]
async fn a_value_that_is_no_number_is_refused_as_a_validation() {
    let (_engines, client) = table().await;
    let item = client.put_item().table_name(TABLE).item("pk", text("a"));
    let error = item.item("n", AttributeValue::N("seven".to_owned())).send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    let code = error.code().unwrap();
    assert!(["ValidationException", "SerializationException"].contains(&code), "{code}");
}

#[tokio::test]
async fn streams_are_refused() {
    let engines = Engines::in_memory().unwrap();
    let client = dynamodb_client(&engines);
    let streams = StreamSpecification::builder().stream_enabled(true);
    let streams = streams.stream_view_type(StreamViewType::NewImage).build().unwrap();
    assert_eq!(create_table(&client, Some(streams)).await, Err("ValidationException".to_owned()));
    create_table(&client, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_one_wins() {
    let (_engines, client) = table().await;
    let claims = (0..64).map(|worker| {
        let put = client.put_item().table_name(TABLE).item("pk", text("job"));
        let put = put.item("worker", AttributeValue::N(worker.to_string()));
        put.condition_expression("attribute_not_exists(pk)").send()
    });
    let won = futures::future::join_all(claims).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_sweep_removes_items_whose_time_has_passed() {
    let (engines, client) = table().await;
    let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name("ttl").build().unwrap();
    client.update_time_to_live().table_name(TABLE).time_to_live_specification(ttl).send().await.unwrap();
    for (key, seconds) in [("old", "1000000000"), ("new", "99999999999")] {
        let put = client.put_item().table_name(TABLE).item("pk", text(key));
        put.item("ttl", AttributeValue::N(seconds.to_owned())).send().await.unwrap();
    }
    let swept = engines.sweep(0).await.unwrap();
    assert_eq!(swept.expired_items, 1);
    let left = client.scan().table_name(TABLE).send().await.unwrap();
    assert_eq!(left.items().iter().map(|item| &item["pk"]).collect::<Vec<_>>(), [&text("new")]);
}

#[tokio::test]
async fn tables_outlive_the_process() {
    let dir = TempDir::new().unwrap();
    let engines = Engines::open(dir.path()).unwrap();
    let client = dynamodb_client(&engines);
    create_table(&client, None).await.unwrap();
    let put = client.put_item().table_name(TABLE).item("pk", text("a")).return_values(ReturnValue::AllOld);
    put.send().await.unwrap();
    drop((engines, client));

    let engines = Engines::open(dir.path()).unwrap();
    let client = dynamodb_client(&engines);
    let got = client.get_item().table_name(TABLE).key("pk", text("a")).send().await.unwrap();
    assert!(got.item().is_some());
}
