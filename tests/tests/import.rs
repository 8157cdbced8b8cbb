//! `POST /import`: jobs of the original system go on here.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{JOBS, Site, refusals, snapshot};

const ID: &str = "5c1f3a9e-7b1d-4c2e-9f00-0a1b2c3d4e5f";

/// A job as the original's `to_dict` writes it, with the result that its file has besides.
fn original(status: &str) -> Value {
    json!({
        "job_id": ID,
        "ingestion_task_id": "task-9",
        "source_file_path": "/tmp/morag/uploads/talk.mp3",
        "content_type": "audio",
        "task_options": {"language": "de"},
        "status": status,
        "worker_id": "gpu-box",
        "created_at": "2024-05-01T08:00:00.123456",
        "started_at": "2024-05-01T08:01:00",
        "completed_at": "2024-05-01T08:03:30.500000",
        "error_message": null,
        "result_data": null,
        "retry_count": 1,
        "max_retries": 2,
        "timeout_at": null,
    })
}

fn path() -> String {
    format!("{JOBS}/import")
}

#[tokio::test]
async fn a_completed_job_is_imported_with_its_result() {
    let site = Site::start().await;
    let mut job = original("completed");
    job["result_data"] = json!({"content": "# Talk", "metadata": {"pages": 1}, "processing_time": 149.5});
    let imported = site.admin.post(&path(), &job).await;
    let again = site.admin.post(&path(), &job).await;
    let result = site.ingest.get(&format!("{JOBS}/{ID}/result")).await.location();
    snapshot!(json!({
        "imported": imported.shown(),
        "again": again.ok(),
        "status": site.status(ID).await,
        "result": site.ingest.get(&result).await.json(),
    }));
}

#[tokio::test]
async fn a_job_that_is_not_done_is_done_here() {
    let site = Site::start().await;
    let mut job = original("processing");
    job["source_file_path"] = site.ingest.upload("talk.mp3", b"sound").await.into();
    let imported = site.admin.post(&path(), &job).await;
    let status = site.status(ID).await;
    let claim = site.claim("gpu-1").await;
    assert_eq!(claim.job_id, ID);
    site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    let again = site.admin.post(&path(), &job).await.ok();
    snapshot!(json!({"imported": imported.shown(), "status": status, "again": again}));
}

#[tokio::test]
async fn a_job_that_failed_is_history() {
    let site = Site::start().await;
    let mut job = original("failed");
    job["error_message"] = "no sound in it".into();
    site.admin.post(&path(), &job).await.ok();
    let retried = site.ingest.post(&format!("{JOBS}/{ID}/retry"), &json!({})).await;
    snapshot!(json!({"status": site.status(ID).await, "retried": retried.refusal()}));
}

#[tokio::test]
async fn a_large_result_is_imported() {
    let site = Site::start().await;
    let mut job = original("completed");
    job["result_data"] = json!({"content": "x".repeat(10 << 20)});
    assert_eq!(site.admin.post(&path(), &job).await.ok()["imported"], true);
}

#[tokio::test]
async fn a_bad_import_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    let source = site.ingest.upload("talk.mp3", b"sound").await;
    let theirs = site.job(&json!({})).await;
    let other = site.client("other", &["admin"]).await;
    let post = |job: &Value| site.admin.posting(&path(), job);
    let changed = |field: &str, value: Value| {
        let mut job = original("pending");
        job["source_file_path"] = source.clone().into();
        job[field] = value;
        post(&job)
    };
    let long = "x".repeat(256);
    snapshot!(
        refusals([
            ("malformed", site.admin.posting_text(&path(), "{")),
            ("not JSON", site.admin.request(Method::POST, &path()).body("job_id=1")),
            ("empty", post(&json!({}))),
            ("job_id: no UUID", changed("job_id", "job-17".into())),
            ("job_id: a number", changed("job_id", 17.into())),
            ("status: unknown", changed("status", "done".into())),
            ("content_type: unknown", changed("content_type", "sound".into())),
            ("source_file_path: not uploaded", changed("source_file_path", "talk.mp3".into())),
            ("source_file_path: outside", changed("source_file_path", "/etc/passwd".into())),
            ("task_options: a list", changed("task_options", json!([]))),
            ("ingestion_task_id: too long", changed("ingestion_task_id", long.clone().into())),
            ("worker_id: too long", changed("worker_id", long.clone().into())),
            ("created_at: missing", changed("created_at", Value::Null)),
            ("created_at: no time", changed("created_at", "yesterday".into())),
            ("started_at: a date", changed("started_at", "2024-05-01".into())),
            ("completed_at: no time", changed("completed_at", "1714550000".into())),
            ("result_data: a text", changed("result_data", "# Talk".into())),
            ("result_data: missing", post(&original("completed"))),
            ("retry_count: negative", changed("retry_count", (-1).into())),
            ("max_retries: too many", changed("max_retries", 21.into())),
            (
                "job_id: another tenant's",
                other.posting(&path(), &{
                    let mut job = original("failed");
                    job["job_id"] = theirs.clone().into();
                    job
                })
            ),
            ("an ingestion service's key", site.ingest.posting(&path(), &original("failed"))),
            ("no key", site.admin.anonymous().posting(&path(), &original("failed"))),
        ])
        .await
    );
    assert_eq!(site.status(&theirs).await["status"], "pending");
}
