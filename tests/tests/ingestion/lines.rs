//! What happens when, by the test's hand: the line is cut and calls are held until something else has happened.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ingestion::{Decision, Method, Outcome, Reason, Takeover};
use reqwest::Method as Verb;
use serde_json::{Value, json};
use system_tests::{Answer, Claim, FaultyProxy, Hold, Stop};
use tokio::sync::Notify;

use crate::scene::{Local, Scene, Waiting, content_of};

/// Long enough for nothing to be late.
const HOUR: Duration = Duration::from_secs(3600);

/// A conversion whose line was cut while it waited, so that it goes on locally without a takeover.
struct Cut {
    scene: Scene,
    line: FaultyProxy,
    claim: Claim,
    outcome: Outcome,
}

/// Cuts the line while a worker has the job, and lets `then` go on once local work is under way; it ends when `gate` is
/// opened.
async fn cut(then: impl AsyncFnOnce(&Scene, &FaultyProxy, &Claim, &Notify)) -> Cut {
    let scene = Scene::start().await;
    let line = scene.line(1, 0.0).await;
    let ingestion = scene.ingestion(&line, Duration::ZERO);
    let (task, gate, waiting) = (scene.task("task-1", HOUR), Arc::new(Notify::new()), Waiting::default());
    let local = Local::behind(&gate);
    let script = async {
        waiting.0.notified().await;
        let claim = scene.site.claim("gpu-1").await;
        line.close();
        local.begun.notified().await;
        then(&scene, &line, &claim, &gate).await;
        claim
    };
    let (outcome, claim) = tokio::join!(ingestion.convert(&task, &local, &waiting), script);
    assert_eq!(local.running.load(Ordering::SeqCst), 0);
    Cut { outcome: outcome.unwrap(), scene, line, claim }
}

async fn submit(scene: &Scene, claim: &Claim) -> Answer {
    let result = json!({"success": true, "content": content_of(&claim.job_id)});
    scene.site.leased(claim, Verb::PUT, "result", &result).await
}

fn takeovers(at: Stop) -> Hold {
    Hold { method: "POST", target: "/cancel".to_owned(), at }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_before_the_takeover_wins_and_local_work_is_dropped() {
    let cut = cut(async |scene, line, claim, _| {
        line.hold(takeovers(Stop::BeforeServer));
        line.open();
        line.until_held(1).await;
        assert_eq!(submit(scene, claim).await.ok()["status"], "completed");
        line.let_go();
    })
    .await;
    assert_eq!(cut.outcome.method, Method::Remote);
    assert_eq!(cut.outcome.converted.content, content_of(&cut.claim.job_id));
    assert_eq!(cut.scene.jobs("task-1").await[0]["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_after_the_takeover_is_refused_though_nobody_has_heard_of_it() {
    let cut = cut(async |scene, line, claim, gate| {
        line.hold(takeovers(Stop::BeforeClient));
        line.open();
        line.until_held(1).await;
        assert_eq!(submit(scene, claim).await.status, 409);
        line.let_go();
        gate.notify_one();
    })
    .await;
    assert_eq!((cut.outcome.method, cut.outcome.takeover), (Method::Local, Some(Takeover::Confirmed)));
    assert_eq!(cut.scene.jobs("task-1").await[0]["status"], "cancelled");
    assert!(cut.scene.is_taken_over(&cut.claim.job_id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_work_that_ends_while_the_line_is_cut_counts_and_says_that_nobody_knows_it() {
    let Cut { scene, line, claim, outcome } = cut(async |_, _, _, gate| gate.notify_one()).await;
    assert_eq!((outcome.method, outcome.takeover), (Method::Local, Some(Takeover::Unconfirmed)));
    assert_eq!(outcome.remote_job_id.as_ref(), Some(&claim.job_id));
    // Whoever has not noted that the task has continued, because it has crashed, converts it again.
    assert_eq!(submit(&scene, &claim).await.ok()["status"], "completed");
    line.open();
    let (again, local) = (scene.task("task-1", HOUR), Local::taking(Duration::ZERO));
    let outcome = scene.ingestion(&line, HOUR).convert(&again, &local, &()).await.unwrap();
    assert_eq!((outcome.method, outcome.decision.reason), (Method::Remote, Reason::Resumed));
    assert_eq!(outcome.converted.content, content_of(&claim.job_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_before_it_hears_of_its_job_has_made_one_that_the_next_run_finds() {
    let scene = Scene::start().await;
    let line = scene.line(1, 0.0).await;
    let (ingestion, task) = (scene.ingestion(&line, HOUR), scene.task("task-1", HOUR));
    let (local, waiting) = (Local::taking(Duration::ZERO), Waiting::default());
    line.hold(Hold { method: "GET", target: "/status".to_owned(), at: Stop::BeforeServer });
    tokio::select! {
        result = ingestion.convert(&task, &local, &()) => panic!("{result:?}"),
        () = line.until_held(1) => {}
    }
    line.let_go();
    let script = async {
        waiting.0.notified().await;
        let claim = scene.site.claim("gpu-1").await;
        submit(&scene, &claim).await.ok();
    };
    let (outcome, ()) = tokio::join!(ingestion.convert(&task, &local, &waiting), script);
    let outcome = outcome.unwrap();
    assert_eq!((outcome.method, outcome.decision.reason), (Method::Remote, Reason::Resumed));
    assert_eq!(scene.jobs("task-1").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_made_by_what_the_functions_tell() {
    let scene = Scene::start().await;
    let line = scene.line(1, 0.0).await;
    let ingestion = scene.ingestion(&line, HOUR);
    let audio = domain::ContentType::Audio;
    let decide = async || -> Decision { ingestion.decide(&audio, true, HOUR).await };
    let decision = decide().await;
    assert_eq!(decision.reason, Reason::WorkerAvailable, "{decision}");
    assert_eq!(decision.figures.unwrap().live_workers, Some(1));
    let video = ingestion.decide(&domain::ContentType::Video, true, HOUR).await;
    assert_eq!(video.reason, Reason::NoLiveWorker, "{video}");
    scene.site.admin.post("/api/v1/queues/audio/pause", &Value::Null).await.ok();
    assert_eq!(decide().await.reason, Reason::QueuePaused);
    scene.site.admin.post("/api/v1/queues/audio/resume", &Value::Null).await.ok();
    scene.site.world.advance(HOUR * 2);
    let late = decide().await;
    assert_eq!(late.reason, Reason::NoLiveWorker, "{late}");
    let anonymous = client::Client::new(line.url.parse().unwrap(), None, "test/0").unwrap();
    let stranger = ingestion::Ingestion::new(anonymous, ingestion.settings().clone());
    assert_eq!(stranger.decide(&audio, true, HOUR).await.reason, Reason::Unauthorized);
    line.close();
    assert_eq!(decide().await.reason, Reason::Unreachable);
}
