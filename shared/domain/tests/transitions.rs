//! What every event does in every state: design section 3 as a table.
//!
//! [`expected`] is the table. Its matches have no wildcard, so a state or an event without expectations does not
//! compile. The finer rules are in `rules.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod support;

use domain::{
    Job, Outcome, Pending, Progress, Refused, Running, State, Status, Submission, Submitted, Timestamp, Wait,
};
use support::{Worker, at, half, new_job, result};

/// An enum with a list of all its variants.
macro_rules! listed {
    ($(#[$doc:meta])* enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant,)*];
        }
    };
}

listed! {
    /// The state a job is in, as far as it decides what an event does. Where an attempt was made, the holder made it.
    enum Situation {
        /// Created, no worker yet.
        PendingTurn,
        /// The first attempt failed; the backoff lasts until 17 s.
        PendingInBackoff,
        /// The same when the backoff is just over.
        PendingAfterBackoff,
        /// Nobody came within the queue timeout, and nobody has noticed yet.
        PendingPastQueueTimeout,
        /// The confirmed first attempt lapsed, and nobody took the job since.
        PendingLapsed,
        /// The first attempt was never heard of, and nobody took the job since.
        PendingNeverHeardOf,
        /// The confirmed first attempt ran past its timeout; the backoff lasts until 616 s.
        PendingTimedOut,
        /// The first attempt was given back, and nobody took the job since.
        PendingReleased,
        /// Claimed, no sign of life yet.
        Unconfirmed,
        /// Claimed, with a sign of life; 52 of 60 s of the lease are left.
        Confirmed,
        /// The lease is over, and nobody has noticed yet.
        LeaseOver,
        /// The run timeout is over while the lease goes on, and nobody has noticed yet.
        PastRunTimeout,
        /// Claimed by a client of the original system.
        Legacy,
        /// Converted by the first attempt.
        Completed,
        /// The first attempt failed for good.
        Failed,
        /// The first attempt ran past its timeout, without a retry.
        Timeout,
        /// Cancelled while the first attempt ran.
        Cancelled,
        /// Cancelled while the first attempt ran, to be converted locally.
        TakenOver,
    }
}

listed! {
    /// What can happen to a job.
    enum Event {
        ClaimNative,
        ClaimLegacy,
        HeartbeatByHolder,
        /// Another token under the holder's API key.
        HeartbeatByStranger,
        /// No token under the holder's API key.
        HeartbeatByLegacyKey,
        SubmitCompleted,
        SubmitFailed,
        SubmitFailedNotRetryable,
        /// A retryable failure when all retries are spent.
        SubmitFailedNoRetryLeft,
        Release,
        /// Time passes.
        Lapse,
        /// Time passes when all retries are spent.
        LapseNoRetryLeft,
        Cancel,
        CancelTakeover,
        RetryByHand,
    }
}

