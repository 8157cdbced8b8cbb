//! `GET /{id}/status` and `GET /{id}/result`.

use std::time::Duration;

use api::{
    manage::CancelRequest,
    result::ReleaseRequest,
    status::{StatusRequest, StatusResponse},
};
use domain::{Bucket, ContentType, Status};
use futures::future::BoxFuture;
use store::Ended;
use tokio::time::Instant;

use crate::{
    poll::{Still, in_process},
    support::{
        Held, Place, at, caller, caller_of, failure, field, full_problem, not_found, polling, problem,
        progress, success,
    },
};

async fn status(place: &Place, id: &str) -> StatusResponse {
    place.status(&caller(), id, StatusRequest::default()).await.unwrap()
}

#[tokio::test]
async fn a_waiting_job_says_since_when_and_until_when_it_waits() {
    let place = Place::new().await;
    place.pass(1);
    let id = place.created().await;
    let text = serde_json::to_value(status(&place, &id).await).unwrap();
    assert_eq!(
        text,
        serde_json::json!({
            "job_id": id,
            "status": "pending",
            "worker_id": null,
            "created_at": at(1),
            "started_at": null,
            "completed_at": null,
            "error_message": null,
            "retry_count": 0,
            "estimated_completion": null,
            "percentage": 0,
            "progress_message": null,
            "summary": null,
            "updated_at": at(1),
            "max_retries": 3,
            "timeout_at": at(86_401),
            "attempts": [],
            "next_attempt_at": null,
            "ingestion_task_id": "task-1",
            "content_type": "document",
        })
    );
}

#[tokio::test]
async fn a_running_job_says_who_runs_it_how_far_it_is_and_when_it_will_be_done() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.pass(10);
    place.report_progress(&caller(), &held.id, held.token(), &progress(25, "page 1")).await.unwrap();
    let now = status(&place, &held.id).await;
    assert_eq!((now.status.as_str(), now.worker_id.as_deref()), ("processing", Some("gpu-1")));
    assert_eq!((now.started_at, now.completed_at, now.timeout_at), (Some(at(0)), None, Some(at(600))));
    assert_eq!((now.percentage, now.progress_message.as_deref()), (25, Some("page 1")));
    assert_eq!(now.summary, now.progress_message);
    assert_eq!(now.estimated_completion, Some(at(40)));
    let [attempt] = &now.attempts[..] else { panic!("one attempt runs") };
    assert_eq!((attempt.attempt, attempt.outcome.as_str(), &attempt.ended_at), (1, "running", &None));
    assert_eq!((attempt.worker_id.as_str(), &attempt.started_at), ("gpu-1", &at(0)));
}

#[tokio::test]
async fn a_completed_job_is_at_100_percent_and_its_result_can_be_fetched() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.pass(10);
    place.report_progress(&caller(), &held.id, held.token(), &progress(25, "page 1")).await.unwrap();
    place.submit(&held, &success("text")).await.unwrap();
    let now = status(&place, &held.id).await;
    assert_eq!((now.status.as_str(), now.percentage), ("completed", 100));
    assert_eq!((now.completed_at, now.timeout_at, now.error_message), (Some(at(10)), None, None));
    assert_eq!((now.worker_id.as_deref(), now.started_at), (Some("gpu-1"), Some(at(0))));
    assert_eq!(now.estimated_completion, None);
    assert_eq!((now.attempts[0].outcome.as_str(), &now.attempts[0].ended_at), ("completed", &Some(at(10))));
    let url = place.result_url(&caller(), &held.id).await.unwrap();
    assert!(url.contains("X-Amz-Expires=300"), "{url}");
    assert_eq!(place.fetched(&url).await.0, 200);
}

