//! What can be asked of the functions, each with what has to be there before.

use std::time::Duration;

use domain::{LeaseTerms, Tried};
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use service::{Courier, Message};
use system_tests::{JOBS, sha256_hex};

use crate::scene::{Scene, Wanted, call, large_options, once, poll, under};

/// One thing to ask.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Makes what has to be there, and says what is asked.
    pub(crate) prepare: for<'a> fn(&'a Scene) -> BoxFuture<'a, Wanted>,
    /// What whoever asks again may be told instead of a success, when the first time did what was asked and only the
    /// answer was lost.
    pub(crate) done_before: Option<u16>,
    /// How long whoever asks again has to wait until what the first time took is free again.
    pub(crate) wait: Duration,
    /// Whether this answer is what was asked for.
    pub(crate) is_done: fn(&Value) -> bool,
    /// What the rows may differ in from those of a call that met no fault: the trail of the first time.
    pub(crate) trail: &'static [&'static str],
}

/// Longer than a claim stands whose worker has not spoken, than a delivery is claimed, and than a run may take.
const CLAIM: Duration = LeaseTerms::FIRST_TERM.saturating_add(Duration::from_secs(1));
const DELIVERY: Duration = Duration::from_secs(61);
const RUN: Duration = Duration::from_secs(601);

const WORKERS: &str = "/api/v1/remote-workers";
const TRAIL_OF_A_CLAIM: &[&str] = &["attempts", "retries", "free_returns"];

/// A case in which asking again at once is enough.
macro_rules! case {
    ($name:ident) => {
        Case {
            name: stringify!($name),
            prepare: |scene| $name(scene).boxed(),
            done_before: None,
            wait: Duration::ZERO,
            is_done: |_| true,
            trail: &[],
        }
    };
}

/// Everything that can be asked and touches the table or the bucket.
pub(crate) fn cases() -> Vec<Case> {
    let is_claim = |answer: &Value| answer["job_id"].is_string();
    let claim = Case { wait: CLAIM, is_done: is_claim, trail: TRAIL_OF_A_CLAIM, ..case!(poll_for_a_new_job) };
    vec![
        case!(upload),
        case!(upload_in_parts),
        case!(sign_upload_parts),
        case!(complete_upload),
        case!(abort_upload),
        case!(create),
        case!(create_of_a_page),
        case!(import_an_open_job),
        case!(import_a_completed_job),
        claim,
        Case {
            prepare: |scene| poll_for_a_lapsed_job(scene).boxed(),
            name: "poll_for_a_lapsed_job",
            ..claim
        },
        Case {
            prepare: |scene| poll_by_the_original(scene).boxed(),
            name: "poll_by_the_original",
            wait: RUN,
            ..claim
        },
        case!(poll_that_ends_a_job),
        case!(progress),
        case!(result_upload),
        case!(result_upload_in_parts),
        case!(sign_result_parts),
        case!(complete_result_upload),
        case!(abort_result_upload),
        case!(result),
        case!(uploaded_result),
        case!(failure),
        case!(release),
        case!(status),
        case!(result_of_a_job),
        case!(download),
        case!(cancel),
        Case { done_before: Some(409), ..case!(retry) },
        case!(list),
        case!(list_of_a_task),
        case!(statistics),
        case!(statistics_of_one_type),
        case!(list_workers),
        case!(leave),
        Case { done_before: Some(404), ..case!(delete) },
        case!(pause),
        case!(resume),
        case!(list_events),
        Case { done_before: Some(409), ..case!(redrive_event) },
        case!(webhook_secret),
        // Whoever asks again has it replaced twice; events are signed with all of them.
        Case { trail: &["previous"], ..case!(rotate_webhook_secret) },
        case!(create_key),
        case!(list_keys),
        Case { done_before: Some(409), ..case!(rotate_key) },
        case!(revoke_key),
        case!(sweep),
        Case { wait: DELIVERY, trail: &["tries"], ..case!(deliver) },
    ]
}

async fn upload(_: &Scene) -> Wanted {
    let file = json!({"filename": "a.pdf", "size_bytes": 5, "sha256": sha256_hex(b"bytes")});
    once("POST", format!("{JOBS}/uploads"), file)
}

