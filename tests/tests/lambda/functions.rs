//! What each function does with an event that it is there for.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use system_tests::{EngineServer, Functions, JOBS, sha256_hex};

use crate::emulator::Emulator;

/// How long a function has for one event, in seconds.
const SECONDS: u64 = 28;

/// A table and a bucket behind a port, for functions that are programs of their own.
pub(crate) struct Scene {
    pub(crate) functions: Functions,
    pub(crate) server: EngineServer,
    pub(crate) values: BTreeMap<&'static str, String>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let functions = Functions::new().await;
        let server = EngineServer::start(functions.engines().clone()).await;
        let values = BTreeMap::from([("KEY", functions.key().to_owned())]);
        Self { functions, server, values }
    }

    /// Creates an audio job that a webhook is to be told of, and gives its id.
    pub(crate) async fn created(&self) -> String {
        let file = json!({"filename": "a.mp3", "size_bytes": 5, "sha256": sha256_hex(b"sound")});
        let place = self.functions.call("POST", &format!("{JOBS}/uploads"), "", &file).await.ok();
        self.functions.presigned(&place["put"], b"sound").await;
        let job = json!({
            "source_file_path": place["source_file_path"], "content_type": "audio", "ingestion_task_id": "task",
            // No such name is ever there, which counts as a failed delivery.
            "webhook_url": "https://receiver.invalid/hook",
        });
        let made = self.functions.call("POST", JOBS, "", &job).await.ok();
        made["job_id"].as_str().unwrap().to_owned()
    }

    /// A job that a worker holds, and one that is done, for the events to speak of.
    pub(crate) async fn fill(&mut self) {
        self.created().await;
        let poll = json!({"worker_id": "gpu-1", "content_types": ["audio"]});
        let poll = async || self.functions.call("POST", &format!("{JOBS}/poll"), "", &poll).await.ok();
        let done = poll().await;
        let path = format!("{JOBS}/{}/result", text(&done["job_id"]));
        let result = json!({"success": true, "content": "text"});
        self.functions.call("PUT", &path, &text(&done["lease_token"]), &result).await.ok();
        self.created().await;
        let held = poll().await;
        self.values.extend([
            ("DONE_ID", text(&done["job_id"])),
            ("HELD_ID", text(&held["job_id"])),
            ("LEASE_TOKEN", text(&held["lease_token"])),
            ("JOB_ID", self.created().await),
        ]);
    }

    pub(crate) fn event(&self, name: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("events/{name}.json"));
        let text = std::fs::read_to_string(path).unwrap();
        let filled =
            self.values.iter().fold(text, |text, (name, value)| text.replace(&format!("${name}"), value));
        serde_json::from_str(&filled).unwrap()
    }

    pub(crate) async fn start(&self, function: &str, seconds: u64) -> Emulator {
        Emulator::start(function, &self.functions.environment(&self.server.url()), seconds).await
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap_or_else(|| panic!("no answer of a call: {answer}")))
        .unwrap()
}

#[tokio::test]
async fn every_function_answers_the_calls_that_it_is_there_for() {
    let mut scene = Scene::new().await;
    scene.fill().await;
    // In an order in which each finds what it needs.
    for (function, event, status) in [
        ("create-job", "http-api/upload-base64", 200),
        ("create-job", "http-api/trailing-slash-status", 308),
        ("download-source", "http-api/download", 307),
        ("report-progress", "http-api/progress", 200),
        ("submit-result", "http-api/submit-failure", 200),
        ("job-status", "http-api/status", 200),
        ("job-status", "rest-api/result", 307),
        ("poll-jobs", "rest-api/poll-multi-value", 200),
        ("manage-job", "rest-api/cancel-null-body", 200),
    ] {
        let emulator = scene.start(function, SECONDS).await;
        let answer = emulator.invoke(&scene.event(event)).await;
        assert_eq!(answer["statusCode"], status, "{function}, {event}: {answer}\n{}", emulator.stop());
    }
    let path = format!("{JOBS}/{}/status", scene.values["HELD_ID"]);
    let held = scene.functions.call("GET", &path, "", &Value::Null).await.ok();
    assert_eq!(
        (&held["status"], &held["progress_message"]),
        (&json!("failed"), &json!("halb fertig – 40 %"))
    );
    let path = format!("{JOBS}/{}/status", scene.values["JOB_ID"]);
    let cancelled = scene.functions.call("GET", &path, "", &Value::Null).await.ok();
    assert_eq!((&cancelled["status"], &cancelled["worker_id"]), (&json!("cancelled"), &json!("gpu+1 & co")));
}

#[tokio::test]
async fn a_function_answers_one_event_after_another_and_says_which() {
    let mut scene = Scene::new().await;
    scene.fill().await;
    let emulator = scene.start("job-status", SECONDS).await;
    for _ in 0..20 {
        assert_eq!(body(&emulator.invoke(&scene.event("http-api/status")).await)["status"], "pending");
    }
    let logged = emulator.stop();
    let lines = logged.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let calls: Vec<Value> = lines.filter(|line| line["message"] == "call").collect();
    assert_eq!(calls.len(), 20, "{logged}");
    assert!(calls.iter().all(|call| call["span"]["job_id"] == scene.values["JOB_ID"]));
    assert!(calls.iter().all(|call| call["span"]["lambda_request_id"].is_string()));
}

#[tokio::test]
async fn schedules_and_the_stream_are_seen_to() {
    let mut scene = Scene::new().await;
    scene.fill().await;
    let sweep = scene.start("sweep-jobs", 60).await;
    for event in ["events/schedule", "events/schedule-rule"] {
        let swept = sweep.invoke(&scene.event(event)).await;
        assert_eq!((&swept["live"], &swept["complete"]), (&json!(2), &json!(true)), "{swept}");
    }
    let logged = sweep.stop();
    assert!(logged.contains(r#""message":"sweep""#), "the metrics' line is logged: {logged}");
    let deliver = scene.start("deliver-events", 60).await;
    scene.values.insert("EVENT_ID", "no.such.event".to_owned());
    let none = deliver.invoke(&scene.event("events/stream")).await;
    assert_eq!((&none["failed"], &none["complete"]), (&json!(0), &json!(true)), "{none}");
    let round = deliver.invoke(&scene.event("events/schedule")).await;
    // Of the job that is done.
    assert_eq!(
        (&round["failed"], &round["complete"]),
        (&json!(1), &json!(true)),
        "{round}\n{}",
        deliver.stop()
    );
}
