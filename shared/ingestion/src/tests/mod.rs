//! Conversions against a control plane of this module: real sockets, and a clock that only the test moves.

mod conversions;
mod decisions;
mod ends;
mod rules;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use client::{ApiKey, Client};
use domain::ContentType;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, header::HeaderMap, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Notify};

use crate::{ConversionTask, Converted, Event, Events, Ingestion, LocalConversion, RemoteSettings, Source};

pub(crate) const JOBS: &str = "/api/v1/remote-jobs";
const DOCUMENT: &str = "/document";
const OBJECT: &str = "/object";

/// What is asked of the control plane and of the object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Workers,
    Statistics,
    List,
    Uploads,
    Object,
    Create,
    Status,
    Cancel,
    Result,
    Document,
}

impl Asked {
    fn of(method: &hyper::Method, path: &str) -> Self {
        match (method.as_str(), path.strip_prefix(JOBS).unwrap_or(path)) {
            ("GET", "/api/v1/remote-workers") => Self::Workers,
            ("GET", "/statistics") => Self::Statistics,
            ("GET", "") => Self::List,
            ("POST", "/uploads") => Self::Uploads,
            ("PUT", OBJECT) => Self::Object,
            ("POST", "") => Self::Create,
            ("GET", "/job-1/status") => Self::Status,
            ("POST", "/job-1/cancel") => Self::Cancel,
            ("GET", "/job-1/result") => Self::Result,
            ("GET", DOCUMENT) => Self::Document,
            other => panic!("nobody expects {other:?}"),
        }
    }
}

/// A request as the control plane saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) asked: Asked,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16, Vec<(&'static str, String)>, Bytes),
    /// The connection is closed.
    HangUp,
    /// Nothing ever comes.
    Silence,
}

