//! What the gateway program logs of a job's whole life, and what neither its log nor an error answer ever shows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a helper meets unexpectedly is a failed test")]

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Client, GatewayProgram, JOBS, snapshot};

/// The calls of a life, what they are to leave in the log, and the secrets that were about.
#[derive(Default)]
struct Life {
    calls: Vec<Call>,
    secrets: Vec<String>,
    /// What was answered to calls that were refused.
    refusals: Vec<Answer>,
}

struct Call {
    request_id: String,
    status: u16,
    /// The job that the call is about, if it got so far.
    job_id: Option<String>,
}

impl Life {
    async fn call(&mut self, request: reqwest::RequestBuilder, job_id: Option<&str>) -> Answer {
        let request_id = format!("call-{}", self.calls.len());
        let answer = Answer::to(request.header("X-Request-Id", &request_id)).await;
        if answer.status >= 400 {
            self.refusals.push(answer.clone());
        }
        self.calls.push(Call { request_id, status: answer.status, job_id: job_id.map(str::to_owned) });
        answer
    }

    fn secret(&mut self, text: &str) {
        assert!(text.len() > 20, "{text:?} is no secret worth the name");
        self.secrets.push(text.to_owned());
    }

    /// The secret half of a key, which is in the whole one as well.
    fn secret_key(&mut self, key: &str) {
        self.secret(key.split_once('.').unwrap().1);
    }

    fn secret_url(&mut self, url: &str) {
        self.secret(url.split("X-Amz-Signature=").nth(1).unwrap().split('&').next().unwrap());
    }

    /// Lives a job's life and everything that can go wrong in it.
    async fn live(&mut self, admin: &Client, data: &Path) {
        self.secret_key(admin.key());
        let s3: Value =
            serde_json::from_slice(&std::fs::read(data.join("s3-credentials.json")).unwrap()).unwrap();
        self.secret(s3["secret_access_key"].as_str().unwrap());
        let key = json!({"name": "all", "scopes": ["ingest", "worker"]});
        let made = self.call(admin.posting("/api/v1/keys", &key), None).await.ok();
        let client = admin.keyed(made["api_key"].as_str().unwrap());
        self.secret_key(client.key());
        let file =
            json!({"filename": "talk.mp3", "size_bytes": 5, "sha256": system_tests::sha256_hex(b"sound")});
        let place = self.call(client.posting(&format!("{JOBS}/uploads"), &file), None).await.ok();
        self.secret_url(place["put"]["url"].as_str().unwrap());
        assert_eq!(client.presigned(&place["put"], "sound").await.status, 200);
        let job = json!({
            "source_file_path": place["source_file_path"], "content_type": "audio", "ingestion_task_id": "t",
        });
        let job =
            self.call(client.posting(JOBS, &job), None).await.ok()["job_id"].as_str().unwrap().to_owned();
        self.calls.last_mut().unwrap().job_id = Some(job.clone());
        let poll = json!({"worker_id": "gpu-1", "content_types": ["audio"]});
        let claim = self.call(client.posting(&format!("{JOBS}/poll"), &poll), Some(&job)).await.ok();
        let token = claim["lease_token"].as_str().unwrap();
        self.secret(token);
        self.secret_url(claim["download"]["url"].as_str().unwrap());
        let on = |method: Method, verb: &str| {
            client.request(method, &format!("{JOBS}/{job}/{verb}")).header("Lease-Token", token)
        };
        let progress = json!({"percentage": 50, "message": "half"});
        self.call(on(Method::PUT, "progress").json(&progress), Some(&job)).await.ok();
        let download = self.call(on(Method::GET, "download"), Some(&job)).await.location();
        self.secret_url(&download);
        assert_eq!(client.get(&download).await.text(), "sound");
        self.refuse(&client, &job, token, &download).await;
        let result = json!({"success": true, "content": "# Talk"});
        self.call(on(Method::PUT, "result").json(&result), Some(&job)).await.ok();
        let result = self.call(on(Method::GET, "result"), Some(&job)).await.location();
        self.secret_url(&result);
        assert_eq!(client.get(&result).await.status, 200);
        self.call(on(Method::GET, "status"), Some(&job)).await.ok();
    }

