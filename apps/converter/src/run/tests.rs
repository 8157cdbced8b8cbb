use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::*;
use crate::{
    heartbeat::Report,
    jobs::{Completed, RunningJob},
};

const MINUTE: Duration = Duration::from_secs(60);

fn claimed(attempt: u64) -> ClaimedJob {
    serde_json::from_value(json!({
        "job_id": "job", "source_file_url": "", "content_type": "audio", "task_options": {},
        "lease_token": "secret", "attempt": attempt, "lease_expires_in_seconds": 60, "report_every_seconds": 10,
        "run_timeout_seconds": 3600,
        "download": {"url": "http://h/?secret", "filename": "talk\u{1b}[2J.wav", "size_bytes": 4 << 20, "etag": "",
            "expires_in_seconds": 600},
    }))
    .unwrap()
}

/// A run that is stalled after a quarter of an hour, and what the server is told of it.
struct Scene {
    progress: Arc<Progress>,
    run: Run,
    updates: watch::Receiver<Report>,
}

impl Scene {
    fn new() -> Self {
        let progress = Arc::new(Progress::new(Arc::new(Jobs::new(15 * MINUTE))));
        let (reporter, updates) = Reporter::new();
        let run = Run::begin(&progress, &claimed(1), &reporter);
        Self { progress, run, updates }
    }

    fn job(&self) -> RunningJob {
        self.progress.store().all().remove(0)
    }

    /// The percentage, the message and the stage that the server is told.
    fn told(&self) -> (u64, String, Option<String>) {
        let request = self.updates.borrow().request();
        (request.percentage, request.message, request.stage)
    }
}

fn telling(percentage: u64, message: &str, stage: Option<&str>) -> (u64, String, Option<String>) {
    (percentage, message.to_owned(), stage.map(str::to_owned))
}

#[tokio::test(start_paused = true)]
async fn a_run_without_progress_is_stalled_once_and_the_next_progress_clears_it() {
    let scene = Scene::new();
    scene.run.converting("faster-whisper");
    scene.run.line("Processing progress: Transcribing (40%)");
    sleep(14 * MINUTE).await;
    assert!(!scene.job().stalled);
    assert_eq!(scene.told(), telling(40, "Transcribing", Some("Transcribing")));

    sleep(2 * MINUTE).await;
    assert!(scene.job().stalled);
    assert_eq!(scene.job().seconds_since_progress, 16 * 60);
    let stalled = "No progress for 15 min; last: Transcribing (40%)";
    assert_eq!(scene.told(), telling(40, stalled, Some("stalled")));
    // What says the same again is no progress, and what is no progress is none.
    scene.run.line("Processing progress: Transcribing (40%)");
    scene.run.line("still there");
    assert!(scene.job().stalled);
    assert_eq!(scene.told().1, stalled);

    sleep(30 * MINUTE).await;
    assert_eq!(scene.told().1, "No progress for 45 min; last: Transcribing (40%)");
    let news = || scene.progress.store().stall("job-1", 60 * MINUTE);
    assert_eq!(news(), None, "it is logged once");

    scene.run.line("Processing progress: Transcribing (41%)");
    assert!(!scene.job().stalled);
    assert_eq!(scene.told(), telling(41, "Transcribing", Some("Transcribing")));

    sleep(14 * MINUTE).await;
    assert!(!scene.job().stalled);
    sleep(15 * MINUTE).await;
    assert!(scene.job().stalled, "it may stall again");
    scene.run.line("Processing progress: Transcribing (42%)");
    assert_eq!(
        news().as_deref(),
        Some("No progress for 60 min; last: Transcribing (42%)"),
        "and be logged again"
    );
}

#[tokio::test(start_paused = true)]
async fn progress_of_any_kind_keeps_a_run_from_being_stalled() {
    let scene = Scene::new();
    for done in 1..=4 {
        sleep(10 * MINUTE).await;
        scene.run.downloaded(done << 20, 4 << 20);
        assert!(!scene.job().stalled);
    }
    sleep(10 * MINUTE).await;
    scene.run.converting("mine");
    for line in
        ["[5%] one", "[5%] two", "Duration: 01:00:00.00, start: 0", "size=1kB time=00:00:10.00 bitrate=1"]
    {
        sleep(10 * MINUTE).await;
        scene.run.line(line);
    }
    sleep(4 * MINUTE).await;
    assert!(!scene.job().stalled);
}

#[tokio::test(start_paused = true)]
async fn a_download_may_stall_and_a_submission_may_not() {
    let scene = Scene::new();
    scene.run.downloaded(1 << 20, 4 << 20);
    sleep(16 * MINUTE).await;
    assert_eq!(
        scene.told(),
        telling(0, "No progress for 15 min; last: Downloading: 1 of 4 MiB (25%)", Some("stalled"))
    );
    scene.run.submitting();
    assert_eq!(scene.told(), telling(0, "Submitting", None));
    sleep(600 * MINUTE).await;
    assert!(!scene.job().stalled);
    assert_eq!(scene.told(), telling(0, "Submitting", None));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_seen_from_its_claim_to_its_end() {
    let scene = Scene::new();
    let job = scene.job();
    assert_eq!((job.job_id.as_str(), job.attempt, job.source.as_str()), ("job", 1, "talk.wav"));
    assert_eq!((job.phase, job.percentage, job.bytes), (Phase::Downloading, 0, 4 << 20));
    scene.run.downloaded(1 << 20, 4 << 20);
    assert_eq!((scene.job().percentage, scene.job().message.as_str()), (25, "Downloading: 1 of 4 MiB"));
    assert_eq!(
        scene.told(),
        telling(0, "Downloading: 1 of 4 MiB", None),
        "the server is told the conversion's"
    );

    scene.run.converting("mine");
    assert_eq!((scene.job().phase, scene.job().percentage), (Phase::Converting, 0));
    assert_eq!(scene.job().converter.as_deref(), Some("mine"));
    scene.run.line("[50%] one");
    scene.run.line("[20%] two");
    assert_eq!((scene.job().percentage, scene.job().message.as_str()), (50, "two"));
    assert_eq!(scene.told(), telling(50, "two", None));
    sleep(MINUTE).await;
    assert_eq!((scene.job().seconds, scene.job().seconds_since_progress), (60, 60));

    scene.run.submitting();
    assert_eq!((scene.job().phase, scene.job().seconds_since_progress), (Phase::Submitting, 0));
    scene.run.completed(true, "Converted");
    assert_eq!(scene.progress.store().completed(), Completed { finished: 1, failed: 0 });
    let Scene { progress, run, .. } = scene;
    drop(run);
    assert_eq!(progress.store().all(), []);
}

#[tokio::test(start_paused = true)]
async fn two_attempts_at_one_job_are_told_apart() {
    let scene = Scene::new();
    let (reporter, _updates) = Reporter::new();
    sleep(MINUTE).await;
    let second = Run::begin(&scene.progress, &claimed(2), &reporter);
    second.converting("mine");
    second.line("[70%] x");
    let percentages = |progress: &Progress| {
        progress.store().all().into_iter().map(|job| (job.attempt, job.percentage)).collect::<Vec<_>>()
    };
    assert_eq!(percentages(&scene.progress), [(1, 0), (2, 70)], "the oldest first");
    let Scene { progress, run, .. } = scene;
    drop(run);
    assert_eq!(percentages(&progress), [(2, 70)]);
    second.completed(false, "no recording");
    assert_eq!(progress.store().completed(), Completed { finished: 0, failed: 1 });
}
