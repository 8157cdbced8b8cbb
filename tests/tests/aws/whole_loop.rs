//! A file goes in, and its text comes out, by requests made by hand.

use reqwest::Method;
use serde_json::json;
use system_tests::{Answer, JOBS, sha256_hex};

use crate::tenant::{Tenant, answer};

const NAME: &str = "Überschrift \"1\" 😀.mp3";
/// Bytes that are no text.
const SOURCE: &[u8] = b"\x00\xff\xfe sound \r\n\x80";
const TEXT: &str = "# Vortrag\n\nGrüße, 世界 😀 \u{0} \\ \"";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_in_and_its_text_comes_out() {
    let tenant = Tenant::new().await;
    let file = json!({"filename": NAME, "size_bytes": SOURCE.len(), "sha256": sha256_hex(SOURCE)});
    let place = answer(tenant.ingest.posting(&format!("{JOBS}/uploads"), &file)).await.ok();
    assert_eq!(tenant.ingest.presigned(&place["put"], SOURCE).await.status, 200);
    let job = json!({
        "source_file_path": place["source_file_path"], "content_type": "audio", "ingestion_task_id": "Aufgabe 1",
        "task_options": {"language": "日本語", "webhook_url": "https://original.example/hook"},
    });
    let created = answer(tenant.ingest.posting(JOBS, &job)).await.ok();
    assert_eq!(created["status"], "pending");
    let id = created["job_id"].as_str().unwrap();
    assert_eq!(tenant.status(id).await["status"], "pending");

    let claim = tenant.claim().await;
    assert_eq!(claim.job_id, id);
    let granted = claim.answer.ok();
    assert_eq!(granted["task_options"], job["task_options"]);
    let download = &granted["download"];
    assert_eq!((&download["size_bytes"], &download["sha256"]), (&SOURCE.len().into(), &file["sha256"]));
    let source = tenant.worker.get(download["url"].as_str().unwrap()).await;
    assert_eq!((source.status, source.body.as_slice()), (200, SOURCE));
    assert!(source.header("content-disposition").contains(".mp3"), "{:?}", source.headers);

    let progress = json!({"percentage": 42, "message": "Größe: 1/2", "stage": "verschriften"});
    let heard = tenant.leased(&claim, Method::PUT, "progress", &progress).await.ok();
    assert_eq!(heard["cancelled"], false);
    assert!(heard["lease_expires_in_seconds"].as_u64().unwrap() > 10, "{heard}");
    let running = tenant.status(id).await;
    assert_eq!((&running["status"], &running["percentage"]), (&"processing".into(), &42.into()));
    assert_eq!(running["progress_message"], "Größe: 1/2");
    assert_eq!(tenant.managed(Method::GET, id, "result").await.problem().0, 409, "there is none yet");

    let result = json!({"success": true, "content": TEXT, "metadata": {"Seiten": 1}, "processing_time": 1.5});
    let submitted = tenant.leased(&claim, Method::PUT, "result", &result).await.ok();
    assert_eq!(submitted, json!({"status": "completed", "ingestion_continued": false}));
    assert_eq!(tenant.leased(&claim, Method::PUT, "result", &result).await.ok(), submitted, "repeated");
    let ended = tenant.status(id).await;
    assert_eq!(
        (&ended["status"], &ended["attempts"][0]["outcome"]),
        (&"completed".into(), &"completed".into())
    );
    let document = tenant.result(id).await;
    assert_eq!(document, json!({"content": TEXT, "metadata": {"Seiten": 1}, "processing_time": 1.5}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_whose_url_has_run_out_goes_on_by_a_new_one() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    let redirect = tenant.leased(&claim, Method::GET, "download", &json!(null)).await;
    let url = redirect.location();
    let etag = claim.answer.ok()["download"]["etag"].as_str().unwrap().to_owned();
    let rest = tenant.worker.request(Method::GET, &url).header("Range", "bytes=2-").header("If-Match", &etag);
    let rest = Answer::to(rest).await;
    assert_eq!((rest.status, rest.text().as_str()), (206, "und"));
    let other = tenant.worker.request(Method::GET, &url).header("If-Match", "\"0123456789abcdef\"");
    assert_eq!(Answer::to(other).await.status, 412, "another object under the same name");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_cannot_do_now_goes_back_to_the_queue_at_once() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    let released = tenant.leased(&claim, Method::POST, "release", &json!({"reason": "the lid closes"})).await;
    assert_eq!(released.ok()["status"], "pending");
    let again = tenant.claim().await;
    assert_eq!((&again.job_id, &again.answer.ok()["attempt"]), (&claim.job_id, &json!(2)));
    let stale = tenant.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await;
    assert_eq!(stale.problem().0, 409);
    assert!(stale.json()["type"].as_str().unwrap().ends_with("stale-lease"), "{}", stale.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_created_twice_under_one_idempotency_key_is_one_job() {
    let tenant = Tenant::new().await;
    let source = tenant.upload("talk.mp3", b"sound").await;
    let job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "t"});
    let create = async || {
        let request = tenant.ingest.posting(JOBS, &job).header("Idempotency-Key", "order-17");
        answer(request).await.ok()["job_id"].clone()
    };
    let (first, second) = tokio::join!(create(), create());
    assert_eq!((&first, &create().await), (&second, &first));
}
