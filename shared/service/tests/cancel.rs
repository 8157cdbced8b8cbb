//! `POST /{id}/cancel`: a caller ends a job, or takes it over.

use api::manage::{CancelRequest, ManageResponse};
use domain::Outcome;
use service::Error;

use crate::support::{Place, caller, caller_of, failure, full_problem, not_found, problem, success};

async fn cancel(place: &Place, id: &str, takeover: bool) -> Result<ManageResponse, Error> {
    place.cancel(&caller(), id, &CancelRequest { takeover }).await
}

fn answered(answer: &ManageResponse) -> (&str, Option<&str>) {
    (&answer.status, answer.continued_by.as_deref())
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_and_given_to_nobody() {
    let place = Place::new().await;
    let id = place.created().await;
    let answer = cancel(&place, &id, false).await.unwrap();
    assert_eq!((answer.job_id.as_str(), answered(&answer)), (id.as_str(), ("cancelled", None)));
    assert_eq!(place.try_claim().await, None);
}

#[tokio::test]
async fn a_running_job_is_cancelled_with_its_attempt() {
    let place = Place::new().await;
    let held = place.claimed().await;
    assert_eq!(answered(&cancel(&place, &held.id, false).await.unwrap()), ("cancelled", None));
    assert_eq!(place.job(&held.id).await.attempts[0].outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn cancelling_again_changes_nothing() {
    let place = Place::new().await;
    let id = place.created().await;
    cancel(&place, &id, false).await.unwrap();
    let before = place.job(&id).await;
    place.pass(1);
    assert_eq!(answered(&cancel(&place, &id, false).await.unwrap()), ("cancelled", None));
    assert_eq!(place.job(&id).await, before);
}

#[tokio::test]
async fn a_job_that_ended_otherwise_is_not_cancelled() {
    let place = Place::new().await;
    let completed = place.claimed().await;
    place.submit(&completed, &success("text")).await.unwrap();
    let failed = place.claimed().await;
    place.submit(&failed, &failure(false)).await.unwrap();
    for (id, status, instead) in [
        (&completed.id, "completed", "its result can be fetched"),
        (&failed.id, "failed", "retry it, or cancel it with `takeover` to convert locally"),
    ] {
        let text = format!("Job {id}: the job is {status} and cannot be cancelled any more; {instead}.");
        assert_eq!(full_problem(cancel(&place, id, false).await), (409, "refused".to_owned(), text));
    }
}

#[tokio::test]
async fn a_takeover_is_remembered_in_every_state_but_completed() {
    let place = Place::new().await;
    let waiting = place.created().await;
    let running = place.claimed_after(&waiting).await;
    let failed = place.claimed_after(&waiting).await;
    place.submit(&failed, &failure(false)).await.unwrap();
    let cancelled = place.created().await;
    cancel(&place, &cancelled, false).await.unwrap();
    for (id, status) in [
        (&waiting, "cancelled"),
        (&running.id, "cancelled"),
        (&failed.id, "failed"),
        (&cancelled, "cancelled"),
    ] {
        for _ in 0..2 {
            let answer = cancel(&place, id, true).await.unwrap();
            assert_eq!(answered(&answer), (status, Some("local")));
        }
    }
    let completed = place.claimed().await;
    place.submit(&completed, &success("text")).await.unwrap();
    let text = format!(
        "Job {}: the job is completed and cannot be cancelled any more; its result can be fetched.",
        completed.id
    );
    assert_eq!(problem(cancel(&place, &completed.id, true).await), (409, text));
}

#[tokio::test]
async fn of_a_result_and_a_takeover_at_once_exactly_one_wins() {
    let place = Place::new().await;
    for _ in 0..20 {
        let held = place.claimed().await;
        let (service, at) = (place.service.clone(), held.clone());
        let taking = tokio::spawn(async move {
            service.cancel(&caller(), &at.id, &CancelRequest { takeover: true }).await.is_ok()
        });
        let submitted = place.submit(&held, &success("text")).await.is_ok();
        let taken = taking.await.unwrap();
        assert_ne!(submitted, taken);
        let job = place.job(&held.id).await;
        assert_eq!((job.status().as_str() == "completed", job.continued_locally), (submitted, taken));
    }
}

#[tokio::test]
async fn who_has_no_such_job_is_told_so() {
    let place = Place::new().await;
    let id = place.created().await;
    let foreign = place.cancel(&caller_of("u", "k"), &id, &CancelRequest::default()).await;
    assert_eq!(problem(foreign), not_found(&id));
    assert_eq!(problem(cancel(&place, "x", false).await), not_found("x"));
    assert_eq!(place.status_of(&id).await, "pending");
}
