//! The finer rules of a job's life: what a lease is worth, what costs a retry, which limit ends what.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod support;

use std::time::Duration;

use domain::{
    Attempt, ContentType, Jitter, Job, LeaseTerms, MAX_ATTEMPTS, MAX_FREE_RETURNS, Outcome, Pending,
    Priority, Progress, Refused, State, Status, Submission, Submitted, Timestamp, Wait,
};
use support::{Worker, at, half, new_job, result};

#[test]
fn a_native_claim_stands_20_seconds_until_the_first_sign_of_life_which_grants_the_whole_lease() {
    let worker = Worker::native(1);
    let claimed = worker.claim(&new_job(), at(0)).unwrap();
    assert_eq!(lease_end(&claimed), at(20));
    let renewal = claimed.heartbeat(&worker.credential, None, at(1)).unwrap();
    assert!(renewal.renewed);
    assert_eq!(lease_end(&renewal.job), at(61));
}

#[test]
fn a_heartbeat_renews_only_below_two_thirds_of_the_lease() {
    let worker = Worker::native(1);
    let job = alive(&worker.claim(&new_job(), at(0)).unwrap(), &worker, at(0));
    let with_40_seconds_left = job.heartbeat(&worker.credential, None, at(20)).unwrap();
    assert!(!with_40_seconds_left.renewed);
    assert_eq!(lease_end(&with_40_seconds_left.job), at(60));
    let a_moment_later =
        job.heartbeat(&worker.credential, None, at(20).plus(Duration::from_millis(1))).unwrap();
    assert!(a_moment_later.renewed);
    assert_eq!(lease_end(&a_moment_later.job), at(80).plus(Duration::from_millis(1)));
}

#[test]
fn the_first_sign_of_life_counts_even_when_the_lease_is_as_short_as_the_first_term() {
    let worker = Worker { terms: LeaseTerms::Renewed(LeaseTerms::FIRST_TERM), ..Worker::native(1) };
    let claimed = worker.claim(&new_job(), at(0)).unwrap();
    let job = alive(&claimed, &worker, at(0));
    assert!(job.running().unwrap().confirmed);
    assert_eq!(job.lapse(at(20), half()).unwrap().attempts[0].outcome, Outcome::Lapsed);
}

#[test]
fn a_heartbeat_that_renews_nothing_changes_progress_alone() {
    let worker = Worker::native(1);
    let job = alive(&worker.claim(&new_job(), at(0)).unwrap(), &worker, at(0));
    let after = job.heartbeat(&worker.credential, Some(percent(40)), at(5)).unwrap().job;
    assert_eq!(after, Job { progress: Some(percent(40)), updated_at: at(5), ..job });
}

#[test]
fn progress_stays_until_the_worker_says_something_else_or_another_attempt_begins() {
    let worker = Worker::native(1);
    let claimed = worker.claim(&new_job(), at(0)).unwrap();
    let told = claimed.heartbeat(&worker.credential, Some(percent(40)), at(1)).unwrap().job;
    let silent = alive(&told, &worker, at(2));
    assert_eq!(silent.progress, Some(percent(40)));
    let released = released(&silent, &worker, at(3));
    assert_eq!(released.progress, Some(percent(40)));
    assert_eq!(Worker::native(2).claim(&released, at(4)).unwrap().progress, None);
}

#[test]
fn an_attempt_past_its_run_timeout_cannot_go_on_but_its_result_counts() {
    let worker = Worker::native(1);
    let job = worker.claim(&new_job(), at(0)).unwrap();
    assert_eq!(job.heartbeat(&worker.credential, None, at(600)), Err(run_timeout(Status::Processing)));
    assert_eq!(completed(&job, &worker, at(600)).status(), Status::Completed);
}

#[test]
fn a_result_that_comes_after_the_run_timeout_counts_while_nobody_took_the_job_and_gives_the_retry_back() {
    let (late, other) = (Worker::native(1), Worker::native(2));
    let running = alive(&late.claim(&new_job(), at(0)).unwrap(), &late, at(590));
    let ended = running.lapse(at(600), half()).unwrap();
    assert_eq!((&ended.attempts[0].outcome, ended.retries), (&Outcome::TimedOut, 1));

    assert_eq!(ended.holds(&late.credential), Ok(()));
    assert_eq!(ended.may_submit(&late.credential, true), Ok(None));
    let done = completed(&ended, &late, at(601));
    assert_eq!((done.status(), done.attempt_number(), done.retries), (Status::Completed, 1, 0));
    let failed = submitted(&ended, &late, failure(true), at(601));
    assert_eq!((waits(&failed).since, failed.retries), (at(616), 1));

    assert_eq!(ended.heartbeat(&late.credential, None, at(601)), Err(run_timeout(Status::Pending)));
    assert_stale(&other.claim(&ended, at(615)).unwrap(), &late, at(616));
    let exhausted = Job { retries: 3, ..running }.lapse(at(600), half()).unwrap();
    assert_eq!(exhausted.status(), Status::Timeout);
    assert_stale(&exhausted, &late, at(601));
}

#[test]
fn a_lease_ends_with_the_run_at_the_latest() {
    let worker = Worker::native(1);
    let job = alive(&worker.claim(&new_job(), at(0)).unwrap(), &worker, at(590));
    assert_eq!(lease_end(&job), at(650));
    assert_eq!(job.due_at(), Some(at(600)));
    assert_eq!(job.deadline(), Some(at(600)));
}

