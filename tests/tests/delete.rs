//! `DELETE /{id}`: an ended job goes with its files.

use reqwest::Method;
use serde_json::json;
use system_tests::{Answer, Client, JOBS, Site, refusals, snapshot};

fn deleting(client: &Client, id: &str) -> reqwest::RequestBuilder {
    client.request(Method::DELETE, &format!("{JOBS}/{id}"))
}

async fn completed(site: &Site) -> String {
    let claim = site.claimed_job(&json!({})).await;
    site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    claim.job_id
}

#[tokio::test]
async fn a_deleted_job_is_gone_with_its_files() {
    let site = Site::start().await;
    let job = completed(&site).await;
    let result = site.ingest.get(&format!("{JOBS}/{job}/result")).await.location();
    assert_eq!(site.ingest.get(&result).await.status, 200);
    let deleted = Answer::to(deleting(&site.ingest, &job)).await;
    assert_eq!(site.ingest.get(&result).await.status, 404, "its result is still there");
    assert_eq!(site.ingest.get(JOBS).await.ok()["jobs"], json!([]));
    snapshot!(json!({
        "deleted": deleted.shown(),
        "again": Answer::to(deleting(&site.ingest, &job)).await.refusal(),
        "status": site.ingest.get(&format!("{JOBS}/{job}/status")).await.refusal(),
    }));
}

#[tokio::test]
async fn the_same_idempotency_key_creates_a_job_anew() {
    let site = Site::start().await;
    let create = async || {
        let source = site.ingest.upload("talk.mp3", b"sound").await;
        let job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "t"});
        Answer::to(site.ingest.posting(JOBS, &job).header("Idempotency-Key", "k")).await.ok()
    };
    let first = create().await;
    let id = first["job_id"].as_str().unwrap_or_default().to_owned();
    site.ingest.post(&format!("{JOBS}/{id}/cancel"), &json!({})).await.ok();
    assert_eq!(create().await["status"], "cancelled");
    Answer::to(deleting(&site.ingest, &id)).await.ok();
    let again = create().await;
    assert_eq!((&again["job_id"], &again["status"]), (&first["job_id"], &json!("pending")));
    assert_eq!(site.claim("gpu-1").await.job_id, id);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_refused_with_why() {
    let site = Site::start().await;
    let running = site.claimed_job(&json!({})).await.job_id;
    let waiting = site.job(&json!({})).await;
    let other = site.client("other", &["admin"]).await;
    snapshot!(
        refusals([
            ("one that waits", deleting(&site.ingest, &waiting)),
            ("one that runs", deleting(&site.ingest, &running)),
            ("another tenant's", deleting(&other, &waiting)),
            ("unknown", deleting(&site.ingest, "0b8f3c5e-0000-7000-8000-000000000000")),
            ("no UUID", deleting(&site.ingest, "job-17")),
            ("a worker's key", deleting(&site.worker, &waiting)),
            ("no key", deleting(&site.ingest.anonymous(), &waiting)),
        ])
        .await
    );
    assert_eq!(site.status(&waiting).await["status"], "pending");
}
