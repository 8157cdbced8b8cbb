//! `GET /api/v1/tasks`, and `GET` and `DELETE /api/v1/tasks/{id}`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Site, refusal::Refusal};
use crate::{
    pipeline::Headway,
    store::Cancelled,
    task::{Entry, Source, Task},
};

/// How many tasks are listed unless more are asked for, and at most.
const LISTED: u32 = 50;
const MOST_LISTED: u32 = 500;

/// A task, as the original's clients read it: the state's meta are `stage`, `progress`, `remote_job_id` and `error`.
#[derive(Debug, Serialize)]
pub(super) struct View {
    task_id: Uuid,
    status: &'static str,
    stage: &'static str,
    progress: f64,
    message: Option<String>,
    remote_job_id: Option<String>,
    /// How far the remote job is, 0 to 100, while it is waited for.
    remote_progress: Option<u8>,
    error: Option<String>,
    result: Option<Value>,
    document_id: String,
    source: String,
    source_type: String,
    size_bytes: Option<u64>,
    remote: bool,
    processing_method: Option<String>,
    decision: Option<Value>,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<Value>>,
}

impl View {
    fn of(task: Task, seen: Option<Headway>, history: Option<Vec<Entry>>) -> Self {
        let seen = seen.filter(|_| !task.phase.has_ended()).unwrap_or_default();
        let size_bytes = match task.spec.source {
            Source::File { size, .. } => Some(size),
            Source::Url(_) => None,
        };
        Self {
            task_id: task.id,
            status: task.phase.status(),
            stage: task.stage.name(),
            progress: task.progress(seen.progress),
            message: seen.message,
            remote_job_id: task.remote_job_id,
            remote_progress: seen.remote_percentage,
            error: task.error,
            result: task.result,
            document_id: task.spec.document_id,
            source: task.spec.source.name().to_owned(),
            source_type: task.spec.content_type.to_string(),
            size_bytes,
            remote: task.spec.remote,
            processing_method: task.processing_method,
            decision: task.decision,
            created_at: api::rfc3339(task.created_at),
            started_at: task.started_at.map(api::rfc3339),
            ended_at: task.ended_at.map(api::rfc3339),
            history: history.map(|entries| entries.iter().map(entry).collect()),
        }
    }
}

fn entry(entry: &Entry) -> Value {
    json!({
        "at": api::rfc3339(entry.at),
        "event": entry.event,
        "message": entry.message,
        "details": entry.details,
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    limit: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Listed {
    tasks: Vec<View>,
}

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    Query(listing): Query<Listing>,
) -> Result<Json<Listed>, Refusal> {
    let limit = match listing.limit.filter(|limit| !limit.is_empty()) {
        None => LISTED,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=MOST_LISTED).contains(limit)).ok_or_else(|| {
                Refusal::field("limit", format!("must be a whole number of 1 to {MOST_LISTED}"))
            })?
        }
    };
    let tasks = site.pipeline.store().recent(limit).await?;
    let view = |task: Task| {
        let seen = site.pipeline.seen(task.id);
        View::of(task, seen, None)
    };
    let tasks = tasks.into_iter().map(view).collect();
    Ok(Json(Listed { tasks }))
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
) -> Result<Json<View>, Refusal> {
    let (task, history) = match id.parse() {
        Ok(parsed) => {
            let seen = site.pipeline.seen(parsed);
            let task = site.pipeline.store().task(parsed).await?;
            let history = site.pipeline.store().history(parsed).await?;
            (task.map(|task| (task, seen)), history)
        }
        Err(_) => (None, Vec::new()),
    };
    match task {
        Some((task, seen)) => Ok(Json(View::of(task, seen, Some(history)))),
        None => Err(unknown(&id)),
    }
}

pub(super) async fn cancel(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let Ok(parsed) = id.parse() else { return Err(unknown(&id)) };
    match site.pipeline.cancel(parsed).await? {
        Cancelled::Done => {
            Ok(Json(json!({"task_id": parsed, "status": "FAILURE", "message": "The task was cancelled"})))
        }
        Cancelled::Unknown => Err(unknown(&id)),
        Cancelled::TooLate(phase) if phase.has_ended() => Err(Refusal::new(
            StatusCode::CONFLICT,
            format!("Task {parsed} has ended already: {}", phase.status()),
        )),
        Cancelled::TooLate(_) => Err(Refusal::new(
            StatusCode::CONFLICT,
            format!("Task {parsed} is converted and being stored; it cannot be cancelled any more"),
        )),
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::not_found(format!("Task {} not found", id.chars().take(100).collect::<String>()))
}
