//! The sweep: what nobody polls is ended or returned, and what waits is counted.

use std::time::Duration;

use domain::Outcome;
use service::Swept;
use tokio::time::Instant;

use crate::support::{Place, failure, problem, success};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn sweep(place: &Place) -> Swept {
    place.sweep(soon()).await.unwrap()
}

#[tokio::test]
async fn an_empty_table_is_swept() {
    let place = Place::new().await;
    assert_eq!(sweep(&place).await, Swept { complete: true, ..Swept::default() });
}

#[tokio::test]
async fn what_waits_is_counted_by_queue_with_the_age_of_the_oldest() {
    let place = Place::new().await;
    place.claimed().await;
    let ended = place.claimed().await;
    place.submit(&ended, &success("text")).await.unwrap();
    place.created().await;
    place.pass(5);
    place.created_with(|request| request.priority = Some(api::create::PriorityName::High)).await;
    place.created_with(|request| request.content_type = "audio".parse().unwrap()).await;
    place.pass(5);
    let swept = sweep(&place).await;
    assert_eq!((swept.live, swept.timed_out, swept.returned, swept.complete), (4, 0, 0, true));
    let seen: Vec<(&str, u64, u64)> =
        swept.queues.iter().map(|(name, queue)| (name.as_str(), queue.depth, queue.oldest_seconds)).collect();
    assert_eq!(seen, [("queue#t#audio#0", 1, 5), ("queue#t#document#0", 2, 10)]);
}

#[tokio::test]
async fn what_has_run_out_is_returned_or_ended_and_the_second_sweep_finds_nothing() {
    let place = Place::new().await;
    let waiting = place.created_with(|request| request.queue_timeout_seconds = Some(60)).await;
    let patient = place.created_with(|r| r.content_type = "audio".parse().unwrap()).await;
    let lapsed = place.claimed_after(&waiting).await;
    place.heartbeat(&lapsed).await.unwrap();
    let unheard = place.claimed_after(&waiting).await;
    place.pass(60);
    let swept = sweep(&place).await;
    assert_eq!((swept.live, swept.timed_out, swept.returned, swept.complete), (4, 1, 2, true));
    assert_eq!(place.status_of(&waiting).await, "timeout");
    assert_eq!(place.status_of(&patient).await, "pending");
    assert_eq!(place.job(&lapsed.id).await.attempts[0].outcome, Outcome::Lapsed);
    assert_eq!(place.job(&unheard.id).await.attempts[0].outcome, Outcome::NeverHeardOf);
    let units = place.store().meter.units().write;
    let again = sweep(&place).await;
    assert_eq!((again.live, again.timed_out, again.returned), (3, 0, 0));
    assert_eq!(place.store().meter.units().write, units, "it wrote again");
}

#[tokio::test]
async fn a_lapsed_lease_of_a_job_that_nobody_polls_is_returned_and_can_be_claimed_at_once() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.heartbeat(&held).await.unwrap();
    place.pass(60);
    assert_eq!(sweep(&place).await.returned, 1);
    assert_eq!(place.status_of(&held.id).await, "pending");
    assert_eq!(place.claim().await.id, held.id);
}

#[tokio::test]
async fn a_backoff_that_has_ended_is_left_to_the_polls() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.submit(&held, &failure(true)).await.unwrap();
    place.pass(15);
    let before = place.job(&held.id).await;
    let swept = sweep(&place).await;
    assert_eq!((swept.live, swept.timed_out, swept.returned), (1, 0, 0));
    assert_eq!(place.job(&held.id).await, before);
}

#[tokio::test]
async fn sweeps_at_once_end_each_job_once() {
    let place = Place::new().await;
    for _ in 0..30 {
        place.created_with(|request| request.queue_timeout_seconds = Some(1)).await;
    }
    place.pass(1);
    let mut tasks = tokio::task::JoinSet::new();
    for ahead in 0..4 {
        // No two servers' clocks agree to the millisecond.
        let service = place.another_ahead(ahead).await;
        tasks.spawn(async move { service.sweep(soon()).await.unwrap() });
    }
    let swept = tasks.join_all().await;
    assert!(swept.iter().all(|swept| swept.complete));
    assert_eq!(swept.iter().map(|swept| swept.timed_out).sum::<u64>(), 30);
    assert_eq!(sweep(&place).await.live, 0);
}

#[tokio::test]
async fn a_sweep_stops_in_time_and_says_that_it_is_not_complete() {
    let place = Place::new().await;
    place.created_with(|request| request.queue_timeout_seconds = Some(1)).await;
    place.pass(1);
    let swept = place.sweep(Instant::now()).await.unwrap();
    assert_eq!(swept, Swept::default());
    assert_eq!(sweep(&place).await.timed_out, 1);
}

#[tokio::test]
async fn an_attempt_whose_last_retry_is_spent_is_ended() {
    let place = Place::new().await;
    let id = place.created_with(|request| request.max_retries = Some(0)).await;
    let held = place.claim().await;
    place.heartbeat(&held).await.unwrap();
    place.pass(60);
    assert_eq!(sweep(&place).await.timed_out, 1);
    assert_eq!(place.status_of(&id).await, "timeout");
}

#[tokio::test]
async fn a_sweep_without_a_table_to_reach_says_so() {
    let service = Place::out_of_reach().await;
    assert_eq!(problem(service.sweep(soon()).await).0, 503);
}
