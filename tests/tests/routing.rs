//! Which path and method leads where.

#![allow(clippy::panic, reason = "what a helper meets unexpectedly is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use api::ROUTES;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Client, Receiver, Site, sha256_hex, snapshot};

const BYTES: &[u8] = br#"{"content":"x"}"#;

/// Every call of the route table, once each with the success that it is meant to have.
struct Tour<'a> {
    site: &'a Site,
    /// What is put behind every path.
    slash: &'a str,
    statuses: BTreeMap<String, u16>,
}

impl Tour<'_> {
    async fn call(&mut self, method: Method, template: &str, id: &str, token: &str, body: Value) -> Answer {
        let (path, query) = template.split_once('?').unwrap_or((template, ""));
        let route = ROUTES.iter().find(|route| route.method == method && route.path == path);
        let route = route.unwrap_or_else(|| panic!("there is no {method} {path}"));
        let mut target = path
            .split('/')
            .map(|part| if part.starts_with('{') { id } else { part })
            .collect::<Vec<_>>()
            .join("/");
        target.push_str(self.slash);
        if !query.is_empty() {
            target = format!("{target}?{query}");
        }
        let request = self.site.admin.request(method, &target).header("Lease-Token", token);
        let answer = Answer::to(if body.is_null() { request } else { request.json(&body) }).await;
        assert!([200, 307].contains(&answer.status), "{} {target}: {}", route.method, answer.text());
        self.statuses.insert(format!("{} {}", route.method, route.path), answer.status);
        answer
    }

    async fn post(&mut self, template: &str, id: &str, token: &str, body: Value) -> Value {
        self.call(Method::POST, template, id, token, body).await.json()
    }

    /// Begins an upload in parts at `template`, and abandons it or sees it through. Gives its path.
    async fn parts(
        &mut self,
        template: &str,
        id: &str,
        token: &str,
        parameter: &str,
        complete: bool,
    ) -> Value {
        let large = json!({"filename": "f.mkv", "size_bytes": 70 << 20, "sha256": sha256_hex(BYTES)});
        let begun = self.post(template, id, token, large).await;
        let of_upload = |verb: &str| format!("{template}{parameter}/{verb}");
        let id = if parameter.is_empty() { id } else { begun["upload_id"].as_str().unwrap_or_default() };
        let body = |parts: Value| {
            json!({
                "source_file_path": begun["source_file_path"],
                "multipart_upload_id": begun["multipart"]["multipart_upload_id"],
                "parts": parts,
            })
        };
        if !complete {
            self.post(&of_upload("abort"), id, token, body(Value::Null)).await;
            return Value::Null;
        }
        let part = json!({"part_number": 1, "size_bytes": BYTES.len(), "sha256": sha256_hex(BYTES)});
        let signed = self.post(&of_upload("parts"), id, token, body(json!([part]))).await;
        let put = self.site.admin.presigned(&signed["parts"][0], BYTES).await;
        let part = json!({"part_number": 1, "etag": put.header("etag"), "sha256": sha256_hex(BYTES)});
        self.post(&of_upload("complete"), id, token, body(json!([part]))).await["source_file_path"].clone()
    }

    async fn job(&mut self, source: &Value) -> (String, String) {
        let job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "t"});
        self.post("/api/v1/remote-jobs", "", "", job).await;
        let poll = json!({"worker_id": "w", "content_types": ["audio"]});
        let claim = self.post("/api/v1/remote-jobs/poll", "", "", poll).await;
        let text = |field: &str| claim[field].as_str().unwrap_or_default().to_owned();
        (text("job_id"), text("lease_token"))
    }

    /// What an operator does with jobs and queues.
    async fn operate(&mut self, id: &str) {
        let jobs = "/api/v1/remote-jobs";
        self.call(Method::GET, jobs, "", "", Value::Null).await;
        self.call(Method::GET, &format!("{jobs}/statistics"), "", "", Value::Null).await;
        let workers = "/api/v1/remote-workers";
        self.call(Method::GET, workers, "", "", Value::Null).await;
        self.call(Method::DELETE, &format!("{workers}/{{worker_id}}"), "w%2F1", "", Value::Null).await;
        for verb in ["pause", "resume"] {
            self.post(&format!("/api/v1/queues/{{content_type}}/{verb}"), "audio", "", json!({})).await;
        }
        let original = json!({
            "job_id": "5c1f3a9e-7b1d-4c2e-9f00-0a1b2c3d4e5f", "status": "failed", "content_type": "audio",
            "source_file_path": "talk.mp3", "ingestion_task_id": "t", "created_at": "2024-05-01T08:00:00",
        });
        self.post(&format!("{jobs}/import"), "", "", original).await;
        self.site.admin.post(&format!("{jobs}/{id}/cancel"), &json!({})).await.ok();
        self.call(Method::DELETE, &format!("{jobs}/{{job_id}}"), id, "", Value::Null).await;
    }

    /// What an operator does with webhooks. The receiver is gone for good, so that the event is dead at once.
    async fn tell(&mut self) {
        let secret = "/api/v1/webhook-secret";
        self.call(Method::GET, secret, "", "", Value::Null).await;
        self.post(&format!("{secret}/rotate"), "", "", json!({})).await;
        let mut receiver = Receiver::answering(410).await;
        let job = self.site.job(&json!({"webhook_url": receiver.url("/")})).await;
        let cancel = format!("/api/v1/remote-jobs/{job}/cancel");
        self.site.admin.post(&cancel, &json!({})).await.ok();
        receiver.next().await;
        self.site.dead_events(1).await;
        let events = "/api/v1/events";
        let dead = self.call(Method::GET, events, "", "", Value::Null).await.json();
        let id = dead["events"][0]["event_id"].as_str().unwrap_or_default();
        self.post(&format!("{events}/{{event_id}}/redrive"), id, "", json!({})).await;
    }

    async fn whole(mut self) -> BTreeMap<String, u16> {
        let job = |verb: &str| format!("/api/v1/remote-jobs/{{job_id}}/{verb}");
        for path in ["/health", "/openapi.json", "/docs"] {
            self.call(Method::GET, path, "", "", Value::Null).await;
        }
        let uploads = "/api/v1/remote-jobs/uploads";
        self.parts(uploads, "", "", "/{upload_id}", false).await;
        self.parts(uploads, "", "", "/{upload_id}", true).await;
        // What is put together there is not as large as was announced, and no source.
        let source = self.site.admin.upload("talk.mp3", BYTES).await.into();
        let poll = "/api/v1/remote-jobs/poll?worker_id=w&content_types=audio";
        self.call(Method::GET, poll, "", "", Value::Null).await;
        let (id, token) = self.job(&source).await;
        let progress = json!({"percentage": 1, "message": "m"});
        self.call(Method::PUT, &job("progress"), &id, &token, progress).await;
        self.call(Method::GET, &job("download"), &id, &token, Value::Null).await;
        self.parts(&job("result-upload"), &id, &token, "", false).await;
        self.parts(&job("result-upload"), &id, &token, "", true).await;
        let result = json!({"success": true, "content": "text"});
        self.call(Method::PUT, &job("result"), &id, &token, result).await;
        self.call(Method::GET, &job("status"), &id, "", Value::Null).await;
        self.call(Method::GET, &job("result"), &id, "", Value::Null).await;
        let (id, token) = self.job(&source).await;
        self.post(&job("release"), &id, &token, json!({})).await;
        self.post(&job("cancel"), &id, "", json!({})).await;
        self.post(&job("retry"), &id, "", json!({})).await;
        self.operate(&id).await;
        self.tell().await;
        let key = json!({"name": "n", "scopes": ["worker"]});
        let key = self.post("/api/v1/keys", "", "", key).await;
        self.call(Method::GET, "/api/v1/keys", "", "", Value::Null).await;
        let key_id = key["key"]["key_id"].as_str().unwrap_or_default().to_owned();
        self.post("/api/v1/keys/{key_id}/rotate", &key_id, "", json!({})).await;
        self.call(Method::DELETE, "/api/v1/keys/{key_id}", &key_id, "", Value::Null).await;
        self.statuses
    }
}