/// The table. `#1` is the first attempt; what is not named (retries, free returns, the takeover) stays as it was.
fn expected(situation: Situation, event: Event) -> &'static str {
    use Event::*;
    match situation {
        Situation::PendingTurn => match event {
            ClaimNative => "processing #1, unconfirmed, lease 20 s",
            ClaimLegacy => "processing #1, lease 600 s",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: stale lease",
            SubmitFailed => "refused: stale lease",
            SubmitFailedNotRetryable => "refused: stale lease",
            SubmitFailedNoRetryLeft => "refused: stale lease",
            Release => "refused: stale lease",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "cancelled",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::PendingInBackoff => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: already failed",
            SubmitFailed => "repeated: pending",
            SubmitFailedNotRetryable => "repeated: pending",
            SubmitFailedNoRetryLeft => "repeated: pending",
            Release => "refused: stale lease",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "cancelled",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::PendingAfterBackoff => match event {
            ClaimNative => "processing #2, unconfirmed, lease 20 s",
            ClaimLegacy => "processing #2, lease 600 s",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: already failed",
            SubmitFailed => "repeated: pending",
            SubmitFailedNotRetryable => "repeated: pending",
            SubmitFailedNoRetryLeft => "repeated: pending",
            Release => "refused: stale lease",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "cancelled",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::PendingPastQueueTimeout => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: stale lease",
            SubmitFailed => "refused: stale lease",
            SubmitFailedNotRetryable => "refused: stale lease",
            SubmitFailedNoRetryLeft => "refused: stale lease",
            Release => "refused: stale lease",
            Lapse => "timeout",
            LapseNoRetryLeft => "timeout",
            Cancel => "cancelled",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::PendingLapsed => match event {
            ClaimNative => "processing #2, unconfirmed, lease 20 s",
            ClaimLegacy => "processing #2, lease 600 s",
            HeartbeatByHolder => "renewed: processing #1, lease 60 s, -1 retry",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "#1 completed: completed, -1 retry",
            SubmitFailed => "#1 failed: pending in 15 s",
            SubmitFailedNotRetryable => "#1 failed: failed, -1 retry",
            // The only retry was spent on the lapse, which did not happen after all.
            SubmitFailedNoRetryLeft => "#1 failed: pending in 15 s",
            Release => "#1 released: pending at once, -1 retry, +1 free return",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "cancelled",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::PendingNeverHeardOf => match event {
            ClaimNative => "processing #2, unconfirmed, lease 20 s",
            ClaimLegacy => "processing #2, lease 600 s",
            HeartbeatByHolder => "renewed: processing #1, lease 60 s, -1 free return",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "#1 completed: completed, -1 free return",
            SubmitFailed => "#1 failed: pending in 15 s, +1 retry, -1 free return",
            SubmitFailedNotRetryable => "#1 failed: failed, -1 free return",
            SubmitFailedNoRetryLeft => "#1 failed: failed, -1 free return",
            Release => "#1 released: pending at once",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "cancelled",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::PendingTimedOut => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: run timeout",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "#1 completed: completed, -1 retry",
            SubmitFailed => "#1 failed: pending in 15 s",
            SubmitFailedNotRetryable => "#1 failed: failed, -1 retry",
            // The only retry was spent on the timeout, which did not happen after all.
            SubmitFailedNoRetryLeft => "#1 failed: pending in 15 s",
            Release => "refused: run timeout",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "cancelled",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::PendingReleased => match event {
            ClaimNative => "processing #2, unconfirmed, lease 20 s",
            ClaimLegacy => "processing #2, lease 600 s",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: stale lease",
            SubmitFailed => "refused: stale lease",
            SubmitFailedNotRetryable => "refused: stale lease",
            SubmitFailedNoRetryLeft => "refused: stale lease",
            Release => "nothing",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "cancelled",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::Unconfirmed => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "renewed: processing #1, lease 60 s",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: no lease token",
            SubmitCompleted => "#1 completed: completed",
            SubmitFailed => "#1 failed: pending in 15 s, +1 retry",
            SubmitFailedNotRetryable => "#1 failed: failed",
            SubmitFailedNoRetryLeft => "#1 failed: failed",
            Release => "#1 released: pending at once, +1 free return",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "#1 cancelled: cancelled",
            CancelTakeover => "#1 cancelled: cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::Confirmed => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "only progress: processing #1, lease 52 s",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: no lease token",
            SubmitCompleted => "#1 completed: completed",
            SubmitFailed => "#1 failed: pending in 15 s, +1 retry",
            SubmitFailedNotRetryable => "#1 failed: failed",
            SubmitFailedNoRetryLeft => "#1 failed: failed",
            Release => "#1 released: pending at once, +1 free return",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "#1 cancelled: cancelled",
            CancelTakeover => "#1 cancelled: cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::LeaseOver => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "renewed: processing #1, lease 60 s",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: no lease token",
            SubmitCompleted => "#1 completed: completed",
            SubmitFailed => "#1 failed: pending in 15 s, +1 retry",
            SubmitFailedNotRetryable => "#1 failed: failed",
            SubmitFailedNoRetryLeft => "#1 failed: failed",
            Release => "#1 released: pending at once, +1 free return",
            Lapse => "#1 lapsed: pending at once, +1 retry",
            LapseNoRetryLeft => "#1 lapsed: timeout",
            Cancel => "#1 cancelled: cancelled",
            CancelTakeover => "#1 cancelled: cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::PastRunTimeout => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: run timeout",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: no lease token",
            SubmitCompleted => "#1 completed: completed",
            SubmitFailed => "#1 failed: pending in 15 s, +1 retry",
            SubmitFailedNotRetryable => "#1 failed: failed",
            SubmitFailedNoRetryLeft => "#1 failed: failed",
            Release => "#1 released: pending at once, +1 free return",
            Lapse => "#1 timed out: pending in 15 s, +1 retry",
            LapseNoRetryLeft => "#1 timed out: timeout",
            Cancel => "#1 cancelled: cancelled",
            CancelTakeover => "#1 cancelled: cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::Legacy => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "only progress: processing #1, lease 591 s",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "only progress: processing #1, lease 591 s",
            SubmitCompleted => "#1 completed: completed",
            SubmitFailed => "#1 failed: pending in 15 s, +1 retry",
            SubmitFailedNotRetryable => "#1 failed: failed",
            SubmitFailedNoRetryLeft => "#1 failed: failed",
            Release => "#1 released: pending at once, +1 free return",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "#1 cancelled: cancelled",
            CancelTakeover => "#1 cancelled: cancelled, taken over",
            RetryByHand => "refused: not retryable",
        },
        Situation::Completed => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "repeated: completed",
            SubmitFailed => "refused: already completed",
            SubmitFailedNotRetryable => "refused: already completed",
            SubmitFailedNoRetryLeft => "refused: already completed",
            Release => "refused: stale lease",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "refused: ended",
            CancelTakeover => "refused: ended",
            RetryByHand => "refused: not retryable",
        },
        Situation::Failed => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: already failed",
            SubmitFailed => "repeated: failed",
            SubmitFailedNotRetryable => "repeated: failed",
            SubmitFailedNoRetryLeft => "repeated: failed",
            Release => "refused: stale lease",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "refused: ended",
            CancelTakeover => "failed, taken over",
            RetryByHand => "pending at once",
        },
        Situation::Timeout => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: stale lease",
            SubmitFailed => "refused: stale lease",
            SubmitFailedNotRetryable => "refused: stale lease",
            SubmitFailedNoRetryLeft => "refused: stale lease",
            Release => "refused: stale lease",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "refused: ended",
            CancelTakeover => "timeout, taken over",
            RetryByHand => "pending at once",
        },
        Situation::Cancelled => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: stale lease",
            SubmitFailed => "refused: stale lease",
            SubmitFailedNotRetryable => "refused: stale lease",
            SubmitFailedNoRetryLeft => "refused: stale lease",
            Release => "refused: stale lease",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "unchanged",
            CancelTakeover => "cancelled, taken over",
            RetryByHand => "pending at once",
        },
        Situation::TakenOver => match event {
            ClaimNative => "refused: not due",
            ClaimLegacy => "refused: not due",
            HeartbeatByHolder => "refused: stale lease",
            HeartbeatByStranger => "refused: stale lease",
            HeartbeatByLegacyKey => "refused: stale lease",
            SubmitCompleted => "refused: stale lease",
            SubmitFailed => "refused: stale lease",
            SubmitFailedNotRetryable => "refused: stale lease",
            SubmitFailedNoRetryLeft => "refused: stale lease",
            Release => "refused: stale lease",
            Lapse => "nothing",
            LapseNoRetryLeft => "nothing",
            Cancel => "unchanged",
            CancelTakeover => "unchanged",
            RetryByHand => "refused: taken over",
        },
    }
}

