//! `GET /{id}/download`: the source, for the worker that holds the lease.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{JOBS, Site, refusals, snapshot};

#[tokio::test]
async fn the_holder_of_the_lease_is_redirected_to_the_source() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let redirect = site.leased(&claim, Method::GET, "download", &Value::Null).await;
    let source = site.worker.get(&redirect.location()).await;
    snapshot!(json!({"redirect": redirect.shown(), "source": source.shown()}));
}

#[tokio::test]
async fn a_url_can_be_had_at_any_time_while_the_lease_holds() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    for _ in 0..5 {
        site.world.advance(Duration::from_secs(15));
        site.heartbeat(&claim).await.ok();
        let redirect = site.leased(&claim, Method::GET, "download", &Value::Null).await;
        assert_eq!(site.worker.get(&redirect.location()).await.text(), "sound");
    }
}

#[tokio::test]
async fn a_client_of_the_original_follows_the_relative_url() {
    let site = Site::start().await;
    site.job(&json!({})).await;
    let poll = site.worker.get(&format!("{JOBS}/poll?worker_id=w&content_types=audio&max_jobs=1")).await.ok();
    let redirect = site.worker.get(poll["source_file_url"].as_str().unwrap()).await;
    // Python's `requests` keeps the key on a redirect to the same host, which S3 by itself would refuse.
    let source = site.worker.request(Method::GET, &redirect.location()).bearer_auth(site.worker.key());
    assert_eq!(system_tests::Answer::to(source).await.text(), "sound");
}

#[tokio::test]
async fn who_does_not_hold_the_lease_gets_no_source() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let waiting = site.job(&json!({})).await;
    let colleague = site.client("default", &["worker"]).await;
    let other = site.client("other", &["worker"]).await;
    let download = |client: &system_tests::Client, id: &str| {
        client.request(Method::GET, &format!("{JOBS}/{id}/download"))
    };
    snapshot!(
        "while it runs",
        refusals([
            ("no token", download(&site.worker, &claim.job_id)),
            ("no token, another key", download(&colleague, &claim.job_id)),
            ("an empty token", download(&site.worker, &claim.job_id).header("Lease-Token", "")),
            ("a job that waits", download(&site.worker, &waiting).header("Lease-Token", &claim.token)),
            ("another tenant's", download(&other, &claim.job_id).header("Lease-Token", &claim.token)),
            ("no UUID", download(&site.worker, "job-17")),
        ])
        .await
    );
    site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    snapshot!("after its end", site.leased(&claim, Method::GET, "download", &Value::Null).await.refusal());
}
