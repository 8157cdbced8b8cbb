//! `GET /{id}/status`: where jobs stand.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{JOBS, Site, refusals, snapshot};

#[tokio::test]
async fn a_job_that_runs_is_estimated_by_its_own_progress() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    site.heartbeat(&claim).await.ok();
    site.world.advance(Duration::from_secs(30));
    site.leased(&claim, Method::PUT, "progress", &json!({"percentage": 40, "message": "decoding"}))
        .await
        .ok();
    let status = site.worker.get(&format!("{JOBS}/{}/status", claim.job_id)).await;
    assert!(status.ok()["estimated_completion"].is_string(), "{}", status.text());
    snapshot!(status.shown());
}

#[tokio::test]
async fn a_job_that_no_worker_took_times_out() {
    let site = Site::start().await;
    let job = site.job(&json!({"fallback_to_local": true})).await;
    site.world.advance(Duration::from_secs(299));
    site.sweep().await;
    assert_eq!(site.status(&job).await["status"], "pending");
    site.world.advance(Duration::from_secs(1));
    site.sweep().await;
    snapshot!(site.status(&job).await);
}

#[tokio::test]
async fn a_job_whose_workers_vanish_times_out_after_its_retries() {
    let site = Site::start().await;
    let job = site.job(&json!({"max_retries": 1})).await;
    for worker in ["gpu-1", "gpu-2"] {
        let claim = site.claim(worker).await;
        site.heartbeat(&claim).await.ok();
        site.world.advance(Duration::from_secs(61));
    }
    site.sweep().await;
    snapshot!(site.status(&job).await);
}

#[tokio::test]
async fn a_job_past_its_total_timeout_times_out() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({"total_timeout_seconds": 90})).await;
    site.heartbeat(&claim).await.ok();
    site.world.advance(Duration::from_secs(91));
    site.sweep().await;
    snapshot!(site.status(&claim.job_id).await);
}

#[tokio::test]
async fn only_the_tenants_own_jobs_are_shown() {
    let site = Site::start().await;
    let job = site.job(&json!({})).await;
    let other = site.client("other", &["ingest", "worker", "admin"]).await;
    let get =
        |client: &system_tests::Client, id: &str| client.request(Method::GET, &format!("{JOBS}/{id}/status"));
    snapshot!(
        refusals([
            ("another tenant's", get(&other, &job)),
            ("unknown", get(&site.ingest, "0b8f3c5e-0000-7000-8000-000000000000")),
            ("no UUID", get(&site.ingest, "job-17")),
            ("no UUID, encoded", get(&site.ingest, "..%2F..%2Fetc")),
            ("not even UTF-8", get(&site.ingest, "%ff%fe")),
        ])
        .await
    );
    assert_eq!(site.worker.get(&format!("{JOBS}/{job}/status")).await.ok()["status"], Value::from("pending"));
}

#[tokio::test]
async fn who_waits_for_a_jobs_end_is_told_of_it() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let path = format!("{JOBS}/{}/status?wait_seconds=20", claim.job_id);
    let client = site.ingest.clone();
    let waiting = tokio::spawn(async move { client.get(&path).await });
    site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    let told = waiting.await.map(|answer| answer.ok()).unwrap_or_default();
    assert_eq!(told["status"], "completed");
    assert_eq!(told.get("poll_again_in_seconds"), None);
}

#[tokio::test]
async fn a_bad_wait_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    let job = site.job(&json!({})).await;
    let get =
        |wait: &str| site.ingest.request(Method::GET, &format!("{JOBS}/{job}/status?wait_seconds={wait}"));
    snapshot!(refusals([("too long", get("21")), ("a text", get("soon")), ("negative", get("-1"))]).await);
    assert_eq!(site.ingest.get(&format!("{JOBS}/{job}/status?wait_seconds=")).await.status, 200);
}

#[tokio::test]
async fn a_job_without_progress_is_estimated_by_what_others_took() {
    let site = Site::start().await;
    for _ in 0..3 {
        let claim = site.claimed_job(&json!({})).await;
        site.world.advance(Duration::from_secs(19));
        site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    }
    let claim = site.claimed_job(&json!({})).await;
    let status = site.status(&claim.job_id).await;
    assert!(status["estimated_completion"].is_string(), "{status}");
    let waiting = site.job(&json!({})).await;
    assert_eq!(site.status(&waiting).await["estimated_completion"], Value::Null);
}