#[test]
fn every_event_does_in_every_state_what_the_table_says() {
    let mut wrong = Vec::new();
    for &situation in Situation::ALL {
        for &event in Event::ALL {
            let (expected, is) = (expected(situation, event), happens(situation, event));
            if is != expected {
                wrong.push(format!("{situation:?}, {event:?}: expected {expected:?}, is {is:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_accepted_change_is_consistent_and_raises_the_revision_by_one_unless_it_is_plain_progress() {
    for &situation in Situation::ALL {
        for &event in Event::ALL {
            let Case { job: before, now, .. } = case(situation, event);
            let (after, grown) = match effect(situation, event) {
                Effect::Changed(after) => (after, 1),
                Effect::OnlyProgress(after) => (after, 0),
                Effect::Repeated(_) | Effect::Nothing | Effect::Refused(_) => continue,
            };
            if after != before {
                assert_eq!(after.check(), Ok(()), "{situation:?}, {event:?}");
                assert_eq!(after.revision, before.revision + grown, "{situation:?}, {event:?}");
                assert_eq!(after.updated_at, now, "{situation:?}, {event:?}");
            }
        }
    }
}

#[test]
fn may_submit_foretells_every_submission() {
    for &situation in Situation::ALL {
        for (event, success) in [(Event::SubmitCompleted, true), (Event::SubmitFailed, false)] {
            let Case { job, holder, .. } = case(situation, event);
            let foretold = job.may_submit(&holder.credential, success);
            match effect(situation, event) {
                Effect::Changed(_) | Effect::OnlyProgress(_) => {
                    assert_eq!(foretold, Ok(None), "{situation:?}, {event:?}")
                }
                Effect::Repeated(status) => {
                    assert_eq!(foretold, Ok(Some(status)), "{situation:?}, {event:?}")
                }
                Effect::Refused(refused) => assert_eq!(foretold, Err(refused), "{situation:?}, {event:?}"),
                Effect::Nothing => panic!("a submission always has an answer"),
            }
        }
    }
}

/// A job in a situation, the moment, and who holds it or held it last.
struct Case {
    job: Job,
    now: Timestamp,
    holder: Worker,
}

/// The job of `situation` as `event` finds it.
fn case(situation: Situation, event: Event) -> Case {
    let legacy = matches!(situation, Situation::Legacy);
    let holder = if legacy { Worker::legacy("k") } else { Worker::native(1) };
    let claimed = || holder.claim(&new_job(), at(1)).unwrap();
    let alive = |job: Job, now| job.heartbeat(&holder.credential, None, now).unwrap().job;
    let submitted = |submission| accepted(&claimed(), &holder, submission, at(2));
    let (mut job, now) = match situation {
        Situation::PendingTurn => (new_job(), at(1)),
        Situation::PendingInBackoff => (submitted(failure(true)), at(16)),
        Situation::PendingAfterBackoff => (submitted(failure(true)), at(17)),
        Situation::PendingPastQueueTimeout => (new_job(), at(300)),
        Situation::PendingLapsed => (alive(claimed(), at(2)).lapse(at(62), half()).unwrap(), at(70)),
        Situation::PendingNeverHeardOf => (claimed().lapse(at(21), half()).unwrap(), at(22)),
        Situation::PendingTimedOut => (alive(claimed(), at(580)).lapse(at(601), half()).unwrap(), at(610)),
        Situation::PendingReleased => {
            (claimed().release(&holder.credential, at(2), half()).unwrap().unwrap(), at(10))
        }
        Situation::Unconfirmed => (claimed(), at(2)),
        Situation::Confirmed => (alive(claimed(), at(2)), at(10)),
        Situation::LeaseOver => (alive(claimed(), at(2)), at(62)),
        Situation::PastRunTimeout => (alive(claimed(), at(580)), at(601)),
        Situation::Legacy => (claimed(), at(10)),
        Situation::Completed => (submitted(Submission::Completed(result("r"))), at(20)),
        Situation::Failed => (submitted(failure(false)), at(20)),
        Situation::Timeout => {
            let mut job = alive(claimed(), at(580));
            job.spec.limits.max_retries = 0;
            (job.lapse(at(601), half()).unwrap(), at(610))
        }
        Situation::Cancelled => (claimed().cancel(false, at(2)).unwrap(), at(20)),
        Situation::TakenOver => (claimed().cancel(true, at(2)).unwrap(), at(20)),
    };
    if matches!(event, Event::SubmitFailedNoRetryLeft | Event::LapseNoRetryLeft) {
        job.spec.limits.max_retries = job.retries;
    }
    Case { job, now, holder }
}

fn failure(retryable: bool) -> Submission {
    Submission::Failed { error: "it broke".to_owned(), retryable }
}

fn accepted(job: &Job, worker: &Worker, submission: Submission, now: Timestamp) -> Job {
    match job.submit(&worker.credential, submission, now, half()) {
        Ok(Submitted::Accepted(job)) => *job,
        other => panic!("not accepted: {other:?}"),
    }
}

/// What came of an event.
enum Effect {
    Changed(Job),
    OnlyProgress(Job),
    Repeated(Status),
    Nothing,
    Refused(Refused),
}

fn effect(situation: Situation, event: Event) -> Effect {
    let Case { job, now, holder } = case(situation, event);
    let credential = &holder.credential;
    let heartbeat = |by: &Worker| {
        let progress = Progress { percentage: 10, message: "on it".to_owned(), stage: None };
        job.heartbeat(&by.credential, Some(progress), now).map(|renewal| {
            if renewal.renewed { Effect::Changed(renewal.job) } else { Effect::OnlyProgress(renewal.job) }
        })
    };
    let submit = |submission| {
        job.submit(credential, submission, now, half()).map(|submitted| match submitted {
            Submitted::Accepted(job) => Effect::Changed(*job),
            Submitted::Repeated(status) => Effect::Repeated(status),
        })
    };
    match event {
        Event::ClaimNative => Worker::native(2).claim(&job, now).map(Effect::Changed),
        Event::ClaimLegacy => Worker::legacy("k").claim(&job, now).map(Effect::Changed),
        Event::HeartbeatByHolder => heartbeat(&holder),
        Event::HeartbeatByStranger => heartbeat(&Worker::native(3)),
        Event::HeartbeatByLegacyKey => heartbeat(&Worker::legacy("k")),
        Event::SubmitCompleted => submit(Submission::Completed(result("r"))),
        Event::SubmitFailed | Event::SubmitFailedNoRetryLeft => submit(failure(true)),
        Event::SubmitFailedNotRetryable => submit(failure(false)),
        Event::Release => {
            let released = job.release(credential, now, half());
            released.map(|released| released.map_or(Effect::Nothing, Effect::Changed))
        }
        Event::Lapse | Event::LapseNoRetryLeft => {
            Ok(job.lapse(now, half()).map_or(Effect::Nothing, Effect::Changed))
        }
        Event::Cancel => job.cancel(false, now).map(Effect::Changed),
        Event::CancelTakeover => job.cancel(true, now).map(Effect::Changed),
        Event::RetryByHand => job.retry(now).map(Effect::Changed),
    }
    .unwrap_or_else(Effect::Refused)
}

/// What comes of `event`, in the words of the table.
fn happens(situation: Situation, event: Event) -> String {
    let Case { job: before, now, .. } = case(situation, event);
    match effect(situation, event) {
        Effect::Refused(refused) => format!("refused: {}", reason(&refused, before.status())),
        Effect::Repeated(status) => format!("repeated: {status}"),
        Effect::Nothing => "nothing".to_owned(),
        Effect::Changed(after) if after == before => "unchanged".to_owned(),
        Effect::Changed(after) if is_heartbeat(event) => format!("renewed: {}", change(&before, &after, now)),
        Effect::Changed(after) => change(&before, &after, now),
        Effect::OnlyProgress(after) => format!("only progress: {}", change(&before, &after, now)),
    }
}

fn is_heartbeat(event: Event) -> bool {
    matches!(event, Event::HeartbeatByHolder | Event::HeartbeatByStranger | Event::HeartbeatByLegacyKey)
}

fn change(before: &Job, after: &Job, now: Timestamp) -> String {
    let ended = match after.attempts.last() {
        Some(attempt) if after.attempts != before.attempts => {
            format!("#{} {}: ", after.attempts.len(), ending(&attempt.outcome))
        }
        _ => String::new(),
    };
    let state = match &after.state {
        State::Pending(Pending { wait: Wait::Turn, .. }) => "pending at once".to_owned(),
        State::Pending(Pending { wait: Wait::Backoff, since }) => {
            format!("pending in {} s", since.since(now).as_secs())
        }
        State::Processing(Running { confirmed, lease_ends_at, .. }) => format!(
            "processing #{}{}, lease {} s",
            after.attempt_number(),
            if *confirmed { "" } else { ", unconfirmed" },
            lease_ends_at.since(now).as_secs()
        ),
        State::Completed { .. } | State::Failed { .. } | State::Timeout { .. } | State::Cancelled { .. } => {
            after.status().to_string()
        }
    };
    let counts = [
        (i64::from(after.retries) - i64::from(before.retries), "retry"),
        (i64::from(after.free_returns) - i64::from(before.free_returns), "free return"),
    ];
    let counts: String =
        counts.iter().filter(|(by, _)| *by != 0).map(|(by, what)| format!(", {by:+} {what}")).collect();
    let taken_over = if after.continued_locally && !before.continued_locally { ", taken over" } else { "" };
    format!("{ended}{state}{counts}{taken_over}")
}

fn ending(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Failed { .. } => "failed",
        Outcome::TimedOut => "timed out",
        Outcome::Lapsed => "lapsed",
        Outcome::NeverHeardOf => "never heard of",
        Outcome::Released => "released",
        Outcome::Cancelled => "cancelled",
    }
}

/// The refusal in short. The status it names has to be the one the job is in.
fn reason(refused: &Refused, is: Status) -> String {
    assert_eq!(refused.status(), is, "{refused:?} of a job that is {is}");
    let short = match refused {
        Refused::StaleLease { .. } => "stale lease",
        Refused::NoLeaseToken { .. } => "no lease token",
        Refused::RunTimeout { .. } => "run timeout",
        Refused::OtherOutcome { first, .. } => return format!("already {first}"),
        Refused::NotDue { .. } => "not due",
        Refused::Ended { .. } => "ended",
        Refused::NotRetryable { .. } => "not retryable",
        Refused::TakenOver { .. } => "taken over",
        Refused::TooManyAttempts { .. } => "too many attempts",
        Refused::NotEnded { .. } => "not ended",
    };
    short.to_owned()
}
