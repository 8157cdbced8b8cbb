//! Random histories of one job: workers that come, go, fall silent and come back with old credentials, callers that
//! cancel and retry, and a clock that jumps either way. What must always hold is checked after every step.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod support;

use std::{collections::BTreeSet, time::Duration};

use domain::{
    Holder, Jitter, Job, LeaseTerms, Limits, MAX_ATTEMPTS, MAX_FREE_RETURNS, Outcome, Pending, Priority,
    Progress, Refused, State, Status, Submission, Submitted, Timestamp, Wait,
};
use proptest::{
    prelude::*,
    sample::Index,
    strategy::ValueTree,
    test_runner::{FileFailurePersistence, TestRunner},
};
use support::{Worker, at, half, new_job, result};

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn what_must_hold_holds_whatever_happens_to_a_job(job in a_job(), steps in history()) {
        live(job, &steps)?;
    }
}

proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn a_job_that_comes_back_over_and_over_stays_within_the_most_attempts(steps in long_history()) {
        live(a_patient_job(), &steps)?;
    }
}

#[test]
fn the_histories_reach_every_state_every_end_of_an_attempt_and_every_refusal() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        let job = a_job().new_tree(&mut runner).unwrap().current();
        let steps = history().new_tree(&mut runner).unwrap().current();
        seen.extend(live(job, &steps).unwrap());
    }
    let steps = long_history().new_tree(&mut runner).unwrap().current();
    seen.extend(live(a_patient_job(), &steps).unwrap());
    let missing: Vec<&str> = [
        "Pending Turn",
        "Pending Backoff",
        "Processing native",
        "Processing legacy",
        "Completed",
        "Failed",
        "Timeout",
        "Cancelled",
        "attempt Completed",
        "attempt Failed",
        "attempt TimedOut",
        "attempt Lapsed",
        "attempt NeverHeardOf",
        "attempt Released",
        "attempt Cancelled",
        "lapsed and went on",
        "only progress",
        "repeated",
        "timed out and was submitted late",
        "released again",
        "refused StaleLease",
        "refused NoLeaseToken",
        "refused RunTimeout",
        "refused OtherOutcome",
        "refused NotDue",
        "refused Ended",
        "refused NotRetryable",
        "refused TakenOver",
        "refused TooManyAttempts",
    ]
    .into_iter()
    .filter(|wanted| !seen.contains(*wanted))
    .collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

fn cases(cases: u32) -> ProptestConfig {
    // A history that failed once is tried first from then on.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories.regressions");
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(file)) as _);
    ProptestConfig { cases, failure_persistence, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

#[derive(Clone, Debug)]
enum Step {
    Claim(Kind),
    Call(Who, Call),
    Lapse,
    Cancel {
        takeover: bool,
    },
    RetryByHand,
    /// The clock goes to this many milliseconds from a moment; it can go back.
    Clock(Anchor, i64),
}

/// What a worker is that comes for the job.
#[derive(Clone, Debug)]
enum Kind {
    /// One that asks for a lease of this many seconds.
    Native(u64),
    /// A client of the original system with this key.
    Legacy(&'static str),
}

/// Whose credential a call brings.
#[derive(Clone, Debug)]
enum Who {
    /// The one the last claim was granted to.
    Last,
    /// One that some claim was granted to, long ago or not.
    Once(Index),
    /// A token that was never granted.
    UnknownToken,
    /// No token, under a key that has claimed the job or not.
    Key(&'static str),
}

/// What a worker says of the job it works on.
#[derive(Clone, Debug)]
enum Call {
    Heartbeat(Option<u8>),
    Submit(Verdict),
    Release,
}

#[derive(Clone, Debug)]
enum Verdict {
    Completed,
    Failed { retryable: bool },
}

#[derive(Clone, Debug)]
enum Anchor {
    Now,
    DueAt,
    Deadline,
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..80)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => kind().prop_map(Step::Claim),
        9 => (who(), call()).prop_map(|(who, call)| Step::Call(who, call)),
        5 => Just(Step::Lapse),
        1 => prop::bool::weighted(0.2).prop_map(|takeover| Step::Cancel { takeover }),
        2 => Just(Step::RetryByHand),
        3 => (-5_000..60_000_i64).prop_map(|by| Step::Clock(Anchor::Now, by)),
        1 => (-7_200_000..7_200_000_i64).prop_map(|by| Step::Clock(Anchor::Now, by)),
        5 => (-1..=1_i64).prop_map(|by| Step::Clock(Anchor::DueAt, by)),
        1 => (-1..=1_i64).prop_map(|by| Step::Clock(Anchor::Deadline, by)),
    ]
}

/// Long enough for every attempt that a job can have.
fn long_history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(churn(), 1000)
}

