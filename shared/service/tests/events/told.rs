//! What is told of which ends, and where.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::{events::EventBody, manage::CancelRequest};
use domain::EventId;
use futures::{FutureExt, future::BoxFuture};
use service::{Error, WebhookNetworks};
use tokio::time::Instant;

use super::{
    Script, URL, body, cancel, delivered, ended, held, nothing, only, round, submit, waiting, watched,
};
use crate::support::{Held, Place, at, caller, failure, polling, success};

#[tokio::test]
async fn an_end_is_told_once_with_all_that_is_known_of_it() {
    let place = Place::new().await;
    let held = held(&place).await;
    place.pass(7);
    submit(&place, &held, &success("text")).await;
    place.pass(2);
    let courier = Script::taking();
    assert_eq!(round(&place, &courier).await, delivered(1));
    let told = courier.one();
    let event = place.job(&held.id).await;
    assert_eq!(told.id.to_string(), format!("{}.{}.{}", held.id, told.id.ended_at.0, event.revision));
    assert_eq!((told.url.as_str(), told.timestamp), (URL, place.now().0 / 1000));
    let json: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "type": "remote_job.completed",
            "timestamp": at(7),
            "data": {
                "job_id": held.id, "status": "completed", "ingestion_task_id": "task-1", "content_type": "document",
                "created_at": at(0), "completed_at": at(7), "error_message": null, "attempts": 1,
                "result_path": format!("/api/v1/remote-jobs/{}/result", held.id),
            },
        })
    );
    assert_eq!(round(&place, &courier).await, nothing(), "it was acknowledged");
    assert_eq!(waiting(&place).await, []);
}

#[tokio::test]
async fn a_job_without_a_webhook_tells_nobody() {
    let place = Place::new().await;
    let id = place.created().await;
    cancel(&place, "t", &id).await;
    assert_eq!(waiting(&place).await, []);
}

/// How a job ends, and what is then told of it: the kind, the error, `continued_by`, the attempts.
#[tokio::test]
async fn every_way_of_ending_records_exactly_one_event() {
    let mut told = BTreeMap::new();
    for way in
        ["result", "failure", "swept", "polled", "cancelled waiting", "cancelled running", "taken over"]
    {
        let place = Place::new().await;
        let held = if ["cancelled waiting", "swept", "polled"].contains(&way) {
            Held { id: watched(&place).await, token: None }
        } else {
            held(&place).await
        };
        assert_eq!(waiting(&place).await, [], "nothing has ended yet");
        match way {
            "result" => drop(submit(&place, &held, &success("text")).await),
            "failure" => drop(submit(&place, &held, &failure(false)).await),
            "swept" => {
                place.pass(24 * 3600);
                let until = Instant::now() + Duration::from_secs(60);
                assert_eq!(place.sweep(until).await.unwrap().timed_out, 1);
            }
            "polled" => {
                place.pass(24 * 3600);
                assert_eq!(place.try_claim().await, None);
            }
            "taken over" => {
                let takeover = CancelRequest { takeover: true };
                place.cancel(&caller(), &held.id, &takeover).await.unwrap();
            }
            _ => cancel(&place, "t", &held.id).await,
        }
        let event = only(&place).await;
        assert_eq!(event.facts.status, place.job(&held.id).await.status(), "{way}");
        let courier = Script::taking();
        assert_eq!(round(&place, &courier).await, delivered(1), "{way}");
        let EventBody { kind, data, .. } = body(&courier.one());
        told.insert(way, (kind, data.error_message, data.continued_by, data.attempts));
        cancel_is_no_second_end(&place, &held.id).await;
    }
    let kinds: Vec<(&str, &str)> = told.iter().map(|(way, (kind, ..))| (*way, kind.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("cancelled running", "remote_job.cancelled"),
            ("cancelled waiting", "remote_job.cancelled"),
            ("failure", "remote_job.failed"),
            ("polled", "remote_job.timeout"),
            ("result", "remote_job.completed"),
            ("swept", "remote_job.timeout"),
            ("taken over", "remote_job.cancelled"),
        ]
    );
    assert_eq!(told["failure"].1.as_deref(), Some("no text in it"));
    assert_eq!(told["taken over"].2.as_deref(), Some("local"));
    assert_eq!((told["cancelled waiting"].3, told["cancelled running"].3), (0, 1));
}

/// What ends an ended job again, or is refused, records nothing.
async fn cancel_is_no_second_end(place: &Place, id: &str) {
    let _ = place.cancel(&caller(), id, &CancelRequest { takeover: true }).await;
    assert_eq!(waiting(place).await, []);
}

#[tokio::test]
async fn a_retry_by_hand_and_a_second_end_are_told_apart_and_neither_is_lost() {
    let place = Place::new().await;
    let id = ended(&place).await;
    let first = only(&place).await;
    place.retry(&caller(), &id).await.unwrap();
    assert_eq!(only(&place).await, first, "the retry leaves the first end's event alone");
    cancel(&place, "t", &id).await;
    let courier = Script::taking();
    assert_eq!(round(&place, &courier).await, delivered(2));
    let ids: BTreeSet<EventId> = courier.carried().iter().map(|told| told.id).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&first.id));
}