#[test]
fn a_legacy_lease_lasts_the_run_timeout_whether_its_client_is_heard_of_or_not() {
    let worker = Worker::legacy("k");
    let job = worker.claim(&new_job(), at(0)).unwrap();
    assert_eq!(lease_end(&job), at(600));
    let renewal = job.heartbeat(&worker.credential, Some(percent(1)), at(599)).unwrap();
    assert!(!renewal.renewed);
    assert_eq!(lease_end(&renewal.job), at(600));
    assert_eq!(renewal.job.lapse(at(599), half()), None);
    let over = renewal.job.lapse(at(600), half()).unwrap();
    assert_eq!(over.attempts[0].outcome, Outcome::TimedOut);
}

#[test]
fn a_legacy_attempt_is_its_keys_alone_and_only_without_a_token() {
    let worker = Worker::legacy("k");
    let job = worker.claim(&new_job(), at(0)).unwrap();
    assert!(job.running().unwrap().holder.is(&worker.credential));
    let with_a_token = Worker::native(1);
    assert_eq!(with_a_token.credential.key, worker.credential.key);
    for other in [with_a_token, Worker::legacy("another")] {
        assert_stale(&job, &other, at(1));
    }
}

#[test]
fn a_native_attempt_is_its_tokens_alone_under_whatever_key() {
    let worker = Worker::native(1);
    let job = worker.claim(&new_job(), at(0)).unwrap();
    let mut under_another_key = worker.clone();
    under_another_key.credential.key = "rotated".parse().unwrap();
    assert!(job.heartbeat(&under_another_key.credential, None, at(1)).is_ok());
    assert_stale(&job, &Worker::native(2), at(1));
}

#[test]
fn who_forgets_the_token_of_a_lease_is_told_so_as_long_as_the_lease_runs() {
    let (worker, forgetful) = (Worker::native(1), Worker::legacy("k"));
    let job = worker.claim(&new_job(), at(0)).unwrap();
    let forgotten = Refused::NoLeaseToken { status: Status::Processing };
    assert_refused(&job, &forgetful, at(1), &forgotten);
    assert_stale(&released(&job, &worker, at(1)), &forgetful, at(2));
    assert_stale(&completed(&job, &worker, at(1)), &forgetful, at(2));
    assert_stale(&Worker::legacy("another").claim(&new_job(), at(0)).unwrap(), &forgetful, at(1));
}

#[test]
fn a_lapsed_worker_goes_on_with_its_attempt_where_nobody_took_the_job_and_gets_the_retry_back() {
    let worker = Worker::native(1);
    let lapsed = lapse_of(&worker, &new_job(), at(0));
    assert_eq!((lapsed.retries, lapsed.attempt_number()), (1, 1));
    let renewal = lapsed.heartbeat(&worker.credential, None, at(70)).unwrap();
    assert!(renewal.renewed);
    let job = renewal.job;
    assert_eq!((job.retries, job.attempt_number()), (0, 1));
    let running = job.running().unwrap();
    assert_eq!((running.started_at, running.lease_ends_at, running.confirmed), (at(0), at(130), true));
}

#[test]
fn a_lapsed_worker_that_goes_on_has_a_lease_again_also_when_the_clock_was_set_back() {
    let worker = Worker::native(1);
    let lapsed = lapse_of(&worker, &new_job(), at(0));
    let renewal = lapsed.heartbeat(&worker.credential, None, at(1)).unwrap();
    assert!(renewal.renewed);
    assert_eq!(renewal.job.revision, lapsed.revision + 1);
    assert_eq!(lease_end(&renewal.job), at(61));
}

#[test]
fn a_lapsed_worker_cannot_go_on_past_its_run_timeout() {
    let worker = Worker::native(1);
    let mut job = new_job();
    job.spec.limits.queue = Duration::from_secs(10_000);
    let lapsed = lapse_of(&worker, &job, at(0));
    assert_eq!(lapsed.heartbeat(&worker.credential, None, at(600)), Err(run_timeout(Status::Pending)));
}

#[test]
fn a_lapsed_worker_is_refused_everything_once_another_took_the_job() {
    let (late, other) = (Worker::native(1), Worker::native(2));
    let taken = other.claim(&lapse_of(&late, &new_job(), at(0)), at(70)).unwrap();
    assert_stale(&taken, &late, at(71));
    assert_stale(&released(&taken, &other, at(72)), &late, at(73));
    assert_stale(&completed(&taken, &other, at(72)), &late, at(73));
}

#[test]
fn a_worker_that_was_never_heard_of_and_comes_late_gives_back_just_what_its_lapse_cost() {
    let worker = Worker::native(1);
    let lapse = |job: &Job| worker.claim(job, at(0)).unwrap().lapse(at(20), half()).unwrap();
    let back = |job: &Job| {
        let job = alive(job, &worker, at(21));
        (job.retries, job.free_returns)
    };

    let free = lapse(&new_job());
    assert_eq!((free.retries, free.free_returns), (0, 1));
    assert_eq!(back(&free), (0, 0));

    let mut spent = new_job();
    spent.free_returns = MAX_FREE_RETURNS;
    let paid = lapse(&spent);
    assert_eq!((paid.retries, paid.free_returns), (1, MAX_FREE_RETURNS));
    assert_eq!(back(&paid), (0, MAX_FREE_RETURNS));
}

