//! What [`Job::check`] refuses: jobs made by hand that no sequence of transitions produces.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod support;

use std::time::Duration;

use domain::{Inconsistent, Job, LeaseTerms, MAX_ATTEMPTS, State, Submission, Submitted};
use support::{Worker, at, half, new_job, result};

#[test]
fn jobs_that_transitions_produce_pass() {
    let taken_over = running().cancel(true, at(3)).unwrap();
    for job in [new_job(), running(), completed(), taken_over] {
        assert_eq!(job.check(), Ok(()), "{}", job.status());
    }
}

#[test]
fn a_revision_of_zero_is_refused() {
    assert_refused(&Job { revision: 0, ..new_job() }, "revision 0");
}

#[test]
fn more_attempts_than_a_job_can_have_are_refused() {
    let attempt = running().cancel(false, at(2)).unwrap().attempts.remove(0);
    let full = Job { attempts: vec![attempt.clone(); MAX_ATTEMPTS], ..new_job() };
    assert_refused(
        &Job { attempts: vec![attempt; MAX_ATTEMPTS + 1], ..new_job() },
        "more attempts than a job can have",
    );
    assert_refused(&Job { state: running().state, ..full.clone() }, "more attempts than a job can have");
    let ended = Job { state: State::Cancelled { at: at(2) }, ..full };
    assert_eq!(ended.check(), Ok(()));
}

#[test]
fn a_completed_job_without_a_completed_attempt_is_refused() {
    assert_refused(&Job { attempts: Vec::new(), ..completed() }, "completed attempts do not fit the status");
}

#[test]
fn a_completed_attempt_of_a_job_that_is_not_completed_is_refused() {
    assert_refused(
        &Job { attempts: completed().attempts, ..running() },
        "completed attempts do not fit the status",
    );
}

#[test]
fn two_completed_attempts_are_refused() {
    let mut job = completed();
    job.attempts.push(job.attempts[0].clone());
    assert_refused(&job, "completed attempts do not fit the status");
}

#[test]
fn a_completed_attempt_that_is_not_the_last_is_refused() {
    let mut job = completed();
    job.attempts.extend(running().cancel(false, at(2)).unwrap().attempts);
    assert_refused(&job, "completed by an attempt that is not the last");
}

#[test]
fn a_job_both_completed_and_taken_over_is_refused() {
    assert_refused(
        &Job { continued_locally: true, ..completed() },
        "both completed remotely and continued locally",
    );
}

#[test]
fn a_job_that_was_taken_over_and_goes_on_is_refused() {
    for job in [new_job(), running()] {
        assert_refused(&Job { continued_locally: true, ..job }, "continued locally and not ended");
    }
}

#[test]
fn a_token_that_holds_a_whole_run_and_a_key_that_holds_a_renewed_lease_are_refused() {
    let token = Worker { terms: LeaseTerms::WholeRun, ..Worker::native(1) };
    let key = Worker { terms: LeaseTerms::DEFAULT, ..Worker::legacy("k") };
    for worker in [token, key] {
        assert_refused(&worker.claim(&new_job(), at(1)).unwrap(), "lease terms do not fit the holder");
    }
}

#[test]
fn a_job_opened_before_it_was_created_is_refused() {
    let opened_at = at(0).minus(Duration::from_millis(1));
    assert_refused(&Job { opened_at, ..new_job() }, "opened before it was created");
}

fn assert_refused(job: &Job, rule: &'static str) {
    assert_eq!(job.check(), Err(Inconsistent(rule)));
    assert_eq!(Inconsistent(rule).to_string(), format!("inconsistent job: {rule}"));
}

fn running() -> Job {
    Worker::native(1).claim(&new_job(), at(1)).unwrap()
}

fn completed() -> Job {
    let submission = Submission::Completed(result("r"));
    match running().submit(&Worker::native(1).credential, submission, at(2), half()) {
        Ok(Submitted::Accepted(job)) => *job,
        other => panic!("not accepted: {other:?}"),
    }
}