impl Reply {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Status(200, Vec::new(), value.to_string().into())
    }

    pub(crate) fn problem(kind: api::Kind, detail: &str) -> Self {
        let body = serde_json::to_vec(&api::Problem::new(kind, detail)).unwrap();
        Self::Status(kind.status(), Vec::new(), body.into())
    }

    /// A call that the job's state does not admit.
    pub(crate) fn refused(job_status: &str) -> Self {
        let problem = api::Problem {
            job_status: Some(job_status.to_owned()),
            ..api::Problem::new(api::Kind::Refused, format!("Job job-1 is {job_status}."))
        };
        Self::Status(409, Vec::new(), serde_json::to_vec(&problem).unwrap().into())
    }

    /// What a stranger answers.
    pub(crate) fn bare(status: u16) -> Self {
        Self::Status(status, Vec::new(), Bytes::from_static(br#"{"message":"no"}"#))
    }

    pub(crate) fn header(self, name: &'static str, value: u64) -> Self {
        match self {
            Self::Status(status, mut headers, body) => {
                headers.push((name, value.to_string()));
                Self::Status(status, headers, body)
            }
            other => other,
        }
    }
}

/// A control plane with one audio worker, nothing to do, and a job that is completed when it is first asked for; unless
/// the test says otherwise.
pub(crate) struct Plane {
    address: SocketAddr,
    /// What is answered to each question: one after the other, and the last one again and again.
    script: Mutex<HashMap<Asked, Vec<Reply>>>,
    seen: Mutex<Vec<Seen>>,
    /// Told of every request.
    pub(crate) asked: Notify,
}

impl Plane {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = usual(address).into_iter().map(|(asked, reply)| (asked, vec![reply])).collect();
        let plane = Arc::new(Self {
            address,
            script: Mutex::new(script),
            seen: Mutex::default(),
            asked: Notify::new(),
        });
        tokio::spawn(accept(listener, Arc::clone(&plane)));
        plane
    }

    /// Answers a question by these from now on.
    pub(crate) fn answers(&self, asked: Asked, replies: impl Into<Vec<Reply>>) {
        self.script.lock().unwrap().insert(asked, replies.into());
    }

    /// Answers everything this from now on.
    pub(crate) fn answers_all(&self, reply: &Reply) {
        self.script.lock().unwrap().values_mut().for_each(|replies| *replies = vec![reply.clone()]);
    }

    /// The statuses of the job, the last one again and again.
    pub(crate) fn statuses(&self, statuses: &[&str]) {
        let replies: Vec<Reply> = statuses.iter().map(|status| Reply::json(&status_of(status))).collect();
        self.answers(Asked::Status, replies);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, asked: Asked) -> usize {
        self.seen().iter().filter(|seen| seen.asked == asked).count()
    }

    pub(crate) fn last(&self, asked: Asked) -> Seen {
        self.seen().into_iter().rfind(|seen| seen.asked == asked).unwrap_or_else(|| panic!("no {asked:?}"))
    }

    /// Waits until so many have asked.
    pub(crate) async fn until(&self, asked: Asked, count: usize) {
        loop {
            let told = self.asked.notified();
            if self.count(asked) >= count {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn client(&self) -> Client {
        let base = format!("http://{}", self.address).parse().unwrap();
        Client::new(base, Some(ApiKey::from("k1.secret")), "test/0").unwrap()
    }

    pub(crate) fn ingestion(&self) -> Ingestion {
        Ingestion::new(self.client(), enabled())
    }

    fn reply(&self, seen: Seen) -> Reply {
        let reply = {
            let mut script = self.script.lock().unwrap();
            let replies = script.get_mut(&seen.asked).unwrap();
            if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() }
        };
        self.seen.lock().unwrap().push(seen);
        self.asked.notify_waiters();
        reply
    }
}

pub(crate) fn status_of(status: &str) -> Value {
    let error = matches!(status, "failed" | "timeout").then_some("no speech in it");
    json!({
        "job_id": "job-1", "status": status, "created_at": "c", "retry_count": 0, "percentage": 40,
        "progress_message": "listening", "error_message": error, "updated_at": "u", "max_retries": 3,
        "attempts": [], "ingestion_task_id": "task-1", "content_type": "audio",
    })
}

fn worker(live: bool, content_type: &str) -> Value {
    json!({
        "worker_id": "gpu-1", "content_types": [content_type], "version": null, "last_seen": "now", "live": live,
        "running_jobs": [],
    })
}

pub(crate) fn workers(live: bool, content_type: &str) -> Reply {
    Reply::json(&json!({"workers": [worker(live, content_type)], "live_within_seconds": 120}))
}

/// So many live workers that take audio.
pub(crate) fn live_workers(count: usize) -> Reply {
    Reply::json(&json!({"workers": vec![worker(true, "audio"); count], "live_within_seconds": 120}))
}

/// The statistics of the queue of audio jobs, of which none run.
pub(crate) fn queue(waiting: u64, paused: bool, median: Option<f64>) -> Reply {
    busy_queue(waiting, 0, paused, median)
}

pub(crate) fn busy_queue(waiting: u64, running: u64, paused: bool, median: Option<f64>) -> Reply {
    let run_time =
        median.map(|median| json!({"conversions": 9, "median_seconds": median, "p90_seconds": median * 2.0}));
    let ended = json!({"completed": 9, "failed": 0, "timeout": 0, "cancelled": 0});
    let queue = json!({
        "content_type": "audio", "paused": paused, "waiting": waiting, "oldest_waiting_seconds": null,
        "backing_off": 0, "running": running, "ended_24h": ended, "run_time": run_time,
    });
    Reply::json(&json!({"as_of": null, "queues": [queue]}))
}

/// The earlier job of a task.
pub(crate) fn listed() -> Reply {
    let job = json!({
        "job_id": "job-1", "status": "processing", "content_type": "audio", "filename": "talk.mp3",
        "ingestion_task_id": "task-1", "created_at": "c", "updated_at": "u", "completed_at": null,
        "worker_id": null, "percentage": 0, "retry_count": 0, "error_message": null,
    });
    Reply::json(&json!({"jobs": [job]}))
}

fn usual(address: SocketAddr) -> [(Asked, Reply); 10] {
    let url = |path: &str| format!("http://{address}{path}");
    let put = json!({"method": "PUT", "url": url(OBJECT), "headers": {}, "expires_in_seconds": 900});
    let place =
        json!({"upload_id": "u", "source_file_path": "sources/t/u/talk.mp3", "uploaded": false, "put": put});
    let document = json!({"content": "# Remote", "metadata": {"by": "gpu-1"}, "processing_time": 2.5});
    [
        (Asked::Workers, workers(true, "audio")),
        (Asked::Statistics, Reply::json(&json!({"as_of": null, "queues": []}))),
        (Asked::List, Reply::json(&json!({"jobs": []}))),
        (Asked::Uploads, Reply::json(&place)),
        (Asked::Object, Reply::Status(200, Vec::new(), Bytes::new())),
        (Asked::Create, Reply::json(&json!({"job_id": "job-1", "status": "pending", "created_at": "c"}))),
        (Asked::Status, Reply::json(&status_of("completed"))),
        (
            Asked::Cancel,
            Reply::json(&json!({"job_id": "job-1", "status": "cancelled", "continued_by": "local"})),
        ),
        (Asked::Result, Reply::Status(307, vec![("location", url(DOCUMENT))], Bytes::new())),
        (Asked::Document, Reply::json(&document)),
    ]
}

async fn accept(listener: TcpListener, plane: Arc<Plane>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let plane = Arc::clone(&plane);
        let service = service_fn(move |request| respond(request, Arc::clone(&plane)));
        // A connection that breaks is what some tests want.
        tokio::spawn(async move {
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await
        });
    }
}

async fn respond(
    request: Request<hyper::body::Incoming>,
    plane: Arc<Plane>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let asked = Asked::of(&head.method, head.uri.path());
    let query = head.uri.query().unwrap_or_default().to_owned();
    match plane.reply(Seen { asked, query, headers: head.headers, body }) {
        Reply::Status(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body)).unwrap())
        }
        Reply::HangUp => Err(io::Error::other("the test wants it")),
        Reply::Silence => std::future::pending().await,
    }
}

