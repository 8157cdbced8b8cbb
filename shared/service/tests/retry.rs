//! `POST /{id}/retry`: a person sends an ended job back to its queue.

use api::manage::CancelRequest;

use crate::support::{Place, caller, caller_of, failure, full_problem, not_found, problem, success};

#[tokio::test]
async fn a_job_that_failed_timed_out_or_was_cancelled_starts_over() {
    let place = Place::new().await;
    let failed = place.claimed().await;
    place.submit(&failed, &failure(false)).await.unwrap();
    let cancelled = place.created().await;
    place.cancel(&caller(), &cancelled, &CancelRequest::default()).await.unwrap();
    let late = place.created_with(|request| request.queue_timeout_seconds = Some(1)).await;
    place.pass(1);
    assert_eq!(place.try_claim().await, None);
    assert_eq!(place.status_of(&late).await, "timeout");
    for id in [failed.id, cancelled, late] {
        let answer = place.retry(&caller(), &id).await.unwrap();
        assert_eq!(
            (answer.job_id, answer.status, answer.continued_by),
            (id.clone(), "pending".to_owned(), None)
        );
        let job = place.job(&id).await;
        assert_eq!((job.retries, job.free_returns), (0, 0));
        assert_eq!(place.claim().await.id, id);
    }
}

#[tokio::test]
async fn a_job_that_has_not_ended_or_is_completed_is_not_retried() {
    let place = Place::new().await;
    let completed = place.claimed().await;
    place.submit(&completed, &success("text")).await.unwrap();
    let running = place.claimed().await;
    let waiting = place.created().await;
    for (id, status, instead) in [
        (waiting, "pending", "cancel it first, or wait for its end"),
        (running.id, "processing", "cancel it first, or wait for its end"),
        (completed.id, "completed", "its result can be fetched"),
    ] {
        let text = format!(
            "Job {id}: the job is {status}; only a failed, timed-out or cancelled job can be retried; {instead}."
        );
        assert_eq!(full_problem(place.retry(&caller(), &id).await), (409, "refused".to_owned(), text));
    }
}

#[tokio::test]
async fn a_job_that_was_taken_over_is_not_retried() {
    let place = Place::new().await;
    let id = place.created().await;
    place.cancel(&caller(), &id, &CancelRequest { takeover: true }).await.unwrap();
    let text = format!(
        "Job {id}: the job is cancelled, and the caller took it over and converted it locally; it cannot be retried, create a new job instead."
    );
    assert_eq!(full_problem(place.retry(&caller(), &id).await), (409, "refused".to_owned(), text));
}

#[tokio::test]
async fn a_job_whose_source_is_gone_is_not_retried() {
    let place = Place::new().await;
    let id = place.created().await;
    place.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap();
    place.expire_objects().await;
    let text =
        format!("The source of job {id} is not stored any more; upload it again and create a new job.");
    assert_eq!(full_problem(place.retry(&caller(), &id).await), (409, "source-expired".to_owned(), text));
}

#[tokio::test]
async fn retries_at_once_start_the_job_over_once() {
    let place = Place::new().await;
    let id = place.created().await;
    place.cancel(&caller(), &id, &CancelRequest::default()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (service, id) = (place.service.clone(), id.clone());
        tasks.spawn(async move { service.retry(&caller(), &id).await.is_ok() });
    }
    assert!(tasks.join_all().await.contains(&true));
    assert_eq!(place.claim().await.id, id);
    assert_eq!(place.try_claim().await, None);
}

#[tokio::test]
async fn who_has_no_such_job_is_told_so() {
    let place = Place::new().await;
    let id = place.created().await;
    assert_eq!(problem(place.retry(&caller_of("u", "k"), &id).await), not_found(&id));
}
