//! `POST /queues/{content_type}/pause` and `/resume`.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use system_tests::{Answer, JOBS, Site, refusals, snapshot};

async fn queue(site: &Site, content_type: &str, verb: &str) -> Answer {
    Answer::to(site.admin.request(Method::POST, &format!("/api/v1/queues/{content_type}/{verb}"))).await
}

#[tokio::test]
async fn a_paused_queue_gives_no_job_until_it_is_resumed() {
    let site = Site::start().await;
    let waiting = site.job(&json!({})).await;
    let late = site.job(&json!({"fallback_to_local": true, "priority": "high"})).await;
    let paused = queue(&site, "audio", "pause").await;
    assert_eq!(queue(&site, "audio", "pause").await.ok(), paused.ok(), "pausing again changes nothing");
    let poll = json!({"worker_id": "gpu-1", "content_types": ["audio"]});
    let refused = site.worker.post(&format!("{JOBS}/poll"), &poll).await;
    site.world.advance(Duration::from_secs(300));
    site.sweep().await;
    assert_eq!(site.status(&late).await["status"], "timeout");
    let resumed = queue(&site, "audio", "resume").await;
    assert_eq!(queue(&site, "audio", "resume").await.ok(), resumed.ok(), "resuming again changes nothing");
    assert_eq!(site.claim("gpu-1").await.job_id, waiting);
    snapshot!(json!({"paused": paused.shown(), "polled": refused.shown(), "resumed": resumed.shown()}));
}

#[tokio::test]
async fn only_an_operator_pauses_queues_and_only_those_that_can_be() {
    let site = Site::start().await;
    let post = |client: &system_tests::Client, path: &str| {
        client.request(Method::POST, &format!("/api/v1/queues/{path}"))
    };
    snapshot!(
        refusals([
            ("pause: no content type", post(&site.admin, "sound/pause")),
            ("pause: no content type, encoded", post(&site.admin, "a%23b/pause")),
            ("resume: no content type", post(&site.admin, "Audio/resume")),
            ("pause: an ingestion service's key", post(&site.ingest, "audio/pause")),
            ("resume: a worker's key", post(&site.worker, "audio/resume")),
            ("pause: no key", post(&site.admin.anonymous(), "audio/pause")),
            ("pause: another method", site.admin.request(Method::GET, "/api/v1/queues/audio/pause")),
        ])
        .await
    );
    assert_eq!(queue(&site, "x-own", "pause").await.status, 200);
}

#[tokio::test]
async fn a_pause_is_its_tenants_own() {
    let site = Site::start().await;
    let job = site.job(&json!({})).await;
    let other = site.client("other", &["admin"]).await;
    other.post("/api/v1/queues/audio/pause", &json!({})).await.ok();
    assert_eq!(site.claim("gpu-1").await.job_id, job);
}
