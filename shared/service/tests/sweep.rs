//! The sweep: what nobody polls is ended or returned, and what waits is counted.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use api::manage::CancelRequest;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use domain::{Jitter, Outcome, Tried};
use service::Swept;
use store::EVENT_SHARDS;
use tokio::time::Instant;

use crate::{
    poll::{Still, in_process},
    support::{Place, caller, failure, problem, success},
};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn sweep(place: &Place) -> Swept {
    place.sweep(soon()).await.unwrap()
}

#[tokio::test]
async fn an_empty_table_is_swept() {
    let place = Place::new().await;
    let swept = sweep(&place).await;
    assert_eq!((swept.live, swept.complete, swept.queues.len()), (0, true, 0));
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
    let seen: Vec<(&str, u64, u64)> = swept
        .queues
        .iter()
        .map(|(name, queue)| (name.as_str(), queue.waiting, queue.oldest_seconds))
        .collect();
    assert_eq!(seen, [("t#audio", 1, 5), ("t#document", 2, 10)]);
    assert_eq!((swept.queues["t#document"].running, swept.oldest_seconds), (1, 10));
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
    place.pass(1);
    let again = sweep(&place).await;
    assert_eq!((again.live, again.timed_out, again.returned), (3, 0, 0));
    assert_eq!(again.write_units, 2.0, "it wrote more than what it saw of one tenant, and that it saw all");
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
    assert_eq!((swept.live, swept.timed_out, swept.complete), (0, 0, false));
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

#[tokio::test]
async fn jobs_that_run_and_that_back_off_are_told_apart() {
    let place = Place::new().await;
    let failed = place.claimed().await;
    place.submit(&failed, &failure(true)).await.unwrap();
    place.claimed().await;
    let queue = sweep(&place).await.queues["t#document"];
    assert_eq!((queue.waiting, queue.backing_off, queue.running), (0, 1, 1));
}

#[tokio::test]
async fn undelivered_and_dead_events_are_counted_and_are_no_jobs() {
    let place = Place::new().await;
    let webhook: domain::WebhookUrl = "https://example.org/hook".parse().unwrap();
    for _ in 0..3 {
        let webhook = Some(webhook.clone());
        let id = place.created_with(|request| request.webhook_url = webhook).await;
        place.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap();
    }
    let (events, mut due) = (&place.store().events, Vec::new());
    for shard in 0..EVENT_SHARDS {
        due.extend(events.due(shard, place.now(), 10, None).await.unwrap().hints);
    }
    let event = events.get(due[0].id).await.unwrap().unwrap();
    let dead = event.tried(Tried::Refused("410".to_owned()), place.now(), Jitter::new(0.0));
    assert!(events.replace(&event, &dead).await.unwrap());
    let swept = sweep(&place).await;
    assert_eq!((swept.live, swept.undelivered_events, swept.dead_events), (0, 2, 1));
}

#[tokio::test]
async fn a_sweep_counts_its_own_units_and_no_others() {
    let place = Place::new().await;
    place.created_with(|request| request.queue_timeout_seconds = Some(1)).await;
    place.created().await;
    place.pass(1);
    let before = place.store().meter.units();
    let swept = sweep(&place).await;
    let after = place.store().meter.units();
    assert_eq!((swept.read_units, swept.write_units), (after.read - before.read, after.write - before.write));
    // The row and its entry; what is counted of the end; what was seen of the tenant; that everything was seen.
    assert_eq!(swept.write_units, 2.0 + 1.0 + 1.0 + 1.0);
    place.created().await;
    assert!(sweep(&place).await.read_units < 3.0);
}

/// Stores so many rows of the `due` index that it has several pages. They are of no queue.
async fn pages(place: &Place, rows: usize) {
    let (raw, table) = (place.raw(), &place.backend.connection.table);
    let number = |number: i64| AttributeValue::N(number.to_string());
    // A page ends at 1 MB, and a name may have 2048 bytes.
    let name = format!("queue#{}", "q".repeat(1900));
    let rows: Vec<usize> = (0..rows).collect();
    for chunk in rows.chunks(25) {
        let writes = chunk.iter().map(|_| {
            let row = PutRequest::builder()
                .item("pk", AttributeValue::S(format!("job#{}", uuid::Uuid::now_v7())))
                .item("due_key", AttributeValue::S(name.clone()))
                .item("due_at", number(place.now().0))
                .item("deadline", number(i64::MAX))
                .item("created_at", number(place.now().0));
            WriteRequest::builder().put_request(row.build().unwrap()).build()
        });
        raw.batch_write_item().request_items(table, writes.collect()).send().await.unwrap();
    }
}

#[tokio::test]
async fn a_sweep_that_runs_out_of_time_is_gone_on_with_where_it_stopped() {
    let place = in_process().await;
    pages(&place, 2100).await;
    place.created().await;
    let mut still = Still::stand();
    let before = place.store().meter.units().read;
    let service = place.service.clone();
    let until = Instant::now() + Duration::from_secs(4);
    let sweeping = tokio::spawn(async move { service.sweep(until).await.unwrap() });
    // A page of 1 MB is 128 units, and the sweep's own row one more.
    while place.store().meter.units().read < before + 100.0 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_millis(3500)).await;
    still.go();
    let first = sweeping.await.unwrap();
    assert!(!first.complete && first.live > 0 && first.live < 2101, "{}", first.live);
    let record = place.store().sweeps.last().await.unwrap();
    assert_eq!((record.resume.is_some(), record.seen_at), (true, None));
    tokio::time::resume();

    let second = sweep(&place).await;
    assert_eq!((second.live, second.complete), (2101, true));
    let record = place.store().sweeps.last().await.unwrap();
    assert_eq!((record.resume, record.seen_at), (None, Some(place.now())));
}