/// Steps that lead from one attempt to the next.
fn churn() -> impl Strategy<Value = Step> {
    let call = prop_oneof![
        1 => Just(Call::Heartbeat(None)),
        2 => Just(Call::Submit(Verdict::Failed { retryable: true })),
        2 => Just(Call::Release),
    ];
    prop_oneof![
        5 => kind().prop_map(Step::Claim),
        5 => call.prop_map(|call| Step::Call(Who::Last, call)),
        1 => Just(Step::Lapse),
        1 => Just(Step::RetryByHand),
        3 => Just(Step::Clock(Anchor::DueAt, 0)),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => LeaseTerms::BOUNDS_SECONDS.prop_map(Kind::Native),
        2 => Just(Kind::Native(60)),
        1 => key().prop_map(Kind::Legacy),
    ]
}

/// `k` is also the key of the native workers.
fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("k"), Just("l")]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        6 => Just(Who::Last),
        3 => any::<Index>().prop_map(Who::Once),
        1 => Just(Who::UnknownToken),
        1 => key().prop_map(Who::Key),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => prop::option::of(0..=100_u8).prop_map(Call::Heartbeat),
        1 => Just(Call::Submit(Verdict::Completed)),
        3 => prop::bool::weighted(0.8).prop_map(|retryable| Call::Submit(Verdict::Failed { retryable })),
        1 => Just(Call::Release),
    ]
}

fn a_job() -> impl Strategy<Value = Job> {
    let total = prop::option::weighted(0.3, 1..20_000_u64);
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)];
    let webhook = prop::option::of(Just("https://hooks.example/jobs"));
    (1..5_000_u64, 1..5_000_u64, total, 0..=20_u32, priority, webhook).prop_map(
        |(queue, run, total, max_retries, priority, webhook)| {
            let mut job = new_job();
            job.spec.limits = Limits {
                queue: Duration::from_secs(queue),
                run: Duration::from_secs(run),
                total: total.map(Duration::from_secs),
                max_retries,
            };
            job.spec.priority = priority;
            job.spec.webhook = webhook.map(|url| url.parse().unwrap());
            job
        },
    )
}

/// A job that only its attempts can end.
fn a_patient_job() -> Job {
    let mut job = new_job();
    let long = Duration::from_secs(1_000_000_000);
    job.spec.limits = Limits { queue: long, run: long, total: None, max_retries: 20 };
    job
}

/// A job, the moment, and every claim that was granted.
struct World {
    job: Job,
    now: Timestamp,
    granted: Vec<Granted>,
    seen: BTreeSet<String>,
}

struct Granted {
    worker: Worker,
    /// What its submission was answered first, and whether it was of a success.
    answer: Option<(bool, Status)>,
}

/// A step whose worker is known.
enum Event {
    Claim(Worker),
    Call(Worker, Call),
    Lapse,
    Cancel { takeover: bool },
    RetryByHand,
}

#[derive(Clone, Debug, PartialEq)]
enum Effect {
    Changed(Job),
    OnlyProgress(Job),
    Repeated(Status),
    Nothing,
    Refused(Refused),
}