#[test]
fn a_lapsed_worker_goes_on_even_after_the_job_timed_out_in_the_queue_and_was_retried_by_hand() {
    let worker = Worker::native(1);
    let waited = lapse_of(&worker, &new_job(), at(0)).lapse(at(360), half()).unwrap();
    assert_stale(&waited, &worker, at(361));
    let retried = waited.retry(at(362)).unwrap();
    let job = alive(&retried, &worker, at(363));
    assert_eq!((job.attempt_number(), job.retries), (1, 0));
}

#[test]
fn the_first_lapse_is_taken_over_at_once_and_later_ones_after_a_backoff() {
    let first = lapse_of(&Worker::native(1), &new_job(), at(0));
    assert_eq!((waits(&first), first.retries), (Pending { since: at(60), wait: Wait::Turn }, 1));
    let second = lapse_of(&Worker::native(2), &first, at(60));
    assert_eq!((waits(&second), second.retries), (Pending { since: at(150), wait: Wait::Backoff }, 2));
    let third = lapse_of(&Worker::native(3), &second, at(150));
    assert_eq!((waits(&third), third.retries), (Pending { since: at(270), wait: Wait::Backoff }, 3));
    let last = lapse_of(&Worker::native(4), &third, at(270));
    assert_eq!(
        error(&last),
        "worker gpu-1 stopped reporting and its lease ended; no retry is left after 4 attempts"
    );
    assert_eq!((last.status(), last.retries), (Status::Timeout, 3));
}

#[test]
fn the_first_lapse_after_a_retry_by_hand_is_taken_over_at_once_again() {
    let mut job = new_job();
    job.spec.limits.max_retries = 1;
    let first = lapse_of(&Worker::native(1), &job, at(0));
    let ended = lapse_of(&Worker::native(2), &first, at(60));
    assert_eq!(ended.status(), Status::Timeout);
    let again = lapse_of(&Worker::native(3), &ended.retry(at(200)).unwrap(), at(200));
    assert_eq!((waits(&again), again.retries), (Pending { since: at(260), wait: Wait::Turn }, 1));
}

#[test]
fn the_first_lapse_comes_back_at_once_also_after_a_failure() {
    let failed = failed(&Worker::native(1).claim(&new_job(), at(0)).unwrap(), &Worker::native(1), at(1));
    let lapsed = lapse_of(&Worker::native(2), &failed, at(16));
    assert_eq!((waits(&lapsed).wait, lapsed.retries), (Wait::Turn, 2));
}

#[test]
fn a_lapse_without_any_sign_of_life_costs_no_retry() {
    let claimed = Worker::native(1).claim(&new_job(), at(0)).unwrap();
    assert_eq!(claimed.lapse(at(20).minus(Duration::from_millis(1)), half()), None);
    let job = claimed.lapse(at(20), half()).unwrap();
    assert_eq!(job.attempts[0].outcome, Outcome::NeverHeardOf);
    assert_eq!((waits(&job).wait, job.retries, job.free_returns), (Wait::Turn, 0, 1));
}

#[test]
fn a_claim_that_nobody_heard_of_ran_into_no_timeout_however_late_that_is_noticed() {
    let worker = Worker::native(1);
    let claimed = worker.claim(&new_job(), at(0)).unwrap();
    for late in [600, 10_000] {
        let job = claimed.lapse(at(late), half()).unwrap();
        assert_eq!(job.attempts[0].outcome, Outcome::NeverHeardOf);
        assert_eq!((waits(&job), job.retries), (Pending { since: at(late), wait: Wait::Turn }, 0));
    }
    let past_its_total = worker.claim(&with_total(250), at(0)).unwrap().lapse(at(250), half()).unwrap();
    assert_eq!((past_its_total.status(), past_its_total.deadline()), (Status::Pending, Some(at(250))));
    assert_eq!(error(&past_its_total.lapse(at(250), half()).unwrap()), TOTAL_250);
}

#[test]
fn a_claim_that_nobody_heard_of_is_given_back_once_its_run_is_over_where_that_is_before_the_lease_ends() {
    let worker = Worker::native(1);
    let mut job = new_job();
    job.spec.limits.run = Duration::from_secs(10);
    let claimed = worker.claim(&job, at(0)).unwrap();
    assert_eq!((claimed.due_at(), lease_end(&claimed)), (Some(at(10)), at(20)));
    for late in [10, 20] {
        assert_eq!(claimed.lapse(at(late), half()).unwrap().attempts[0].outcome, Outcome::NeverHeardOf);
    }
    let heard = alive(&claimed, &worker, at(9));
    assert_eq!(heard.lapse(at(10), half()).unwrap().attempts[0].outcome, Outcome::TimedOut);
}

#[test]
fn the_lapse_after_one_that_was_never_heard_of_is_still_the_first() {
    let unheard = Worker::native(1).claim(&new_job(), at(0)).unwrap().lapse(at(20), half()).unwrap();
    let lapsed = lapse_of(&Worker::native(2), &unheard, at(30));
    assert_eq!((waits(&lapsed).wait, lapsed.retries), (Wait::Turn, 1));
}

