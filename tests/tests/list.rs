//! `GET /`: a tenant's jobs, page by page.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{JOBS, Site, refusals, snapshot};

/// A job of each status that a test comes to quickly, two of them of one task.
async fn some_jobs(site: &Site) {
    let done = site.claimed_job(&json!({})).await;
    site.leased(&done, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    site.world.advance(std::time::Duration::from_secs(1));
    let failed = site.claimed_job(&json!({"ingestion_task_id": "task-2"})).await;
    let failure = json!({"success": false, "error_message": "no sound in it", "retryable": false});
    site.leased(&failed, Method::PUT, "result", &failure).await.ok();
    site.world.advance(std::time::Duration::from_secs(1));
    let running = site.claimed_job(&json!({})).await;
    site.heartbeat(&running).await.ok();
    site.world.advance(std::time::Duration::from_secs(1));
    site.job(&json!({"content_type": "video", "ingestion_task_id": "task-2"})).await;
}

async fn list(site: &Site, query: &str) -> Value {
    site.ingest.get(&format!("{JOBS}?{query}")).await.ok()
}

#[tokio::test]
async fn jobs_are_listed_the_newest_first() {
    let site = Site::start().await;
    some_jobs(&site).await;
    snapshot!(site.ingest.get(JOBS).await.shown());
}

#[tokio::test]
async fn every_filter_that_is_given_must_fit() {
    let site = Site::start().await;
    some_jobs(&site).await;
    let today = site.gateway.service.now().day();
    let count = async |query: &str| list(&site, query).await["jobs"].as_array().map_or(0, Vec::len);
    for (query, jobs) in [
        ("status=failed", 1),
        ("status=timeout", 0),
        ("content_type=audio", 3),
        ("content_type=audio&status=failed", 1),
        ("content_type=video&status=failed", 0),
        ("ingestion_task_id=task-2", 2),
        ("ingestion_task_id=task-2&content_type=video", 1),
        ("ingestion_task_id=17", 0),
        (&format!("day={today}"), 4),
        (&format!("day={today}&ingestion_task_id=task-2"), 2),
        ("day=2020-02-29", 0),
        ("status=&content_type=&unknown=is+ignored", 4),
    ] {
        assert_eq!(count(query).await, jobs, "{query}");
    }
}

#[tokio::test]
async fn a_list_is_gone_through_by_pages() {
    let site = Site::start().await;
    some_jobs(&site).await;
    let first = site.ingest.get(&format!("{JOBS}?limit=2&ingestion_task_id=task-2")).await;
    assert_eq!(first.ok().get("cursor"), None, "no more can follow");
    let first = list(&site, "limit=3").await;
    let cursor = first["cursor"].as_str().unwrap_or_default();
    let second = list(&site, &format!("limit=3&cursor={cursor}")).await;
    let ids: Vec<&Value> = [&first, &second]
        .into_iter()
        .flat_map(|page| page["jobs"].as_array().into_iter().flatten())
        .map(|job| &job["job_id"])
        .collect();
    assert_eq!(ids.len(), 4);
    snapshot!(json!({"first": first["cursor"], "second": second}));
}

#[tokio::test]
async fn a_bad_list_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    some_jobs(&site).await;
    let cursor = list(&site, "limit=1").await["cursor"].clone();
    let cursor = cursor.as_str().unwrap_or_default();
    let get = |query: &str| site.ingest.request(Method::GET, &format!("{JOBS}?{query}"));
    let long = "x".repeat(256);
    snapshot!(
        refusals([
            ("status: unknown", get("status=done")),
            ("content_type: unknown", get("content_type=sound")),
            ("day: no day", get("day=2026-02-30")),
            ("day: a time", get("day=2026-02-03T00:00:00Z")),
            ("limit: 0", get("limit=0")),
            ("limit: too many", get("limit=201")),
            ("limit: a text", get("limit=all")),
            ("ingestion_task_id: too long", get(&format!("ingestion_task_id={long}"))),
            ("cursor: none", get("cursor=next")),
            ("cursor: of other filters", get(&format!("status=failed&cursor={cursor}"))),
            ("another method", site.ingest.request(Method::PUT, JOBS)),
            ("a worker's key", site.worker.request(Method::GET, JOBS)),
            ("no key", site.ingest.anonymous().request(Method::GET, JOBS)),
        ])
        .await
    );
}

#[tokio::test]
async fn another_tenants_jobs_are_not_listed() {
    let site = Site::start().await;
    some_jobs(&site).await;
    let other = site.client("other", &["admin"]).await;
    assert_eq!(other.get(JOBS).await.ok()["jobs"], json!([]));
    let cursor = list(&site, "limit=1").await["cursor"].clone();
    let stolen = other.get(&format!("{JOBS}?cursor={}", cursor.as_str().unwrap_or_default())).await;
    assert_eq!(stolen.status, 422);
}