async fn upload_in_parts(_: &Scene) -> Wanted {
    once("POST", format!("{JOBS}/uploads"), large_file())
}

fn large_file() -> Value {
    json!({"filename": "a.mp4", "size_bytes": 100 << 20, "sha256": sha256_hex(b"large")})
}

/// An upload in parts, and the path of its calls.
async fn parts_of_a_source(scene: &Scene) -> (String, Value) {
    let place = scene.ask(&call("POST", format!("{JOBS}/uploads"), large_file())).await.ok();
    (format!("{JOBS}/uploads/{}", place["upload_id"].as_str().unwrap()), place)
}

fn with(place: &Value, parts: &Value) -> Value {
    json!({
        "source_file_path": place["source_file_path"],
        "multipart_upload_id": place["multipart"]["multipart_upload_id"],
        "parts": parts,
    })
}

fn one_part(place: &Value) -> Value {
    with(place, &json!([{"part_number": 1, "size_bytes": 5, "sha256": sha256_hex(b"bytes")}]))
}

async fn uploaded_part(scene: &Scene, path: &str, lease: &str, place: &Value) -> Value {
    let signed = scene.ask(&under(lease, "POST", format!("{path}/parts"), one_part(place))).await.ok();
    let etag = scene.presigned(&signed["parts"][0], b"bytes").await;
    with(place, &json!([{"part_number": 1, "etag": etag, "sha256": sha256_hex(b"bytes")}]))
}

async fn sign_upload_parts(scene: &Scene) -> Wanted {
    let (path, place) = parts_of_a_source(scene).await;
    call("POST", format!("{path}/parts"), one_part(&place))
}

async fn complete_upload(scene: &Scene) -> Wanted {
    let (path, place) = parts_of_a_source(scene).await;
    let uploaded = uploaded_part(scene, &path, "", &place).await;
    call("POST", format!("{path}/complete"), uploaded)
}

async fn abort_upload(scene: &Scene) -> Wanted {
    let (path, place) = parts_of_a_source(scene).await;
    call("POST", format!("{path}/abort"), with(&place, &Value::Null))
}

async fn create(scene: &Scene) -> Wanted {
    once("POST", JOBS, scene.job(large_options()).await)
}

async fn create_of_a_page(_: &Scene) -> Wanted {
    let page = "https://page.example/";
    once("POST", JOBS, json!({"source_file_path": page, "content_type": "web", "ingestion_task_id": "task"}))
}

fn imported(fields: &Value) -> Value {
    let mut job = json!({
        "job_id": "0199f0a0-0000-4000-8000-000000000001", "content_type": "document", "ingestion_task_id": "task",
        "source_file_path": "/was/there.pdf", "created_at": "2026-01-01T00:00:00Z",
    });
    job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    job
}

async fn import_an_open_job(scene: &Scene) -> Wanted {
    let source = scene.uploaded().await;
    let open = json!({"status": "pending", "source_file_path": source, "task_options": large_options()});
    call("POST", format!("{JOBS}/import"), imported(&open))
}

async fn import_a_completed_job(_: &Scene) -> Wanted {
    let ended = json!({"status": "completed", "result_data": {"content": "text", "metadata": {}}});
    call("POST", format!("{JOBS}/import"), imported(&ended))
}

async fn poll_for_a_new_job(scene: &Scene) -> Wanted {
    scene.created(large_options()).await;
    poll()
}

async fn poll_for_a_lapsed_job(scene: &Scene) -> Wanted {
    scene.claimed(json!({})).await;
    scene.world.advance(CLAIM);
    poll()
}

async fn poll_by_the_original(scene: &Scene) -> Wanted {
    scene.created(json!({})).await;
    call("GET", format!("{JOBS}/poll?worker_id=gpu-1&content_types=document"), Value::Null)
}

/// What has no time left.
fn short() -> Value {
    json!({"total_timeout_seconds": 10})
}

async fn poll_that_ends_a_job(scene: &Scene) -> Wanted {
    scene.claimed(short()).await;
    scene.world.advance(CLAIM);
    poll()
}

