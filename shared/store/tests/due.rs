//! The `due` index: what a poll finds.

use std::{collections::BTreeSet, time::Duration};

use domain::{ContentType, Job, JobId, Priority, Timestamp};
use store::Due;

use crate::support::{
    Place, at, claimed, failure, half, job_with, legacy, native, new_job, of_tenant, submitted, success,
    tenant,
};

/// The document jobs of tenant `t` that are due.
async fn due(place: &Place, what: Due, now: Timestamp) -> Vec<JobId> {
    place.jobs.due(what, &tenant("t"), &ContentType::Document, 0, now, 100).await.unwrap()
}

#[tokio::test]
async fn waiting_jobs_are_due_by_their_rank() {
    let place = Place::new().await;
    let of = |priority, second| {
        let job = job_with(|spec| spec.priority = priority);
        Job { created_at: at(second), ..job }
    };
    let jobs = [
        of(Priority::Low, 0),
        of(Priority::Normal, 3),
        of(Priority::Normal, 2),
        of(Priority::High, 3000),
        of(Priority::High, 4000),
    ];
    for job in &jobs {
        place.created(job.clone()).await;
    }
    // An hour of credit for normal, two for high: the one of high priority came 4000 s too late to be before them.
    let order = [3, 2, 1, 4, 0].map(|at: usize| jobs[at].id);
    assert_eq!(due(&place, Due::Waiting, at(10_000)).await, order);
}

#[tokio::test]
async fn only_what_is_due_by_now_is_found_and_at_most_as_many_as_asked_for() {
    let place = Place::new().await;
    let mut ids = Vec::new();
    for second in 0..5 {
        let job = job_with(|spec| spec.priority = Priority::Low);
        ids.push(place.created(Job { created_at: at(second), ..job }).await.id);
    }
    assert_eq!(due(&place, Due::Waiting, Timestamp(at(2).0 - 1)).await, ids[..2]);
    assert_eq!(due(&place, Due::Waiting, at(2)).await, ids[..3]);
    let first =
        place.jobs.due(Due::Waiting, &tenant("t"), &ContentType::Document, 0, at(9), 2).await.unwrap();
    assert_eq!(first, ids[..2]);
}

#[tokio::test]
async fn queues_of_other_tenants_and_types_are_apart() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    let video = place.created(job_with(|spec| spec.content_type = ContentType::Video)).await;
    let custom = place.created(job_with(|spec| spec.content_type = "x-own".parse().unwrap())).await;
    let foreign = place.created(of_tenant("u", new_job())).await;
    let found = async |name: &str, content_type: &str| {
        let content_type = content_type.parse().unwrap();
        place.jobs.due(Due::Waiting, &tenant(name), &content_type, 0, at(9), 100).await.unwrap()
    };
    assert_eq!(found("t", "document").await, [job.id]);
    assert_eq!(found("t", "video").await, [video.id]);
    assert_eq!(found("t", "x-own").await, [custom.id]);
    assert_eq!(found("u", "document").await, [foreign.id]);
    assert_eq!(found("u", "video").await, []);
}

#[tokio::test]
async fn a_queue_of_several_shards_has_every_job_in_just_one() {
    let place = Place::with(|connection| connection.shards = 4).await;
    assert_eq!(place.jobs.shards(), 4);
    let mut created = BTreeSet::new();
    for _ in 0..40 {
        created.insert(place.created(new_job()).await.id);
    }
    let mut found = Vec::new();
    for shard in 0..4 {
        let of_shard = place
            .jobs
            .due(Due::Waiting, &tenant("t"), &ContentType::Document, shard, at(9), 100)
            .await
            .unwrap();
        assert!(!of_shard.is_empty(), "shard {shard} has nothing");
        found.extend(of_shard);
    }
    assert_eq!((found.len(), BTreeSet::from_iter(found)), (40, created));
    let beyond =
        place.jobs.due(Due::Waiting, &tenant("t"), &ContentType::Document, 4, at(9), 100).await.unwrap();
    assert_eq!(beyond, []);
}

#[tokio::test]
async fn no_shards_at_all_is_one() {
    let place = Place::with(|connection| connection.shards = 0).await;
    let job = place.created(new_job()).await;
    assert_eq!((place.jobs.shards(), due(&place, Due::Waiting, at(1)).await), (1, vec![job.id]));
}

