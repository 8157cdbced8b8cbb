//! What an operator does from the command line: `remote-jobs` as a program, against a gateway in this process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a test meets unexpectedly is a failed test"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{JOBS, Ran, Site, binary};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::Command,
};
use uuid::Uuid;

/// `remote-jobs` with a key, without a terminal.
fn command(site: &Site, key: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("remote-jobs"));
    command
        .args(arguments)
        .env("MORAG_API_BASE_URL", format!("http://127.0.0.1:{}", site.gateway.address.port()))
        .env("MORAG_API_KEY", key)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs it.
async fn run_as(site: &Site, key: &str, arguments: &[&str]) -> Ran {
    Ran::of(&mut command(site, key, arguments)).await
}

/// As [`run_as`], with the admin's key.
async fn run(site: &Site, arguments: &[&str]) -> Ran {
    run_as(site, site.admin.key(), arguments).await
}

/// The ids of the jobs that a list has, in its order.
async fn listed(site: &Site, filters: &[&str]) -> Vec<String> {
    let ran = run(site, &[&["--json", "list"], filters].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.documents().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect()
}

/// Creates a job that has failed for good.
async fn failed_job(site: &Site) -> String {
    let claim = site.claimed_job(&json!({})).await;
    let failure = json!({"success": false, "retryable": false, "error_message": "no speech\nwas found"});
    site.leased(&claim, Method::PUT, "result", &failure).await.ok();
    claim.job_id
}

async fn completed_job(site: &Site) -> String {
    let claim = site.claimed_job(&json!({})).await;
    site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "# Text"})).await.ok();
    claim.job_id
}

async fn status(site: &Site, job: &str) -> String {
    site.status(job).await["status"].as_str().unwrap().to_owned()
}

/// Creates a job after the clock has moved, so that the order of the two is certain.
async fn later(site: &Site, fields: &Value) -> String {
    site.world.advance(Duration::from_secs(60));
    site.job(fields).await
}

#[tokio::test]
async fn jobs_are_listed_by_filters_page_by_page() {
    let site = Site::start().await;
    let failed = failed_job(&site).await;
    let first = later(&site, &json!({"ingestion_task_id": "a & b"})).await;
    let second = later(&site, &json!({"content_type": "x-mine"})).await;
    assert_eq!(listed(&site, &[]).await, [&*second, &first, &failed]);
    assert_eq!(listed(&site, &["--limit", "2"]).await, [&*second, &first]);
    assert_eq!(listed(&site, &["--status", "failed"]).await, [&*failed]);
    assert_eq!(listed(&site, &["--status", "failed,pending", "--type", "audio"]).await, [&*first, &failed]);
    assert_eq!(listed(&site, &["--task", "a & b"]).await, [&*first]);
    assert_eq!(listed(&site, &["--type", "x-mine", "--day", "1999-12-31"]).await, [""; 0]);

    let table = run(&site, &["list", "--limit", "2"]).await;
    assert!(table.err.contains("There may be more"), "{table:?}");
    let table = run(&site, &["list", "--all"]).await;
    assert_eq!((table.code, table.err.as_str()), (0, ""), "{table:?}");
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("JOB ") && lines[0].ends_with("ERROR"), "{table:?}");
    assert!(lines[3].starts_with(&failed) && lines[3].ends_with("no speech was found"), "{table:?}");
    let none = run(&site, &["list", "--status", "timeout"]).await;
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "No job fits.\n"));
}

