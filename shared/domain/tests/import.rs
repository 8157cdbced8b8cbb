//! Jobs that another system began go on here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod support;

use domain::{
    Attempt, Holder, Imported, Job, LeaseTerms, Outcome, Pending, Refused, State, Status, Timestamp, Wait,
};
use support::{Worker, at, half, new_job, result};

#[test]
fn a_job_that_is_still_to_be_done_waits_from_now_on_and_keeps_its_age() {
    let job = imported(Imported::Open { retries: 2 });
    assert_eq!(job.state, State::Pending(Pending { since: at(1000), wait: Wait::Turn }));
    assert_eq!((job.retries, job.attempts.len(), job.revision), (2, 0, 1));
    assert_eq!((job.created_at, job.opened_at, job.updated_at), (at(0), at(1000), at(1000)));
    assert_eq!((job.due_at(), job.deadline()), (Some(job.rank()), Some(at(1300))));
    for worker in [Worker::native(1), Worker::legacy("k")] {
        assert_eq!(worker.claim(&job, at(1000)).unwrap().attempt_number(), 1);
    }
    assert_eq!(job.lapse(at(1299), half()), None);
}

#[test]
fn a_job_that_had_more_retries_than_it_may_has_none_left() {
    assert_eq!(imported(Imported::Open { retries: 7 }).retries, 3);
}

#[test]
fn an_ended_job_stays_ended_as_it_did() {
    let error = || "why".to_owned();
    for (end, status, retry) in [
        (Imported::Failed { at: at(9), error: error() }, Status::Failed, true),
        (Imported::Timeout { at: at(9), error: error() }, Status::Timeout, true),
        (Imported::Cancelled { at: at(9) }, Status::Cancelled, true),
        (completed(), Status::Completed, false),
    ] {
        let job = imported(end);
        assert_eq!((job.status(), job.ending().unwrap().at), (status, at(9)));
        let error = matches!(status, Status::Failed | Status::Timeout).then_some("why");
        assert_eq!((job.ending().unwrap().error, job.due_at(), job.deadline()), (error, None, None));
        let expected = if retry { Ok(Status::Pending) } else { Err(Refused::NotRetryable { status }) };
        assert_eq!(job.retry(at(1001)).map(|job| job.status()), expected);
    }
}

#[test]
fn a_converted_job_has_the_attempt_that_converted_it_and_its_result() {
    let job = imported(completed());
    assert_eq!(job.state, State::Completed { at: at(9), result: result("r") });
    let attempt = Attempt {
        worker: "gpu-9".parse().unwrap(),
        holder: Holder::Key("importer".parse().unwrap()),
        started_at: at(5),
        ended_at: at(9),
        terms: LeaseTerms::WholeRun,
        outcome: Outcome::Completed,
    };
    assert_eq!(job.attempts, [attempt]);
}

#[test]
fn whatever_is_imported_is_a_job_that_transitions_could_have_produced() {
    for end in [
        Imported::Open { retries: 0 },
        completed(),
        Imported::Failed { at: at(9), error: String::new() },
        Imported::Timeout { at: at(9), error: String::new() },
        Imported::Cancelled { at: at(9) },
    ] {
        for created_at in [at(0), at(1000), at(5000)] {
            let job = import(end.clone(), created_at);
            assert_eq!(job.check(), Ok(()), "{}", job.status());
            assert_eq!(job.created_at, created_at.min(at(1000)), "nothing is created later than now");
        }
    }
}

fn completed() -> Imported {
    Imported::Completed {
        worker: "gpu-9".parse().unwrap(),
        started_at: at(5),
        at: at(9),
        result: result("r"),
    }
}

/// A job that was created elsewhere at `at(0)` and is imported at `at(1000)`.
fn imported(imported: Imported) -> Job {
    import(imported, at(0))
}

fn import(imported: Imported, created_at: Timestamp) -> Job {
    let Job { id, tenant, spec, .. } = new_job();
    Job::import(id, tenant, spec, imported, (created_at, at(1000)), "importer".parse().unwrap())
}
