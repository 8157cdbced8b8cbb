//! Every call of the API, and every call to DynamoDB and S3 that it makes, with everything that can go wrong there.

use std::collections::BTreeSet;

use api::{Access, ROUTES};
use serde_json::{Value, json};
use system_tests::JOBS;
use tokio::time::Instant;

use crate::{
    cases::{Case, cases},
    line::{Call, Fault, Lasting, Plan},
    refusals::Refusal,
    scene::{Answered, Scene, TIMEOUT, Wanted, call, poll},
};

/// How often a call is repeated until it is answered.
const MOST_REPETITIONS: u32 = 3;

/// What a case comes to when nothing goes wrong.
pub(crate) struct Clean {
    pub(crate) state: Value,
    pub(crate) calls: Vec<Call>,
}

impl Clean {
    /// The calls that write, by their places.
    pub(crate) fn writes(&self) -> impl Iterator<Item = usize> {
        self.calls.iter().enumerate().filter(|(_, call)| call.writes()).map(|(at, _)| at)
    }
}

pub(crate) async fn clean(case: &Case) -> Clean {
    let scene = Scene::new().await;
    let wanted = (case.prepare)(&scene).await;
    scene.line.begin(None);
    let answer = scene.ask(&wanted).await;
    let calls = scene.line.calls();
    assert!((case.is_done)(&answer.clone().ok()), "{}: {}", case.name, answer.body);
    let stored = scene.stored(false).await;
    let (ended, counted) = stored.ends();
    assert_eq!(ended, counted, "{}: the ends of jobs are counted", case.name);
    Clean { state: stored.comparable(case.trail), calls }
}

/// Lives through a case with a fault, and gives the first answer; none when the function was killed.
async fn faulty(case: &Case, clean: &Clean, plan: Plan) -> Option<Answered> {
    let told = format!("{} with {plan:?} of {:?}", case.name, operations(&clean.calls));
    let scene = Scene::new().await;
    let wanted = (case.prepare)(&scene).await;
    scene.line.begin(Some(plan));
    let begun = Instant::now();
    let first = tokio::select! {
        answer = scene.ask(&wanted) => Some(answer),
        () = scene.line.kill() => None,
    };
    let longest = if matches!(wanted, Wanted::Call { .. }) { TIMEOUT } else { sweep_jobs::TIMEOUT };
    assert!(begun.elapsed() < longest, "{told}: {:?}", begun.elapsed());
    let met = scene.line.calls();
    scene.line.begin(None);
    if let Some(answer) = first.as_ref().filter(|answer| !answer.is_success()) {
        assert_eq!((answer.status, answer.retry_after), (503, true), "{told}: {}", answer.body);
    }
    // Nothing is half-done, not even before anybody asks again.
    scene.stored(wanted.is_deletion()).await;
    complete(case, &scene, &wanted, first.as_ref(), &told).await;
    let stored = scene.stored(false).await;
    assert_eq!(stored.comparable(case.trail), clean.state, "{told}");
    let (ended, counted) = stored.ends();
    let most_off = match &first {
        // Each attempt at counting an end may count it.
        _ if counts(&met, plan) => 3 * ended,
        Some(answer) if answer.is_success() => 0,
        Some(_) | None => ended,
    };
    assert!(ended.abs_diff(counted) <= most_off, "{told}: {ended} ends, {counted} counted");
    assert!(scene.courier.count() <= 2, "{told}: {} deliveries", scene.courier.count());
    first
}

/// Asks again, with the same arguments, until it is done.
pub(crate) async fn complete(
    case: &Case,
    scene: &Scene,
    wanted: &Wanted,
    first: Option<&Answered>,
    told: &str,
) {
    let is_done = |answer: &Answered| answer.is_success() && (case.is_done)(&answer.body);
    if first.is_some_and(is_done) {
        return;
    }
    for _ in 0..MOST_REPETITIONS {
        scene.world.advance(case.wait);
        let answer = scene.ask(wanted).await;
        let was_done = case.done_before == Some(answer.status);
        assert!(answer.is_success() || was_done, "{told}, again: {} {}", answer.status, answer.body);
        if was_done || is_done(&answer) {
            return;
        }
    }
    panic!("{told}: asking again does not help");
}

/// Whether the fault met the counting of an end.
fn counts(met: &[Call], plan: Plan) -> bool {
    plan.lasting == Lasting::Outage || met.get(plan.call).is_some_and(|call| call.operation == "UpdateItem")
}

fn operations(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.operation.as_str()).collect()
}

/// What the first answers of all cases at all calls were.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    succeeded: usize,
    unavailable: usize,
    killed: usize,
}

async fn at_every_call(fault: Fault, lasting: Lasting) -> Tally {
    let mut tally = Tally::default();
    for case in cases() {
        let clean = clean(&case).await;
        for call in 0..clean.calls.len() {
            tally.count(faulty(&case, &clean, Plan { call, fault, lasting }).await.as_ref());
        }
    }
    tally
}