#[tokio::test]
async fn many_jobs_come_on_several_pages_each_once() {
    let site = Site::start().await;
    let mut made = Vec::new();
    for _ in 0..230 {
        made.push(site.job(&json!({})).await);
    }
    let mut all = listed(&site, &["--all"]).await;
    all.sort();
    made.sort();
    assert_eq!(all, made);
    assert_eq!(listed(&site, &["--limit", "210"]).await.len(), 210);
    let ran = run(&site, &["cancel", "--type", "audio", "--yes"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.ends_with("230 cancelled\n"), "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 230);
    assert_eq!(listed(&site, &["--status", "cancelled", "--all"]).await.len(), 230);
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed() {
    let site = Site::start().await;
    let job = site.job(&json!({})).await;
    let paused = run(&site, &["pause", "audio", "x-mine"]).await.ok();
    assert_eq!(
        paused,
        "audio  paused; jobs wait and still time out\nx-mine  paused; jobs wait and still time out\n"
    );
    let poll = json!({"worker_id": "gpu-1", "content_types": ["audio"]});
    assert_eq!(site.worker.post(&format!("{JOBS}/poll"), &poll).await.ok()["job_id"], Value::Null);
    let resumed = run(&site, &["--json", "resume", "audio"]).await;
    assert_eq!(resumed.documents(), [json!({"content_type": "audio", "paused": false})]);
    assert_eq!(site.claim("gpu-1").await.job_id, job);
    let refused = run_as(&site, site.ingest.key(), &["pause", "audio"]).await;
    assert_eq!(refused.code, 4, "{refused:?}");
}

#[tokio::test]
async fn statistics_are_tables() {
    let site = Site::start().await;
    let empty = run(&site, &["stats"]).await;
    assert_eq!((empty.code, empty.out.as_str()), (0, ""), "{empty:?}");
    failed_job(&site).await;
    site.job(&json!({})).await;
    run(&site, &["pause", "x-mine"]).await.ok();
    site.gateway.service.sweep(tokio::time::Instant::now() + Duration::from_secs(60)).await.unwrap();
    let text = run(&site, &["stats"]).await.ok();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(text.starts_with("Queues, counted "), "{text}");
    assert_eq!(rows[2][..3], ["audio", "-", "1"], "{text}");
    assert_eq!(rows[3][..2], ["x-mine", "paused"], "{text}");
    assert_eq!(rows[7][..3], ["audio", "0", "1"], "{text}");
    let document = run(&site, &["--json", "stats"]).await.documents().remove(0);
    assert_eq!(document["queues"][0]["ended_24h"]["failed"], 1);
}

#[tokio::test]
async fn workers_are_a_table_and_lines() {
    let site = Site::start().await;
    let nobody = run(&site, &["workers"]).await;
    assert_eq!((nobody.code, nobody.out.as_str()), (0, ""), "{nobody:?}");
    assert_eq!(nobody.err, "No worker has polled in the last week.\n");
    let claim = site.claimed_job(&json!({})).await;
    let poll = json!({"worker_id": "camera 2", "content_types": ["video"], "version": "own/2 (x)"});
    site.worker.post(&format!("{JOBS}/poll"), &poll).await.ok();
    let text = run(&site, &["workers"]).await.ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("WORKER ") && lines[0].ends_with("RUNS"), "{text}");
    assert!(
        lines[1].starts_with("camera 2") && lines[1].contains("own/2") && lines[1].ends_with('-'),
        "{text}"
    );
    assert!(lines[2].contains("live") && lines[2].ends_with(&claim.job_id), "{text}");
    let audio = run(&site, &["--json", "workers", "--type", "audio"]).await.documents();
    assert_eq!((audio.len(), &audio[0]["running_jobs"]), (1, &json!([claim.job_id])));
    let none = run(&site, &["workers", "--type", "x-mine"]).await;
    assert_eq!(none.err, "No worker that converts x-mine has polled in the last week.\n");
}

#[tokio::test]
async fn filters_mean_what_the_command_is_for() {
    let site = Site::start().await;
    let (failed, completed) = (failed_job(&site).await, completed_job(&site).await);
    let running = site.claimed_job(&json!({})).await.job_id;
    let waiting = site.job(&json!({})).await;
    let unasked = run(&site, &["cancel", "--type", "audio"]).await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.err.contains("add --yes to cancel the jobs"), "{unasked:?}");
    let cancelled = run(&site, &["--json", "cancel", "--type", "audio", "--yes"]).await;
    let ids: BTreeMap<String, Value> = cancelled
        .documents()
        .into_iter()
        .map(|job| (job["job_id"].as_str().unwrap().to_owned(), job["status"].clone()))
        .collect();
    assert_eq!(ids, [running, waiting.clone()].map(|id| (id, json!("cancelled"))).into_iter().collect());

    let retried = run(&site, &["retry", "--type", "audio", "--yes"]).await;
    assert_eq!(retried.out, format!("{failed}  pending\n"), "{retried:?}");
    let retried = run(&site, &["retry", "--status", "cancelled", "--yes", "--day", "today"]).await;
    assert!(retried.err.ends_with("2 retried\n"), "{retried:?}");
    assert_eq!(status(&site, &waiting).await, "pending");

    let deleted = run(&site, &["delete", "--task", "task-1", "--yes"]).await;
    assert_eq!((deleted.code, deleted.out), (0, format!("{completed}  deleted with 2 files\n")));
    assert_eq!(listed(&site, &["--status", "completed"]).await, [""; 0]);
    let none = run(&site, &["delete", "--type", "video", "--yes"]).await;
    assert_eq!((none.code, none.err.as_str()), (0, "No job fits.\n"));
    let senseless = run(&site, &["retry", "--status", "pending", "--yes"]).await;
    assert_eq!(senseless.code, 2, "{senseless:?}");
}

#[tokio::test]
async fn a_job_that_refuses_does_not_keep_the_others() {
    let site = Site::start().await;
    let (failed, completed) = (failed_job(&site).await, completed_job(&site).await);
    let waiting = site.job(&json!({})).await;
    let retried = run(&site, &["retry", &completed, &failed]).await;
    assert_eq!((retried.code, retried.out), (5, format!("{failed}  pending\n")));
    let (refusal, summary) = retried.err.split_once('\n').unwrap();
    assert!(refusal.starts_with(&format!("error: {completed}: ")), "{refusal}");
    assert!(refusal.contains("the job is completed") && refusal.ends_with("(409 refused)"), "{refusal}");
    assert_eq!(summary, "1 retried, 1 failed\n");

    let unasked = run(&site, &["delete", &completed]).await;
    assert_eq!(unasked.code, 2, "ids are asked about, too: {unasked:?}");
    let unknown = Uuid::now_v7().to_string();
    let deleted = run(&site, &["--json", "delete", "--yes", &waiting, &unknown, &completed]).await;
    assert_eq!(deleted.code, 5);
    assert_eq!(deleted.documents(), [json!({"job_id": completed, "deleted_objects": 2})]);
    let errors: Vec<Value> = deleted.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<(&str, &str)> = errors
        .iter()
        .map(|error| {
            let error = &error["error"];
            (error["about"].as_str().unwrap(), error["kind"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [(waiting.as_str(), "refused"), (unknown.as_str(), "not-found")]);
    assert_eq!(errors[0]["error"]["problem"]["job_status"], "pending");
}

#[tokio::test]
async fn a_job_that_a_program_watches_is_told_of_at_once_and_followed_to_its_end() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let mut watching = command(&site, site.ingest.key(), &["--json", "watch", &claim.job_id]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = async || -> Option<Value> {
        lines.next_line().await.unwrap().map(|line| serde_json::from_str(&line).unwrap())
    };
    assert_eq!(next().await.unwrap()["status"], "processing");
    site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    assert_eq!(next().await.unwrap()["status"], "completed");
    assert_eq!(next().await, None);
    assert_eq!(watching.wait().await.unwrap().code(), Some(0));
}

/// A webhook that says of every message that it is gone for good. Gives its URL.
async fn gone() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            // A message is short, and comes in one piece.
            let _ = socket.read(&mut [0; 8192]).await;
            let _ = socket
                .write_all(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await;
        }
    });
    format!("http://{address}/hook?token=secret")
}

/// The events whose delivery was given up, once there are so many of them: they are delivered on a task of their own.
async fn given_up(site: &Site, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    for _ in 0..500 {
        events = run(site, &["--json", "events", "list", "--all"]).await.documents();
        if events.len() == count {
            return events;
        }
    }
    panic!("{count} events were to be given up: {events:?}");
}

#[tokio::test]
async fn events_that_were_given_up_are_listed_and_sent_out_again() {
    let site = Site::with(|config| config.jobs.webhook_networks = "127.0.0.0/8".parse().unwrap()).await;
    let none = run(&site, &["events", "list"]).await;
    assert_eq!((none.code, none.err.as_str()), (0, "No event's delivery was given up.\n"));
    let webhook = json!({"webhook_url": gone().await});
    for _ in 0..3 {
        let job = site.job(&webhook).await;
        run(&site, &["cancel", &job]).await.ok();
    }
    let events = given_up(&site, 3).await;
    assert!(events.iter().all(|event| event["status"] == "cancelled" && event["delivery"] == "dead"));
    let table = run(&site, &["events", "list", "--limit", "2"]).await;
    assert!(table.err.contains("There may be more"), "{table:?}");
    assert!(table.out.contains("/hook") && !table.out.contains("secret"), "{table:?}");
    assert_eq!(table.out.lines().count(), 3, "{table:?}");

    let id = events[0]["event_id"].as_str().unwrap();
    let again = run(&site, &["--json", "events", "redrive", id]).await.documents();
    assert_eq!(
        (&again[0]["event_id"], &again[0]["delivery"], &again[0]["tries"]),
        (&json!(id), &json!("due"), &json!(0))
    );
    given_up(&site, 3).await;
    let all = run(&site, &["events", "redrive", "--all"]).await;
    assert_eq!((all.code, all.out.lines().count()), (0, 3), "{all:?}");
    assert!(all.err.ends_with("3 sent out again\n"), "{all:?}");
    let unknown = run(&site, &["events", "redrive", "nobody"]).await;
    assert_eq!(unknown.code, 5, "{unknown:?}");
}

/// The original's folder of job files.
struct Storage {
    folder: TempDir,
}

impl Storage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for status in domain::Status::ALL {
            fs::create_dir_all(folder.path().join("jobs").join(status.as_str())).unwrap();
        }
        fs::create_dir(folder.path().join("files")).unwrap();
        Self { folder }
    }

    fn jobs(&self) -> PathBuf {
        self.folder.path().join("jobs")
    }

    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// Writes a job as the original does, with these fields besides, and gives its id.
    fn job(&self, status: &str, change: &Value) -> String {
        let id = Uuid::new_v4().to_string();
        let mut job = json!({
            "job_id": id, "ingestion_task_id": "task-1", "source_file_path": "talk.mp3", "content_type": "audio",
            "task_options": {"language": "en"}, "status": status, "worker_id": null,
            "created_at": "2025-03-01T10:00:00.123456", "started_at": null, "completed_at": null,
            "error_message": null, "retry_count": 0, "max_retries": 3, "timeout_at": "2025-03-01T11:00:00",
        });
        job.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.write(&format!("{status}/{id}.json"), &job.to_string());
        id
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.jobs().join(name), text).unwrap();
    }

    /// Every file with its bytes, which nothing may change.
    fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let mut names = Vec::new();
        for folder in fs::read_dir(self.jobs()).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                names.push(file.unwrap().path());
            }
        }
        names.sort();
        names.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
    }
}