#[tokio::test]
async fn an_event_outlives_its_job() {
    let place = Place::new().await;
    let id = ended(&place).await;
    place.delete(&caller(), &id).await.unwrap();
    assert_eq!(place.store().jobs.get(id.parse().unwrap()).await.unwrap(), None);
    let courier = Script::taking();
    assert_eq!(round(&place, &courier).await, delivered(1));
    assert_eq!(body(&courier.one()).data.job_id, id);
}

#[tokio::test]
async fn the_worker_is_told_that_ingestion_goes_on_exactly_when_its_end_will_be_told() {
    let place = Place::new().await;
    let held = held(&place).await;
    let retried = submit(&place, &held, &failure(true)).await;
    assert_eq!((retried.status.as_str(), retried.ingestion_continued), ("pending", false), "no end");
    assert_eq!(waiting(&place).await, []);
    place.pass(3600);
    let again = place.claim().await;
    let done = submit(&place, &again, &success("text")).await;
    assert_eq!((done.status.as_str(), done.ingestion_continued), ("completed", true));
    assert_eq!(only(&place).await.facts.attempts, 2);
    for (held, result, answer) in [(&again, success("text"), done), (&held, failure(true), retried)] {
        let repeated = submit(&place, held, &result).await;
        assert_eq!(
            (repeated.status, repeated.ingestion_continued),
            (answer.status, answer.ingestion_continued),
            "a repeated submission gets its first answer"
        );
    }
    assert_eq!(waiting(&place).await.len(), 1);
    let unwatched = place.claimed().await;
    assert!(!submit(&place, &unwatched, &success("text")).await.ingestion_continued);
}

#[tokio::test]
async fn an_end_that_was_submitted_stays_told_after_a_retry_by_hand() {
    let place = Place::new().await;
    let held = held(&place).await;
    assert!(submit(&place, &held, &failure(false)).await.ingestion_continued);
    place.retry(&caller(), &held.id).await.unwrap();
    let repeated = submit(&place, &held, &failure(false)).await;
    assert_eq!((repeated.status.as_str(), repeated.ingestion_continued), ("failed", true));
}

#[tokio::test]
async fn a_webhook_that_nobody_may_be_told_at_is_refused_at_creation() {
    let place = Place::new().await;
    let lan: WebhookNetworks = "192.168.1.0/24".parse().unwrap();
    let with_lan = Place::with_rules(|rules| rules.webhook_networks = lan).await;
    let created = async |place: &Place, url: &str| {
        let mut request = place.request().await;
        request.webhook_url = Some(url.parse().unwrap());
        place.create(&caller(), &request, None).await
    };
    for url in
        ["https://127.0.0.1/", "https://0x7f.1/", "http://hooks.example/", "https://1.2.3.4.5/?secret=5a5a"]
    {
        let error: Error = created(&place, url).await.unwrap_err();
        let problem = error.problem();
        assert_eq!((problem.status, problem.errors[0].field.as_str()), (422, "webhook_url"));
        assert!(!problem.detail.contains("5a5a"), "{}", problem.detail);
    }
    for url in ["https://hooks.example/", "https://localhost/", "https://8.8.8.8:8443/"] {
        created(&place, url).await.unwrap();
    }
    for url in ["http://192.168.1.7/", "http://hooks.lan/", "https://192.168.1.7/"] {
        created(&with_lan, url).await.unwrap();
    }
    let poll = place.poll(&caller(), &polling("document"), true).await.unwrap();
    assert!(poll.job_id.is_some());
}

#[tokio::test]
async fn an_end_with_a_webhook_and_a_delivery_cost_few_units() {
    // DynamoDB Local counts a transaction's units twice over.
    let place = Place::in_process(|_| {}).await;
    // The first delivery makes the tenant's secret.
    place.webhook_secret(&caller()).await.unwrap();
    let spent = async |act: BoxFuture<'_, ()>| {
        let before = place.store().meter.units();
        act.await;
        let after = place.store().meter.units();
        (after.read - before.read, after.write - before.write)
    };
    let held = held(&place).await;
    let end = spent(async { drop(submit(&place, &held, &success("text")).await) }.boxed()).await;
    let (taking, failing) = (Script::taking(), Script::failing());
    let failed = spent(async { _ = round(&place, &failing).await }.boxed()).await;
    place.pass(60);
    let told = spent(async { _ = round(&place, &taking).await }.boxed()).await;
    let idle = spent(async { _ = round(&place, &taking).await }.boxed()).await;
    println!(
        "read and write units: an end with a webhook {end:?}, a failed try {failed:?}, a delivery {told:?}, a round without events {idle:?}"
    );
    assert!(end.1 <= 7.0, "{end:?}");
    assert!(failed.1 <= 6.0, "{failed:?}");
    assert!(told.1 <= 5.0, "{told:?}");
    assert_eq!(idle.1, 0.0);
}