#[test]
fn a_release_is_free_20_times_and_then_costs_retries_like_a_failure() {
    let release = |job: &Job, now| {
        let worker = Worker::native(u16::try_from(job.attempt_number()).unwrap());
        let claimed = worker.claim(job, now).unwrap();
        claimed.release(&worker.credential, now, Jitter::new(0.0)).unwrap().unwrap()
    };
    let mut job = new_job();
    for time in 1..=MAX_FREE_RETURNS {
        job = release(&job, at(1));
        assert_eq!((waits(&job).wait, job.retries, job.free_returns), (Wait::Turn, 0, time));
    }
    for retry in 1..=3 {
        job = release(&job, at(2));
        assert_eq!((waits(&job).wait, job.retries, job.free_returns), (Wait::Backoff, retry, 20));
    }
    let ended = release(&job, at(3));
    assert_eq!(
        error(&ended),
        "the job was given back or lost by its workers too often; no retry is left after 24 attempts"
    );
}

#[test]
fn a_release_under_a_token_is_one_release_however_often_it_is_sent_and_whatever_became_of_the_job_since() {
    let (first, second) = (Worker::native(1), Worker::native(2));
    let waiting = released(&first.claim(&new_job(), at(0)).unwrap(), &first, at(1));
    let running = second.claim(&waiting, at(2)).unwrap();
    let done = completed(&running, &second, at(3));
    for job in [&waiting, &running, &done] {
        assert_eq!(job.release(&first.credential, at(4), half()), Ok(None), "{}", job.status());
    }
    assert_eq!(done.release(&second.credential, at(4), half()), Err(stale_lease(Status::Completed)));
}

#[test]
fn a_release_without_a_token_cannot_be_told_from_that_of_another_attempt_under_the_same_key() {
    let legacy = Worker::legacy("k");
    let waiting = released(&legacy.claim(&new_job(), at(0)).unwrap(), &legacy, at(1));
    assert_eq!(waiting.release(&legacy.credential, at(2), half()), Err(stale_lease(Status::Pending)));
    let again = released(&legacy.claim(&waiting, at(2)).unwrap(), &legacy, at(3));
    assert_eq!((again.attempts.len(), again.free_returns), (2, 2));
}

#[test]
fn releases_and_claims_never_heard_of_share_the_20_free_returns() {
    let worker = Worker::native(1);
    let mut job = new_job();
    job.free_returns = MAX_FREE_RETURNS - 1;
    let released = released(&worker.claim(&job, at(0)).unwrap(), &worker, at(1));
    let unheard = worker.claim(&released, at(1)).unwrap().lapse(at(21), half()).unwrap();
    assert_eq!((unheard.retries, unheard.free_returns), (1, MAX_FREE_RETURNS));
}

#[test]
fn failures_come_back_after_a_jittered_backoff_that_doubles_up_to_an_hour() {
    let worker = Worker::native(1);
    let mut job = new_job();
    job.spec.limits.max_retries = 20;
    for longest in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
        let now = job.due_at().unwrap().max(at(0));
        let claimed = worker.claim(&job, now).unwrap();
        let delay = |jitter| match claimed.submit(&worker.credential, failure(true), now, Jitter::new(jitter))
        {
            Ok(Submitted::Accepted(job)) => waits(&job).since.since(now),
            other => panic!("not accepted: {other:?}"),
        };
        assert_eq!(delay(0.0), Duration::ZERO);
        assert_eq!(delay(0.5), Duration::from_secs(longest) / 2);
        assert!(delay(1.0) < Duration::from_secs(longest));
        job = failed(&claimed, &worker, now);
    }
}

#[test]
fn a_failure_that_another_attempt_would_repeat_fails_the_job_at_once() {
    let worker = Worker::native(1);
    let job = submitted(&worker.claim(&new_job(), at(0)).unwrap(), &worker, failure(false), at(1));
    assert_eq!(job.state, State::Failed { at: at(1), error: "it broke".to_owned() });
    assert_eq!(job.retries, 0);
}

#[test]
fn max_retries_failures_come_back_and_the_next_one_fails_the_job_with_the_workers_words() {
    let worker = Worker::native(1);
    let mut job = new_job();
    for retry in 1..=3 {
        let now = job.due_at().unwrap().max(at(0));
        job = failed(&worker.claim(&job, now).unwrap(), &worker, now);
        assert_eq!((job.status(), job.retries), (Status::Pending, retry));
    }
    let now = job.due_at().unwrap();
    let job = failed(&worker.claim(&job, now).unwrap(), &worker, now);
    assert_eq!((job.status(), error(&job), job.retries), (Status::Failed, "it broke", 3));
    let ending = job.ending().unwrap();
    assert_eq!((ending.at, ending.error), (now, Some("it broke")));
}

#[test]
fn a_run_past_its_timeout_comes_back_after_a_backoff_until_no_retry_is_left() {
    let worker = Worker::native(1);
    let mut job = new_job();
    job.spec.limits.max_retries = 1;
    let first = alive(&worker.claim(&job, at(0)).unwrap(), &worker, at(590)).lapse(at(600), half()).unwrap();
    assert_eq!((waits(&first), first.retries), (Pending { since: at(615), wait: Wait::Backoff }, 1));
    let second =
        alive(&worker.claim(&first, at(615)).unwrap(), &worker, at(616)).lapse(at(1215), half()).unwrap();
    assert_eq!(second.status(), Status::Timeout);
    assert_eq!(
        error(&second),
        "worker gpu-1 did not finish within the run timeout of 600 s; no retry is left after 2 attempts"
    );
}

