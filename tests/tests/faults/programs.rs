//! The functions as programs, killed at what they write, and cut off from it.

use crate::{
    cases::{Case, cases},
    line::{Fault, Lasting, Plan},
    matrix::{Clean, clean, complete},
    process::{Process, function_asked},
    scene::{Answered, Scene},
};

/// The cases that write and for which no time has to pass: the programs go by the machine's clock.
const WRITING: [&str; 17] = [
    "complete_upload",
    "create",
    "create_of_a_page",
    "import_an_open_job",
    "import_a_completed_job",
    "poll_for_a_new_job",
    "progress",
    "complete_result_upload",
    "result",
    "uploaded_result",
    "failure",
    "release",
    "cancel",
    "retry",
    "delete",
    "redrive_event",
    "rotate_webhook_secret",
];

/// Those of them that write in different ways. What a program adds to a broken connection is only its own HTTP client.
const CUT_OFF: [&str; 5] = ["complete_upload", "create", "poll_for_a_new_job", "result", "delete"];

fn named(names: &[&str]) -> Vec<Case> {
    let cases: Vec<Case> = cases().into_iter().filter(|case| names.contains(&case.name)).collect();
    assert_eq!(cases.len(), names.len());
    cases
}

/// Asks a program, and another one in its place if it is killed.
async fn live_through(case: &Case, clean: &Clean, plan: Plan) -> Option<Answered> {
    let told = format!("{} with {plan:?}", case.name);
    let scene = Scene::new().await;
    let (dynamodb, s3) = (scene.dynamodb.serve(&scene.line).await, scene.s3.serve(&scene.line).await);
    let wanted = (case.prepare)(&scene).await;
    let function = function_asked(&wanted).unwrap();
    let request = scene.request(&wanted);
    let process = Process::start(&scene, function, &dynamodb.url, &s3.url).await;
    scene.line.begin(Some(plan));
    let first = tokio::select! {
        answer = process.ask(&request) => Some(answer),
        () = scene.line.kill() => None,
    };
    process.kill().await;
    scene.line.begin(None);
    scene.stored(wanted.is_deletion()).await;
    let again = match &first {
        Some(answer) => answer.clone(),
        None => Process::start(&scene, function, &dynamodb.url, &s3.url).await.ask(&request).await,
    };
    let was_done = case.done_before == Some(again.status);
    assert!(again.is_success() || was_done, "{told}: {} {}", again.status, again.body);
    if !was_done {
        // What the killed one took is free again when its time is over.
        complete(case, &scene, &wanted, Some(&again), &told).await;
    }
    assert_eq!(scene.stored(false).await.comparable(case.trail), clean.state, "{told}");
    first
}

async fn at_every_write(cases: Vec<Case>, fault: Fault, is_killed: bool) {
    for case in cases {
        let clean = clean(&case).await;
        assert!(clean.writes().count() > 0, "{} writes nothing", case.name);
        for call in clean.writes() {
            let plan = Plan { call, fault, lasting: Lasting::Attempt };
            let first = live_through(&case, &clean, plan).await;
            assert_eq!(first.is_none(), is_killed, "{} with {plan:?}: {first:?}", case.name);
        }
    }
}

#[tokio::test]
async fn killed_before_a_write() {
    at_every_write(named(&WRITING), Fault::KilledBefore, true).await;
}

#[tokio::test]
async fn killed_after_a_write() {
    at_every_write(named(&WRITING), Fault::KilledAfter, true).await;
}

#[tokio::test]
async fn cut_off_before_a_write() {
    at_every_write(named(&CUT_OFF), Fault::Lost, false).await;
}

#[tokio::test]
async fn cut_off_after_a_write() {
    at_every_write(named(&CUT_OFF), Fault::AnswerLost, false).await;
}