/// Stores that a sweep stopped at this place.
async fn stop_at(place: &Place, key: HashMap<String, AttributeValue>) {
    let row = [
        ("pk", AttributeValue::S("sweep".to_owned())),
        ("rev", AttributeValue::N("1".to_owned())),
        ("resume", AttributeValue::M(key)),
    ];
    place.put_row(row.map(|(name, value)| (name.to_owned(), value)).into()).await;
}

#[tokio::test]
async fn what_was_due_before_and_after_the_place_where_a_sweep_stopped_is_seen_to() {
    let place = Place::new().await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(place.created_with(|request| request.queue_timeout_seconds = Some(60)).await);
        // Of jobs that are due at one moment the table decides which come after a place.
        place.pass(1);
    }
    place.pass(60);
    let job = place.job(&ids[5]).await;
    let stopped_at = HashMap::from([
        ("pk".to_owned(), AttributeValue::S(format!("job#{}", job.id))),
        ("due_key".to_owned(), AttributeValue::S("queue#t#document#0".to_owned())),
        ("due_at".to_owned(), AttributeValue::N(job.due_at().unwrap().0.to_string())),
    ]);
    stop_at(&place, stopped_at).await;
    let swept = sweep(&place).await;
    // Those after that place first, then all that are left.
    assert!(swept.live < 10 && swept.timed_out == 10 && swept.complete, "{swept:?}");
    assert_eq!(sweep(&place).await.live, 0);
}

#[tokio::test]
async fn a_place_to_go_on_at_that_is_none_any_more_is_forgotten() {
    let place = Place::new().await;
    place.created().await;
    stop_at(&place, HashMap::from([("of_another".to_owned(), AttributeValue::S("table".to_owned()))])).await;
    let swept = sweep(&place).await;
    assert_eq!((swept.live, swept.complete), (1, true));
}

#[tokio::test]
async fn due_jobs_that_there_is_no_time_for_are_said_to_be_left() {
    let place = in_process().await;
    const DUE: u64 = 300;
    for _ in 0..DUE {
        place.created_with(|request| request.queue_timeout_seconds = Some(60)).await;
    }
    place.pass(60);
    let mut still = Still::stand();
    let before = place.store().meter.units().read;
    let service = place.service.clone();
    let until = Instant::now() + Duration::from_secs(4);
    let sweeping = tokio::spawn(async move { service.sweep(until).await.unwrap() });
    // Once it has read its own row and what is live, it sees to 16 of them at once.
    while place.store().meter.units().read < before + 1.5 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_secs(4)).await;
    still.go();
    let swept = sweeping.await.unwrap();
    assert!(swept.left > 0 && swept.left + swept.timed_out == DUE && swept.complete, "{swept:?}");
    tokio::time::resume();
    assert_eq!(sweep(&place).await.timed_out, swept.left);
}

#[tokio::test]
async fn a_queue_may_be_spread_over_fewer_partitions_while_it_has_jobs() {
    let mut place = Place::with(|connection| connection.shards = 8, |_| {}).await;
    let mut waiting = HashSet::new();
    let mut running = Vec::new();
    for _ in 0..24 {
        place.created().await;
        running.push(place.claim().await);
    }
    for _ in 0..24 {
        waiting.insert(place.created().await);
    }
    place.backend.connection.shards = 2;
    place.service = place.another().await;

    let swept = sweep(&place).await;
    assert_eq!((swept.live, swept.timed_out, swept.returned, swept.complete), (48, 0, 0, true));
    assert!(swept.moved > 0, "{swept:?}");
    let queue = swept.queues["t#document"];
    assert_eq!((queue.waiting, queue.running), (24, 24), "what was moved is counted once");
    assert_eq!(sweep(&place).await.moved, 0, "one sweep is enough");

    for held in &running {
        place.heartbeat(held).await.unwrap();
        place.submit(held, &success("text")).await.unwrap();
    }
    let mut taken = HashSet::new();
    while let Some(held) = place.try_claim().await {
        taken.insert(held.id);
    }
    assert_eq!(taken, waiting);
}

#[tokio::test]
async fn a_queue_may_be_spread_over_more_partitions_while_it_has_jobs() {
    let mut place = Place::new().await;
    let held = place.claimed().await;
    let mut waiting: HashSet<String> = HashSet::new();
    for _ in 0..8 {
        waiting.insert(place.created().await);
    }
    place.backend.connection.shards = 4;
    place.service = place.another().await;
    for _ in 0..8 {
        waiting.insert(place.created().await);
    }
    assert_eq!(sweep(&place).await.moved, 0);
    place.submit(&held, &success("text")).await.unwrap();
    let mut taken = HashSet::new();
    while let Some(held) = place.try_claim().await {
        taken.insert(held.id);
    }
    assert_eq!(taken, waiting);
}
