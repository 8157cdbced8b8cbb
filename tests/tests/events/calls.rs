//! `webhook_url` of a new job, `GET /events`, `POST /events/{id}/redrive`, `GET /webhook-secret` and its rotation.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Client, JOBS, Receiver, Reply, Site, refusals, snapshot};

use crate::deliveries::{EVENTS, SECRET, cancel, telling};

#[tokio::test]
async fn a_webhook_that_cannot_be_told_is_refused_when_the_job_is_created() {
    let site = Site::start().await;
    let source = site.ingest.upload("talk.mp3", b"sound").await;
    let job = |webhook: Value| {
        let job = json!({
            "source_file_path": source, "content_type": "audio", "ingestion_task_id": "t", "webhook_url": webhook,
        });
        site.ingest.posting(JOBS, &job)
    };
    snapshot!(
        refusals([
            ("a number", job(json!(17))),
            ("no URL", job(json!("hooks.example"))),
            ("another scheme", job(json!("ftp://hooks.example/"))),
            ("no host", job(json!("https:///path"))),
            ("a name and a password", job(json!("https://me:secret@hooks.example/"))),
            ("a space", job(json!("https://hooks.example/a b"))),
            ("too long", job(json!(format!("https://hooks.example/{}", "a".repeat(1000))))),
            ("a port that is none", job(json!("https://hooks.example:99999/?token=5a5a"))),
            ("a host that is none", job(json!("https://1.2.3.4.5/?token=5a5a"))),
            ("plain text", job(json!("http://hooks.example/"))),
            ("loopback", job(json!("https://127.0.0.1:8000/?token=5a5a"))),
            ("loopback as a number", job(json!("https://2130706433/"))),
            ("loopback of IPv6", job(json!("https://[::1]/"))),
            ("where clouds keep credentials", job(json!("https://169.254.169.254/latest/meta-data/"))),
            ("a private network in plain text", job(json!("http://192.168.1.7/"))),
        ])
        .await
    );
    for webhook in [json!(null), json!(""), json!("https://hooks.example/ends?token=5a5a")] {
        Answer::to(job(webhook)).await.ok();
    }
}

#[tokio::test]
async fn plain_text_goes_to_the_networks_of_the_setting_only() {
    let site = Site::with(|config| config.jobs.webhook_networks = "192.168.1.0/24".parse().unwrap()).await;
    let source = site.ingest.upload("talk.mp3", b"sound").await;
    let job = |webhook: &str| {
        let job = json!({
            "source_file_path": source, "content_type": "audio", "ingestion_task_id": "t", "webhook_url": webhook,
        });
        site.ingest.posting(JOBS, &job)
    };
    snapshot!(
        refusals([("in plain text", job("http://8.8.8.8/")), ("encrypted", job("https://10.0.0.1/"))]).await
    );
    for webhook in ["http://192.168.1.7/", "http://hooks.lan/", "https://8.8.8.8/"] {
        Answer::to(job(webhook)).await.ok();
    }
}

#[tokio::test]
async fn an_operator_sees_a_dead_event_and_sends_it_out_again() {
    let (gone, back) = (std::sync::atomic::AtomicBool::new(true), std::sync::atomic::Ordering::SeqCst);
    let mut receiver = Receiver::start(move |_| match gone.swap(false, back) {
        true => Reply::Status(410, String::new()),
        false => Reply::Status(200, String::new()),
    })
    .await;
    let site = telling().await;
    let job = site.job(&json!({"webhook_url": receiver.url("/ends?token=5a5a")})).await;
    cancel(&site, &job).await;
    let first = receiver.next().await;
    let listed = site.dead_events(1).await;
    let id = first.header("webhook-id").to_owned();
    assert_eq!(listed.json()["events"][0]["event_id"], id);
    let redrive = format!("{EVENTS}/{id}/redrive");
    let redriven = Answer::to(site.admin.request(Method::POST, &redrive)).await;
    let second = receiver.next().await;
    assert_eq!((second.header("webhook-id"), &second.body), (id.as_str(), &first.body));
    let again = Answer::to(site.admin.request(Method::POST, &redrive)).await;
    assert_eq!(again.refusal()["status"], 409);
    snapshot!(json!({"listed": listed.shown(), "redriven": redriven.ok()}));
    assert_eq!(site.dead_events(0).await.ok(), json!({"events": []}));
}