pub(crate) fn enabled() -> RemoteSettings {
    RemoteSettings { enabled: true, ..RemoteSettings::default() }
}

/// A recording, and the task of converting it remotely within half an hour.
pub(crate) struct Recording {
    pub(crate) task: ConversionTask,
    pub(crate) path: PathBuf,
    _folder: TempDir,
}

pub(crate) fn recording() -> Recording {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("talk.mp3");
    std::fs::write(&path, b"sound").unwrap();
    let source = Source::File { path: path.clone(), name: "talk.mp3".to_owned() };
    let deadline = SystemTime::now() + Duration::from_secs(1800);
    let mut task = ConversionTask::new("task-1", source, ContentType::Audio, deadline);
    task.requested = true;
    Recording { task, path, _folder: folder }
}

/// A local converter that counts what it is asked.
pub(crate) struct Local {
    pub(crate) begun: AtomicUsize,
    /// What was begun and neither ended nor dropped.
    pub(crate) running: AtomicUsize,
    answer: Result<&'static str, &'static str>,
    /// What it waits for before it is done.
    gate: Option<Arc<Notify>>,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self::answering(Ok("# Local"))
    }

    pub(crate) fn answering(answer: Result<&'static str, &'static str>) -> Self {
        Self { begun: AtomicUsize::new(0), running: AtomicUsize::new(0), answer, gate: None }
    }

    pub(crate) fn behind(self, gate: &Arc<Notify>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..self }
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

/// Counts down, also when it is dropped half-way.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl LocalConversion for Local {
    async fn convert(
        &self,
        _: &ConversionTask,
        progress: &(dyn Fn(u8, &str) + Sync),
    ) -> Result<Converted, String> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&self.running);
        progress(50, "half of it");
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        let content = self.answer.map_err(str::to_owned)?.to_owned();
        Ok(Converted { content, metadata: Map::new(), processing_time: 1.0 })
    }
}

/// What was told, a word for each.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

impl Told {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Without the steps of the upload.
    pub(crate) fn words(&self) -> Vec<String> {
        self.all().into_iter().filter(|word| !word.starts_with("uploading")).collect()
    }
}

impl Events for Told {
    fn tell(&self, event: Event<'_>) {
        let word = match event {
            Event::Decided(decision) => format!("decided {}", decision.reason),
            Event::Uploading { done, total } => format!("uploading {done}/{total}"),
            Event::Created { job_id } => format!("created {job_id}"),
            Event::Found { job_id } => format!("found {job_id}"),
            Event::Remote { status, percentage, message } => {
                format!("remote {status} {percentage} {}", message.unwrap_or("-"))
            }
            Event::FallingBack { reason } => format!("falling back {}", reason.as_str()),
            Event::RemoteAfterAll { job_id } => format!("remote after all {job_id}"),
            Event::Local { percentage, message } => format!("local {percentage} {message}"),
        };
        self.0.lock().unwrap().push(word);
    }
}
