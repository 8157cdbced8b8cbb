//! Who is told of an end, and by what they believe it.

use std::net::Ipv4Addr;

use reqwest::{
    Method,
    header::{HeaderMap, HeaderName},
};
use serde_json::json;
use standardwebhooks::Webhook;
use system_tests::{Received, Receiver};

use crate::{
    SCHEDULED,
    tenant::{Tenant, answer},
    until,
};

/// Whether the official library believes a delivery by this secret.
fn is_signed_by(received: &Received, secret: &str) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in &received.headers {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    Webhook::new(secret).unwrap().verify(&received.body, &headers).is_ok()
}

/// A receiver, and what the functions call the host that it is on. Functions in containers do not reach this machine by
/// the name of loopback, so `WEBHOOK_HOST` gives another.
async fn receiver() -> (Receiver, String) {
    match std::env::var("WEBHOOK_HOST") {
        Ok(host) => (Receiver::answering_at(Ipv4Addr::UNSPECIFIED.into(), 200).await, host),
        Err(_) => (Receiver::answering(200).await, "127.0.0.1".to_owned()),
    }
}

/// The stack's parameter `WebhookNetworks` must admit the receiver.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_of_the_end_and_believes_it() {
    let (mut receiver, host) = receiver().await;
    let tenant = Tenant::new().await;
    let url = format!("http://{host}:{}/ends?token=5a5a", receiver.port);
    let claim = tenant.claimed_job(&json!({"webhook_url": url})).await;
    let result = json!({"success": true, "content": "# Talk"});
    let submitted = tenant.leased(&claim, Method::PUT, "result", &result).await.ok();
    assert_eq!(submitted["ingestion_continued"], true);
    until("the webhook is told", SCHEDULED, async || (receiver.waiting() > 0).then_some(())).await;
    let told = receiver.next().await;
    assert_eq!(told.line, "POST /ends?token=5a5a HTTP/1.1");
    let secret = answer(tenant.ingest.request(Method::GET, "/api/v1/webhook-secret")).await.ok();
    assert!(is_signed_by(&told, secret["secret"].as_str().unwrap()), "{told:?}");
    assert!(!is_signed_by(&told, "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="));
    let body = told.json();
    assert_eq!(
        (&body["type"], &body["data"]["job_id"]),
        (&"remote_job.completed".into(), &claim.job_id.into())
    );
    let path = body["data"]["result_path"].as_str().unwrap();
    let redirect = answer(tenant.ingest.request(Method::GET, path)).await;
    assert_eq!(tenant.ingest.get(&redirect.location()).await.ok()["content"], "# Talk");
}
