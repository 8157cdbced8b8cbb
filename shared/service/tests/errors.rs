//! What a caller is told of an error, and what only the log is.

use api::status::StatusRequest;
use domain::{JobId, Refused, Status};
use service::{Error, Service, SystemWorld, World};
use store::StoreError;
use uuid::Uuid;

use crate::support::{Place, caller, full_problem, polling, request};

const ID: JobId = JobId(Uuid::from_u128(7));

#[test]
fn every_refusal_of_the_domain_is_a_conflict_in_words() {
    let status = Status::Failed;
    for (refused, kind, text) in [
        (Refused::StaleLease { status }, "stale-lease", "no longer holds the job, which is failed"),
        (Refused::NoLeaseToken { status }, "stale-lease", "send the lease_token of the poll's answer"),
        (Refused::RunTimeout { status }, "stale-lease", "has run past its timeout"),
        (Refused::OtherOutcome { status, first: "failed" }, "stale-lease", "already reported as failed"),
        (Refused::NotDue { status }, "refused", "failed and not due for a worker"),
        (Refused::Ended { status }, "refused", "cannot be cancelled any more; retry it"),
        (Refused::NotRetryable { status }, "refused", "only a failed, timed-out or cancelled job"),
        (Refused::TakenOver { status }, "refused", "the caller took it over"),
        (Refused::TooManyAttempts { status, most: 100 }, "refused", "after 100 attempts"),
        (Refused::NotEnded { status: Status::Pending }, "refused", "cancel it first, then delete it"),
    ] {
        let error = Error::Refused(ID, refused);
        assert_eq!((error.retryable(), error.internal_cause()), (false, None));
        assert!(error.problem().job_status.is_some());
        let (status, name, detail) = full_problem(Err::<(), _>(error));
        assert_eq!((status, name.as_str()), (409, kind));
        assert!(detail.starts_with(&format!("Job {ID}: ")) && detail.contains(text), "{detail}");
    }
}

#[test]
fn a_cause_inside_the_server_is_for_the_log_alone() {
    let cause = || "table jobs-7 at 10.0.0.1".to_owned();
    let unavailable = StoreError::Unavailable { operation: "read job", cause: cause() };
    let rejected = StoreError::Rejected { operation: "read job", code: None, message: None, cause: cause() };
    let unreadable = StoreError::Unreadable { what: "row".to_owned(), cause: cause() };
    for (error, retryable, status) in [
        (Error::Store(unavailable), true, 503),
        (Error::Contended(ID), true, 503),
        (Error::Store(rejected), false, 500),
        (Error::Store(unreadable), false, 500),
        (Error::Internal(cause()), false, 500),
    ] {
        let known = error.internal_cause().unwrap();
        assert!(known.contains("10.0.0.1") || known.contains(&ID.to_string()), "{known}");
        let problem = error.problem();
        assert_eq!((error.retryable(), problem.status), (retryable, status));
        assert!(!problem.detail.contains("10.0.0.1"), "{}", problem.detail);
    }
}

#[test]
fn what_is_the_callers_to_know_is_no_internal_cause() {
    for error in [Error::field("a", "is wrong"), Error::NoJob("x".to_owned()), Error::SourceExpired(ID)] {
        assert_eq!((error.internal_cause(), error.retryable()), (None, false));
        assert!(!error.to_string().is_empty());
    }
    let problem = Error::field("parts[2].sha256", "is wrong").problem();
    assert_eq!(
        (problem.detail.as_str(), problem.errors[0].field.as_str()),
        ("`parts[2].sha256` is wrong", "parts[2].sha256")
    );
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_said_to_be_unavailable() {
    let service: Service = Place::out_of_reach().await;
    let id = ID.to_string();
    for refused in [
        full_problem(service.status(&caller(), &id, StatusRequest::default()).await),
        full_problem(service.poll(&caller(), &polling("document"), true).await),
        full_problem(service.create(&caller(), &request(&format!("sources/t/{id}/a.pdf")), None).await),
        full_problem(service.keys().authenticate("0123.secret").await),
    ] {
        let text = "The job store cannot be reached now; repeat the call later.".to_owned();
        assert_eq!(refused, (503, "unavailable".to_owned(), text));
    }
}

#[test]
fn the_machines_clock_goes_on_and_its_jitter_varies() {
    let (first, second) = (SystemWorld.now(), SystemWorld.now());
    assert!(first <= second && first.0 > 1_700_000_000_000);
    let jitters: Vec<_> = (0..10).map(|_| SystemWorld.jitter()).collect();
    assert!(jitters.iter().any(|jitter| *jitter != jitters[0]));
}