    /// Makes calls that are refused, with secrets where somebody may put them by mistake.
    async fn refuse(&mut self, client: &Client, job: &str, token: &str, download: &str) {
        let key = client.key().to_owned();
        let path = |verb: &str| format!("{JOBS}/{job}/{verb}");
        let (_, query) = download.split_once('?').unwrap();
        let unkeyed = client.anonymous();
        let text = |path: &str, body: String| {
            client.request(Method::PUT, path).header("content-type", "application/json").body(body)
        };
        let requests = [
            (unkeyed.request(Method::GET, &path("status")).bearer_auth(format!("{key}x")), None),
            (
                unkeyed.request(Method::GET, &path("status")).header("Authorization", format!("Basic {key}")),
                None,
            ),
            (client.request(Method::DELETE, &format!("/api/v1/keys/{key}")), None),
            (client.request(Method::GET, &format!("/nowhere?{query}&key={key}")), None),
            (client.request(Method::PATCH, &format!("{}?{query}", path("status"))), None),
            (client.request(Method::GET, &format!("{JOBS}/poll?{query}&token={token}")), None),
            (text(&path("result"), format!("{{\"lease_token\": \"{token}\", ")), None),
            (text(&path("result"), format!("[\"{key}\"]")), None),
            (client.request(Method::PUT, &path("progress")).json(&json!({"percentage": 1})), Some(job)),
            (
                client
                    .request(Method::PUT, &path("progress"))
                    .header("Lease-Token", format!("{token}x"))
                    .json(&json!({"percentage": 1})),
                Some(job),
            ),
            (
                client.posting(
                    JOBS,
                    &json!({"source_file_path": download, "content_type": "audio", "ingestion_task_id": "t"}),
                ),
                None,
            ),
        ];
        for (request, job) in requests {
            let answer = self.call(request, job).await;
            assert!((400..500).contains(&answer.status), "{}", answer.text());
        }
        for tampered in [
            download.replace("talk.mp3%22", "x%22"),
            download.replace("X-Amz-Expires=900", "X-Amz-Expires=901"),
        ] {
            let answer = client.get(&tampered).await;
            assert_eq!(answer.status, 403);
            self.refusals.push(answer);
        }
    }
}

/// Runs the gateway through a life, stops it, and gives what it said.
async fn live(level: &str) -> (Life, String) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let gateway = GatewayProgram::start(&data, &[], &[("MORAG_LOG_LEVEL", level)]);
    let mut life = Life::default();
    Box::pin(life.live(&gateway.admin(&data), &data)).await;
    let (code, log) = gateway.stop();
    assert_eq!(code, Some(0), "{log}");
    (life, log)
}

/// The log's lines that are JSON; the others are what the program says to a person.
fn lines(log: &str) -> Vec<Value> {
    let json = log.lines().filter(|line| !line.starts_with("gateway: "));
    json.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn every_call_leaves_one_line() {
    let (life, log) = live("INFO").await;
    let lines = lines(&log);
    let of_call = |line: &&Value, id: &str| line["message"] == "call" && line["span"]["request_id"] == id;
    for call in &life.calls {
        let found: Vec<&Value> = lines.iter().filter(|line| of_call(line, &call.request_id)).collect();
        assert_eq!(found.len(), 1, "{} is in the log {} times: {log}", call.request_id, found.len());
        let line = found[0];
        assert_eq!(line["status"], call.status, "{line}");
        let outcome = if call.status < 400 { "done" } else { "refused" };
        assert_eq!(line["outcome"], outcome, "{line}");
        assert!(line["duration_ms"].is_u64(), "{line}");
        if let Some(job) = &call.job_id {
            assert_eq!(line["span"]["job_id"], job.as_str(), "{line}");
            assert!(line["span"]["attempt"].is_u64(), "{line}");
        }
    }
    let mut progress = lines.iter().find(|line| line["span"]["verb"] == "ReportProgress").unwrap().clone();
    for field in ["timestamp", "duration_ms"] {
        progress[field] = "…".into();
    }
    progress["span"]["key_id"] = "…".into();
    snapshot!(progress);
    assert_eq!(log.lines().filter(|line| line.starts_with("gateway: ")).count(), 4, "{log}");
}

#[tokio::test]
async fn no_secret_is_in_a_log_or_an_error_answer() {
    for level in ["INFO", "DEBUG", "TRACE"] {
        let (life, log) = live(level).await;
        assert!(lines(&log).len() > life.calls.len(), "{log}");
        assert!(life.secrets.len() >= 8 && life.refusals.len() >= 13, "the life had too little in it");
        for secret in &life.secrets {
            let place = log.lines().find(|line| line.contains(secret));
            assert!(
                place.is_none(),
                "at level {level} a secret is in the log: {}",
                place.unwrap_or_default()
            );
            for answer in &life.refusals {
                let shown = format!("{:?} {}", answer.headers, answer.text());
                assert!(!shown.contains(secret), "a secret is in an error answer: {shown}");
            }
        }
    }
}
