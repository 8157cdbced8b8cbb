//! What is delivered of a job's end is believed, and nothing else is.

use std::time::{Duration, SystemTime};

use ingestion::webhook::{Secret, TOLERANCE, WebhookError, WebhookMessage, secrets, verify};
use reqwest::Method;
use serde_json::json;
use system_tests::{Answer, JOBS, Received, Receiver};

use crate::scene::Scene;

fn believed(told: &Received, secrets: &[Secret], now: SystemTime) -> Result<WebhookMessage, WebhookError> {
    verify(|name| Some(told.header(name)), &told.body, secrets, TOLERANCE, now)
}

/// Ends a job, and gives its id and what the receiver was told.
async fn told(scene: &Scene, receiver: &mut Receiver) -> (String, Received) {
    let job = scene.site.job(&json!({"webhook_url": receiver.url("/ends")})).await;
    let cancel = scene.site.ingest.request(Method::POST, &format!("{JOBS}/{job}/cancel"));
    Answer::to(cancel).await.ok();
    (job, receiver.next().await)
}

/// The secrets as the ingestion side reads them.
async fn current(scene: &Scene) -> Vec<Secret> {
    let url = format!("http://127.0.0.1:{}", scene.site.gateway.address.port());
    secrets(&scene.client(&url).webhook_secret().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_believed_and_a_changed_or_old_one_is_not() {
    let (scene, mut receiver) = (Scene::start().await, Receiver::answering(200).await);
    let (job, told) = told(&scene, &mut receiver).await;
    let (secrets, now) = (current(&scene).await, SystemTime::now());
    let message = believed(&told, &secrets, now).unwrap();
    assert_eq!(
        (message.event.data.job_id.as_str(), message.event.data.status.as_str()),
        (job.as_str(), "cancelled")
    );
    assert_eq!(message.event.kind, "remote_job.cancelled");
    assert!(message.id.starts_with(&job) && message.id == told.header("webhook-id"));
    let mut changed = told.clone();
    changed.body = String::from_utf8(told.body.clone()).unwrap().replace("cancelled", "completed").into();
    assert_eq!(believed(&changed, &secrets, now).unwrap_err(), WebhookError::Forged);
    let other: Secret = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=".parse().unwrap();
    assert_eq!(believed(&told, &[other], now).unwrap_err(), WebhookError::Forged);
    let later = now + TOLERANCE + Duration::from_secs(60);
    assert!(matches!(believed(&told, &secrets, later), Err(WebhookError::Stale(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_old_and_new_secrets_believe_a_delivery() {
    let (scene, mut receiver) = (Scene::start().await, Receiver::answering(200).await);
    let before = current(&scene).await;
    let rotate = scene.site.admin.request(Method::POST, "/api/v1/webhook-secret/rotate");
    Answer::to(rotate).await.ok();
    let both = current(&scene).await;
    assert_eq!((before.len(), both.len()), (1, 2));
    let (_, told) = told(&scene, &mut receiver).await;
    assert_eq!(told.header("webhook-signature").split(' ').count(), 2);
    for secrets in [&before[..], &both[..1], &both[1..]] {
        believed(&told, secrets, SystemTime::now()).unwrap();
    }
}