#[test]
fn a_repeated_success_gets_its_first_answer_and_a_failure_after_it_is_refused() {
    let worker = Worker::native(1);
    let job = completed(&worker.claim(&new_job(), at(0)).unwrap(), &worker, at(1));
    assert_eq!(submit(&job, &worker, success("other"), at(2)), Ok(Submitted::Repeated(Status::Completed)));
    let refused = Refused::OtherOutcome { status: Status::Completed, first: "completed" };
    assert_eq!(submit(&job, &worker, failure(true), at(2)), Err(refused));
}

#[test]
fn a_repeated_failure_gets_its_first_answer_whatever_became_of_the_job_since() {
    let (first, second) = (Worker::native(1), Worker::native(2));
    let waiting = failed(&first.claim(&new_job(), at(0)).unwrap(), &first, at(1));
    let running = second.claim(&waiting, at(16)).unwrap();
    let done = completed(&running, &second, at(17));
    let cancelled = running.cancel(false, at(17)).unwrap();
    for job in [waiting, running, done, cancelled] {
        let (status, submit) = (job.status(), |submission| submit(&job, &first, submission, at(18)));
        assert_eq!(submit(failure(true)), Ok(Submitted::Repeated(Status::Pending)), "{status}");
        assert_eq!(submit(failure(false)), Ok(Submitted::Repeated(Status::Pending)), "{status}");
        let refused = Refused::OtherOutcome { status, first: "failed" };
        assert_eq!(submit(success("r")), Err(refused), "{status}");
    }
}

#[test]
fn a_failure_that_ended_the_job_answers_failed_again_also_after_a_retry_by_hand() {
    let (first, second) = (Worker::native(1), Worker::native(2));
    let ended = submitted(&first.claim(&new_job(), at(0)).unwrap(), &first, failure(false), at(1));
    let retried = ended.retry(at(2)).unwrap();
    let running = second.claim(&retried, at(3)).unwrap();
    for job in [ended, retried, running] {
        assert_eq!(submit(&job, &first, failure(true), at(4)), Ok(Submitted::Repeated(Status::Failed)));
    }
}

#[test]
fn a_legacy_client_gets_its_first_answer_as_long_as_its_attempt_is_the_last() {
    let (legacy, other) = (Worker::legacy("k"), Worker::native(1));
    let waiting = failed(&legacy.claim(&new_job(), at(0)).unwrap(), &legacy, at(1));
    let running = other.claim(&waiting, at(16)).unwrap();
    for job in [&waiting, &running] {
        assert_eq!(submit(job, &legacy, failure(true), at(17)), Ok(Submitted::Repeated(Status::Pending)));
    }
    assert_stale(&failed(&running, &other, at(17)), &legacy, at(18));
}

#[test]
fn a_job_that_no_worker_took_times_out_and_says_so() {
    let mut job = new_job();
    assert_eq!(job.deadline(), Some(at(300)));
    assert_eq!(job.lapse(at(299), half()), None);
    let ended = job.lapse(at(300), half()).unwrap();
    assert_eq!(
        ended.state,
        State::Timeout {
            at: at(300),
            error: "no worker took this document job within its queue timeout of 300 s".to_owned()
        }
    );
    job.spec.content_type = ContentType::Custom("x-tiff".to_owned());
    job.spec.limits.queue = Duration::from_secs(86_400);
    assert_eq!(
        error(&job.lapse(at(86_400), half()).unwrap()),
        "no worker took this x-tiff job within its queue timeout of 86400 s"
    );
}

#[test]
fn the_queue_timeout_counts_anew_from_the_end_of_a_backoff_and_from_a_return() {
    let worker = Worker::native(1);
    let claimed = worker.claim(&new_job(), at(200)).unwrap();
    assert_eq!(failed(&claimed, &worker, at(250)).deadline(), Some(at(565)));
    assert_eq!(released(&claimed, &worker, at(250)).deadline(), Some(at(550)));
}

#[test]
fn the_total_timeout_ends_a_job_that_waits() {
    let job = with_total(250);
    assert_eq!(job.deadline(), Some(at(250)));
    assert_eq!(Worker::native(1).claim(&job, at(250)), Err(Refused::NotDue { status: Status::Pending }));
    let ended = job.lapse(at(250), half()).unwrap();
    assert_eq!((ended.status(), error(&ended)), (Status::Timeout, TOTAL_250));
    let late = job.lapse(at(301), half()).unwrap();
    assert_eq!(error(&late), TOTAL_250, "and is named before the queue timeout");
}

#[test]
fn the_total_timeout_ends_a_job_that_runs_whatever_retries_are_left() {
    let worker = Worker::native(1);
    let job = alive(&worker.claim(&with_total(250), at(100)).unwrap(), &worker, at(240));
    assert_eq!((job.deadline(), job.due_at()), (Some(at(250)), Some(at(250))));
    assert_eq!(job.heartbeat(&worker.credential, None, at(250)), Err(run_timeout(Status::Processing)));
    let ended = job.lapse(at(250), half()).unwrap();
    assert_eq!((ended.status(), error(&ended)), (Status::Timeout, TOTAL_250));
    assert_eq!(ended.attempts[0].outcome, Outcome::TimedOut);
}