async fn progress(scene: &Scene) -> Wanted {
    let (path, lease) = scene.claimed(json!({})).await;
    under(&lease, "PUT", format!("{path}/progress"), json!({"percentage": 10, "message": "at it"}))
}

fn result_of(size_bytes: u64) -> Value {
    json!({"size_bytes": size_bytes, "sha256": sha256_hex(b"bytes")})
}

async fn result_upload(scene: &Scene) -> Wanted {
    let (path, lease) = scene.claimed(json!({})).await;
    under(&lease, "POST", format!("{path}/result-upload"), result_of(5))
}

async fn result_upload_in_parts(scene: &Scene) -> Wanted {
    let (path, lease) = scene.claimed(json!({})).await;
    under(&lease, "POST", format!("{path}/result-upload"), result_of(100 << 20))
}

async fn parts_of_a_result(scene: &Scene) -> (String, String, Value) {
    let (path, lease) = scene.claimed(json!({})).await;
    let path = format!("{path}/result-upload");
    let place = scene.ask(&under(&lease, "POST", &path, result_of(100 << 20))).await.ok();
    (path, lease, place)
}

async fn sign_result_parts(scene: &Scene) -> Wanted {
    let (path, lease, place) = parts_of_a_result(scene).await;
    under(&lease, "POST", format!("{path}/parts"), one_part(&place))
}

async fn complete_result_upload(scene: &Scene) -> Wanted {
    let (path, lease, place) = parts_of_a_result(scene).await;
    let uploaded = uploaded_part(scene, &path, &lease, &place).await;
    under(&lease, "POST", format!("{path}/complete"), uploaded)
}

async fn abort_result_upload(scene: &Scene) -> Wanted {
    let (path, lease, place) = parts_of_a_result(scene).await;
    under(&lease, "POST", format!("{path}/abort"), with(&place, &Value::Null))
}

async fn result(scene: &Scene) -> Wanted {
    let (path, lease) = scene.claimed(json!({})).await;
    under(&lease, "PUT", format!("{path}/result"), json!({"success": true, "content": "text"}))
}

async fn uploaded_result(scene: &Scene) -> Wanted {
    let (path, lease) = scene.claimed(json!({})).await;
    let place = scene.ask(&under(&lease, "POST", format!("{path}/result-upload"), result_of(5))).await.ok();
    scene.presigned(&place["put"], b"bytes").await;
    let result = json!({"success": true, "result_key": place["source_file_path"]});
    under(&lease, "PUT", format!("{path}/result"), result)
}

async fn failure(scene: &Scene) -> Wanted {
    let (path, lease) = scene.claimed(json!({})).await;
    under(&lease, "PUT", format!("{path}/result"), json!({"success": false, "error_message": "no such page"}))
}

async fn release(scene: &Scene) -> Wanted {
    let (path, lease) = scene.claimed(json!({})).await;
    under(&lease, "POST", format!("{path}/release"), json!({}))
}

async fn status(scene: &Scene) -> Wanted {
    let (path, _) = scene.claimed(json!({})).await;
    call("GET", format!("{path}/status"), Value::Null)
}

async fn completed(scene: &Scene, fields: Value) -> String {
    let (path, lease) = scene.claimed(fields).await;
    let result = json!({"success": true, "content": "text"});
    scene.ask(&under(&lease, "PUT", format!("{path}/result"), result)).await.ok();
    path
}

async fn result_of_a_job(scene: &Scene) -> Wanted {
    let path = completed(scene, json!({})).await;
    call("GET", format!("{path}/result"), Value::Null)
}

async fn download(scene: &Scene) -> Wanted {
    let (path, lease) = scene.claimed(json!({})).await;
    under(&lease, "GET", format!("{path}/download"), Value::Null)
}

async fn cancel(scene: &Scene) -> Wanted {
    let path = scene.created(json!({})).await;
    call("POST", format!("{path}/cancel"), json!({}))
}

async fn retry(scene: &Scene) -> Wanted {
    let path = scene.cancelled(json!({})).await;
    call("POST", format!("{path}/retry"), json!({}))
}

async fn list(scene: &Scene) -> Wanted {
    scene.created(json!({})).await;
    call("GET", JOBS, Value::Null)
}

