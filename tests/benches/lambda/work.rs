//! A thousand real events for each function: jobs that are created, claimed, reported on and ended over the embedded
//! engines, with what one function answers handed to the next.

use std::time::Duration;

use runtime::EnvVar;
use serde_json::{Value, json};
use system_tests::{EngineServer, Functions, JOBS, Receiver, sha256_hex};

use crate::function::Function;

/// The functions in the order in which a job meets them, so that each has something to do.
pub(crate) const FUNCTIONS: [&str; 9] = [
    "create-job",
    "poll-jobs",
    "report-progress",
    "download-source",
    "job-status",
    "submit-result",
    "manage-job",
    "sweep-jobs",
    "deliver-events",
];
/// How many events each is given.
pub(crate) const EVENTS: usize = 1000;
/// How many jobs are live while the sweeper sweeps: what a few workers have before them.
const LIVE: usize = 50;
/// How Linux counts CPU time.
const TICK: Duration = Duration::from_millis(10);
/// Where the webhook's receiver is.
const LOOPBACK: &str = "127.0.0.0/8";
const SOURCE: &[u8] = b"a recording";

/// What a function took for its events.
pub(crate) struct Invoked {
    /// What the events were.
    pub(crate) event: &'static str,
    /// The resident memory after them, in bytes.
    pub(crate) resident_bytes: u64,
    /// The CPU time for one of them on average, without the start.
    pub(crate) cpu: Duration,
    /// What it logged for one of them on average, in bytes.
    pub(crate) logged: u64,
}

/// A job under a lease.
struct Held {
    path: String,
    token: String,
}

pub(crate) struct Work {
    functions: Functions,
    environment: Vec<(String, String)>,
    source: String,
    webhook: Receiver,
    held: Vec<Held>,
    _server: EngineServer,
}

impl Work {
    pub(crate) async fn new() -> Self {
        let mut functions = Functions::new().await;
        functions.webhook_networks = LOOPBACK.parse().unwrap();
        let server = EngineServer::start(functions.engines().clone()).await;
        let webhook = Receiver::answering(204).await;
        let mut environment = functions.environment(&server.url());
        environment.push((EnvVar::WebhookNetworks.name().to_owned(), LOOPBACK.to_owned()));
        let source = upload(&functions).await;
        Self { functions, environment, source, webhook, held: Vec::new(), _server: server }
    }

    /// Gives a function its events.
    pub(crate) async fn measure(&mut self, name: &str) -> Invoked {
        let function = Function::start(name, &self.environment).await;
        // The first event pays for connections, and the CPU time of the start is not an event's.
        self.event(name, &function, 0).await;
        let (before, logged) = (function.usage().ticks, function.logged());
        for number in 1..EVENTS {
            self.event(name, &function, number).await;
        }
        let after = function.usage();
        let ticks = u32::try_from(after.ticks - before).unwrap();
        Invoked {
            event: describe(name),
            resident_bytes: after.resident,
            cpu: TICK * ticks / u32::try_from(EVENTS - 1).unwrap(),
            logged: (function.logged() - logged) / (EVENTS as u64 - 1),
        }
    }

    async fn event(&mut self, name: &str, function: &Function, number: usize) {
        match name {
            "create-job" => drop(self.call(function, "POST", JOBS, "", &self.job("audio", None)).await),
            "poll-jobs" => self.claim(function).await,
            "report-progress" => {
                let progress = json!({"percentage": 50, "message": "Transcribing", "stage": "transcription"});
                self.held_call(function, number, "PUT", "/progress", &progress).await;
            }
            "download-source" => self.held_call(function, number, "GET", "/download", &Value::Null).await,
            "job-status" => self.held_call(function, number, "GET", "/status", &Value::Null).await,
            "submit-result" => {
                let result = json!({"success": true, "content": "text ".repeat(2000)});
                self.held_call(function, number, "PUT", "/result", &result).await;
            }
            "manage-job" => {
                let path = self.made(None).await;
                self.call(function, "POST", &format!("{path}/cancel"), "", &json!({})).await;
            }
            "sweep-jobs" => {
                if number < LIVE {
                    self.functions.call("POST", JOBS, "", &self.job("video", None)).await.ok();
                }
                let swept = function.invoke(&json!({})).await;
                assert_eq!(swept["complete"], true, "{swept}");
            }
            "deliver-events" => self.delivery(function).await,
            other => panic!("no events are known for {other}"),
        }
    }