/// Lives through `steps` and says what was met on the way.
fn live(job: Job, steps: &[Step]) -> Result<BTreeSet<String>, TestCaseError> {
    let mut world = World { job, now: at(0), granted: Vec::new(), seen: BTreeSet::new() };
    for step in steps {
        world.step(step)?;
        check_job(&world.job)?;
        check_lapse(&world.job, world.now)?;
    }
    check_end_when_left_alone(world.job)?;
    Ok(world.seen)
}

impl World {
    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let event = match step {
            Step::Claim(kind) => Event::Claim(self.newcomer(kind)),
            Step::Call(who, call) => Event::Call(self.caller(who), call.clone()),
            Step::Lapse => Event::Lapse,
            Step::Cancel { takeover } => Event::Cancel { takeover: *takeover },
            Step::RetryByHand => Event::RetryByHand,
            Step::Clock(anchor, by) => {
                self.now = Timestamp(self.moment(anchor).0 + by);
                return Ok(());
            }
        };
        let before = self.job.clone();
        let effect = effect(&self.job, &event, self.now);
        prop_assert_eq!(&self.job, &before, "the job that was given changed");
        prop_assert_eq!(self::effect(&self.job, &event, self.now), effect.clone(), "the second call differs");
        if let Event::Call(worker, call) = &event {
            self.check_call(worker, call, &effect)?;
        }
        self.note(&effect);
        match effect {
            Effect::Changed(after) => {
                check_change(&before, &after, &event)?;
                self.remember(&event, after.status());
                self.job = after;
            }
            Effect::OnlyProgress(after) => {
                let told = Job { progress: after.progress.clone(), updated_at: self.now, ..before };
                prop_assert_eq!(&after, &told, "more than progress changed");
                self.job = after;
            }
            Effect::Repeated(_) | Effect::Nothing | Effect::Refused(_) => {}
        }
        Ok(())
    }

    fn moment(&self, anchor: &Anchor) -> Timestamp {
        match anchor {
            Anchor::Now => Some(self.now),
            Anchor::DueAt => self.job.due_at().map(|due| due.max(self.now)),
            Anchor::Deadline => self.job.deadline(),
        }
        .unwrap_or(self.now)
    }

    /// A worker whose token, if it has one, nobody else has.
    fn newcomer(&self, kind: &Kind) -> Worker {
        match kind {
            Kind::Native(seconds) => {
                let terms = LeaseTerms::Renewed(Duration::from_secs(*seconds));
                Worker { terms, ..Worker::native(u16::try_from(self.granted.len()).unwrap()) }
            }
            Kind::Legacy(key) => Worker::legacy(key),
        }
    }

    fn caller(&self, who: &Who) -> Worker {
        let known = match who {
            Who::Last => self.granted.last(),
            Who::Once(index) if !self.granted.is_empty() => Some(index.get(&self.granted)),
            Who::Once(_) | Who::UnknownToken => None,
            Who::Key(key) => return Worker::legacy(key),
        };
        known.map_or_else(|| Worker::native(u16::MAX), |granted| granted.worker.clone())
    }

    /// The last claim that was granted to this credential.
    fn claim_of(&mut self, worker: &Worker) -> Option<&mut Granted> {
        self.granted.iter_mut().rev().find(|granted| granted.worker.credential == worker.credential)
    }

    fn remember(&mut self, event: &Event, status: Status) {
        match event {
            Event::Claim(worker) => self.granted.push(Granted { worker: worker.clone(), answer: None }),
            Event::Call(worker, Call::Submit(verdict)) => {
                let success = matches!(verdict, Verdict::Completed);
                if let Some(claim) = self.claim_of(worker) {
                    claim.answer = Some((success, status));
                }
            }
            Event::Call(_, Call::Heartbeat(_) | Call::Release)
            | Event::Lapse
            | Event::Cancel { .. }
            | Event::RetryByHand => {}
        }
    }

    /// Only the holder changes the job, the holder is not turned away, and a submission keeps its first answer.
    fn check_call(&mut self, worker: &Worker, call: &Call, effect: &Effect) -> Result<(), TestCaseError> {
        let job = self.job.clone();
        let native = worker.credential.token.is_some();
        let last = self.granted.last().is_some_and(|last| last.worker.credential == worker.credential);
        let holds = last
            && match job.status() {
                Status::Processing => true,
                Status::Pending => ended_by_time(&job),
                Status::Completed | Status::Failed | Status::Timeout | Status::Cancelled => false,
            };

        let accepted = matches!(effect, Effect::Changed(_) | Effect::OnlyProgress(_));
        let may_be_late = matches!(call, Call::Heartbeat(_) | Call::Release)
            && *effect == Effect::Refused(Refused::RunTimeout { status: job.status() });
        prop_assert_eq!(
            accepted || (holds && may_be_late),
            holds,
            "the wrong caller was heard: {:?}",
            effect
        );

        prop_assert_eq!(job.holds(&worker.credential).is_ok(), holds);

        // Without a token nobody holds what a token holds, and is told which of both is missing.
        let by_token = job.running().is_some_and(|running| matches!(running.holder, Holder::Token(_)));
        let stale = Effect::Refused(if by_token && !native {
            Refused::NoLeaseToken { status: job.status() }
        } else {
            Refused::StaleLease { status: job.status() }
        });
        match call {
            Call::Submit(verdict) => self.check_submission(worker, verdict, effect, holds, &stale),
            Call::Release if !holds && native && released_by(&job, worker) => {
                prop_assert_eq!(effect, &Effect::Nothing);
                self.seen.insert("released again".to_owned());
                Ok(())
            }
            Call::Release | Call::Heartbeat(_) => {
                prop_assert!(holds || *effect == stale, "{:?}", effect);
                prop_assert!(!matches!(effect, Effect::Repeated(_) | Effect::Nothing));
                Ok(())
            }
        }
    }

    fn check_submission(
        &mut self,
        worker: &Worker,
        verdict: &Verdict,
        effect: &Effect,
        holds: bool,
        stale: &Effect,
    ) -> Result<(), TestCaseError> {
        let job = self.job.clone();
        let answer = self.claim_of(worker).and_then(|claim| claim.answer);
        let native = worker.credential.token.is_some();
        let success = matches!(verdict, Verdict::Completed);
        let expected = answer.filter(|_| !holds).map(|(first, status)| match (first, success) {
            (true, true) | (false, false) => Effect::Repeated(status),
            (true, false) => {
                Effect::Refused(Refused::OtherOutcome { status: job.status(), first: "completed" })
            }
            (false, true) => Effect::Refused(Refused::OtherOutcome { status: job.status(), first: "failed" }),
        });
        match expected {
            Some(expected) if native => prop_assert_eq!(effect, &expected),
            // Of the attempts of one key only the last ended one can be told.
            Some(expected) => prop_assert!(*effect == expected || effect == stale, "{:?}", effect),
            None => prop_assert!(holds || effect == stale, "{:?}", effect),
        }
        let foretold = match effect {
            Effect::Changed(_) | Effect::OnlyProgress(_) | Effect::Nothing => Ok(None),
            Effect::Repeated(status) => Ok(Some(*status)),
            Effect::Refused(refused) => Err(refused.clone()),
        };
        prop_assert_eq!(job.may_submit(&worker.credential, success), foretold);
        Ok(())
    }

    fn note(&mut self, effect: &Effect) {
        let met = match effect {
            Effect::Changed(after) => {
                if let Some(attempt) = after.attempts.last() {
                    self.seen.insert(format!("attempt {}", variant(&attempt.outcome)));
                }
                if ended_by_time(&self.job)
                    && after.running().is_some()
                    && after.attempts.len() < self.job.attempts.len()
                {
                    self.seen.insert("lapsed and went on".to_owned());
                }
                if self.job.attempts.last().is_some_and(|last| last.outcome == Outcome::TimedOut)
                    && after.status() == Status::Completed
                    && after.attempts.len() == self.job.attempts.len()
                {
                    self.seen.insert("timed out and was submitted late".to_owned());
                }
                match &after.state {
                    State::Pending(pending) => format!("Pending {:?}", pending.wait),
                    State::Processing(running) if running.terms == LeaseTerms::WholeRun => {
                        "Processing legacy".to_owned()
                    }
                    State::Processing(_) => "Processing native".to_owned(),
                    ended @ (State::Completed { .. }
                    | State::Failed { .. }
                    | State::Timeout { .. }
                    | State::Cancelled { .. }) => variant(ended),
                }
            }
            Effect::OnlyProgress(_) => "only progress".to_owned(),
            Effect::Repeated(_) => "repeated".to_owned(),
            Effect::Nothing => "nothing".to_owned(),
            Effect::Refused(refused) => format!("refused {}", variant(refused)),
        };
        self.seen.insert(met);
    }
}

