//! The table and the bucket of the template against those that the code makes on one machine.

use serde_json::{Value, json};

use system_tests::{Functions, Seen};

use crate::yaml::properties;

async fn made() -> Vec<Seen> {
    let functions = Functions::empty();
    functions.store().await.ensure().await.unwrap();
    functions.recorder.take()
}

fn request<'a>(made: &'a [Seen], operation: &str) -> &'a Seen {
    made.iter().find(|seen| seen.operation == operation).unwrap()
}

/// The same list in an order that says nothing.
fn sorted(list: &Value) -> Vec<String> {
    let mut texts: Vec<String> = list.as_array().unwrap().iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn the_table_is_the_one_that_the_code_makes() {
    let made = made().await;
    let created = request(&made, "CreateTable").json();
    let table = properties("Table");
    for list in ["AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes"] {
        assert_eq!(sorted(&table[list]), sorted(&created[list]), "{list}");
    }
    assert_eq!(table["BillingMode"], created["BillingMode"]);
    let lasting = request(&made, "UpdateTimeToLive").json();
    assert_eq!(table["TimeToLiveSpecification"], lasting["TimeToLiveSpecification"]);
    assert_eq!(table["PointInTimeRecoverySpecification"], json!({"PointInTimeRecoveryEnabled": true}));
    assert_eq!(table["DeletionProtectionEnabled"], json!(["IsProtected", true, false]));
}

#[tokio::test]
async fn the_bucket_keeps_objects_as_long_as_the_code_has_them_kept() {
    let made = made().await;
    let set = &made.iter().find(|seen| seen.target.contains("lifecycle")).unwrap().body;
    let texts = |name: &str| -> Vec<String> {
        let tag = format!("<{name}>");
        set.split(&tag).skip(1).map(|part| part.split("</").next().unwrap().to_owned()).collect()
    };
    let rules = properties("Bucket")["LifecycleConfiguration"]["Rules"].as_array().unwrap();
    let of_rules = |value: fn(&Value) -> &Value| -> Vec<String> {
        rules.iter().map(|rule| value(rule).to_string().trim_matches('"').to_owned()).collect()
    };
    assert_eq!(of_rules(|rule| &rule["Prefix"]), texts("Prefix"));
    assert_eq!(of_rules(|rule| &rule["ExpirationInDays"]), texts("Days"));
    assert_eq!(
        of_rules(|rule| &rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]),
        texts("DaysAfterInitiation")
    );
    assert_eq!(of_rules(|rule| &rule["Status"]), texts("Status"));
}

#[test]
fn nobody_sees_the_bucket_without_a_signature_and_tls() {
    let bucket = properties("Bucket");
    assert!(
        bucket["PublicAccessBlockConfiguration"]
            .as_object()
            .unwrap()
            .values()
            .all(|blocked| *blocked == true)
    );
    let statements = properties("BucketPolicy")["PolicyDocument"]["Statement"].as_array().unwrap();
    assert!(statements.iter().all(|statement| statement["Effect"] == "Deny"));
    assert!(statements.iter().any(|s| s["Condition"] == json!({"Bool": {"aws:SecureTransport": "false"}})));
}

#[test]
fn a_stream_tells_of_new_events_only() {
    let mapping = properties("DeliverAtOnce");
    let filters = mapping["FilterCriteria"]["Filters"].as_array().unwrap();
    let pattern: Value = serde_json::from_str(filters[0]["Pattern"].as_str().unwrap()).unwrap();
    // A claim and an acknowledgement change an event's row, and must not begin another round.
    assert_eq!((filters.len(), &pattern["eventName"]), (1, &json!(["INSERT"])));
    assert_eq!(pattern["dynamodb"], json!({"Keys": {"pk": {"S": [{"prefix": "event#"}]}}}));
    assert_eq!(mapping["FunctionName"], "DeliverEvents");
}