    /// A job is claimed, and its worker gives a first sign of life, without which its lease would be a short one.
    async fn claim(&mut self, function: &Function) {
        let poll = json!({"worker_id": "bench", "content_types": ["audio"], "lease_seconds": 3600});
        let answer = self.call(function, "POST", &format!("{JOBS}/poll"), "", &poll).await;
        let path = format!("{JOBS}/{}", answer["job_id"].as_str().unwrap());
        let token = answer["lease_token"].as_str().unwrap().to_owned();
        let alive = json!({"percentage": 0, "message": "Claimed"});
        self.functions.call("PUT", &format!("{path}/progress"), &token, &alive).await.ok();
        self.held.push(Held { path, token });
    }

    /// A job ends, and its webhook is told.
    async fn delivery(&mut self, function: &Function) {
        let path = self.made(Some(&self.webhook.url("/hook"))).await;
        self.functions.call("POST", &format!("{path}/cancel"), "", &json!({})).await.ok();
        let delivered = function.invoke(&json!({})).await;
        assert_eq!(delivered["delivered"], 1, "{delivered}");
        self.webhook.next().await;
    }

    /// The path of a new job.
    async fn made(&self, webhook: Option<&str>) -> String {
        let made = self.functions.call("POST", JOBS, "", &self.job("image", webhook)).await.ok();
        format!("{JOBS}/{}", made["job_id"].as_str().unwrap())
    }

    fn job(&self, content_type: &str, webhook: Option<&str>) -> Value {
        json!({
            "source_file_path": self.source, "content_type": content_type, "webhook_url": webhook,
            "ingestion_task_id": uuid::Uuid::now_v7().to_string(),
        })
    }

    async fn held_call(&self, function: &Function, number: usize, method: &str, verb: &str, body: &Value) {
        let held = &self.held[number];
        self.call(function, method, &format!("{}{verb}", held.path), &held.token, body).await;
    }

    /// What the function answers to a call through an HTTP API.
    async fn call(&self, function: &Function, method: &str, path: &str, lease: &str, body: &Value) -> Value {
        let answer = function.invoke(&self.http_event(method, path, lease, body)).await;
        assert!(matches!(answer["statusCode"].as_u64(), Some(200 | 307)), "{method} {path}: {answer}");
        serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default()
    }

    /// A request as an HTTP API hands it on.
    fn http_event(&self, method: &str, path: &str, lease: &str, body: &Value) -> Value {
        json!({
            "version": "2.0",
            "routeKey": format!("{method} {path}"),
            "rawPath": path,
            "rawQueryString": "",
            "headers": {
                "accept": "*/*",
                "authorization": format!("Bearer {}", self.functions.key()),
                "content-type": "application/json",
                "host": "api.execute-api.us-east-1.amazonaws.com",
                "lease-token": lease,
                "user-agent": "bench",
                "x-amzn-trace-id": "Root=1-5759e988-bd862e3fe1be46a994272793",
                "x-forwarded-for": "203.0.113.9",
                "x-forwarded-port": "443",
                "x-forwarded-proto": "https",
            },
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api",
                "domainName": "api.execute-api.us-east-1.amazonaws.com",
                "domainPrefix": "api",
                "http": {
                    "method": method, "path": path, "protocol": "HTTP/1.1",
                    "sourceIp": "203.0.113.9", "userAgent": "bench",
                },
                "requestId": "JKJaXmPLvHcESHA=",
                "routeKey": format!("{method} {path}"),
                "stage": "$default",
                "time": "22/Nov/2026:10:00:00 +0000",
                "timeEpoch": 1_795_341_600_000_u64,
            },
            "body": if body.is_null() { Value::Null } else { body.to_string().into() },
            "isBase64Encoded": false,
        })
    }
}

fn describe(name: &str) -> &'static str {
    match name {
        "create-job" => "a job is created",
        "poll-jobs" => "a poll that claims a job",
        "report-progress" => "a heartbeat",
        "download-source" => "a redirect to the source",
        "job-status" => "the status of a running job",
        "submit-result" => "a result of 10 KB",
        "manage-job" => "a job is cancelled",
        "sweep-jobs" => "a sweep over 50 live jobs",
        _ => "a round with one delivery",
    }
}

async fn upload(functions: &Functions) -> String {
    let file = json!({"filename": "talk.mp3", "size_bytes": SOURCE.len(), "sha256": sha256_hex(SOURCE)});
    let place = functions.call("POST", &format!("{JOBS}/uploads"), "", &file).await.ok();
    functions.presigned(&place["put"], SOURCE).await;
    place["source_file_path"].as_str().unwrap().to_owned()
}