/// A storage with a job in every status.
fn everyday_storage() -> (Storage, BTreeMap<&'static str, String>) {
    let storage = Storage::new();
    fs::write(storage.files().join("talk.mp3"), b"sound").unwrap();
    let ended = json!({
        "worker_id": "gpu-1", "started_at": "2025-03-01T10:00:05", "completed_at": "2025-03-01T10:01:00",
    });
    let with = |change: Value| {
        let mut fields = ended.clone();
        fields.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        fields
    };
    let result = json!({"content": "# Talk", "metadata": {"duration": 12.5}, "processing_time": 55.0});
    let absolute = storage.files().join("talk.mp3").display().to_string();
    let jobs = BTreeMap::from([
        ("pending", storage.job("pending", &json!({}))),
        ("processing", storage.job("processing", &json!({"source_file_path": absolute}))),
        ("completed", storage.job("completed", &with(json!({"result_data": result})))),
        ("failed", storage.job("failed", &with(json!({"error_message": "no speech", "retry_count": 3})))),
        ("timeout", storage.job("timeout", &with(json!({"error_message": "too slow"})))),
        ("cancelled", storage.job("cancelled", &json!({"id": null}))),
    ]);
    (storage, jobs)
}

async fn import(site: &Site, storage: &Storage, more: &[&str]) -> Ran {
    let (jobs, files) = (storage.jobs(), storage.files());
    let of = |path: &Path| path.to_str().unwrap().to_owned();
    let (jobs, files) = (of(&jobs), of(&files));
    run(site, &[&["import", &jobs, "--sources", &files], more].concat()).await
}

