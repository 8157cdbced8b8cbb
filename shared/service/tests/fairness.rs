//! Nobody is kept waiting for ever: neither jobs of a low priority nor tenants beside a busy one.

use std::time::Duration;

use api::create::PriorityName::{High, Low};
use domain::{Job, JobId};
use futures::{StreamExt, stream};
use uuid::Uuid;

use crate::support::{Place, caller, caller_of, polling, request, success};

#[tokio::test]
async fn a_low_job_behind_an_endless_stream_of_high_ones_is_claimed_within_two_hours() {
    let place = Place::new().await;
    let low = place.created_with(|request| request.priority = Some(Low)).await;
    // There is always a high job, and no more workers than it takes to keep up with them.
    for _ in 0..=121 {
        place.created_with(|request| request.priority = Some(High)).await;
        let held = place.claim().await;
        place.submit(&held, &success("text")).await.unwrap();
        if held.id == low {
            assert!((7200..=7260).contains(&place.clock()), "after {} s", place.clock());
            return;
        }
        place.pass(60);
    }
    panic!("it was not claimed within {} s", place.clock());
}

/// Stores so many jobs of tenant `u` that nobody takes, as one that is there.
async fn crowd(place: &Place, jobs: usize) {
    let path = place.uploaded_by("u", "a.pdf").await;
    let mut wanted = request(&path);
    wanted.queue_timeout_seconds = Some(60);
    let id = place.create(&caller_of("u", "k"), &wanted, None).await.unwrap().job_id;
    let job = place.job(&id).await;
    stream::iter(1..jobs)
        .for_each_concurrent(16, |_| async {
            let job = Job { id: JobId(Uuid::now_v7()), ..job.clone() };
            place.store().jobs.create(&job).await.unwrap();
        })
        .await;
}

const CROWD: usize = 5000;

#[tokio::test]
async fn a_tenant_with_thousands_of_due_jobs_delays_neither_anothers_poll_nor_its_timeouts() {
    let place = Place::new().await;
    let late = place.created_with(|request| request.queue_timeout_seconds = Some(60)).await;
    let held = place.claimed_after(&late).await;
    place.heartbeat(&held).await.unwrap();
    let poll = async || {
        place.created_with(|request| request.content_type = "audio".parse().unwrap()).await;
        let before = place.store().meter.units();
        assert!(place.poll(&caller(), &polling("audio"), true).await.unwrap().job_id.is_some());
        let after = place.store().meter.units();
        (after.read - before.read, after.write - before.write)
    };
    // The first one also notes the worker.
    poll().await;
    let alone = poll().await;
    crowd(&place, CROWD).await;
    assert_eq!(poll().await, alone);

    place.pass(60);
    let service = place.service.clone();
    let until = tokio::time::Instant::now() + Duration::from_secs(600);
    let sweep = tokio::spawn(async move { service.sweep(until).await.unwrap() });
    while place.status_of(&late).await == "pending" || place.status_of(&held.id).await == "processing" {
        tokio::task::yield_now().await;
    }
    let mut left = 0;
    let mut from = None;
    loop {
        let page = place.store().jobs.live(0, 1, from).await.unwrap();
        left += page.hints.iter().filter(|hint| hint.queue.starts_with("queue#u#")).count();
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert!(left > CROWD * 3 / 4, "{left} of the {CROWD} were left when the other tenant's were seen to");
    let swept = sweep.await.unwrap();
    assert_eq!((swept.timed_out, swept.returned, swept.left), (CROWD as u64 + 1, 4, 0));
}
