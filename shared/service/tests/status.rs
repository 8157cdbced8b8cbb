//! `GET /{id}/status` and `GET /{id}/result`.

use api::{manage::CancelRequest, result::ReleaseRequest, status::StatusResponse};
use tokio::time::Instant;

use crate::support::{
    Place, at, caller, caller_of, failure, full_problem, not_found, problem, progress, success,
};

async fn status(place: &Place, id: &str) -> StatusResponse {
    place.status(&caller(), id).await.unwrap()
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
        (&waiting, format!("Job {waiting} is pending; it has no result yet.")),
        (&running.id, format!("Job {} is processing; it has no result yet.", running.id)),
        (&cancelled, format!("Job {cancelled} ended as cancelled; it has no result.")),
    ] {
        let refused = full_problem(place.result_url(&caller(), id).await);
        assert_eq!(refused, (409, "refused".to_owned(), text));
    }
}

#[tokio::test]
async fn who_has_no_such_job_is_told_so() {
    let place = Place::new().await;
    let id = place.created().await;
    let foreign = caller_of("u", "k");
    assert_eq!(problem(place.status(&foreign, &id).await), not_found(&id));
    assert_eq!(problem(place.result_url(&foreign, &id).await), not_found(&id));
    let unknown = uuid::Uuid::now_v7().to_string();
    assert_eq!(problem(place.status(&caller(), &unknown).await), not_found(&unknown));
    assert_eq!(problem(place.status(&caller(), "../x").await), not_found("../x"));
}