/// From the start and from after every write: between those, an outage finds the same things done.
async fn outage_at_every_state(fault: Fault) {
    for case in cases() {
        let clean = clean(&case).await;
        let after_writes = clean.writes().map(|call| call + 1).filter(|call| *call < clean.calls.len());
        for call in std::iter::once(0).chain(after_writes) {
            faulty(&case, &clean, Plan { call, fault, lasting: Lasting::Outage }).await;
        }
    }
}

/// For what makes a difference only where something is written.
async fn at_every_write(fault: Fault, lasting: Lasting) -> Tally {
    let mut tally = Tally::default();
    for case in cases() {
        let clean = clean(&case).await;
        for call in clean.writes() {
            tally.count(faulty(&case, &clean, Plan { call, fault, lasting }).await.as_ref());
        }
    }
    tally
}

impl Tally {
    fn count(&mut self, first: Option<&Answered>) {
        match first {
            None => self.killed += 1,
            Some(answer) if answer.is_success() => self.succeeded += 1,
            Some(_) => self.unavailable += 1,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_of_the_api_is_asked() {
    let mut asked = BTreeSet::new();
    for case in cases() {
        let scene = Scene::new().await;
        if let Wanted::Call { method, path, .. } = (case.prepare)(&scene).await {
            let path = path.split('?').next().unwrap();
            asked.insert((method.to_owned(), api::find(&method.parse().unwrap(), path).unwrap().route.path));
        }
    }
    let guarded = ROUTES.iter().filter(|route| route.access != Access::Public);
    assert_eq!(asked, guarded.map(|route| (route.method.to_string(), route.path)).collect());
}

/// All that DynamoDB and S3 say when they cannot do something now, to each of their operations.
#[tokio::test(start_paused = true)]
async fn every_refusal_is_one_for_now() {
    let mut refused = BTreeSet::new();
    for case in cases().into_iter().filter(|case| ["create", "progress", "result"].contains(&case.name)) {
        let clean = clean(&case).await;
        for (call, Call { operation, .. }) in clean.calls.iter().enumerate() {
            if !refused.insert(operation.clone()) {
                continue;
            }
            for refusal in Refusal::all_of(operation) {
                let plan = Plan { call, fault: Fault::RefusedWith(refusal), lasting: Lasting::Call };
                faulty(&case, &clean, plan).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_attempt() {
    let tally = at_every_write(Fault::Refused, Lasting::Attempt).await;
    assert!(tally.succeeded > tally.unavailable, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call() {
    let tally = at_every_call(Fault::Refused, Lasting::Call).await;
    assert!(tally.unavailable > tally.succeeded, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_answers_any_more() {
    outage_at_every_state(Fault::Stalled).await;
}

#[tokio::test(start_paused = true)]
async fn everything_is_slow() {
    for case in cases() {
        faulty(&case, &clean(&case).await, Plan { call: 0, fault: Fault::Slow, lasting: Lasting::Outage })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_lost() {
    let tally = at_every_write(Fault::Lost, Lasting::Attempt).await;
    assert!(tally.succeeded > tally.unavailable, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_lost() {
    let tally = at_every_write(Fault::AnswerLost, Lasting::Attempt).await;
    assert!(tally.succeeded > tally.unavailable, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_lost() {
    let tally = at_every_write(Fault::AnswerLost, Lasting::Call).await;
    assert!(tally.unavailable > tally.succeeded, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_too_late() {
    let tally = at_every_write(Fault::Late, Lasting::Attempt).await;
    assert!(tally.succeeded > tally.unavailable, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn killed_before_a_write() {
    let tally = at_every_write(Fault::KilledBefore, Lasting::Call).await;
    assert_eq!((tally.succeeded, tally.unavailable), (0, 0), "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn killed_after_a_write() {
    let tally = at_every_write(Fault::KilledAfter, Lasting::Call).await;
    assert_eq!((tally.succeeded, tally.unavailable), (0, 0), "{tally:?}");
}

/// The SDK then finds a row in the way that is its own write and more.
#[tokio::test(start_paused = true)]
async fn a_creation_whose_answer_is_lost_may_meet_a_worker() {
    let scene = Scene::new().await;
    let create = call("POST", JOBS, scene.job(json!({})).await);
    scene.line.begin(None);
    scene.ask(&create).await.ok();
    let put = scene.line.calls().iter().position(Call::writes).unwrap();
    scene.ask(&poll()).await.ok();
    scene.line.begin(Some(Plan { call: put, fault: Fault::AnswerLost, lasting: Lasting::Attempt }));
    let working = async {
        while scene.line.calls().len() <= put {
            tokio::task::yield_now().await;
        }
        loop {
            let claimed = scene.ask(&poll()).await.ok();
            if claimed["job_id"].is_string() {
                return claimed;
            }
        }
    };
    let (made, claimed) = tokio::join!(scene.ask(&create), working);
    assert_eq!(made.ok()["job_id"], claimed["job_id"]);
}
