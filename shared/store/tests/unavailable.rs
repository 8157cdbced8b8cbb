//! What the store says when DynamoDB or S3 does not do what was asked.

use std::time::Duration;

use domain::FileName;
use store::{Connection, Endpoint, Store, StoreError};

use crate::{
    backend::{Backend, RETENTION},
    handoff::source,
    support::{always, at, new_job, watched, why},
};

/// A store whose DynamoDB and S3 are both like this.
async fn store(endpoint: Endpoint) -> Store {
    let connection = Connection {
        table: "jobs".to_owned(),
        bucket: "handoff".to_owned(),
        shards: 1,
        retention: RETENTION,
        dynamodb: endpoint.clone(),
        s3: endpoint,
    };
    Store::connect(&connection).await
}

async fn answering(status: u16, body: &'static str) -> Store {
    let credentials = ("any".to_owned(), "any".to_owned());
    store(Endpoint::At { url: "http://store".to_owned(), credentials, http: Some(always(status, body)) })
        .await
}

/// Every call of a store that fails, and how.
async fn failures(store: &Store) -> Vec<(&'static str, &'static str)> {
    let job = new_job();
    let watched = watched();
    let ended = watched.cancel(false, at(1)).unwrap();
    let event = ended.event_since(&watched).unwrap();
    let key = source("a.txt");
    let id = "k".parse().unwrap();
    let of = |name, result: Result<(), StoreError>| (name, why(result).0);
    let handoff = &store.handoff;
    vec![
        of("read", store.jobs.get(job.id).await.map(drop)),
        of("create", store.jobs.create(&job).await.map(drop)),
        of("live", store.jobs.live(0, 1, None).await.map(drop)),
        of("end", store.jobs.replace(&watched, &ended).await.map(drop)),
        of("event", store.events.get(event.id).await.map(drop)),
        of("write event", store.events.replace(&event, &event).await.map(drop)),
        of("events", store.events.due(0, at(0), 1, None).await.map(drop)),
        of("dead events", store.events.dead(&job.tenant, 1, None).await.map(drop)),
        of("ensure", store.ensure().await),
        of("key", store.keys.get(&id).await.map(drop)),
        of("keys", store.keys.list().await.map(drop)),
        of("head", handoff.head(&key.to_string()).await.map(drop)),
        of("get", handoff.get(&key.to_string(), 9).await.map(drop)),
        of("put", handoff.put(&key, "x".into(), &[0; 32]).await),
        of("begin", handoff.begin_multipart(&key, 1, &[0; 32]).await.map(drop)),
        of("complete", handoff.complete_multipart(&key, "id", &[]).await.map(drop)),
        of("abort", handoff.abort_multipart(&key, "id").await),
        of("bucket", handoff.ensure().await),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_reached_may_work_later() {
    let credentials = ("any".to_owned(), "any".to_owned());
    let nobody = Endpoint::At { url: "http://127.0.0.1:1".to_owned(), credentials, http: None };
    for (name, kind) in failures(&store(nobody).await).await {
        assert_eq!((name, kind), (name, "unavailable"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_or_is_throttled_may_work_later() {
    for (status, body) in [
        (500, ""),
        (503, ""),
        (400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}"#),
        (400, r#"{"__type":"com.amazon.coral.availability#ThrottlingException"}"#),
        (400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionInProgressException"}"#),
        (400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException"}"#),
        (500, r#"{"__type":"InternalServerError"}"#),
    ] {
        let store = answering(status, body).await;
        let (kind, cause) = why(store.jobs.get(new_job().id).await);
        assert_eq!(kind, "unavailable", "{status} {body}: {cause}");
    }
    for (status, body) in [
        (500, ""),
        (503, ""),
        (503, "<Error><Code>SlowDown</Code></Error>"),
        (500, "<Error><Code>InternalError</Code></Error>"),
    ] {
        let store = answering(status, body).await;
        for (name, kind) in failures(&store).await.into_iter().skip_while(|(name, _)| *name != "head") {
            assert_eq!(kind, "unavailable", "{name} at {status} {body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_stays_so() {
    for (status, body) in [(403, "<Error><Code>AccessDenied</Code></Error>"), (403, "")] {
        for (name, kind) in failures(&answering(status, body).await).await {
            assert_eq!(kind, "rejected", "{name} at {status} {body}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_not_believed() {
    let nonsense = answering(200, "<").await;
    assert!(nonsense.handoff.begin_multipart(&source("a.txt"), 1, &[0; 32]).await.is_err());
    let empty = answering(200, "<InitiateMultipartUploadResult/>").await;
    let (kind, cause) = why(empty.handoff.begin_multipart(&source("a.txt"), 1, &[0; 32]).await);
    assert_eq!((kind, cause.as_str()), ("unreadable", "it has no id"));
}

#[tokio::test]
async fn a_url_that_would_be_valid_for_more_than_a_week_is_not_signed() {
    let backend = Backend::new();
    let handoff = Store::connect(&backend.connection).await.handoff;
    let name = FileName::from_client("a.txt");
    let (kind, _) = why(handoff.presign_get("sources/a", &name, Duration::from_secs(8 * 24 * 3600)).await);
    assert_eq!(kind, "rejected");
}

#[test]
fn only_what_is_unavailable_is_worth_another_try_and_the_log_is_told_what_failed() {
    let cause = || "why".to_owned();
    let unavailable = StoreError::Unavailable { operation: "read job", cause: cause() };
    let rejected = StoreError::Rejected { operation: "read job", code: None, message: None, cause: cause() };
    let unreadable = StoreError::Unreadable { what: "row 1".to_owned(), cause: cause() };
    assert_eq!(
        [&unavailable, &rejected, &unreadable].map(|error| (error.retryable(), error.to_string())),
        [
            (true, "read job is not available: why".to_owned()),
            (false, "read job was refused: why".to_owned()),
            (false, "row 1 cannot be read: why".to_owned()),
        ]
    );
}