#[tokio::test]
async fn every_call_succeeds_with_and_without_a_trailing_slash() {
    let every: BTreeSet<String> =
        ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    for slash in ["", "/"] {
        let loopback = "127.0.0.0/8".parse().unwrap();
        let site = Site::with(|config| config.jobs.webhook_networks = loopback).await;
        let statuses = Box::pin(Tour { site: &site, slash, statuses: BTreeMap::new() }.whole()).await;
        let made: BTreeSet<String> = statuses.keys().cloned().collect();
        assert_eq!(made, every, "with {slash:?}, not every call was made");
        snapshot!("the status of every call", statuses);
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let site = Site::start().await;
    let mut allowed: BTreeMap<&str, String> = BTreeMap::new();
    for path in ROUTES.iter().map(|route| route.path).collect::<BTreeSet<_>>() {
        let right: Vec<Method> =
            ROUTES.iter().filter(|route| route.path == path).map(|route| route.method.clone()).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "MADE-UP"] {
            let method: Method = method.parse().unwrap();
            if right.contains(&method) {
                continue;
            }
            for client in [&site.admin, &site.admin.anonymous()] {
                let answer = Answer::to(client.request(method.clone(), path)).await;
                assert_eq!(answer.status, 405, "{method} {path}");
                allowed.insert(path, answer.header("allow").to_owned());
            }
        }
    }
    snapshot!(allowed);
    snapshot!("a wrong method", Answer::to(site.admin.request(Method::PATCH, "/api/v1/keys")).await.shown());
}

#[tokio::test]
async fn an_unknown_path_is_told_where_to_look() {
    let site = Site::start().await;
    let mut answers = BTreeMap::new();
    for path in [
        "/",
        "/api/v1/remote-jobs/0b8f3c5e-0000-7000-8000-000000000000/x",
        "/api/v1/remote-jobs//status",
        "/api/v1/remote-jobs/x/y/z",
        "/api/v1/remote-jobs/poll//",
        "/API/V1/REMOTE-JOBS/poll",
        "/api/v2/remote-jobs",
        "/health/x",
        "/<script>alert(1)</script>",
        "/health%00",
    ] {
        answers.insert(path, site.admin.get(path).await.refusal());
    }
    snapshot!(answers);
    snapshot!("an unknown path", site.admin.get("/nowhere").await.shown());
}

#[tokio::test]
async fn a_callers_request_id_comes_back_where_it_is_harmless() {
    let site = Site::start().await;
    let id = async |client: &Client, id: &str| {
        let request = client.request(Method::GET, "/health").header("X-Request-Id", id);
        Answer::to(request).await.header("x-request-id").to_owned()
    };
    assert_eq!(id(&site.admin, "order-17").await, "order-17");
    for harmful in ["a b", "a\"b", "ключ", &"x".repeat(65)] {
        let given = id(&site.admin, harmful).await;
        assert_eq!(given.len(), 36, "{given}");
    }
}