async fn list_of_a_task(scene: &Scene) -> Wanted {
    scene.created(json!({})).await;
    call("GET", format!("{JOBS}?ingestion_task_id=task"), Value::Null)
}

async fn statistics(scene: &Scene) -> Wanted {
    scene.cancelled(json!({})).await;
    scene.ask(&Wanted::Sweep).await.ok();
    call("GET", format!("{JOBS}/statistics"), Value::Null)
}

async fn statistics_of_one_type(scene: &Scene) -> Wanted {
    scene.cancelled(json!({})).await;
    scene.ask(&Wanted::Sweep).await.ok();
    call("GET", format!("{JOBS}/statistics?content_type=document"), Value::Null)
}

async fn list_workers(scene: &Scene) -> Wanted {
    scene.claimed(json!({})).await;
    call("GET", WORKERS.to_owned(), Value::Null)
}

async fn leave(scene: &Scene) -> Wanted {
    scene.claimed(json!({})).await;
    call("DELETE", format!("{WORKERS}/gpu-1"), Value::Null)
}

async fn delete(scene: &Scene) -> Wanted {
    let path = completed(scene, large_options()).await;
    call("DELETE", path, Value::Null)
}

async fn pause(_: &Scene) -> Wanted {
    call("POST", "/api/v1/queues/document/pause", json!({}))
}

async fn resume(scene: &Scene) -> Wanted {
    let paused = pause(scene).await;
    scene.ask(&paused).await.ok();
    call("POST", "/api/v1/queues/document/resume", json!({}))
}

/// Says of every message that it will never be taken.
struct Refuses;

#[async_trait::async_trait]
impl Courier for Refuses {
    async fn carry(&self, _: &Message) -> Tried {
        Tried::Refused("gone".to_owned())
    }
}

async fn list_events(scene: &Scene) -> Wanted {
    scene.cancelled(json!({})).await;
    scene.deliver(scene.app().await, &Refuses).await.unwrap();
    call("GET", "/api/v1/events", Value::Null)
}

async fn redrive_event(scene: &Scene) -> Wanted {
    let listing = list_events(scene).await;
    let dead = scene.ask(&listing).await.ok();
    let id = dead["events"][0]["event_id"].as_str().unwrap();
    call("POST", format!("/api/v1/events/{id}/redrive"), json!({}))
}

async fn webhook_secret(_: &Scene) -> Wanted {
    call("GET", "/api/v1/webhook-secret", Value::Null)
}

async fn rotate_webhook_secret(scene: &Scene) -> Wanted {
    let first = webhook_secret(scene).await;
    scene.ask(&first).await.ok();
    call("POST", "/api/v1/webhook-secret/rotate", json!({}))
}

fn new_key() -> Wanted {
    call("POST", "/api/v1/keys", json!({"name": "worker", "scopes": ["worker"]}))
}

async fn create_key(_: &Scene) -> Wanted {
    new_key()
}

async fn list_keys(_: &Scene) -> Wanted {
    call("GET", "/api/v1/keys", Value::Null)
}

async fn another_key(scene: &Scene) -> String {
    let made = scene.ask(&new_key()).await.ok();
    format!("/api/v1/keys/{}", made["key"]["key_id"].as_str().unwrap())
}

async fn rotate_key(scene: &Scene) -> Wanted {
    let path = another_key(scene).await;
    call("POST", format!("{path}/rotate"), json!({}))
}

async fn revoke_key(scene: &Scene) -> Wanted {
    call("DELETE", another_key(scene).await, Value::Null)
}

async fn sweep(scene: &Scene) -> Wanted {
    // One whose worker is not heard of, one that runs too long, one that nobody comes for, and one that just waits.
    let moment = Duration::from_secs(11);
    scene.claimed(json!({})).await;
    scene.world.advance(moment);
    scene.claimed(json!({"timeout_seconds": 10, "max_retries": 0})).await;
    scene.created(json!({"queue_timeout_seconds": 10})).await;
    scene.world.advance(moment);
    scene.created(json!({})).await;
    Wanted::Sweep
}

async fn deliver(scene: &Scene) -> Wanted {
    scene.cancelled(json!({})).await;
    Wanted::Deliver
}
