//! `GET /statistics`: what waits, runs and has ended lately.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use system_tests::{Answer, JOBS, Site, refusals, snapshot};

async fn statistics(site: &Site) -> Answer {
    site.ingest.get(&format!("{JOBS}/statistics")).await
}

#[tokio::test]
async fn there_is_nothing_to_tell() {
    let site = Site::start().await;
    site.sweep().await;
    snapshot!(statistics(&site).await.shown());
}

#[tokio::test]
async fn what_waits_runs_and_has_ended_is_told_by_content_type() {
    let site = Site::start().await;
    let done = site.claimed_job(&json!({})).await;
    site.world.advance(Duration::from_secs(10));
    site.leased(&done, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    let failed = site.claimed_job(&json!({})).await;
    site.leased(&failed, Method::PUT, "result", &json!({"success": false, "retryable": false})).await.ok();
    let again = site.claimed_job(&json!({})).await;
    site.leased(&again, Method::PUT, "result", &json!({"success": false})).await.ok();
    site.claimed_job(&json!({})).await;
    site.job(&json!({})).await;
    site.job(&json!({"content_type": "x-own"})).await;
    site.admin.post("/api/v1/queues/video/pause", &json!({})).await.ok();
    site.world.advance(Duration::from_secs(5));
    site.sweep().await;
    site.world.advance(Duration::from_secs(2));
    snapshot!(statistics(&site).await.shown());
}

#[tokio::test]
async fn only_who_may_read_jobs_reads_statistics() {
    let site = Site::start().await;
    site.job(&json!({})).await;
    site.sweep().await;
    let path = format!("{JOBS}/statistics");
    snapshot!(
        refusals([
            ("a worker's key", site.worker.request(Method::GET, &path)),
            ("no key", site.ingest.anonymous().request(Method::GET, &path)),
            ("another method", site.ingest.request(Method::POST, &path)),
        ])
        .await
    );
    let other = site.client("other", &["ingest"]).await;
    assert_eq!(other.get(&path).await.ok()["queues"], json!([]));
}
