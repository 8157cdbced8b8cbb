//! `POST /queues/{content_type}/pause` and `/resume`: no worker claims from a paused queue.

use std::time::Duration;

use api::poll::PollRequest;
use tokio::time::Instant;

use crate::{
    backend::other_dynamodb,
    poll::{Still, held_open, in_process},
    support::{Place, caller, caller_of, field, polling, problem, success},
};

async fn pause(place: &Place) {
    let answer = place.pause_queue(&caller(), "document").await.unwrap();
    assert_eq!((answer.content_type.as_str(), answer.paused), ("document", true));
}

async fn resume(place: &Place) {
    let answer = place.resume_queue(&caller(), "document").await.unwrap();
    assert_eq!((answer.content_type.as_str(), answer.paused), ("document", false));
}

#[tokio::test]
async fn neither_what_waits_nor_what_comes_back_is_claimed_from_a_paused_queue() {
    let place = Place::with(|connection| connection.shards = 4, |_| {}).await;
    let lapsed = place.claimed().await;
    for _ in 0..8 {
        place.created().await;
    }
    place.pass(20);
    pause(&place).await;
    pause(&place).await;
    assert_eq!(place.try_claim().await, None);
    let several = PollRequest { max_jobs: Some(100), ..polling("document") };
    assert!(place.poll(&caller(), &several, true).await.unwrap().jobs.unwrap().is_empty());
    assert!(place.poll(&caller(), &polling("document"), false).await.unwrap().job_id.is_none());
    assert_eq!(place.status_of(&lapsed.id).await, "processing", "the poll touched it");
    resume(&place).await;
    resume(&place).await;
    let jobs = place.poll(&caller(), &several, true).await.unwrap().jobs.unwrap();
    assert_eq!((jobs.len(), jobs.iter().any(|job| job.job_id == lapsed.id)), (9, true));
}

#[tokio::test]
async fn other_types_and_other_tenants_are_not_paused() {
    let place = Place::new().await;
    place.created().await;
    let audio = place.created_with(|request| request.content_type = "audio".parse().unwrap()).await;
    let foreign = caller_of("u", "k");
    let mut theirs = place.request().await;
    theirs.source_file_path = place.uploaded_by("u", "a.pdf").await;
    let theirs = place.create(&foreign, &theirs, None).await.unwrap().job_id;
    pause(&place).await;
    let both = polling("document,audio");
    assert_eq!(place.poll(&caller(), &both, true).await.unwrap().job_id, Some(audio));
    assert_eq!(place.poll(&caller(), &both, true).await.unwrap().job_id, None);
    assert_eq!(place.poll(&foreign, &both, true).await.unwrap().job_id, Some(theirs));
}

#[tokio::test]
async fn what_runs_goes_on_and_what_runs_out_times_out_while_the_queue_is_paused() {
    let place = Place::new().await;
    let late = place.created_with(|request| request.queue_timeout_seconds = Some(60)).await;
    let running = place.claimed_after(&late).await;
    let lapsing = place.claimed_after(&late).await;
    place.heartbeat(&lapsing).await.unwrap();
    pause(&place).await;
    for _ in 0..4 {
        place.pass(15);
        place.heartbeat(&running).await.unwrap();
    }
    let swept = place.swept().await;
    assert_eq!((swept.timed_out, swept.returned), (1, 1));
    assert_eq!(place.status_of(&late).await, "timeout");
    assert_eq!(place.status_of(&lapsing.id).await, "pending");
    assert_eq!(place.submit(&running, &success("text")).await.unwrap(), "completed");
    assert_eq!(place.try_claim().await, None);
}

#[tokio::test]
async fn a_resumed_queue_wakes_the_polls_that_are_held_open() {
    let place = in_process().await;
    let id = place.created().await;
    pause(&place).await;
    let mut still = Still::stand();
    let begin = Instant::now();
    let poll = held_open(&place, 20).await;
    resume(&place).await;
    still.go();
    assert_eq!(poll.await.unwrap().unwrap().job_id, Some(id));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn whether_a_queue_is_paused_is_asked_only_where_there_is_something_to_claim() {
    let place = Place::new().await;
    let read = async || {
        let before = place.store().meter.units().read;
        place.poll(&caller(), &polling("document"), true).await.unwrap();
        place.store().meter.units().read - before
    };
    pause(&place).await;
    // DynamoDB Local counts nothing for a query that finds nothing.
    assert_eq!(read().await, if other_dynamodb().is_some() { 0.0 } else { 1.0 });
    place.created().await;
    assert!(read().await <= 2.0);
}

#[tokio::test]
async fn what_is_no_content_type_is_refused() {
    let place = Place::new().await;
    let text = "is not a content type: use audio, video, document, image, web, youtube, or x- followed by 1 to 48 of a-z, 0-9 and -";
    for name in ["", "documents", "Audio", "a#b"] {
        assert_eq!(problem(place.pause_queue(&caller(), name).await), field("content_type", text));
        assert_eq!(problem(place.resume_queue(&caller(), name).await), field("content_type", text));
    }
    assert!(place.pause_queue(&caller(), "x-own").await.unwrap().paused);
}

#[tokio::test]
async fn a_pause_without_a_table_to_reach_says_so() {
    let service = Place::out_of_reach().await;
    assert_eq!(problem(service.pause_queue(&caller(), "audio").await).0, 503);
    assert_eq!(problem(service.resume_queue(&caller(), "audio").await).0, 503);
}