#[test]
fn nothing_is_retried_past_the_total_timeout() {
    let worker = Worker::native(1);
    let job = worker.claim(&with_total(250), at(100)).unwrap();
    assert_eq!(failed(&job, &worker, at(249)).status(), Status::Pending);
    assert_eq!(failed(&job, &worker, at(250)).status(), Status::Failed);
    let released = released(&job, &worker, at(250));
    assert_eq!(error(&released.lapse(at(250), half()).unwrap()), TOTAL_250);
}

#[test]
fn a_total_timeout_longer_than_the_run_timeout_leaves_the_run_its_own() {
    let job = Worker::native(1).claim(&with_total(10_000), at(0)).unwrap();
    assert_eq!(job.run_deadline(job.running().unwrap()), at(600));
}

#[test]
fn a_retry_by_hand_renews_retries_free_returns_and_the_total_timeout_and_keeps_the_history() {
    let worker = Worker::native(1);
    let mut job = with_total(250);
    job.free_returns = 7;
    job.retries = 3;
    let ended = failed(&worker.claim(&job, at(0)).unwrap(), &worker, at(100));
    let retried = ended.retry(at(1000)).unwrap();
    assert_eq!((retried.retries, retried.free_returns, retried.progress.clone()), (0, 0, None));
    assert_eq!(waits(&retried), Pending { since: at(1000), wait: Wait::Turn });
    assert_eq!(retried.deadline(), Some(at(1250)));
    assert_eq!((retried.attempts.clone(), retried.created_at), (ended.attempts, at(0)));
    let again = Worker::native(2).claim(&retried, at(1001)).unwrap();
    assert_eq!((again.attempt_number(), again.deadline()), (2, Some(at(1250))));
}

#[test]
fn only_a_failed_timed_out_or_cancelled_job_is_retried_by_hand() {
    for (status, job) in one_of_each_status() {
        let may = matches!(status, Status::Failed | Status::Timeout | Status::Cancelled);
        let expected = if may { Ok(Status::Pending) } else { Err(Refused::NotRetryable { status }) };
        assert_eq!(job.retry(at(500)).map(|job| job.status()), expected);
    }
}

#[test]
fn a_takeover_is_remembered_for_good_in_every_state_but_completed() {
    for (status, job) in one_of_each_status() {
        if status == Status::Completed {
            assert_eq!(job.cancel(true, at(500)), Err(Refused::Ended { status }));
            continue;
        }
        let taken = job.cancel(true, at(500)).unwrap();
        assert!(taken.continued_locally && taken.ending().is_some(), "{status}");
        let refused = Refused::TakenOver { status: taken.status() };
        assert_eq!(taken.retry(at(501)), Err(refused), "{status}");
        for takeover in [false, true] {
            let later = taken.cancel(takeover, at(502)).unwrap_or_else(|_| taken.clone());
            assert!(later.continued_locally, "{status}");
        }
        assert_eq!(taken.check(), Ok(()));
    }
}

#[test]
fn cancelling_what_is_cancelled_changes_nothing_and_other_ends_stay_as_they_are() {
    for (status, job) in one_of_each_status() {
        let cancelled = job.cancel(false, at(500));
        match status {
            Status::Pending | Status::Processing => {
                assert_eq!(cancelled.unwrap().status(), Status::Cancelled)
            }
            Status::Cancelled => assert_eq!(cancelled, Ok(job)),
            Status::Completed | Status::Failed | Status::Timeout => {
                assert_eq!(cancelled, Err(Refused::Ended { status }));
            }
        }
    }
}

#[test]
fn a_worker_is_told_of_the_cancellation_of_the_job_it_ran_and_nobody_else_is() {
    let (worker, other) = (Worker::native(1), Worker::native(2));
    let running = worker.claim(&new_job(), at(0)).unwrap();
    let told = |job: &Job, worker: &Worker| job.was_cancelled_under(&worker.credential);
    assert!(!told(&running, &worker));
    let cancelled = running.cancel(false, at(1)).unwrap();
    assert!(told(&cancelled, &worker));
    assert!(!told(&cancelled, &other) && !told(&cancelled, &Worker::legacy("k")));
    assert!(!told(&cancelled.retry(at(2)).unwrap(), &worker));
    assert!(!told(&failed(&running, &worker, at(1)).cancel(false, at(2)).unwrap(), &worker));
}

#[test]
fn a_takeover_leaves_a_failed_job_its_own_end() {
    let worker = Worker::native(1);
    let failed = submitted(&worker.claim(&new_job(), at(0)).unwrap(), &worker, failure(false), at(1));
    let taken = failed.cancel(true, at(9)).unwrap();
    assert_eq!(taken.state, failed.state);
}

#[test]
fn only_a_job_that_has_ended_may_be_deleted() {
    for (status, job) in one_of_each_status() {
        let live = matches!(status, Status::Pending | Status::Processing);
        let expected = if live { Err(Refused::NotEnded { status }) } else { Ok(()) };
        assert_eq!(job.may_be_deleted(), expected);
    }
}

#[test]
fn a_job_that_comes_back_keeps_its_rank() {
    let (first, second) = (Worker::native(1), Worker::native(2));
    let mut job = new_job();
    job.spec.priority = Priority::Low;
    assert_eq!((job.rank(), job.due_at()), (at(0), Some(at(0))));
    let lapsed = lapse_of(&first, &job, at(0));
    assert_eq!(lapsed.due_at(), Some(at(0)));
    let released = released(&second.claim(&lapsed, at(61)).unwrap(), &second, at(62));
    assert_eq!(released.due_at(), Some(at(0)));
    let cancelled = released.cancel(false, at(63)).unwrap();
    assert_eq!((cancelled.rank(), cancelled.due_at()), (at(0), None));
    assert_eq!(cancelled.retry(at(64)).unwrap().due_at(), Some(at(0)));
}