#[tokio::test]
async fn jobs_of_the_original_are_imported_once() {
    let site = Site::start().await;
    let (storage, jobs) = everyday_storage();
    let before = storage.contents();
    let dry = import(&site, &storage, &["--dry-run"]).await;
    assert_eq!(dry.out, "would be imported 6, already there 0, not taken 0\n", "{dry:?}");
    assert_eq!(listed(&site, &["--task", "task-1"]).await, [""; 0], "a dry run does nothing");

    let first = import(&site, &storage, &[]).await;
    assert_eq!(
        (first.code, first.out.as_str()),
        (0, "imported 6, already there 0, not taken 0\n"),
        "{first:?}"
    );
    for (status_there, id) in &jobs {
        let here = site.status(id).await;
        let expected = if *status_there == "processing" { "pending" } else { status_there };
        assert_eq!(here["status"], expected, "{here}");
        assert_eq!(here["created_at"], "2025-03-01T10:00:00.123Z");
    }
    assert_eq!(site.status(&jobs["failed"]).await["error_message"], "no speech");
    let text = run(&site, &["result", &jobs["completed"]]).await.ok();
    assert_eq!(text, "# Talk\n");

    let again = import(&site, &storage, &["--json"]).await;
    assert_eq!(again.code, 0, "{again:?}");
    let mut documents = again.documents();
    let summary = json!({
        "event": "summary", "dry_run": false, "imported": 0, "already_there": 6, "not_taken": 0,
    });
    assert_eq!(documents.pop().unwrap(), summary);
    assert!(documents.iter().all(|document| document["event"] == "already-there"), "{documents:?}");
    let dry = import(&site, &storage, &["--dry-run", "--quiet"]).await;
    assert_eq!(
        (dry.out.as_str(), dry.err.as_str()),
        ("would be imported 0, already there 6, not taken 0\n", "")
    );
    assert_eq!(storage.contents(), before, "the original's files are as they were");
    for claim in [site.claim("gpu-1").await, site.claim("gpu-1").await] {
        let granted = claim.answer.ok();
        assert_eq!(granted["task_options"], json!({"language": "en"}));
        let source = site.worker.get(granted["download"]["url"].as_str().unwrap()).await;
        assert_eq!((source.status, source.body.as_slice()), (200, b"sound".as_slice()));
    }
}

