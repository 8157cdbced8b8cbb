//! `GET /statistics`: what waits, runs and has ended lately.

use std::{collections::HashMap, time::Duration};

use api::{
    manage::CancelRequest,
    statistics::{EndedView, QueueView, StatisticsRequest},
};
use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Bucket, ContentType, Status};
use store::{Depth, Depths, Ended, SweepRecord};
use tokio::time::Instant;

use crate::support::{Held, Place, at, caller, caller_of, failure, problem, success};

async fn queues(place: &Place) -> Vec<QueueView> {
    place.statistics(&caller(), &Default::default()).await.unwrap().queues
}

/// The queue of one type, if it is told.
async fn only(place: &Place, content_type: &str) -> Vec<QueueView> {
    let request = StatisticsRequest { content_type: Some(content_type.parse().unwrap()) };
    place.statistics(&caller(), &request).await.unwrap().queues
}

/// The queue of documents, which must be there.
async fn documents(place: &Place) -> QueueView {
    queues(place).await.into_iter().find(|queue| queue.content_type == "document").unwrap()
}

async fn cancel(place: &Place, id: &str, takeover: bool) {
    place.cancel(&caller(), id, &CancelRequest { takeover }).await.unwrap();
}

async fn completed_after(place: &Place, seconds: u64) {
    let held = place.claimed().await;
    place.pass(seconds);
    place.submit(&held, &success("text")).await.unwrap();
}

#[tokio::test]
async fn nothing_is_told_of_a_tenant_that_has_nothing() {
    let place = Place::new().await;
    let told = place.statistics(&caller(), &Default::default()).await.unwrap();
    assert_eq!((told.as_of, told.queues.len()), (None, 0));
    place.pass(7);
    place.swept().await;
    let told = place.statistics(&caller(), &Default::default()).await.unwrap();
    assert_eq!((told.as_of, told.queues.len()), (Some(at(7)), 0));
}

#[tokio::test]
async fn every_end_is_counted_once_by_how_it_ended() {
    let place = Place::new().await;
    for _ in 0..2 {
        completed_after(&place, 1).await;
    }
    let failed = place.claimed().await;
    place.submit(&failed, &failure(false)).await.unwrap();
    let cancelled = place.created().await;
    cancel(&place, &cancelled, false).await;
    place.created_with(|request| request.queue_timeout_seconds = Some(10)).await;
    place.pass(10);
    place.swept().await;
    let ended = EndedView { completed: 2, failed: 1, timeout: 1, cancelled: 1 };
    assert_eq!(documents(&place).await.ended_24h, ended);
    // What is repeated, and what changes an end without being one, is no further end.
    place.submit(&failed, &failure(false)).await.unwrap();
    cancel(&place, &cancelled, false).await;
    cancel(&place, &failed.id, true).await;
    place.swept().await;
    assert_eq!(documents(&place).await.ended_24h, ended);
    // A second end of the same job is.
    place.retry(&caller(), &cancelled).await.unwrap();
    cancel(&place, &cancelled, false).await;
    assert_eq!(documents(&place).await.ended_24h, EndedView { cancelled: 2, ..ended });
}

#[tokio::test]
async fn of_one_type_the_same_is_told_as_among_all() {
    let place = Place::new().await;
    completed_after(&place, 7).await;
    place.claimed().await;
    place.created_with(|request| request.content_type = "x-own".parse().unwrap()).await;
    place.pause_queue(&caller(), "video").await.unwrap();
    place.swept().await;
    let all = queues(&place).await;
    let names: Vec<&str> = all.iter().map(|queue| queue.content_type.as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for queue in &all {
        let told = only(&place, &queue.content_type).await;
        assert_eq!(serde_json::to_value(told).unwrap(), serde_json::json!([queue]));
    }
    assert!(only(&place, "image").await.is_empty());
}

#[tokio::test]
async fn an_attempt_that_ends_without_the_job_is_not_counted() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.submit(&held, &failure(true)).await.unwrap();
    assert_eq!(queues(&place).await.len(), 0);
}

#[tokio::test]
async fn ends_at_once_are_all_counted() {
    let place = Place::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (id, service) = (place.created().await, place.another().await);
        tasks.spawn(async move { service.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap() });
    }
    tasks.join_all().await;
    assert_eq!(documents(&place).await.ended_24h.cancelled, 40);
}

#[tokio::test]
async fn what_ended_longer_ago_than_a_day_is_not_counted_and_what_ended_this_day_is() {
    let place = Place::new().await;
    // The test begins at midnight.
    place.pass(20 * 3600);
    completed_after(&place, 1).await;
    place.pass(22 * 3600);
    completed_after(&place, 1).await;
    assert_eq!(documents(&place).await.ended_24h.completed, 2);
    place.pass(2 * 3600);
    assert_eq!(documents(&place).await.ended_24h.completed, 1);
    place.pass(24 * 3600);
    assert_eq!(documents(&place).await.ended_24h.completed, 0);
}

