//! `remote-converter status`, asked of the program itself.

use serde_json::{Value, json};

use crate::{
    SLEEP,
    converter::Converter,
    pause,
    server::{Server, problem},
};

/// Waits until the status is as it is wanted to be.
async fn status_with(converter: &Converter, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let (code, out, err) = converter.status(&["--json"]);
        // While it starts, nobody answers yet.
        if code == Some(0) {
            let status: Value = serde_json::from_str(&out).unwrap();
            if wanted(&status) {
                return status;
            }
        } else {
            assert_eq!(code, Some(3), "{err}");
        }
        pause().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_running_converter_are_shown() {
    let server = Server::start().await;
    let converter = Converter::start(&server, SLEEP);
    let idle = status_with(&converter, |status| status["activity"] == "polling").await;
    assert_eq!((&idle["worker_id"], &idle["max_concurrent_jobs"]), (&json!("tester"), &json!(2)));
    assert_eq!((&idle["jobs"], &idle["spooled"], &idle["rejected"]), (&json!([]), &json!(0), &json!(0)));

    let jobs = [server.offer("hello"), server.offer("world")];
    let status = status_with(&converter, |status| {
        status["jobs"].as_array().unwrap().iter().filter(|job| job["percentage"] == 10).count() == 2
    })
    .await;
    let shown = status["jobs"].as_array().unwrap();
    for job in &jobs {
        let shown = shown.iter().find(|shown| shown["job_id"] == **job).unwrap();
        assert_eq!((&shown["phase"], &shown["converter"]), (&json!("converting"), &json!("test")));
        assert_eq!((&shown["message"], &shown["source"]), (&json!("Sleeping"), &json!("source.txt")));
        assert_eq!((&shown["bytes"], &shown["attempt"]), (&json!(5), &json!(1)));
        assert_eq!((&shown["content_type"], &shown["stalled"]), (&json!("x-test"), &json!(false)));
    }
    assert_eq!(status["last_answer"]["ok"], true);
    status_with(&converter, |status| status["activity"] == "busy").await;

    let (code, text, err) = converter.status(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(text.contains("2 of 2 running") && text.contains("Sleeping"), "{text}");
    assert!(jobs.iter().all(|job| text.contains(job)), "{text}");
    assert!(!text.contains("secret") && !status.to_string().contains("secret"), "{status}");
    converter.signal("TERM");
    status_with(&converter, |status| status["activity"] == "draining").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_converter_that_runs_no_more_is_told_in_one_sentence() {
    let server = Server::start().await;
    let mut converter = Converter::start(&server, SLEEP);
    status_with(&converter, |status| status["activity"] == "polling").await;
    let socket = converter.home().join("temp/status.sock");
    converter.signal("KILL");
    converter.end().await;
    assert!(socket.exists());
    let (code, out, err) = converter.status(&[]);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(err.starts_with("remote-converter: No converter runs") && err.lines().count() == 1, "{err}");

    let mut converter = converter.again();
    status_with(&converter, |status| status["activity"] == "polling").await;
    converter.signal("TERM");
    converter.end().await;
    assert!(!socket.exists());
    assert_eq!(converter.status(&["--json"]).0, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_server_and_what_it_refused_are_counted() {
    let server = Server::start().await;
    server.answer_result(503, problem(503, "unavailable"));
    let converter = Converter::start(&server, crate::COPY);
    server.offer("hello");
    let status = status_with(&converter, |status| {
        status["spooled"] == 1 && status["jobs"][0]["phase"] == "submitting"
    })
    .await;
    assert_eq!(status["completed"], json!({"finished": 0, "failed": 0}));
    server.answer_result(200, json!({"status": "completed", "ingestion_continued": false}));
    status_with(&converter, |status| status["completed"]["finished"] == 1 && status["jobs"] == json!([]))
        .await;
    server.answer_result(409, problem(409, "stale-lease"));
    server.offer("hello");
    let status = status_with(&converter, |status| status["rejected"] == 1).await;
    assert_eq!((&status["spooled"], &status["completed"]["finished"]), (&json!(0), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_no_work_is_taken_is_told() {
    let server = Server::start().await;
    let converter = Converter::start_with(&server, crate::COPY, &["--max-jobs", "1"]);
    server.wait_for("poll", "").await;
    // What is no folder takes as little as a full disk, also for root.
    let work = converter.home().join("temp/work");
    std::fs::remove_dir(&work).unwrap();
    std::fs::write(&work, "").unwrap();
    server.offer("hello");
    let paused = status_with(&converter, |status| status["activity"] == "paused").await;
    assert!(paused["reason"].as_str().unwrap().contains("unable"), "{paused}");
    server.refuse_polls();
    std::fs::remove_file(&work).unwrap();
    let failed = status_with(&converter, |status| status["activity"] == "waiting").await;
    assert_eq!(failed["last_answer"]["ok"], false);
    assert!(!failed["last_answer"]["text"].as_str().unwrap().is_empty(), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_progress_is_told_to_the_server_and_shown() {
    let server = Server::start().await;
    let converter = Converter::start_with(&server, SLEEP, &["--stall-seconds", "10"]);
    let job = server.offer("hello");
    let report = loop {
        match server.latest("progress", &job) {
            Some(report) if report.body["stage"] == "stalled" => break report.body,
            _ => pause().await,
        }
    };
    assert_eq!(report["message"], "No progress for 10 s; last: Sleeping (10%)");
    assert_eq!(report["percentage"], 10);
    let status = status_with(&converter, |status| status["jobs"][0]["stalled"] == true).await;
    assert!(status["jobs"][0]["seconds_since_progress"].as_u64().unwrap() >= 10, "{status}");
    assert!(converter.status(&[]).1.contains("no progress for"));
    converter.logged("No progress for 10 s").await;
}