#[tokio::test]
async fn what_cannot_be_imported_is_told_and_the_others_are() {
    let site = Site::start().await;
    let (storage, _) = everyday_storage();
    let name = |status: &str, change: Value| format!("{status}/{}.json", storage.job(status, &change));
    let missing = name("pending", json!({"source_file_path": "gone.mp3"}));
    let outside = name("pending", json!({"source_file_path": "../jobs/pending"}));
    let moved = name("failed", json!({"status": "completed"}));
    let nameless = name("failed", json!({"job_id": null}));
    let refused = name("cancelled", json!({"max_retries": 50}));
    storage.write("failed/broken.json", "{\"job_id\": ");
    storage.write("failed/notes.txt", "not a job");
    fs::create_dir(storage.jobs().join("archived")).unwrap();
    let ran = import(&site, &storage, &[]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (1, "imported 6, already there 0, not taken 7\n"),
        "{}",
        ran.err
    );
    for (file, why) in [
        (missing.as_str(), "gone.mp3 cannot be used"),
        (&outside, "leads out of the folder"),
        (&moved, "`status` is completed and its folder is failed"),
        (&nameless, "no `job_id`"),
        (&refused, "`max_retries` must be 0 to 20 (422 invalid)"),
        ("failed/broken.json", "not valid JSON (EOF while parsing a value at line 1 column 11)"),
        ("archived", "Its name is no status"),
    ] {
        let line = ran.err.lines().find(|line| line.starts_with(&format!("error: {file}: ")));
        assert!(line.is_some_and(|line| line.contains(why)), "{file}: {}", ran.err);
    }

    // What was mended is taken by the next run, and nothing else.
    fs::write(storage.files().join("gone.mp3"), b"found").unwrap();
    let again = import(&site, &storage, &["--quiet"]).await;
    assert_eq!((again.code, again.out.as_str()), (1, "imported 1, already there 6, not taken 6\n"));
}

#[tokio::test]
async fn a_job_that_was_being_moved_is_what_it_became() {
    let site = Site::start().await;
    let storage = Storage::new();
    fs::write(storage.files().join("talk.mp3"), b"sound").unwrap();
    let result = json!({"content": "# Talk", "metadata": {}, "processing_time": null});
    let id = storage.job("completed", &json!({"result_data": result}));
    for status in ["processing", "pending"] {
        let copy = storage.job(status, &json!({"job_id": id}));
        assert_ne!(copy, id);
    }
    let ran = import(&site, &storage, &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "imported 1, already there 2, not taken 0\n"), "{ran:?}");
    assert_eq!(status(&site, &id).await, "completed");
}

#[tokio::test]
async fn only_an_admin_imports() {
    let site = Site::start().await;
    let (storage, _) = everyday_storage();
    let jobs = storage.jobs();
    let refused = run_as(&site, site.worker.key(), &["import", jobs.to_str().unwrap()]).await;
    assert_eq!(refused.code, 4, "{refused:?}");
    let elsewhere = run(&site, &["import", storage.files().to_str().unwrap()]).await;
    assert_eq!(elsewhere.code, 2, "{elsewhere:?}");
    assert!(elsewhere.err.contains("none of the folders pending, processing"), "{elsewhere:?}");
}

#[tokio::test]
async fn the_webhook_secret_is_shown_and_replaced() {
    let site = Site::start().await;
    let first = run(&site, &["webhook-secret", "show"]).await.ok();
    assert!(first.starts_with("whsec_"), "{first}");
    let rotated = run(&site, &["webhook-secret", "rotate"]).await;
    assert!(
        rotated.err.starts_with("Messages are signed with the previous secret too until "),
        "{rotated:?}"
    );
    assert_ne!(rotated.out, first);
    assert_eq!(run(&site, &["-q", "webhook-secret", "show"]).await.ok(), rotated.out);
}