#[tokio::test]
async fn what_cannot_be_listed_or_redriven_is_refused_with_why() {
    let receiver = Receiver::answering(410).await;
    let site = telling().await;
    let job = site.job(&json!({"webhook_url": receiver.url("/")})).await;
    cancel(&site, &job).await;
    let id = site.dead_events(1).await.json()["events"][0]["event_id"].as_str().unwrap().to_owned();
    let other = site.client("other", &["admin"]).await;
    let list = |query: &str| site.admin.request(Method::GET, &format!("{EVENTS}?{query}"));
    let redrive = |client: &Client, id: &str| client.request(Method::POST, &format!("{EVENTS}/{id}/redrive"));
    snapshot!(
        refusals([
            ("list: limit 0", list("limit=0")),
            ("list: limit 101", list("limit=101")),
            ("list: limit a text", list("limit=many")),
            ("list: a cursor of ours it is not", list("cursor=17")),
            ("list: a cursor that is no base64", list("cursor=%21")),
            ("list: no such method", site.admin.request(Method::DELETE, EVENTS)),
            (
                "redrive: unknown",
                redrive(&site.admin, "01890a5d-ac96-774b-bcce-b302099a8057.1750000001000.2")
            ),
            ("redrive: no id of an event", redrive(&site.admin, "event-17")),
            ("redrive: another tenant's", redrive(&other, &id)),
            ("redrive: malformed", site.admin.posting_text(&format!("{EVENTS}/{id}/redrive"), "{")),
            ("redrive: not JSON", redrive(&site.admin, &id).body("now=1")),
        ])
        .await
    );
    assert_eq!(other.get(EVENTS).await.ok(), json!({"events": []}));
    assert_eq!(site.dead_events(1).await.status, 200, "none of this sent it out");
}

#[tokio::test]
async fn the_secret_is_read_and_replaced() {
    let site = Site::start().await;
    let first = site.ingest.get(SECRET).await;
    assert_eq!(site.ingest.get(SECRET).await.ok(), first.ok());
    let rotated = Answer::to(site.admin.request(Method::POST, &format!("{SECRET}/rotate"))).await;
    assert_eq!(rotated.ok()["previous"], first.ok()["secret"]);
    assert_ne!(rotated.ok()["secret"], first.ok()["secret"]);
    assert_eq!(site.ingest.get(SECRET).await.ok(), rotated.ok());
    let other = site.client("other", &["ingest"]).await;
    assert_ne!(other.get(SECRET).await.ok()["secret"], rotated.ok()["secret"]);
    snapshot!(json!({"first": first.shown(), "rotated": rotated.shown()}));
}

#[tokio::test]
async fn who_has_not_the_scope_neither_lists_nor_redrives_nor_reads_the_secret() {
    let site = Site::start().await;
    let (list, secret) = ((Method::GET, EVENTS), (Method::GET, SECRET));
    let rotate = format!("{SECRET}/rotate");
    let redrive = format!("{EVENTS}/01890a5d-ac96-774b-bcce-b302099a8057.1750000001000.2/redrive");
    let (rotate, redrive) = ((Method::POST, rotate.as_str()), (Method::POST, redrive.as_str()));
    let anonymous = site.admin.anonymous();
    let mut answers = serde_json::Map::new();
    for (who, client) in [("no key", &anonymous), ("worker", &site.worker), ("ingest", &site.ingest)] {
        for (what, (method, path)) in
            [("list", &list), ("redrive", &redrive), ("secret", &secret), ("rotate", &rotate)]
        {
            let answer = Answer::to(client.request(method.clone(), path)).await;
            answers.insert(format!("{who}: {what}"), answer.status.into());
        }
    }
    assert_eq!(
        Value::from(answers),
        json!({
            "no key: list": 401, "no key: redrive": 401, "no key: secret": 401, "no key: rotate": 401,
            "worker: list": 403, "worker: redrive": 403, "worker: secret": 403, "worker: rotate": 403,
            "ingest: list": 403, "ingest: redrive": 403, "ingest: secret": 200, "ingest: rotate": 403,
        })
    );
}
