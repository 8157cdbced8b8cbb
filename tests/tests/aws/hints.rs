//! Where idle workers wait, as a poll names it.

use serde_json::{Value, json};
use system_tests::JOBS;

use crate::{
    PATIENCE,
    tenant::{Tenant, answer},
    until,
};

/// A poll that says that its worker waits for hints, once it has named a place to wait.
async fn waiting_place(tenant: &Tenant) -> Value {
    let poll = json!({"worker_id": "gpu-1", "content_types": ["audio"], "hints": true, "lease_seconds": 20});
    until("a poll names a place to wait", PATIENCE, async || {
        let polled = answer(tenant.worker.posting(&format!("{JOBS}/poll"), &poll)).await.ok();
        polled["hint_url"].is_string().then_some(polled)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_where_a_poll_says_is_told_of_a_new_job_and_of_nothing_in_it() {
    let tenant = Tenant::new().await;
    let place = waiting_place(&tenant).await;
    assert!(place["hint_url_expires_in_seconds"].as_u64().unwrap() >= 60, "{place}");
    let url = place["hint_url"].as_str().unwrap();
    let usual = json!({});
    let (told, job) = tokio::join!(
        until("a hint", PATIENCE, async || {
            let told = tenant.worker.get(url).await;
            assert_eq!(told.status, 200, "{}", told.text());
            told.text().contains("MessageId").then(|| told.text())
        }),
        tenant.job(&usual)
    );
    for secret in [job.as_str(), &tenant.name, "audio", "talk.mp3"] {
        assert!(!told.contains(secret), "a hint says that there is work, and not which: {told}");
    }
    assert_eq!(tenant.claim().await.job_id, job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_to_wait_that_was_changed_opens_nothing() {
    let tenant = Tenant::new().await;
    let place = waiting_place(&tenant).await;
    let url = place["hint_url"].as_str().unwrap();
    let unsigned = url.split("&X-Amz-Signature=").next().unwrap().to_owned();
    for (what, changed) in [
        ("another action", url.replace("ReceiveMessage", "GetQueueAttributes")),
        ("another time", url.replace("X-Amz-Expires=", "X-Amz-Expires=9")),
        ("another wait", url.replace("WaitTimeSeconds=20", "WaitTimeSeconds=1")),
        ("no signature", unsigned),
    ] {
        assert_ne!(changed, url, "{what}");
        let answer = tenant.worker.get(&changed).await;
        match answer.status {
            200 if tenant.deployment.is_emulated() => {
                eprintln!("NOT TESTED: this server does not mind the signatures of SQS ({what})");
            }
            status => assert!([400, 403].contains(&status), "{what}: {status} {}", answer.text()),
        }
    }
}