#[tokio::test]
async fn a_running_job_returns_when_its_lease_ends_and_not_before() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    place.replaced(&job, claimed(&job, &native(1), at(1))).await;
    assert_eq!(due(&place, Due::Waiting, at(10_000)).await, []);
    assert_eq!(due(&place, Due::Returning, at(20)).await, []);
    assert_eq!(due(&place, Due::Returning, at(21)).await, [job.id]);
}

#[tokio::test]
async fn a_job_that_runs_without_a_lease_token_returns_when_its_run_times_out() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    place.replaced(&job, claimed(&job, &legacy(), at(1))).await;
    assert_eq!(due(&place, Due::Returning, at(600)).await, []);
    assert_eq!(due(&place, Due::Returning, at(601)).await, [job.id]);
}

#[tokio::test]
async fn a_renewed_lease_ends_later() {
    let place = Place::new().await;
    let worker = native(1);
    let job = place.created(new_job()).await;
    let running = place.replaced(&job, claimed(&job, &worker, at(1))).await;
    let renewal = running.heartbeat(&worker.0, None, at(10)).unwrap();
    assert!(renewal.renewed);
    place.replaced(&running, renewal.job).await;
    assert_eq!(due(&place, Due::Returning, at(69)).await, []);
    assert_eq!(due(&place, Due::Returning, at(70)).await, [job.id]);
}

#[tokio::test]
async fn a_failed_job_returns_when_its_backoff_ends() {
    let place = Place::new().await;
    let worker = native(1);
    let job = place.created(new_job()).await;
    let running = place.replaced(&job, claimed(&job, &worker, at(1))).await;
    place.replaced(&running, submitted(&running, &worker.0, failure(true), at(10))).await;
    let ends = at(10).plus(half().of(Duration::from_secs(30)));
    assert_eq!(due(&place, Due::Waiting, at(10_000)).await, []);
    assert_eq!(due(&place, Due::Returning, Timestamp(ends.0 - 1)).await, []);
    assert_eq!(due(&place, Due::Returning, ends).await, [job.id]);
}

#[tokio::test]
async fn a_job_that_was_given_back_waits_at_its_old_rank() {
    let place = Place::new().await;
    let worker = native(1);
    let first = place.created(new_job()).await;
    let second = place.created(Job { created_at: at(5), ..new_job() }).await;
    let running = place.replaced(&first, claimed(&first, &worker, at(6))).await;
    place.replaced(&running, running.release(&worker.0, at(7), half()).unwrap().unwrap()).await;
    assert_eq!(due(&place, Due::Waiting, at(8)).await, [first.id, second.id]);
}

#[tokio::test]
async fn an_ended_job_is_due_never_again_until_it_is_retried() {
    let place = Place::new().await;
    let worker = native(1);
    let far = at(1_000_000);
    for end in [success(), failure(false)] {
        let job = place.created(new_job()).await;
        let running = place.replaced(&job, claimed(&job, &worker, at(1))).await;
        place.replaced(&running, submitted(&running, &worker.0, end, at(2))).await;
    }
    let job = place.created(new_job()).await;
    place.replaced(&job, job.lapse(at(300), half()).unwrap()).await;
    let job = place.created(new_job()).await;
    let cancelled = place.replaced(&job, job.cancel(false, at(1)).unwrap()).await;
    assert_eq!(due(&place, Due::Waiting, far).await, []);
    assert_eq!(due(&place, Due::Returning, far).await, []);
    place.replaced(&cancelled, cancelled.retry(at(9)).unwrap()).await;
    assert_eq!(due(&place, Due::Waiting, far).await, [job.id]);
}

#[tokio::test]
async fn rows_of_other_things_are_no_jobs() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    for pk in ["worker#1", "job#not-an-id"] {
        let mut row = place.row_of(&job).await;
        row.insert("pk".to_owned(), aws_sdk_dynamodb::types::AttributeValue::S(pk.to_owned()));
        place.put_row(row).await;
    }
    assert_eq!(due(&place, Due::Waiting, at(9)).await, [job.id]);
}
