//! What stays, and for how long: nothing of a job is left once its time has come.

use std::time::{SystemTime, UNIX_EPOCH};

use api::manage::CancelRequest;
use serde_json::json;

use crate::{
    backend::other_dynamodb,
    support::{Place, caller, failure, options, success},
};

const DAY: u64 = 24 * 3600;

/// Sets the clock to so many days before the machine's, by which rows expire.
fn go_back(place: &Place, days: u64) {
    let machine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ahead = u64::try_from(place.now().0 / 1000).unwrap() - machine;
    place.set_back(ahead + days * DAY);
}

/// Jobs that end in every way, one of them with everything that can be stored of a job.
async fn end_some(place: &Place) {
    let large = options(json!({"prompt": "p".repeat(2000)}));
    place.created_with(|request| request.task_options = large).await;
    let completed = place.claim().await;
    place.heartbeat(&completed).await.unwrap();
    place.submit(&completed, &success("text")).await.unwrap();
    let failed = place.claimed().await;
    place.submit(&failed, &failure(false)).await.unwrap();
    let cancelled = place.created().await;
    place.cancel(&caller(), &cancelled, &CancelRequest::default()).await.unwrap();
    place.created_with(|request| request.queue_timeout_seconds = Some(60)).await;
    place.created_with(|request| request.content_type = "x-own".parse().unwrap()).await;
    place.pass(2 * DAY);
    let swept = place.swept().await;
    assert_eq!((swept.timed_out, swept.complete), (2, true));
}

#[tokio::test]
async fn when_its_time_has_come_nothing_of_a_job_is_left() {
    // Only the embedded engine removes what has expired when it is told to.
    if other_dynamodb().is_some() {
        return;
    }
    let place = Place::new().await;
    go_back(&place, 90);
    let tenant = "t".parse().unwrap();
    let key = place.keys().make("test", tenant, &[api::Scope::Admin]).await.unwrap();
    end_some(&place).await;
    assert_eq!(place.rows().await.iter().filter(|row| row.starts_with("job#")).count(), 5);
    assert_eq!(place.objects().await.len(), 7, "five sources, options and a result");
    place.expire_objects().await;
    assert_eq!(place.objects().await, [""; 0]);
    let left = place.rows().await;
    assert!(left.iter().all(|row| row == "sweep" || row.starts_with("key#")), "{left:?}");
    assert_eq!(left.len(), 2);
    assert!(place.keys().authenticate(&key.text).await.is_ok());
}

#[tokio::test]
async fn until_then_everything_is_there() {
    if other_dynamodb().is_some() {
        return;
    }
    let place = Place::new().await;
    // The last of them ends 29 days before the machine's clock, and rows stay for 30.
    go_back(&place, 31);
    end_some(&place).await;
    let waiting = place.created().await;
    let before = place.rows().await;
    let swept = place.backend.engines.sweep(place.now().0).await.unwrap();
    assert_eq!(swept.expired_objects, 0);
    let gone: Vec<String> = before.difference(&place.rows().await).cloned().collect();
    let (jobs, others): (Vec<_>, Vec<_>) = gone.into_iter().partition(|row| row.starts_with("job#"));
    assert_eq!(jobs.len(), 3, "what ended two days earlier");
    let is_short_lived = |row: &String| row.starts_with("stat#") || row.starts_with("worker#");
    assert!(others.iter().all(is_short_lived), "{others:?}");
    assert_eq!(place.status_of(&waiting).await, "pending");
}
