//! Webhooks of the control plane: believed when they are right, new and first, and of no consequence but a question.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ingest::{
    http::{Guard, Hooks},
    store::Note,
    task::Stage,
};
use serde_json::{Value, json};

use crate::{
    bench::{World, as_text, secret, spec},
    site::{Answer, Site},
};

/// What the tests' world begins at, in Unix seconds.
const NOW: i64 = 1_800_000_000;

fn event(job: &str, task: &str) -> Vec<u8> {
    let body = json!({
        "type": "remote_job.completed", "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {
            "job_id": job, "status": "completed", "ingestion_task_id": task, "content_type": "audio",
            "created_at": "2027-01-15T07:59:00.000Z", "completed_at": "2027-01-15T08:00:00.000Z",
            "error_message": null, "attempts": 1, "result_path": null, "more": true,
        },
    });
    serde_json::to_vec(&body).unwrap()
}

struct Sent {
    id: &'static str,
    timestamp: i64,
    body: Vec<u8>,
    signature: String,
}

fn sent(id: &'static str, timestamp: i64, body: Vec<u8>) -> Sent {
    Sent { id, timestamp, signature: secret().signature(id, timestamp, &body), body }
}

async fn post(site: &Site, sent: Sent) -> Answer {
    let request =
        site.request("POST", "/api/v1/webhooks/remote-jobs").header("content-type", "application/json");
    let request = request.header("webhook-id", sent.id).header("webhook-timestamp", sent.timestamp);
    site.send(request.header("webhook-signature", sent.signature).body(sent.body)).await
}

async fn site(world: World) -> Site {
    let known = Hooks::Known(vec![secret().reveal().parse().unwrap()]);
    Site::with(world, Guard::Loopback, known).await
}

#[tokio::test]
async fn a_believed_webhook_wakes_the_task_that_waits() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let world = World::new().converting(move |work| {
        let counted = Arc::clone(&counted);
        async move {
            let created = Note::of("remote_job_created", "").at(Stage::WaitingForRemoteCompletion);
            work.notes.note(Note { remote_job_id: Some("j".to_owned()), ..created });
            for _ in 0..3 {
                work.wake.notified().await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
            as_text(&work)
        }
    });
    let site = site(world).await;
    let id = site.bench.accept(spec("d"), "x").await;
    site.bench.until(id, |task| task.remote_job_id.is_some()).await;
    let woken = async |count| {
        while asked.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    };
    // Told by the task's id, by the job's, and again by the control plane itself.
    assert_eq!(
        post(&site, sent("m1", NOW, event("other", &id.to_string()))).await.ok()["status"],
        "accepted"
    );
    woken(1).await;
    assert_eq!(post(&site, sent("m2", NOW, event("j", "not a task"))).await.ok()["status"], "accepted");
    woken(2).await;
    assert_eq!(post(&site, sent("m2", NOW + 3, event("j", "not a task"))).await.ok()["status"], "known");
    site.bench.ended(id).await;
    assert_eq!(post(&site, sent("m3", NOW, event("j", "t"))).await.ok()["status"], "accepted");
}

#[tokio::test]
async fn forged_stale_and_replayed_webhooks_are_refused() {
    let site = site(World::new()).await;
    let good = || sent("m1", NOW, event("j", "t"));
    let forged = Sent { body: event("j2", "t"), ..good() };
    assert_eq!(post(&site, forged).await.status, 401);
    let other = Sent { id: "m2", ..good() };
    assert_eq!(post(&site, other).await.status, 401);
    let later = Sent { timestamp: NOW + 1, ..good() };
    assert_eq!(post(&site, later).await.status, 401);
    assert_eq!(post(&site, sent("m1", NOW - 400, event("j", "t"))).await.status, 400);
    assert_eq!(post(&site, sent("m1", NOW + 400, event("j", "t"))).await.status, 400);
    assert_eq!(post(&site, sent("m1", NOW, b"{}".to_vec())).await.status, 400);
    let bare = site.request("POST", "/api/v1/webhooks/remote-jobs").body(event("j", "t"));
    assert_eq!(site.send(bare).await.status, 400);
    // None of them has used up the id.
    assert_eq!(post(&site, good()).await.status, 200);
    let replayed = post(&site, good()).await;
    assert_eq!(replayed.refused(), (409, "The webhook came before; it is not taken again"));
    assert_eq!(post(&site, sent("m1", NOW - 5, event("j", "t"))).await.status, 409);
}

#[tokio::test]
async fn a_service_that_waits_for_no_webhooks_takes_none() {
    let site = Site::start(World::new()).await;
    let answer = post(&site, sent("m1", NOW, event("j", "t"))).await;
    assert_eq!(answer.status, 404);
    assert!(answer.refused().1.contains("MORAG_INGEST_WEBHOOK_URL"));
}

/// A control plane that has one secret after the other, and counts who asks.
async fn control_plane(secrets: Vec<String>) -> (client::Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let answer = move || {
        let (counted, secrets) = (Arc::clone(&counted), secrets.clone());
        async move {
            let asked = counted.fetch_add(1, Ordering::SeqCst);
            axum::Json::<Value>(json!({"secret": secrets[asked.min(secrets.len() - 1)]}))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/api/v1/webhook-secret", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (client::Client::new(base.parse().unwrap(), None, "test/1").unwrap(), asked)
}

#[tokio::test]
async fn the_control_plane_is_asked_for_its_secret_once() {
    let (client, asked) = control_plane(vec![secret().reveal().to_owned()]).await;
    let site = Site::with(World::new(), Guard::Loopback, Hooks::of(client)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody is asked before a webhook comes");
    for id in ["m1", "m2", "m3"] {
        assert_eq!(post(&site, sent(id, NOW, event("j", "t"))).await.status, 200);
    }
    for _ in 0..10 {
        let forged = Sent { signature: "v1,Zm9yZ2Vk".to_owned(), ..sent("m4", NOW, event("j", "t")) };
        assert_eq!(post(&site, forged).await.status, 401);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "forged webhooks make nobody ask again and again");
}

#[tokio::test]
async fn a_control_plane_that_does_not_say_its_secret_is_not_asked_by_every_webhook() {
    // It answers, but not with a secret.
    let (client, asked) = control_plane(vec!["none".to_owned()]).await;
    let site = Site::with(World::new(), Guard::Loopback, Hooks::of(client)).await;
    let stale = sent("m1", NOW - 400, event("j", "t"));
    assert_eq!(post(&site, stale).await.status, 400);
    let bare = site.request("POST", "/api/v1/webhooks/remote-jobs").body(event("j", "t"));
    assert_eq!(site.send(bare).await.status, 400);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody is asked because of what cannot be believed");
    for _ in 0..5 {
        assert_eq!(post(&site, sent("m1", NOW, event("j", "t"))).await.status, 503);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_control_plane_that_cannot_be_asked_is_no_reason_to_believe() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client::Client::new(base.parse().unwrap(), None, "test/1").unwrap();
    let site = Site::with(World::new(), Guard::Loopback, Hooks::of(client)).await;
    assert_eq!(post(&site, sent("m1", NOW, event("j", "t"))).await.status, 503);
}
