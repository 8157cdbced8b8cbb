//! A server that hands out offered jobs, remembers every call, and answers as a test wants it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

/// How long a call may be waited for on a busy machine: less than the pause after a poll that names a place for hints.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    offers: Vec<Value>,
    offered: usize,
    seen: Vec<Call>,
    health: u16,
    progress: (u16, Value),
    result: (u16, Value),
    refuse_polls: bool,
    most_granted: usize,
    /// Polls are not held open, and name a place to wait for hints.
    gives_hints: bool,
    hints: usize,
    /// What the place answers.
    hint_status: u16,
    hint_wait: Duration,
    hears_goodbyes: bool,
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: String,
    pub(crate) job: String,
    pub(crate) body: Value,
    pub(crate) lease_token: String,
    pub(crate) authorization: String,
}

/// The status of an answer that never comes.
pub(crate) const NEVER: u16 = 0;

/// The source of every job that is offered by other fields than its text.
const SOURCE: &str = "source";

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let going_on = json!({"success": true, "message": "", "cancelled": false,
            "lease_expires_in_seconds": 60, "report_every_seconds": 1});
        let state = State {
            offers: Vec::new(),
            offered: 0,
            seen: Vec::new(),
            health: 200,
            progress: (200, going_on),
            result: (200, json!({"status": "completed", "ingestion_continued": false})),
            refuse_polls: false,
            most_granted: 0,
            gives_hints: false,
            hints: 0,
            hint_status: 200,
            hint_wait: Duration::from_secs(20),
            hears_goodbyes: true,
        };
        let server = Self { address, state: Arc::new(Mutex::new(state)) };
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| server.clone().serve(request));
                    // A connection that the converter drops is no fault here.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Offers a job with this source. Its id.
    pub(crate) fn offer(&self, source: &str) -> String {
        let url = format!("{}/source/{source}?signature=secret", self.url());
        self.offer_other(|offer| {
            offer["download"]["url"] = json!(url);
            offer["download"]["size_bytes"] = json!(source.len());
        })
    }

    /// Offers a job that is changed like this. Its id.
    pub(crate) fn offer_other(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut state = self.state();
        state.offered += 1;
        let id = format!("019a0000-0000-7000-8000-{:012}", state.offered);
        let mut offer = json!({
            "job_id": id, "source_file_url": format!("/api/v1/remote-jobs/{id}/download"), "content_type": "x-test",
            "task_options": {}, "lease_token": "token-secret", "attempt": 1, "lease_expires_in_seconds": 20,
            "report_every_seconds": 1, "run_timeout_seconds": 600,
            "download": {
                "url": format!("{}/source/{SOURCE}?signature=secret", self.url()), "filename": "source.txt",
                "size_bytes": SOURCE.len(), "etag": "\"e\"", "expires_in_seconds": 600,
            },
        });
        change(&mut offer);
        state.offers.push(offer);
        id
    }

    /// Answers questions for its health with this status.
    pub(crate) fn answer_health(&self, status: u16) {
        self.state().health = status;
    }

    pub(crate) fn answer_progress(&self, status: u16, body: Value) {
        self.state().progress = (status, body);
    }

    /// Asks for reports at this pace.
    pub(crate) fn report_every(&self, seconds: u64) {
        self.state().progress.1["report_every_seconds"] = json!(seconds);
    }

    pub(crate) fn answer_result(&self, status: u16, body: Value) {
        self.state().result = (status, body);
    }

    pub(crate) fn refuse_polls(&self) {
        self.state().refuse_polls = true;
    }

    /// Answers polls at once, with a place to wait for hints.
    pub(crate) fn give_hints(&self) {
        self.state().gives_hints = true;
    }

    /// Answers no goodbye from now on.
    pub(crate) fn ignore_goodbyes(&self) {
        self.state().hears_goodbyes = false;
    }

    /// Gives this many hints.
    pub(crate) fn hint(&self, count: usize) {
        self.state().hints += count;
    }

    /// Answers with this status at the place for hints, after this time without one.
    pub(crate) fn answer_hints(&self, status: u16, wait: Duration) {
        let mut state = self.state();
        (state.hint_status, state.hint_wait) = (status, wait);
    }

    /// How many such calls were made.
    pub(crate) fn count(&self, verb: &str) -> usize {
        self.state().seen.iter().filter(|call| call.verb == verb).count()
    }

    /// Waits until that many such calls were made.
    pub(crate) async fn wait_for_count(&self, verb: &str, count: usize) {
        self.until(|server| (server.count(verb) >= count).then_some(())).await;
    }

    /// Forgets the calls that were made.
    pub(crate) fn forget(&self) {
        self.state().seen.clear();
    }

    /// The most jobs that one poll was given.
    pub(crate) fn most_granted(&self) -> usize {
        self.state().most_granted
    }

    fn find(&self, wanted: impl Fn(&Call) -> bool) -> Option<Call> {
        self.state().seen.iter().find(|call| wanted(call)).cloned()
    }

    pub(crate) fn has_seen(&self, verb: &str, job: &str) -> bool {
        self.find(|call| call.verb == verb && call.job == job).is_some()
    }

    /// Whether such a call was made before the first one of that verb.
    pub(crate) fn has_seen_before(&self, verb: &str, job: &str, later: &str) -> bool {
        let state = self.state();
        let mut earlier = state.seen.iter().take_while(|call| call.verb != later);
        earlier.any(|call| call.verb == verb && call.job == job)
    }

    /// The first such call, once it is made.
    pub(crate) async fn wait_for(&self, verb: &str, job: &str) -> Call {
        self.wait(|call| call.verb == verb && call.job == job).await
    }

    pub(crate) async fn wait_for_progress(&self, job: &str, percentage: u64) -> Call {
        self.wait(|call| call.verb == "progress" && call.job == job && call.body["percentage"] == percentage)
            .await
    }

    /// The first poll for just these types, once it is made.
    pub(crate) async fn wait_for_poll(&self, content_types: &Value) -> Call {
        self.wait(|call| call.verb == "poll" && call.body["content_types"] == *content_types).await
    }

    /// The last such call, if one was made.
    pub(crate) fn latest(&self, verb: &str, job: &str) -> Option<Call> {
        let state = self.state();
        state.seen.iter().rev().find(|call| call.verb == verb && call.job == job).cloned()
    }

    async fn wait(&self, wanted: impl Fn(&Call) -> bool) -> Call {
        self.until(|server| server.find(&wanted)).await
    }

    async fn until<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(Instant::now() < end, "not within {PATIENCE:?}; the calls were {:?}", self.calls());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The calls so far, each with its verb and its job.
    fn calls(&self) -> Vec<String> {
        self.state().seen.iter().map(|call| format!("{} {}", call.verb, call.job)).collect()
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let header = |name: HeaderName| {
            parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let path = parts.uri.path().trim_start_matches("/api/v1/remote-jobs").to_owned();
        let left = path.strip_prefix("/api/v1/remote-workers/").map(|worker| format!("{worker}/leave"));
        let (job, verb) = match left.as_ref().unwrap_or(&path).trim_start_matches('/').split_once('/') {
            Some(("source", name)) => return Ok(source(name)),
            Some((job, verb)) => (job.to_owned(), verb.to_owned()),
            None => (String::new(), path.trim_start_matches('/').to_owned()),
        };
        let call = Call {
            verb: verb.clone(),
            job: job.clone(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            lease_token: header(HeaderName::from_static("lease-token")),
            authorization: header(AUTHORIZATION),
        };
        self.state().seen.push(call.clone());
        let (status, answer) = self.answer(&verb, &call).await;
        let media_type = if status < 400 { "application/json" } else { "application/problem+json" };
        let answer = Full::new(Bytes::from(answer.to_string()));
        Ok(Response::builder().status(status).header(CONTENT_TYPE, media_type).body(answer).unwrap())
    }

    async fn answer(&self, verb: &str, call: &Call) -> (u16, Value) {
        match verb {
            "health" => (self.state().health, json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})),
            "poll" => self.poll(call).await,
            "hint" => self.wait_for_hint().await,
            "progress" => {
                let answer = self.state().progress.clone();
                if answer.0 == NEVER {
                    std::future::pending::<()>().await;
                }
                answer
            }
            "result" => self.state().result.clone(),
            "release" => (200, json!({"status": "pending"})),
            "result-upload" => {
                let put = json!({"method": "PUT", "url": format!("{}/upload?signature=secret", self.url()),
                    "headers": {}, "expires_in_seconds": 600});
                (
                    200,
                    json!({"upload_id": "u", "source_file_path": "results/key", "uploaded": false, "put": put}),
                )
            }
            "upload" => (200, json!({})),
            "leave" if self.state().hears_goodbyes => (200, json!({"worker_id": call.job, "left": true})),
            "leave" => std::future::pending().await,
            _ => (404, problem(404, "not-found")),
        }
    }

    async fn poll(&self, call: &Call) -> (u16, Value) {
        if self.state().refuse_polls {
            return (401, problem(401, "unauthorized"));
        }
        // As the real one, it waits for work if it is asked to.
        let wait = if self.state().gives_hints { 0 } else { call.body["wait_seconds"].as_u64().unwrap_or(0) };
        for _ in 0..wait * 100 {
            if !self.state().offers.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut state = self.state();
        let most = usize::try_from(call.body["max_jobs"].as_u64().unwrap_or(1)).unwrap();
        let count = state.offers.len().min(most);
        state.most_granted = state.most_granted.max(count);
        let granted: Vec<Value> = state.offers.drain(..count).collect();
        let mut answer = granted.first().cloned().unwrap_or_else(
            || json!({"job_id": null, "source_file_url": null, "content_type": null, "task_options": null}),
        );
        if state.gives_hints && granted.is_empty() && call.body["hints"] == true {
            answer["poll_again_in_seconds"] = json!(300);
            answer["hint_url"] = json!(format!("http://{}/queue/hint?signature=secret", self.address));
            answer["hint_url_expires_in_seconds"] = json!(900);
        }
        if most > 1 {
            answer["jobs"] = Value::Array(granted);
        }
        (200, answer)
    }

    /// Answers as SQS does to those who want JSON.
    async fn wait_for_hint(&self) -> (u16, Value) {
        let wait = self.state().hint_wait;
        for _ in 0..wait.as_millis() / 10 {
            if self.state().hints > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut state = self.state();
        if state.hint_status != 200 {
            return (state.hint_status, json!({}));
        }
        let given = state.hints.min(1);
        state.hints -= given;
        (200, if given == 0 { json!({}) } else { json!({"Messages": [{"MessageId": "m", "Body": "hint"}]}) })
    }
}

fn source(text: &str) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(text.to_owned()));
    Response::builder().header(ETAG, "\"e\"").body(body).unwrap()
}

/// A problem of this kind.
pub(crate) fn problem(status: u16, kind: &str) -> Value {
    json!({"type": format!("urn:remote-jobs:{kind}"), "title": kind, "status": status, "detail": "The test wants it."})
}