#[tokio::test]
async fn a_custom_type_is_found_and_another_tenants_ends_are_not() {
    let place = Place::new().await;
    for (tenant, name) in
        [("t", "x-own"), ("t", "audio"), ("u", "video"), ("u", "x-theirs"), ("t-2", "image")]
    {
        let ended = Ended {
            tenant: &tenant.parse().unwrap(),
            content_type: &name.parse().unwrap(),
            at: place.now(),
            status: Status::Completed,
            conversion: Some(Bucket::of(1000, Duration::from_secs(60))),
        };
        place.store().statistics.count(&ended).await.unwrap();
    }
    let types: Vec<String> = queues(&place).await.into_iter().map(|queue| queue.content_type).collect();
    assert_eq!(types, ["audio", "x-own"]);
    let told = place.statistics(&caller_of("u", "k"), &Default::default()).await.unwrap();
    let types: Vec<&str> = told.queues.iter().map(|queue| queue.content_type.as_str()).collect();
    assert_eq!(types, ["video", "x-theirs"]);
}

#[tokio::test]
async fn an_end_that_cannot_be_counted_is_an_end_all_the_same() {
    let place = Place::new().await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let row = HashMap::from([
        ("pk".to_owned(), text(&format!("stat#t#document#{}", place.now().day()))),
        // A text cannot be added to.
        ("c00".to_owned(), text("one")),
    ]);
    place.put_row(row).await;
    let held = place.claimed().await;
    assert_eq!(place.submit(&held, &success("text")).await.unwrap(), "completed");
    assert_eq!(place.status_of(&held.id).await, "completed");
    let cancelled = place.created().await;
    cancel(&place, &cancelled, false).await;
    assert_eq!(documents(&place).await.ended_24h, EndedView { cancelled: 1, ..EndedView::default() });
}

#[tokio::test]
async fn a_count_of_a_busy_day_still_costs_one_write_unit() {
    let place = Place::new().await;
    let (tenant, content_type) = (caller().tenant, ContentType::Document);
    let count = async |hour: u64, status: Status, size: u64, seconds: u64| {
        let before = place.store().meter.units().write;
        let ended = Ended {
            tenant: &tenant,
            content_type: &content_type,
            at: place.now().plus(Duration::from_secs(hour * 3600)),
            status,
            conversion: (status == Status::Completed).then(|| Bucket::of(size, Duration::from_secs(seconds))),
        };
        place.store().statistics.count(&ended).await.unwrap();
        place.store().meter.units().write - before
    };
    // Every hour jobs end in each way, and conversions of files of 100 KB to 100 MB take 5 seconds to 20 minutes.
    let mut costs = Vec::new();
    for hour in 0..24 {
        for status in [Status::Completed, Status::Failed, Status::Timeout, Status::Cancelled] {
            costs.push(count(hour, status, 100_000 << (hour % 11), 5 << (hour % 9)).await);
        }
        for size in [100_000, 3_000_000, 100_000_000] {
            costs.push(count(hour, Status::Completed, size, size / 100_000 + hour * 4).await);
        }
    }
    assert!(costs.iter().all(|cost| *cost == 1.0), "{costs:?}");
}

#[tokio::test]
async fn run_times_are_told_for_fourteen_days_and_never_too_short() {
    let place = Place::new().await;
    for seconds in [10, 20, 30, 40, 50, 60, 70, 80, 90, 400] {
        completed_after(&place, seconds).await;
    }
    let failed = place.claimed().await;
    place.pass(500);
    place.submit(&failed, &failure(false)).await.unwrap();
    let told = documents(&place).await.run_time.unwrap();
    assert_eq!(told.conversions, 10);
    for (told, exact) in [(told.median_seconds, 50.0), (told.p90_seconds, 90.0)] {
        assert!((exact..exact * 1.42).contains(&told), "{told} is not {exact}");
    }
    place.pass(13 * 24 * 3600);
    assert_eq!(documents(&place).await.run_time.unwrap().conversions, 10);
    place.pass(24 * 3600);
    assert_eq!(queues(&place).await.len(), 0);
}

/// A waiting job, one in its backoff, and one that runs.
async fn one_of_each(place: &Place) -> Held {
    let backing_off = place.claimed().await;
    place.submit(&backing_off, &failure(true)).await.unwrap();
    let running = place.claimed().await;
    place.pass(3);
    place.created().await;
    running
}