#[tokio::test]
async fn a_job_whose_attempt_failed_says_why_and_when_the_next_one_is() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.submit(&held, &failure(true)).await.unwrap();
    let now = status(&place, &held.id).await;
    assert_eq!((now.status.as_str(), now.retry_count), ("pending", 1));
    assert_eq!(now.error_message.as_deref(), Some("no text in it"));
    assert_eq!((now.next_attempt_at, now.completed_at), (Some(at(15)), None));
    assert_eq!(now.attempts[0].error.as_deref(), Some("no text in it"));
    place.pass(15);
    let held = place.claim().await;
    place.submit(&held, &failure(false)).await.unwrap();
    let now = status(&place, &held.id).await;
    assert_eq!((now.status.as_str(), now.error_message.as_deref()), ("failed", Some("no text in it")));
    assert_eq!((now.next_attempt_at, now.completed_at), (None, Some(at(15))));
    assert_eq!(now.attempts.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn every_way_an_attempt_can_end_has_its_name() {
    let place = Place::new().await;
    let id = place.created_with(|request| request.max_retries = Some(20)).await;
    let last = async || {
        let now = status(&place, &id).await;
        (now.attempts.last().unwrap().outcome.clone(), now.error_message)
    };
    let named = |outcome: &str, error: Option<&str>| (outcome.to_owned(), error.map(str::to_owned));

    let held = place.claim().await;
    place.release(&caller(), &id, held.token(), &ReleaseRequest::default()).await.unwrap();
    assert_eq!(last().await, named("released", None));

    place.claim().await;
    place.pass(20);
    sweep(&place).await;
    assert_eq!(last().await, named("never-heard-of", None));

    let held = place.claim().await;
    place.heartbeat(&held).await.unwrap();
    place.pass(60);
    sweep(&place).await;
    assert_eq!(last().await, named("lapsed", Some("the last attempt's worker stopped reporting")));

    place.claim_as_original().await;
    place.pass(600);
    sweep(&place).await;
    assert_eq!(last().await, named("timed-out", Some("the last attempt ran past its timeout")));

    place.pass(30);
    let held = place.claim().await;
    place.submit(&held, &failure(true)).await.unwrap();
    assert_eq!(last().await, named("failed", Some("no text in it")));

    place.pass(60);
    place.claim().await;
    assert_eq!(last().await.0, "running");
    place.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap();
    assert_eq!(last().await, named("cancelled", None));

    place.retry(&caller(), &id).await.unwrap();
    let held = place.claim().await;
    place.submit(&held, &success("text")).await.unwrap();
    assert_eq!(last().await, named("completed", None));
}

async fn sweep(place: &Place) {
    place.sweep(Instant::now() + std::time::Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn a_job_that_timed_out_says_which_limit_ran_out() {
    let place = Place::new().await;
    let queue = place.created_with(|request| request.queue_timeout_seconds = Some(60)).await;
    let total = place
        .created_with(|request| {
            request.total_timeout_seconds = Some(100);
            request.content_type = "audio".parse().unwrap();
        })
        .await;
    let run = place
        .created_with(|request| {
            request.timeout_seconds = Some(50);
            request.max_retries = Some(0);
            request.priority = Some(api::create::PriorityName::High);
        })
        .await;
    assert_eq!(place.claim_as_original().await.id, run);
    place.pass(100);
    sweep(&place).await;
    for (id, text) in [
        (queue, "no worker took this document job within its queue timeout of 60 s"),
        (total, "the job did not end within its total timeout of 100 s"),
        (
            run,
            "worker gpu-1 did not finish within the run timeout of 50 s; no retry is left after 1 attempts",
        ),
    ] {
        let now = status(&place, &id).await;
        assert_eq!((now.status.as_str(), now.error_message.as_deref()), ("timeout", Some(text)));
        assert_eq!(now.completed_at, Some(at(100)));
    }
}

#[tokio::test]
async fn a_job_that_is_not_completed_has_no_result() {
    let place = Place::new().await;
    let waiting = place.created().await;
    let cancelled = place.created().await;
    place.cancel(&caller(), &cancelled, &CancelRequest::default()).await.unwrap();
    let running = place.claimed_after(&waiting).await;
    for (id, text) in [
        (&waiting, format!("Job {waiting} is pending; it has no result yet, wait for its end.")),
        (&running.id, format!("Job {} is processing; it has no result yet, wait for its end.", running.id)),
        (
            &cancelled,
            format!("Job {cancelled} ended as cancelled; it has no result, retry it or convert locally."),
        ),
    ] {
        let refused = place.result_url(&caller(), id).await;
        let status = refused.as_ref().map_err(|error| error.problem().job_status);
        assert_eq!(status, Err(Some(place.status_of(id).await)));
        assert_eq!(full_problem(refused), (409, "refused".to_owned(), text));
    }
}

#[tokio::test]
async fn who_has_no_such_job_is_told_so() {
    let place = Place::new().await;
    let id = place.created().await;
    let foreign = caller_of("u", "k");
    assert_eq!(problem(place.status(&foreign, &id, StatusRequest::default()).await), not_found(&id));
    assert_eq!(problem(place.result_url(&foreign, &id).await), not_found(&id));
    let unknown = uuid::Uuid::now_v7().to_string();
    assert_eq!(
        problem(place.status(&caller(), &unknown, StatusRequest::default()).await),
        not_found(&unknown)
    );
    assert_eq!(problem(place.status(&caller(), "../x", StatusRequest::default()).await), not_found("../x"));
}

fn waiting(seconds: u64) -> StatusRequest {
    StatusRequest { wait_seconds: Some(seconds) }
}

/// A call for a job's status that is held open, having looked once.
async fn held_open(
    place: &Place,
    id: &str,
    seconds: u64,
) -> tokio::task::JoinHandle<Result<StatusResponse, service::Error>> {
    let before = place.store().meter.units().read;
    let (service, id) = (place.service.clone(), id.to_owned());
    let call = tokio::spawn(async move { service.status(&caller(), &id, waiting(seconds)).await });
    while place.store().meter.units().read < before + 1.0 {
        tokio::task::yield_now().await;
    }
    call
}

#[tokio::test]
async fn every_way_a_job_can_end_is_told_at_once_to_who_waits_for_it() {
    let place = in_process().await;
    type End = fn(&Place, Held) -> BoxFuture<'_, ()>;
    let ends: [(&str, End); 4] = [
        ("completed", |place, held| {
            Box::pin(async move { drop(place.submit(&held, &success("text")).await.unwrap()) })
        }),
        ("failed", |place, held| {
            Box::pin(async move { drop(place.submit(&held, &failure(false)).await.unwrap()) })
        }),
        ("cancelled", |place, held| {
            Box::pin(async move {
                drop(place.cancel(&caller(), &held.id, &CancelRequest::default()).await.unwrap())
            })
        }),
        ("timeout", |place, held| {
            Box::pin(async move {
                place.heartbeat(&held).await.unwrap();
                place.pass(600);
                place.swept().await;
            })
        }),
    ];
    for (status, end) in ends {
        place.created_with(|request| request.max_retries = Some(0)).await;
        let held = place.claim().await;
        let mut still = Still::stand();
        let begin = Instant::now();
        let call = held_open(&place, &held.id, 20).await;
        end(&place, held).await;
        still.go();
        let told = call.await.unwrap().unwrap();
        assert_eq!((told.status.as_str(), told.poll_again_in_seconds), (status, None));
        assert_eq!(begin.elapsed(), Duration::ZERO, "{status}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn the_end_of_another_job_ends_no_wait() {
    let place = in_process().await;
    let id = place.created_with(|request| request.content_type = "audio".parse().unwrap()).await;
    let other = place.claimed().await;
    let mut still = Still::stand();
    let begin = Instant::now();
    let call = held_open(&place, &id, 5).await;
    place.submit(&other, &success("text")).await.unwrap();
    still.go();
    let told = call.await.unwrap().unwrap();
    assert_eq!((told.status.as_str(), told.poll_again_in_seconds), ("pending", Some(0)));
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn an_end_at_another_server_is_found_by_looking_again() {
    let place = in_process().await;
    let id = place.created().await;
    let other = place.another().await;
    let mut still = Still::stand();
    let begin = Instant::now();
    let call = held_open(&place, &id, 20).await;
    other.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap();
    still.go();
    assert_eq!(call.await.unwrap().unwrap().status, "cancelled");
    assert!(begin.elapsed() <= Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_job_that_has_ended_is_told_at_once() {
    let place = in_process().await;
    let id = place.created().await;
    place.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap();
    tokio::time::pause();
    let begin = Instant::now();
    let told = place.status(&caller(), &id, waiting(20)).await.unwrap();
    assert_eq!((told.status.as_str(), told.poll_again_in_seconds), ("cancelled", None));
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_job_that_was_deleted_meanwhile_is_not_found() {
    let place = in_process().await;
    let id = place.created().await;
    let other = place.another().await;
    let mut still = Still::stand();
    let call = held_open(&place, &id, 20).await;
    other.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap();
    other.delete(&caller(), &id).await.unwrap();
    still.go();
    assert_eq!(problem(call.await.unwrap()), not_found(&id));
}

#[tokio::test]
async fn a_server_that_stops_lets_go_of_who_waits_and_holds_nobody_any_more() {
    let place = in_process().await;
    let id = place.created().await;
    let mut still = Still::stand();
    let begin = Instant::now();
    let call = held_open(&place, &id, 20).await;
    place.drain();
    still.go();
    assert_eq!(call.await.unwrap().unwrap().status, "pending");
    place.status(&caller(), &id, waiting(20)).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn where_waiting_costs_money_who_waits_is_told_when_to_ask_again() {
    let place = Place::in_process(|_| {}).await;
    let id = place.created().await;
    tokio::time::pause();
    let begin = Instant::now();
    for (wait, again) in [(Some(20), Some(10)), (Some(1), Some(10)), (Some(0), None), (None, None)] {
        let told = place.status(&caller(), &id, StatusRequest { wait_seconds: wait }).await.unwrap();
        assert_eq!(told.poll_again_in_seconds, again, "{wait:?}");
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn nobody_waits_longer_than_twenty_seconds() {
    let place = in_process().await;
    let id = place.created().await;
    for seconds in [21, u64::MAX] {
        let refused = place.status(&caller(), &id, waiting(seconds)).await;
        assert_eq!(problem(refused), field("wait_seconds", "must be 0 to 20"));
    }
    tokio::time::pause();
    let begin = Instant::now();
    place.status(&caller(), &id, waiting(20)).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 20);
}

/// Counts so many conversions of documents of this size that took so many seconds.
async fn took(place: &Place, conversions: usize, size: u64, seconds: u64) {
    for _ in 0..conversions {
        let ended = Ended {
            tenant: &caller().tenant,
            content_type: &ContentType::Document,
            at: place.now(),
            status: Status::Completed,
            conversion: Some(Bucket::of(size, Duration::from_secs(seconds))),
        };
        place.store().statistics.count(&ended).await.unwrap();
    }
}

/// In how many seconds from the test's beginning the job will be done, as it is estimated now.
async fn estimate(place: &Place, id: &str) -> Option<f64> {
    let at = status(place, id).await.estimated_completion?;
    let begin = api::moment(&crate::support::at(0)).unwrap();
    Some(api::moment(&at).unwrap().since(begin).as_secs_f64())
}

fn about(estimate: Option<f64>, from: f64, to: f64) {
    assert!(
        estimate.is_some_and(|seconds| (from..=to).contains(&seconds)),
        "{estimate:?} is not {from} to {to}"
    );
}

/// The size of the sources that the tests upload.
const SIZE: u64 = 5;

#[tokio::test]
async fn before_any_progress_the_estimate_is_what_conversions_of_this_size_took() {
    let place = Place::new().await;
    took(&place, 9, SIZE, 100).await;
    // Neither other sizes nor other types have a say.
    took(&place, 100, SIZE * 1000, 5000).await;
    let held = place.claimed().await;
    about(estimate(&place, &held.id).await, 90.0, 129.0);
    let audio = place.created_with(|request| request.content_type = ContentType::Audio).await;
    place.poll(&caller(), &polling("audio"), true).await.unwrap();
    assert_eq!(estimate(&place, &audio).await, None);
}

#[tokio::test]
async fn what_has_run_longer_than_most_is_measured_by_the_slower_ones() {
    let place = Place::new().await;
    took(&place, 90, SIZE, 10).await;
    took(&place, 10, SIZE, 400).await;
    let held = place.claimed().await;
    about(estimate(&place, &held.id).await, 5.0, 12.0);
    place.pass(15);
    about(estimate(&place, &held.id).await, 362.0, 513.0);
    place.heartbeat(&held).await.unwrap();
    place.pass(580);
    // Longer than any: only its own progress is left, which says that it is 10 % done after 15 seconds.
    assert_eq!(estimate(&place, &held.id).await, Some(595.0), "an estimate in the past");
}

#[tokio::test]
async fn the_further_a_job_is_the_more_its_own_progress_counts() {
    let place = Place::new().await;
    took(&place, 100, SIZE, 1000).await;
    let held = place.claimed().await;
    place.pass(10);
    let mut estimates = vec![estimate(&place, &held.id).await.unwrap()];
    for percentage in [10, 50, 90, 100] {
        let said = progress(percentage, "at it");
        place.report_progress(&caller(), &held.id, held.token(), &said).await.unwrap();
        estimates.push(estimate(&place, &held.id).await.unwrap());
    }
    // Its own word alone would be 100, 20, 11 and 10 seconds.
    assert!(estimates[0] > 724.0, "{estimates:?}");
    let others = estimates[0];
    let blends = [(0.1, 100.0), (0.5, 20.0), (0.9, 100.0 / 9.0), (1.0, 10.0)];
    for (told, (share, own)) in estimates[1..].iter().zip(blends) {
        let blend = own * share + others * (1.0 - share);
        assert!((told - blend).abs() < 0.01, "{told} is not {blend}");
    }
}

#[tokio::test]
async fn what_waits_or_has_ended_is_not_estimated() {
    let place = Place::new().await;
    took(&place, 9, SIZE, 100).await;
    let held = place.claimed().await;
    let waiting = place.created().await;
    assert_eq!(estimate(&place, &waiting).await, None);
    place.submit(&held, &failure(true)).await.unwrap();
    assert_eq!(estimate(&place, &held.id).await, None);
    let held = place.claim().await;
    place.submit(&held, &success("text")).await.unwrap();
    assert_eq!(estimate(&place, &held.id).await, None);
}

#[tokio::test]
async fn history_is_read_once_a_minute() {
    let place = Place::new().await;
    took(&place, 1, SIZE, 100).await;
    let held = place.claimed().await;
    about(estimate(&place, &held.id).await, 90.0, 129.0);
    took(&place, 99, SIZE, 1000).await;
    about(estimate(&place, &held.id).await, 90.0, 129.0);
    place.pass(60);
    about(estimate(&place, &held.id).await, 724.0, 1025.0);
}
