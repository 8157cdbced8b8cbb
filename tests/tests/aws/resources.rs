//! What the server made of the template. The template itself is held against the code in `tests/template`.

use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata,
    types::{TableStatus, TimeToLiveStatus},
};

use crate::deployment::Deployment;

#[tokio::test]
async fn the_table_is_active_with_its_indexes_and_lets_ended_jobs_go() {
    let deployment = Deployment::find().await;
    let dynamodb = deployment.dynamodb();
    let table = dynamodb.describe_table().table_name(&deployment.table).send().await.unwrap();
    let table = table.table().unwrap();
    assert_eq!(table.table_status(), Some(&TableStatus::Active));
    let mut indexes: Vec<&str> =
        table.global_secondary_indexes().iter().filter_map(|index| index.index_name()).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, ["by_day", "by_task", "due"]);
    let ttl = dynamodb.describe_time_to_live().table_name(&deployment.table).send().await.unwrap();
    let ttl = ttl.time_to_live_description().unwrap();
    if deployment.is_emulated() && ttl.time_to_live_status() == Some(&TimeToLiveStatus::Disabled) {
        eprintln!("NOT TESTED: this server leaves the time to live of the template's table out");
        return;
    }
    assert_eq!(
        (ttl.attribute_name(), ttl.time_to_live_status()),
        (Some("expires_at"), Some(&TimeToLiveStatus::Enabled))
    );
}

#[tokio::test]
async fn the_bucket_is_closed_to_the_public_and_lets_old_objects_go() {
    let deployment = Deployment::find().await;
    let s3 = deployment.s3();
    let block = s3.get_public_access_block().bucket(&deployment.bucket).send().await.unwrap();
    let block = block.public_access_block_configuration().unwrap();
    assert_eq!(
        [
            block.block_public_acls(),
            block.block_public_policy(),
            block.ignore_public_acls(),
            block.restrict_public_buckets()
        ],
        [Some(true); 4]
    );
    let lifecycle = s3.get_bucket_lifecycle_configuration().bucket(&deployment.bucket).send().await;
    let lifecycle = match lifecycle {
        Ok(lifecycle) => lifecycle,
        Err(error) if deployment.is_emulated() => {
            assert_eq!(error.code(), Some("NoSuchLifecycleConfiguration"), "{error:?}");
            eprintln!("NOT TESTED: this server leaves the lifecycle of the template's bucket out");
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    let mut rules: Vec<(&str, Option<i32>)> = lifecycle
        .rules()
        .iter()
        .map(|rule| (rule.id().unwrap(), rule.expiration().and_then(|expiration| expiration.days())))
        .collect();
    rules.sort_unstable();
    assert_eq!(rules, [("options", Some(45)), ("results", Some(45)), ("sources", Some(45))]);
}