#[test]
fn a_job_in_backoff_is_due_at_its_end() {
    let worker = Worker::native(1);
    let job = failed(&worker.claim(&new_job(), at(0)).unwrap(), &worker, at(1));
    assert_eq!(job.due_at(), Some(at(16)));
    assert_eq!(worker.claim(&job, at(15)), Err(Refused::NotDue { status: Status::Pending }));
    assert!(worker.claim(&job, at(16)).is_ok());
}

#[test]
fn priority_is_a_head_start_of_two_hours_one_hour_or_none() {
    for (priority, hours) in [(Priority::High, 2), (Priority::Normal, 1), (Priority::Low, 0)] {
        let mut job = new_job();
        job.spec.priority = priority;
        assert_eq!(at(0).since(job.rank()), Duration::from_secs(hours * 3600));
    }
    assert_eq!(Priority::default(), Priority::Normal);
}

#[test]
fn the_completion_is_estimated_from_the_rate_of_the_running_attempt() {
    let worker = Worker::native(1);
    let job = worker.claim(&new_job(), at(100)).unwrap();
    let estimate = |percentage, now: Timestamp| {
        let told = job.heartbeat(&worker.credential, Some(percent(percentage)), now).unwrap().job;
        told.estimated_completion()
    };
    assert_eq!(new_job().estimated_completion(), None, "nobody runs it");
    assert_eq!(job.estimated_completion(), None, "nothing was said yet");
    assert_eq!(estimate(0, at(110)), None, "no progress yet");
    assert_eq!(estimate(1, at(110)), Some(at(1100)));
    assert_eq!(estimate(25, at(110)), Some(at(140)));
    assert_eq!(estimate(100, at(110)), Some(at(110)));
    assert_eq!(estimate(25, at(90)), Some(at(100)), "the clock was set back");
}

#[test]
fn the_last_attempt_a_job_can_have_ends_it_however_it_ends() {
    let worker = Worker::native(1);
    let mut job = new_job();
    job.spec.limits.max_retries = 20;
    job.attempts = vec![released_attempt(); MAX_ATTEMPTS - 1];
    let last = worker.claim(&job, at(0)).unwrap();
    let heard = alive(&last, &worker, at(0));
    assert_eq!((last.attempt_number(), last.check()), (MAX_ATTEMPTS, Ok(())));
    let ends = [
        ("failed", failed(&last, &worker, at(1))),
        ("released", released(&last, &worker, at(1))),
        ("never heard of", last.lapse(at(20), half()).unwrap()),
        ("lapsed", heard.lapse(at(60), half()).unwrap()),
        ("timed out", heard.lapse(at(600), half()).unwrap()),
    ];
    for (how, job) in ends {
        assert!(job.ending().is_some(), "{how}: {}", job.status());
        assert_eq!(job.attempt_number(), MAX_ATTEMPTS, "{how}");
        assert_eq!(job.check(), Ok(()), "{how}");
        let refused = Refused::TooManyAttempts { status: job.status(), most: MAX_ATTEMPTS };
        assert_eq!(job.retry(at(700)), Err(refused), "{how}");
    }
}

#[test]
fn a_retry_by_hand_on_a_clock_set_back_before_the_creation_leaves_a_consistent_job() {
    let before = at(0).minus(Duration::from_secs(60));
    let retried = new_job().cancel(false, before).unwrap().retry(before).unwrap();
    assert_eq!(retried.check(), Ok(()));
    assert_eq!(retried.opened_at, retried.created_at);
}

#[test]
fn a_lease_outlasts_a_clock_set_back() {
    let worker = Worker::native(1);
    let job = alive(&worker.claim(&new_job(), at(100)).unwrap(), &worker, at(100));
    assert_eq!(job.lapse(at(10), half()), None);
    assert!(!job.heartbeat(&worker.credential, None, at(10)).unwrap().renewed);
}

#[test]
fn every_refusal_names_what_the_job_is_and_what_the_caller_may_do() {
    let status = Status::Cancelled;
    let texts = [
        (
            Refused::StaleLease { status },
            "this attempt no longer holds the job, which is cancelled; stop working on it and discard its result",
        ),
        (
            Refused::NoLeaseToken { status: Status::Processing },
            "the job is processing under a lease that the header Lease-Token proves, and the call came without it; send the lease_token of the poll's answer",
        ),
        (
            Refused::RunTimeout { status: Status::Pending },
            "this attempt has run past its timeout and the job is pending; submit a result that is finished, else stop working on it",
        ),
        (
            Refused::OtherOutcome { status: Status::Pending, first: "failed" },
            "this attempt was already reported as failed and the job is pending; the first report counts, forget the job",
        ),
        (Refused::NotDue { status }, "the job is cancelled and not due for a worker; poll for another"),
        (
            Refused::Ended { status: Status::Completed },
            "the job is completed and cannot be cancelled any more; its result can be fetched",
        ),
        (
            Refused::Ended { status: Status::Failed },
            "the job is failed and cannot be cancelled any more; retry it, or cancel it with `takeover` to convert locally",
        ),
        (
            Refused::NotRetryable { status: Status::Processing },
            "the job is processing; only a failed, timed-out or cancelled job can be retried; cancel it first, or wait for its end",
        ),
        (
            Refused::TakenOver { status },
            "the job is cancelled, and the caller took it over and converted it locally; it cannot be retried, create a new job instead",
        ),
        (
            Refused::TooManyAttempts { status: Status::Failed, most: 100 },
            "the job is failed after 100 attempts, the most a job can have; create a new job",
        ),
        (
            Refused::NotEnded { status: Status::Pending },
            "the job is pending; cancel it first, then delete it",
        ),
    ];
    for (refused, text) in texts {
        assert_eq!(refused.to_string(), text);
        assert!(text.contains(refused.status().as_str()), "{text}");
    }
}

