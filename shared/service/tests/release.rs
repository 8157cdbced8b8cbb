//! `POST /{id}/release`: a worker gives a job back.

use api::{result::ReleaseRequest, status::StatusRequest};
use domain::Outcome;

use crate::support::{Held, Place, caller, caller_of, full_problem, not_found, problem, stale, success};

async fn release(place: &Place, held: &Held) -> Result<String, service::Error> {
    let request = ReleaseRequest { reason: Some("the lid was closed ".repeat(99)) };
    place.release(&caller(), &held.id, held.token(), &request).await.map(|answer| answer.status)
}

#[tokio::test]
async fn a_released_job_is_back_in_its_queue_at_its_place_and_no_retry_is_spent() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.pass(1);
    place.created().await;
    assert_eq!(release(&place, &held).await.unwrap(), "pending");
    let job = place.job(&held.id).await;
    assert_eq!((job.retries, job.free_returns, &job.attempts[0].outcome), (0, 1, &Outcome::Released));
    assert_eq!(place.claim().await.id, held.id);
}

#[tokio::test]
async fn a_release_that_is_repeated_changes_nothing() {
    let place = Place::new().await;
    let held = place.claimed().await;
    release(&place, &held).await.unwrap();
    let before = place.job(&held.id).await;
    assert_eq!(release(&place, &held).await.unwrap(), "pending");
    assert_eq!(place.job(&held.id).await, before);
    let next = place.claim().await;
    assert_eq!(release(&place, &held).await.unwrap(), "processing");
    assert!(place.heartbeat(&next).await.is_ok(), "the next worker's job was given back");
}

#[tokio::test]
async fn who_released_a_job_holds_it_no_more() {
    let place = Place::new().await;
    let held = place.claimed().await;
    release(&place, &held).await.unwrap();
    assert_eq!(full_problem(place.submit(&held, &success("")).await), stale(&held.id, "pending"));
    assert_eq!(full_problem(place.heartbeat(&held).await), stale(&held.id, "pending"));
}

#[tokio::test]
async fn only_the_holder_releases_a_job() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let other = Held { token: Some("other".to_owned()), ..held.clone() };
    assert_eq!(full_problem(release(&place, &other).await), stale(&held.id, "processing"));
    let foreign =
        place.release(&caller_of("u", "k"), &held.id, held.token(), &ReleaseRequest::default()).await;
    assert_eq!(problem(foreign), not_found(&held.id));
}

#[tokio::test]
async fn a_job_that_is_given_back_over_and_over_spends_its_retries_and_ends() {
    let place = Place::new().await;
    let id = place.created_with(|request| request.max_retries = Some(1)).await;
    for _ in 0..20 {
        let held = place.claim().await;
        assert_eq!(release(&place, &held).await.unwrap(), "pending");
    }
    let held = place.claim().await;
    assert_eq!(release(&place, &held).await.unwrap(), "pending");
    assert_eq!(place.job(&id).await.retries, 1);
    assert_eq!(place.try_claim().await, None, "no backoff");
    place.pass(15);
    let held = place.claim().await;
    assert_eq!(release(&place, &held).await.unwrap(), "timeout");
    let error = place.status(&caller(), &id, StatusRequest::default()).await.unwrap().error_message.unwrap();
    assert_eq!(
        error,
        "the job was given back or lost by its workers too often; no retry is left after 22 attempts"
    );
}