fn effect(job: &Job, event: &Event, now: Timestamp) -> Effect {
    match event {
        Event::Claim(worker) => worker.claim(job, now).map(Effect::Changed),
        Event::Call(worker, Call::Heartbeat(said)) => {
            let progress =
                said.map(|percentage| Progress { percentage, message: String::new(), stage: None });
            job.heartbeat(&worker.credential, progress, now).map(|renewal| {
                if renewal.renewed { Effect::Changed(renewal.job) } else { Effect::OnlyProgress(renewal.job) }
            })
        }
        Event::Call(worker, Call::Submit(verdict)) => {
            let submission = match verdict {
                // No two submissions bring the same result: a later one in the place of the first would show.
                Verdict::Completed => Submission::Completed(result(&format!("{now:?} {}", job.revision))),
                Verdict::Failed { retryable } => {
                    Submission::Failed { error: "it broke".to_owned(), retryable: *retryable }
                }
            };
            job.submit(&worker.credential, submission, now, half()).map(|submitted| match submitted {
                Submitted::Accepted(job) => Effect::Changed(*job),
                Submitted::Repeated(status) => Effect::Repeated(status),
            })
        }
        Event::Call(worker, Call::Release) => {
            let released = job.release(&worker.credential, now, half());
            released.map(|released| released.map_or(Effect::Nothing, Effect::Changed))
        }
        Event::Lapse => Ok(job.lapse(now, half()).map_or(Effect::Nothing, Effect::Changed)),
        Event::Cancel { takeover } => job.cancel(*takeover, now).map(Effect::Changed),
        Event::RetryByHand => job.retry(now).map(Effect::Changed),
    }
    .unwrap_or_else(Effect::Refused)
}

