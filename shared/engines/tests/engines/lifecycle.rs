use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration,
    LifecycleRule, LifecycleRuleFilter, Transition, TransitionStorageClass,
};

use crate::support::{BUCKET, Place, bytes, refusal, refused};

const DAY_MS: i64 = 24 * 3600 * 1000;

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn rule(prefix: &str) -> aws_sdk_s3::types::builders::LifecycleRuleBuilder {
    LifecycleRule::builder()
        .id(format!("rule of {prefix}"))
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
}

fn after(days: i32) -> LifecycleExpiration {
    LifecycleExpiration::builder().days(days).build()
}

async fn configure(place: &Place, rules: Vec<LifecycleRule>) -> Result<(), (u16, String)> {
    let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build().unwrap();
    let put = place.s3.put_bucket_lifecycle_configuration().bucket(BUCKET);
    let put = put.lifecycle_configuration(configuration).send().await;
    if put.is_ok() { Ok(()) } else { Err(refusal(put)) }
}

#[tokio::test]
async fn a_configuration_is_kept() {
    let place = Place::new().await;
    let get = |place: &Place| place.s3.get_bucket_lifecycle_configuration().bucket(BUCKET).send();
    assert_eq!(refusal(get(&place).await), refused(404, "NoSuchLifecycleConfiguration"));
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(2).build();
    let rules = vec![
        rule("results/").expiration(after(30)).build().unwrap(),
        rule("").abort_incomplete_multipart_upload(abort).build().unwrap(),
    ];
    configure(&place, rules.clone()).await.unwrap();
    let place = place.reopen();
    assert_eq!(get(&place).await.unwrap().rules(), rules);
    place.s3.delete_bucket_lifecycle().bucket(BUCKET).send().await.unwrap();
    assert!(get(&place).await.is_err());
}

#[tokio::test]
async fn a_rule_that_would_not_be_applied_is_refused() {
    let place = Place::new().await;
    let transition = Transition::builder().days(1).storage_class(TransitionStorageClass::Glacier).build();
    let rules = rule("").expiration(after(1)).transitions(transition).build().unwrap();
    assert_eq!(configure(&place, vec![rules]).await, Err(refused(501, "NotImplemented")));
    let nothing = rule("").build().unwrap();
    assert_eq!(configure(&place, vec![nothing]).await, Err(refused(400, "InvalidArgument")));
    let now = rule("").expiration(after(0)).build().unwrap();
    assert_eq!(configure(&place, vec![now]).await, Err(refused(400, "InvalidArgument")));
}

#[tokio::test]
async fn objects_expire_by_prefix_and_age() {
    let place = Place::new().await;
    for key in ["sources/1", "sources/2", "results/1", "source"] {
        place.put(key, bytes(70_000, 1)).await;
    }
    let off = rule("results/").status(ExpirationStatus::Disabled).expiration(after(1)).build().unwrap();
    configure(&place, vec![rule("sources/").expiration(after(7)).build().unwrap(), off]).await.unwrap();

    let now = now_ms();
    assert_eq!(place.engines.sweep(now + 7 * DAY_MS - 60_000).await.unwrap().expired_objects, 0);
    assert_eq!(place.engines.sweep(now + 7 * DAY_MS + 60_000).await.unwrap().expired_objects, 2);
    assert_eq!(place.engines.sweep(now + 7 * DAY_MS + 60_000).await.unwrap().expired_objects, 0);
    let left = place.s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    let left: Vec<_> = left.contents().iter().map(|object| object.key().unwrap()).collect();
    assert_eq!(left, ["results/1", "source"]);
    let dir = place.close();
    assert_eq!(crate::support::blobs(dir.path()).len(), 2);
}

#[tokio::test]
async fn more_objects_expire_than_fit_in_one_commit() {
    let place = Place::new().await;
    futures::future::join_all((0..450).map(|n| {
        let place = &place;
        async move { place.put(&format!("sources/{n}"), "x").await }
    }))
    .await;
    configure(&place, vec![rule("sources/").expiration(after(1)).build().unwrap()]).await.unwrap();
    assert_eq!(place.engines.sweep(now_ms() + 2 * DAY_MS).await.unwrap().expired_objects, 450);
}

#[tokio::test]
async fn uploads_that_nobody_completes_are_given_up() {
    let place = Place::new().await;
    let upload = place.s3.create_multipart_upload().bucket(BUCKET).key("sources/1").send().await.unwrap();
    let part = place.s3.upload_part().bucket(BUCKET).key("sources/1").part_number(1);
    let part = part.upload_id(upload.upload_id().unwrap()).body(ByteStream::from(bytes(70_000, 1)));
    part.send().await.unwrap();
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(1).build();
    configure(&place, vec![rule("").abort_incomplete_multipart_upload(abort).build().unwrap()])
        .await
        .unwrap();
    assert_eq!(place.engines.sweep(now_ms()).await.unwrap().aborted_uploads, 0);
    assert_eq!(place.blobs().len(), 1);
    assert_eq!(place.engines.sweep(now_ms() + 2 * DAY_MS).await.unwrap().aborted_uploads, 1);
    let dir = place.close();
    assert!(crate::support::blobs(dir.path()).is_empty());
}