#[test]
fn the_statuses_are_spelled_as_the_original_spells_them() {
    let spelled = Status::ALL.map(Status::as_str);
    assert_eq!(spelled, ["pending", "processing", "completed", "failed", "timeout", "cancelled"]);
}

const TOTAL_250: &str = "the job did not end within its total timeout of 250 s";

fn with_total(seconds: u64) -> Job {
    let mut job = new_job();
    job.spec.limits.total = Some(Duration::from_secs(seconds));
    job
}

fn percent(percentage: u8) -> Progress {
    Progress { percentage, message: "on it".to_owned(), stage: Some("ocr".to_owned()) }
}

fn success(key: &str) -> Submission {
    Submission::Completed(result(key))
}

fn failure(retryable: bool) -> Submission {
    Submission::Failed { error: "it broke".to_owned(), retryable }
}

fn submit(job: &Job, worker: &Worker, submission: Submission, now: Timestamp) -> Result<Submitted, Refused> {
    job.submit(&worker.credential, submission, now, half())
}

fn submitted(job: &Job, worker: &Worker, submission: Submission, now: Timestamp) -> Job {
    match submit(job, worker, submission, now) {
        Ok(Submitted::Accepted(job)) => *job,
        other => panic!("not accepted: {other:?}"),
    }
}

fn completed(job: &Job, worker: &Worker, now: Timestamp) -> Job {
    submitted(job, worker, success("r"), now)
}

fn failed(job: &Job, worker: &Worker, now: Timestamp) -> Job {
    submitted(job, worker, failure(true), now)
}

/// The job after its worker was heard of.
fn alive(job: &Job, worker: &Worker, now: Timestamp) -> Job {
    job.heartbeat(&worker.credential, None, now).unwrap().job
}

/// The job after `worker` claimed it, was heard of once, and then for the 60 s of its lease no more.
fn lapse_of(worker: &Worker, job: &Job, now: Timestamp) -> Job {
    let claimed = alive(&worker.claim(job, now).unwrap(), worker, now);
    claimed.lapse(now.plus(Duration::from_secs(60)), half()).unwrap()
}

/// The job after its worker gave it back.
fn released(job: &Job, worker: &Worker, now: Timestamp) -> Job {
    job.release(&worker.credential, now, half()).unwrap().unwrap()
}

/// Every call that proves a lease is refused as stale, and the refusal names what the job is.
fn assert_stale(job: &Job, worker: &Worker, now: Timestamp) {
    assert_refused(job, worker, now, &stale_lease(job.status()));
}

fn assert_refused(job: &Job, worker: &Worker, now: Timestamp, refused: &Refused) {
    let (refused, credential) = (refused.clone(), &worker.credential);
    assert_eq!(job.holds(credential), Err(refused.clone()));
    assert_eq!(job.heartbeat(credential, None, now), Err(refused.clone()));
    assert_eq!(submit(job, worker, success("late"), now), Err(refused.clone()));
    assert_eq!(submit(job, worker, failure(true), now), Err(refused.clone()));
    assert_eq!(job.release(credential, now, half()), Err(refused));
}

fn stale_lease(status: Status) -> Refused {
    Refused::StaleLease { status }
}

fn run_timeout(status: Status) -> Refused {
    Refused::RunTimeout { status }
}

fn waits(job: &Job) -> Pending {
    let State::Pending(pending) = &job.state else { panic!("does not wait: {:?}", job.state) };
    pending.clone()
}

fn lease_end(job: &Job) -> Timestamp {
    job.running().unwrap().lease_ends_at
}

fn error(job: &Job) -> &str {
    job.ending().unwrap().error.unwrap()
}

fn one_of_each_status() -> [(Status, Job); 6] {
    let worker = Worker::native(1);
    let running = worker.claim(&new_job(), at(1)).unwrap();
    let jobs = [
        new_job(),
        running.clone(),
        completed(&running, &worker, at(2)),
        submitted(&running, &worker, failure(false), at(2)),
        new_job().lapse(at(300), half()).unwrap(),
        running.cancel(false, at(2)).unwrap(),
    ];
    assert_eq!(jobs.each_ref().map(Job::status), Status::ALL);
    jobs.map(|job| (job.status(), job))
}

fn released_attempt() -> Attempt {
    Attempt {
        worker: "gpu-0".parse().unwrap(),
        holder: Worker::native(99).holder(),
        started_at: at(0),
        ended_at: at(0),
        terms: LeaseTerms::DEFAULT,
        outcome: Outcome::Released,
    }
}