/// The last attempt ended because time passed, so that its worker may still be at it.
fn ended_by_time(job: &Job) -> bool {
    job.attempts.last().is_some_and(|last| {
        matches!(last.outcome, Outcome::Lapsed | Outcome::NeverHeardOf | Outcome::TimedOut)
    })
}

fn released_by(job: &Job, worker: &Worker) -> bool {
    job.attempts
        .iter()
        .any(|attempt| attempt.outcome == Outcome::Released && attempt.holder.is(&worker.credential))
}

/// The name of an enum's variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Of every change: what never changes, what only grows, what is only added to.
fn check_change(before: &Job, after: &Job, event: &Event) -> Result<(), TestCaseError> {
    if after == before {
        return Ok(());
    }
    prop_assert_ne!(before.status(), Status::Completed, "a completed job changed");
    prop_assert_eq!(after.revision, before.revision + 1);
    prop_assert!(after.attempt_number() >= before.attempt_number(), "the attempt number shrank");
    prop_assert!(after.continued_locally || !before.continued_locally, "a takeover was taken back");
    prop_assert_eq!(
        (&after.id, &after.tenant, &after.spec, after.created_at, after.rank()),
        (&before.id, &before.tenant, &before.spec, before.created_at, before.rank())
    );

    let ends = before.ending().is_none() && after.ending().is_some();
    let owed = after.event_since(before);
    prop_assert_eq!(owed.is_some(), ends && after.spec.webhook.is_some(), "each end is told once");
    prop_assert!(owed.is_none_or(|event| Some(event.id.ended_at) == after.ending().map(|ending| ending.at)));

    let by_hand = matches!(event, Event::RetryByHand);
    prop_assert!(by_hand || after.opened_at == before.opened_at);
    prop_assert!(
        by_hand || before.ending().is_none() || after.state == before.state,
        "an ended job came back"
    );

    // An attempt that has ended stays as it is, unless it only fell silent and its worker is back.
    let back = matches!(event, Event::Call(..)) && before.running().is_none();
    let fixed = before.attempts.len() - usize::from(back);
    prop_assert_eq!(&after.attempts[..fixed], &before.attempts[..fixed]);
    prop_assert!(after.attempts.len() <= before.attempts.len() + 1);

    let given_back = u32::from(back || by_hand);
    prop_assert!(by_hand || after.retries + given_back >= before.retries);
    prop_assert!(by_hand || after.free_returns + given_back >= before.free_returns);
    Ok(())
}

