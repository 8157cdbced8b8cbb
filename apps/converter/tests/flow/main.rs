//! The whole program against a small server that says what a test wants said.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod converter;
mod hints;
mod living;
mod room;
mod server;
mod status;
mod terminal;

use std::{path::Path, time::Duration};

use converter::{Converter, pause};
use serde_json::json;
use server::Server;

/// Copies the source, saying how far it is.
const COPY: &str =
    r#"echo '[40%] Halfway there'; printf '{"content":"%s","metadata":{"a":1}}' "$(cat "$1")" >"$2""#;
/// Writes its grandchild's id, and goes on for longer than any test.
const SLEEP: &str = r#"sh -c 'echo $$ >id; sleep 600' & echo '[10%] Sleeping'; wait"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_converted_and_submitted() {
    let server = Server::start().await;
    let mut converter = Converter::start(&server, COPY);
    let job = server.offer("hello");
    let result = server.wait_for("result", &job).await;
    assert_eq!(result.body["success"], true);
    assert_eq!(result.body["content"], "hello");
    assert_eq!(result.body["metadata"], json!({"a": 1, "converter": "test"}));
    assert!(result.body["processing_time"].as_f64().unwrap() >= 0.0);
    assert_eq!(result.lease_token, "token-secret");
    assert_eq!(result.authorization, "Bearer id.key-secret");

    let poll = server.wait_for("poll", "").await.body;
    assert_eq!(
        (&poll["lease_seconds"], &poll["wait_seconds"], &poll["max_jobs"]),
        (&json!(60), &json!(20), &json!(2))
    );
    assert_eq!(poll["content_types"], json!(["x-test"]));
    assert_eq!(poll["worker_id"], "tester");
    assert!(server.wait_for("progress", &job).await.body["percentage"].is_u64());

    converter.signal("TERM");
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(converter.files_in("spool"), 0);
    assert_eq!(converter.files_in("work"), 0);
    for phase in ["claimed", "downloading", "converting", "converted", "submitted", "stopped"] {
        assert!(log.contains(&format!(r#""message":"{phase}""#)), "{phase}: {log}");
    }
    assert!(log.contains(&format!(r#""job_id":"{job}""#)) && log.contains(r#""attempt":1"#), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_jobs_are_taken_at_once_and_no_more_than_there_is_room_for() {
    let server = Server::start().await;
    let jobs = [server.offer("a"), server.offer("b"), server.offer("c")];
    let _converter = Converter::start(&server, COPY);
    for job in &jobs {
        server.wait_for("result", job).await;
    }
    assert!(server.most_granted() <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_killed_and_forgotten() {
    let server = Server::start().await;
    let converter = Converter::start(&server, SLEEP);
    let job = server.offer("hello");
    let id = converter.grandchild().await;
    server.answer_progress(
        200,
        json!({"success": false, "message": "", "cancelled": true,
        "lease_expires_in_seconds": 60, "report_every_seconds": 1}),
    );
    gone(&id).await;
    converter.folder_emptied("work").await;
    assert!(!server.has_seen("result", &job) && !server.has_seen("release", &job));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_lease_kills_the_job() {
    let server = Server::start().await;
    let converter = Converter::start(&server, SLEEP);
    let job = server.offer("hello");
    let id = converter.grandchild().await;
    server.answer_progress(409, server::problem(409, "stale-lease"));
    gone(&id).await;
    converter.folder_emptied("work").await;
    assert!(!server.has_seen("result", &job));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_that_fail_do_not_stop_the_work() {
    let server = Server::start().await;
    server.answer_progress(503, server::problem(503, "unavailable"));
    let _converter = Converter::start(&server, COPY);
    let job = server.offer("hello");
    assert_eq!(server.wait_for("result", &job).await.body["success"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_hangs_is_repeated_before_the_lease_ends() {
    let server = Server::start().await;
    server.answer_progress(server::NEVER, json!({}));
    let _converter = Converter::start(&server, SLEEP);
    let job = server.offer("hello");
    server.wait_for("progress", &job).await;
    server.forget();
    let again = tokio::time::timeout(Duration::from_secs(15), server.wait_for("progress", &job)).await;
    assert!(again.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_result_outlasts_a_kill_and_is_submitted_after_a_restart() {
    let server = Server::start().await;
    server.answer_result(503, server::problem(503, "unavailable"));
    let mut converter = Converter::start(&server, COPY);
    let job = server.offer("precious");
    server.wait_for("result", &job).await;
    converter.signal("KILL");
    converter.end().await;
    assert_eq!(converter.files_in("spool"), 1);

    server.forget();
    server.answer_result(200, json!({"status": "completed", "ingestion_continued": false}));
    let converter = converter.again();
    let result = server.wait_for("result", &job).await;
    assert_eq!(result.body["content"], "precious");
    assert_eq!(result.lease_token, "token-secret");
    converter.folder_emptied("spool").await;
    server.wait_for("poll", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_holds_up_neither_polls_nor_each_other_and_is_kept_for_its_own_server() {
    let server = Server::start().await;
    server.answer_result(503, server::problem(503, "unavailable"));
    let mut converter = Converter::start(&server, COPY);
    let jobs = [server.offer("a"), server.offer("b")];
    for job in &jobs {
        server.wait_for("result", job).await;
    }
    converter.signal("KILL");
    converter.end().await;

    server.forget();
    let mut converter = converter.again();
    server.wait_for("poll", "").await;
    for job in &jobs {
        assert!(server.has_seen_before("result", job, "poll"));
    }
    server.answer_result(404, server::problem(404, "not-found"));
    converter.logged("stays in the spool").await;
    converter.signal("KILL");
    converter.end().await;
    assert_eq!((converter.files_in("spool"), converter.files_in("rejected")), (2, 0));

    let other = Server::start().await;
    let settings = converter.home().join("remote_converter_config.yaml");
    let text = std::fs::read_to_string(&settings).unwrap().replace(&server.url(), &other.url());
    std::fs::write(&settings, text).unwrap();
    let converter = converter.again();
    converter.logged("is for another server").await;
    other.wait_for("poll", "").await;
    assert!(!other.has_seen("result", &jobs[0]) && !other.has_seen("result", &jobs[1]));
    assert_eq!(converter.files_in("spool"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_too_large_for_one_request_is_uploaded() {
    let server = Server::start().await;
    server.answer_result(413, server::problem(413, "too-large"));
    let converter = Converter::start(&server, COPY);
    let job = server.offer("hello");
    assert_eq!(server.wait_for("result", &job).await.body["content"], "hello");
    assert_eq!(server.wait_for("upload", "").await.body["content"], "hello");
    converter.folder_emptied("spool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submitting_is_repeated_until_it_is_answered() {
    let server = Server::start().await;
    server.answer_result(401, server::problem(401, "unauthorized"));
    let converter = Converter::start(&server, COPY);
    let job = server.offer("hello");
    server.wait_for("result", &job).await;
    assert_eq!(converter.files_in("spool"), 1);
    server.forget();
    server.answer_result(200, json!({"status": "completed", "ingestion_continued": false}));
    server.wait_for("result", &job).await;
    converter.folder_emptied("spool").await;
    assert_eq!(converter.files_in("rejected"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_too_late_is_put_aside() {
    let server = Server::start().await;
    server.answer_result(409, server::problem(409, "stale-lease"));
    let converter = Converter::start(&server, COPY);
    let job = server.offer("hello");
    server.wait_for("result", &job).await;
    converter.folder_emptied("spool").await;
    assert_eq!(converter.files_in("rejected"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_came_too_late_is_what_the_next_attempt_submits() {
    let server = Server::start().await;
    server.answer_result(409, server::problem(409, "stale-lease"));
    let converter = Converter::start(&server, COPY);
    let job = server.offer("hello");
    server.wait_for("result", &job).await;
    converter.folder_emptied("spool").await;

    server.forget();
    server.answer_result(200, json!({"status": "completed", "ingestion_continued": false}));
    server.offer_other(|offer| {
        offer["job_id"] = json!(job);
        offer["attempt"] = json!(2);
        offer["lease_token"] = json!("token-of-the-second");
    });
    let result = server.wait_for("result", &job).await;
    assert_eq!((&result.body["content"], &*result.lease_token), (&json!("hello"), "token-of-the-second"));
    converter.logged("an earlier attempt has finished").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_submits_what_an_earlier_process_left() {
    let server = Server::start().await;
    server.answer_result(503, server::problem(503, "unavailable"));
    let mut converter = Converter::start(&server, COPY);
    let job = server.offer("precious");
    server.wait_for("result", &job).await;
    converter.signal("KILL");
    converter.end().await;

    server.forget();
    let mut converter = converter.again();
    server.wait_for("poll", "").await;
    converter.signal("TERM");
    converter.logged("stopping").await;
    server.answer_result(200, json!({"status": "completed", "ingestion_continued": false}));
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(converter.files_in("spool"), 0, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_well_when_it_starts_is_waited_for() {
    let server = Server::start().await;
    server.answer_health(503);
    let _converter = Converter::start(&server, COPY);
    let job = server.offer("hello");
    assert_eq!(server.wait_for("result", &job).await.body["content"], "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_beyond_all_clocks_is_none() {
    let server = Server::start().await;
    let _converter = Converter::start(&server, COPY);
    let job = server.offer_other(|offer| offer["run_timeout_seconds"] = json!(u64::MAX));
    assert_eq!(server.wait_for("result", &job).await.body["success"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_is_uploaded() {
    let server = Server::start().await;
    let _converter = Converter::start(
        &server,
        r#"{ printf '{"content":"'; head -c 2000000 /dev/zero | tr '\0' x; printf '"}'; } >"$2""#,
    );
    let job = server.offer("hello");
    let result = server.wait_for("result", &job).await;
    assert_eq!(result.body["result_key"], "results/key");
    assert!(result.body.get("content").is_none() && result.body.get("metadata").is_none());
    let upload = server.wait_for("upload", "").await;
    assert_eq!(upload.body["content"].as_str().unwrap().len(), 2_000_000);
    assert_eq!(upload.body["metadata"], json!({"converter": "test"}));
    assert_eq!(upload.authorization, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_submitted_with_the_end_of_the_log() {
    let server = Server::start().await;
    let _converter = Converter::start(&server, "echo it is broken >&2; exit 65");
    let job = server.offer("hello");
    let result = server.wait_for("result", &job).await.body;
    assert_eq!((&result["success"], &result["retryable"]), (&json!(false), &json!(false)));
    assert!(result["error_message"].as_str().unwrap().contains("it is broken"), "{result}");

    let damaged = server.offer_other(|offer| offer["download"]["sha256"] = json!("0".repeat(64)));
    let result = server.wait_for("result", &damaged).await.body;
    assert_eq!((&result["success"], &result["retryable"]), (&json!(false), &json!(true)));

    let unknown = server.offer_other(|offer| offer["content_type"] = json!("x-unknown"));
    let result = server.wait_for("result", &unknown).await.body;
    assert!(result["error_message"].as_str().unwrap().contains("No converter"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_write_gives_jobs_back_and_takes_none_until_it_can() {
    let server = Server::start().await;
    let converter = Converter::start_with(&server, COPY, &["--max-jobs", "1"]);
    server.wait_for("poll", "").await;
    // What is no folder takes as little as a full disk, also for root.
    let work = converter.home().join("temp/work");
    std::fs::remove_dir(&work).unwrap();
    std::fs::write(&work, "").unwrap();
    let job = server.offer("hello");
    server.wait_for("release", &job).await;
    server.forget();
    let job = server.offer("again");
    converter.logged("nothing can be written to `temp_dir`").await;
    assert!(!server.has_seen("poll", ""));
    std::fs::remove_file(&work).unwrap();
    assert_eq!(server.wait_for("result", &job).await.body["content"], "again");
    assert!(!server.has_seen("release", &job));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_where_nothing_can_be_written_spends_no_retry() {
    let server = Server::start().await;
    let converter =
        Converter::start(&server, r#"echo begun; while [ -e "$1" ]; do sleep 0.05; done; exit 1"#);
    let job = server.offer("hello");
    converter.logged("begun").await;
    // Gone, its work folder takes as little as a full disk.
    for work in std::fs::read_dir(converter.home().join("temp/work")).unwrap() {
        std::fs::remove_dir_all(work.unwrap().path()).unwrap();
    }
    server.wait_for("release", &job).await;
    assert!(!server.has_seen("result", &job));
    converter.logged("Nothing can be written").await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let server = Server::start().await;
    let _converter = Converter::start_with_full_log(&server, COPY);
    for source in ["a", "b"] {
        let job = server.offer(source);
        assert_eq!(server.wait_for("result", &job).await.body["content"], source);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_timeout_kills_the_job_and_is_submitted() {
    let server = Server::start().await;
    let converter = Converter::start(&server, SLEEP);
    let job = server.offer_other(|offer| offer["run_timeout_seconds"] = json!(2));
    let id = converter.grandchild().await;
    let result = server.wait_for("result", &job).await.body;
    assert_eq!((&result["success"], &result["retryable"]), (&json!(false), &json!(true)));
    assert!(result["error_message"].as_str().unwrap().contains("time limit"), "{result}");
    gone(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_a_job_finish() {
    let server = Server::start().await;
    let mut converter = Converter::start(
        &server,
        r#"echo '[1%] Waiting'; until [ -e "$HOME/go" ]; do sleep 0.05; done; printf '{"content":"x"}' >"$2""#,
    );
    let job = server.offer("hello");
    let progress = server.wait_for_progress(&job, 1).await;
    assert_eq!(progress.body["message"], "Waiting");
    assert_eq!(progress.lease_token, "token-secret");
    converter.signal("TERM");
    std::fs::write(converter.home().join("go"), "").unwrap();
    assert_eq!(server.wait_for("result", &job).await.body["success"], true);
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_says_goodbye_at_once_while_a_job_still_runs() {
    let server = Server::start().await;
    let mut converter = Converter::start(&server, SLEEP);
    let first = server.wait_for("poll", "").await.body;
    assert_eq!(first["starting"], true);
    let job = server.offer("hello");
    converter.grandchild().await;
    converter.signal("TERM");
    let worker = first["worker_id"].as_str().unwrap();
    server.wait_for("leave", worker).await;
    assert!(!server.has_seen("release", &job) && !server.has_seen("result", &job));
    converter.signal("TERM");
    assert_eq!(converter.end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_that_nobody_answers_is_given_up() {
    let server = Server::start().await;
    server.ignore_goodbyes();
    server.give_hints();
    let mut converter = Converter::start(&server, SLEEP);
    server.wait_for("hint", "queue").await;
    converter.signal("TERM");
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(server.count("leave"), 1);
    // Only the first poll came from a worker that had just started.
    let last = server.latest("poll", "").unwrap().body;
    assert_eq!(last["starting"], true, "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_gives_the_job_back() {
    let server = Server::start().await;
    let mut converter = Converter::start(&server, SLEEP);
    let job = server.offer("hello");
    let id = converter.grandchild().await;
    converter.signal("INT");
    converter.logged("stopping").await;
    converter.signal("TERM");
    server.wait_for("release", &job).await;
    gone(&id).await;
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!server.has_seen("result", &job));
    assert_eq!(converter.files_in("work"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_period_ends_in_giving_the_job_back() {
    let server = Server::start().await;
    let mut converter = Converter::start_with(&server, SLEEP, &["--shutdown-grace-seconds", "0"]);
    let job = server.offer("hello");
    converter.grandchild().await;
    converter.signal("TERM");
    server.wait_for("release", &job).await;
    assert_eq!(converter.end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_ends_the_program_with_its_own_code() {
    let server = Server::start().await;
    server.refuse_polls();
    let mut converter = Converter::start(&server, COPY);
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(4), "{log}");
    assert!(log.contains("remote-converter: The server refuses") && !log.contains("secret"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_test_tells_what_is_wrong_by_its_code() {
    let server = Server::start().await;
    let test = async || {
        let mut converter = Converter::start_with(&server, COPY, &["--test-connection"]);
        converter.end().await
    };
    assert_eq!(test().await.0, Some(0));
    let poll = server.wait_for("poll", "").await.body;
    assert_eq!(poll["content_types"], json!(["x-connection-test"]));
    assert!(server.has_seen("leave", "connection-test"), "nobody is to count on it");
    server.refuse_polls();
    let (code, log) = test().await;
    assert_eq!(code, Some(4), "{log}");
    let nobody = ["--test-connection", "--api-url", "http://127.0.0.1:1"];
    let (code, log) = Converter::start_with(&server, COPY, &nobody).end().await;
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("127.0.0.1:1") && !log.contains("secret"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_wrong_ends_the_program_before_any_poll() {
    let server = Server::start().await;
    for (expected, flags, why) in [
        (2, ["--content-types", "x-test,youtube"], "`youtube`"),
        (2, ["--poll-interval", "0"], "`--poll-interval`"),
        (2, ["--converters", "/nowhere.yaml"], "/nowhere.yaml"),
        // It may be on a disk that is not there yet.
        (1, ["--temp-dir", "/proc/nowhere"], "`temp_dir`"),
        (2, ["--config", "/nowhere.yaml"], "/nowhere.yaml"),
    ] {
        let (code, log) = Converter::start_with(&server, COPY, &flags).end().await;
        assert_eq!(code, Some(expected), "{log}");
        assert!(log.contains(why) && !log.contains("secret"), "{log}");
    }
    assert!(!server.has_seen("poll", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_settings_are_written_once() {
    let server = Server::start().await;
    let mut converter = Converter::start_with(&server, COPY, &["--create-config"]);
    assert_eq!(converter.end().await.0, Some(0));
    let file = converter.home().join("remote_converter_config.yaml.example");
    assert!(std::fs::read_to_string(&file).unwrap().contains("worker_id:"));
    std::fs::write(&file, "mine").unwrap();
    let mut converter = converter.again();
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

/// Waits until a process runs no more.
async fn gone(id: &str) {
    let path = format!("/proc/{id}/stat");
    // A killed process may stay as a zombie until its new parent has looked at it.
    while std::fs::read_to_string(Path::new(&path)).is_ok_and(|status| !status.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