#[tokio::test]
async fn what_is_in_a_queue_is_told_as_the_last_complete_sweep_saw_it() {
    let place = Place::new().await;
    one_of_each(&place).await;
    assert_eq!(queues(&place).await.len(), 0, "no sweep yet");
    place.pass(2);
    place.swept().await;
    place.pass(4);
    let told = place.statistics(&caller(), &Default::default()).await.unwrap();
    assert_eq!(told.as_of, Some(at(5)));
    let queue = &told.queues[0];
    assert_eq!((queue.waiting, queue.backing_off, queue.running), (1, 1, 1));
    assert_eq!(queue.oldest_waiting_seconds, Some(6));
    place.created().await;
    assert_eq!(documents(&place).await.waiting, 1, "nothing is counted between sweeps");
    place.swept().await;
    assert_eq!(documents(&place).await.waiting, 2);
}

#[tokio::test]
async fn what_a_sweep_ends_or_returns_is_counted_as_what_it_is_then() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let ended = place.created_with(|request| request.queue_timeout_seconds = Some(20)).await;
    place.pass(20);
    place.swept().await;
    assert_eq!(
        (place.status_of(&held.id).await, place.status_of(&ended).await),
        ("pending".into(), "timeout".into())
    );
    let queue = documents(&place).await;
    assert_eq!((queue.waiting, queue.running, queue.ended_24h.timeout), (1, 0, 1));
}

#[tokio::test]
async fn a_tenant_whose_jobs_have_all_ended_has_none_in_its_queues() {
    let place = Place::new().await;
    let id = place.created().await;
    place.swept().await;
    assert_eq!(documents(&place).await.waiting, 1);
    cancel(&place, &id, false).await;
    place.pass(5);
    place.swept().await;
    let told = place.statistics(&caller(), &Default::default()).await.unwrap();
    assert_eq!(
        (told.as_of, told.queues[0].waiting, told.queues[0].oldest_waiting_seconds),
        (Some(at(5)), 0, None)
    );
}

#[tokio::test]
async fn a_sweep_that_did_not_see_everything_records_nothing() {
    let place = Place::new().await;
    place.created().await;
    place.sweep(Instant::now()).await.unwrap();
    let told = place.statistics(&caller(), &Default::default()).await.unwrap();
    assert_eq!((told.as_of, told.queues.len()), (None, 0));
}

#[tokio::test]
async fn what_an_earlier_sweep_saw_does_not_replace_what_a_later_one_did() {
    let place = Place::new().await;
    let sweeps = &place.store().sweeps;
    let tenant = caller().tenant;
    let saw = |seconds: u64, waiting: u64| Depths {
        seen_at: place.now().plus(Duration::from_secs(seconds)),
        queues: [(ContentType::Document, Depth { waiting, ..Depth::default() })].into(),
    };
    let begun: SweepRecord = sweeps.last().await.unwrap();
    assert!(sweeps.record(&tenant, &saw(10, 7)).await.unwrap());
    sweeps.completed(&begun, saw(10, 0).seen_at).await.unwrap();
    // It began before the other and comes late.
    assert!(!sweeps.record(&tenant, &saw(5, 3)).await.unwrap());
    sweeps.completed(&begun, saw(5, 0).seen_at).await.unwrap();
    let told = place.statistics(&caller(), &Default::default()).await.unwrap();
    assert_eq!((told.as_of, told.queues[0].waiting), (Some(at(10)), 7));
    // A later one replaces it, also where it did not know of the first.
    assert!(sweeps.record(&tenant, &saw(15, 4)).await.unwrap());
    sweeps.completed(&begun, saw(15, 0).seen_at).await.unwrap();
    let told = place.statistics(&caller(), &Default::default()).await.unwrap();
    assert_eq!((told.as_of, told.queues[0].waiting), (Some(at(15)), 4));
}

#[tokio::test]
async fn a_paused_queue_is_told_of_even_when_it_is_empty() {
    let place = Place::new().await;
    for name in ["x-own", "audio"] {
        place.pause_queue(&caller(), name).await.unwrap();
    }
    place.created().await;
    place.swept().await;
    let told: Vec<(String, bool)> =
        queues(&place).await.into_iter().map(|queue| (queue.content_type, queue.paused)).collect();
    let expected = [("audio", true), ("document", false), ("x-own", true)];
    assert_eq!(told, expected.map(|(name, paused)| (name.to_owned(), paused)));
    place.resume_queue(&caller(), "audio").await.unwrap();
    assert!(queues(&place).await.iter().all(|queue| queue.content_type != "audio"));
}

#[tokio::test]
async fn statistics_without_a_table_to_reach_say_so() {
    let service = Place::out_of_reach().await;
    assert_eq!(problem(service.statistics(&caller(), &Default::default()).await).0, 503);
}
