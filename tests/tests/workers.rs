//! `GET /api/v1/remote-workers` and `DELETE /api/v1/remote-workers/{worker_id}`: who converts.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, JOBS, Site, refusals, snapshot};

const WORKERS: &str = "/api/v1/remote-workers";

async fn workers(site: &Site, query: &str) -> Value {
    site.ingest.get(&format!("{WORKERS}{query}")).await.ok()
}

async fn poll(site: &Site, worker: &str, content_types: &[&str]) {
    let poll = json!({"worker_id": worker, "content_types": content_types, "version": "own/1"});
    site.worker.post(&format!("{JOBS}/poll"), &poll).await.ok();
}

async fn leave(site: &Site, segment: &str) -> Answer {
    Answer::to(site.worker.request(Method::DELETE, &format!("{WORKERS}/{segment}"))).await
}

#[tokio::test]
async fn workers_are_listed_with_what_they_run() {
    let site = Site::start().await;
    snapshot!("nobody", site.ingest.get(WORKERS).await.shown());
    poll(&site, "camera", &["video"]).await;
    site.world.advance(Duration::from_secs(121));
    poll(&site, "gpu-1", &["audio", "x-own"]).await;
    site.job(&json!({})).await;
    poll(&site, "gpu-1", &["audio", "x-own"]).await;
    snapshot!("two of them", site.ingest.get(WORKERS).await.shown());
    let audio = workers(&site, "?content_type=audio").await;
    assert_eq!(
        (audio["workers"].as_array().unwrap().len(), &audio["workers"][0]["worker_id"]),
        (1, &json!("gpu-1"))
    );
    assert_eq!(workers(&site, "?content_type=image").await["workers"], json!([]));
}

#[tokio::test]
async fn a_client_of_the_original_is_known_by_its_user_agent() {
    let site = Site::start().await;
    let path = format!("{JOBS}/poll?worker_id=17&content_types=audio&max_jobs=1");
    let request = site.worker.request(Method::GET, &path).header("User-Agent", "python-requests/2.32.3 (x)");
    Answer::to(request).await.ok();
    let known = workers(&site, "").await["workers"][0].clone();
    assert_eq!((&known["worker_id"], &known["version"]), (&json!("17"), &json!("python-requests/2.32.3")));
    assert_eq!((&known["live"], &known["content_types"]), (&json!(true), &json!(["audio"])));
}

#[tokio::test]
async fn a_worker_says_goodbye_whatever_its_name() {
    let site = Site::start().await;
    for (name, segment) in [
        ("gpu-1", "gpu-1"),
        ("a/b", "a%2Fb"),
        ("50% #1?", "50%25%20%231%3F"),
        ("%2F", "%252F"),
        ("ü", "%C3%BC"),
    ] {
        poll(&site, name, &["audio"]).await;
        assert_eq!(workers(&site, "").await["workers"][0]["worker_id"], name);
        assert_eq!(leave(&site, segment).await.ok(), json!({"worker_id": name, "left": true}));
        assert_eq!(leave(&site, segment).await.ok(), json!({"worker_id": name, "left": false}));
        assert_eq!(workers(&site, "").await["workers"], json!([]));
    }
}

#[tokio::test]
async fn only_who_may_is_told_of_workers_or_takes_one_away() {
    let site = Site::start().await;
    poll(&site, "gpu-1", &["audio"]).await;
    let one = format!("{WORKERS}/gpu-1");
    snapshot!(
        refusals([
            ("a worker lists", site.worker.request(Method::GET, WORKERS)),
            ("an ingestion service says goodbye", site.ingest.request(Method::DELETE, &one)),
            ("no key", site.ingest.anonymous().request(Method::GET, WORKERS)),
            ("another method", site.ingest.request(Method::POST, WORKERS)),
            ("no content type", site.ingest.request(Method::GET, &format!("{WORKERS}?content_type=music"))),
            ("no name", site.worker.request(Method::DELETE, &format!("{WORKERS}/a%0Ab"))),
        ])
        .await
    );
    let other = site.client("other", &["ingest", "worker"]).await;
    assert_eq!(other.get(WORKERS).await.ok()["workers"], json!([]));
    let taken = Answer::to(other.request(Method::DELETE, &one)).await.ok();
    assert_eq!(taken["left"], false);
    assert_eq!(workers(&site, "").await["workers"].as_array().unwrap().len(), 1);
}