/// Of every job at every moment.
fn check_job(job: &Job) -> Result<(), TestCaseError> {
    prop_assert_eq!(job.check(), Ok(()));
    prop_assert!(job.attempt_number() <= MAX_ATTEMPTS);
    prop_assert!(job.retries <= job.spec.limits.max_retries);
    prop_assert!(job.free_returns <= MAX_FREE_RETURNS);
    prop_assert!(job.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Completed).count() <= 1);

    let live = job.ending().is_none();
    prop_assert_eq!((job.due_at().is_some(), job.deadline().is_some()), (live, live));
    prop_assert_eq!(live, matches!(job.status(), Status::Pending | Status::Processing));
    let (Some(due), Some(deadline)) = (job.due_at(), job.deadline()) else { return Ok(()) };
    let limits = &job.spec.limits;
    prop_assert!(limits.total.is_none_or(|total| deadline <= job.opened_at.plus(total)));
    match &job.state {
        State::Pending(Pending { since, wait }) => {
            prop_assert!(deadline <= since.plus(limits.queue));
            prop_assert_eq!(due, if *wait == Wait::Turn { job.rank() } else { *since });
        }
        State::Processing(running) => {
            prop_assert!(due <= deadline);
            prop_assert!(due <= running.lease_ends_at);
            prop_assert!(deadline <= running.started_at.plus(limits.run));
        }
        State::Completed { .. } | State::Failed { .. } | State::Timeout { .. } | State::Cancelled { .. } => {}
    }
    Ok(())
}

/// Time ends just what has run out: a run or a lease when it is due, a wait at its deadline.
fn check_lapse(job: &Job, now: Timestamp) -> Result<(), TestCaseError> {
    let over = if job.running().is_some() { job.due_at() } else { job.deadline() };
    let ended = job.lapse(now, Jitter::new(0.0));
    prop_assert_eq!(ended.is_some(), over.is_some_and(|over| over <= now));
    if let Some(ended) = ended {
        prop_assert!(matches!(ended.status(), Status::Pending | Status::Timeout));
    }
    Ok(())
}

/// A job hangs in no state: when nobody touches it any more, time alone ends it.
fn check_end_when_left_alone(mut job: Job) -> Result<(), TestCaseError> {
    // Three times at most: a claim that was never heard of goes back to the queue first.
    for _ in 0..3 {
        if let Some(deadline) = job.deadline() {
            let ended = job.lapse(deadline, half());
            prop_assert!(ended.is_some(), "nothing happens at the deadline of {:?}", job);
            job = ended.unwrap_or(job);
        }
    }
    prop_assert!(job.ending().is_some(), "left alone and still {}", job.status());
    Ok(())
}
