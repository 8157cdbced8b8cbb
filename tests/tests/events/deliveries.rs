//! Whole deliveries: a job ends, the gateway tells a receiver, and the receiver believes it.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::CertifiedKey;
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName},
};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use store::EVENT_SHARDS;
use system_tests::{Answer, Client, GatewayProgram, JOBS, Received, Receiver, Reply, Site, python, snapshot};
use tokio_rustls::TlsAcceptor;

pub(crate) const EVENTS: &str = "/api/v1/events";
pub(crate) const SECRET: &str = "/api/v1/webhook-secret";

/// How long something that is done at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that tells webhooks on this machine.
pub(crate) async fn telling() -> Site {
    Site::with(|config| config.jobs.webhook_networks = "127.0.0.0/8".parse().unwrap()).await
}

pub(crate) async fn cancel(site: &Site, job: &str) {
    let cancelled = Answer::to(site.ingest.request(Method::POST, &format!("{JOBS}/{job}/cancel"))).await;
    assert_eq!(cancelled.ok()["status"], "cancelled");
}

/// What went wrong with the last try of the one undelivered event, once it has been tried.
async fn last_error(site: &Site) -> String {
    let events = &site.gateway.service.store().events;
    let until = Instant::now() + PATIENCE;
    let forever = domain::Timestamp(i64::MAX / 2);
    loop {
        for shard in 0..EVENT_SHARDS {
            for hint in events.due(shard, forever, 10, None).await.unwrap().hints {
                if let Some(error) = events.get(hint.id).await.unwrap().unwrap().last_error {
                    return error;
                }
            }
        }
        assert!(Instant::now() < until, "no event was tried");
    }
}

async fn secret(client: &Client) -> String {
    client.get(SECRET).await.ok()["secret"].as_str().unwrap().to_owned()
}

/// Whether the official Rust library believes a delivery by this secret.
fn is_signed_by(received: &Received, secret: &str) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in &received.headers {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    Webhook::new(secret).unwrap().verify(&received.body, &headers).is_ok()
}

/// What the official Python library takes a delivery for; `None` when it does not believe it.
async fn verified(received: &Received, secret: &str) -> Option<Value> {
    let delivery = json!({
        "secret": secret,
        "headers": received.headers,
        "body": String::from_utf8(received.body.clone()).unwrap(),
    });
    let run = move || {
        let mut command = python("webhooks/verify.py");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(delivery.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("WebhookVerificationError"), "{said}");
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_at_once_and_the_official_libraries_believe_it() {
    let mut receiver = Receiver::answering(200).await;
    let site = telling().await;
    let claim = site.claimed_job(&json!({"webhook_url": receiver.url("/ends")})).await;
    let result = json!({"success": true, "content": "# Talk"});
    let submitted = site.leased(&claim, Method::PUT, "result", &result).await.ok();
    assert_eq!(submitted["ingestion_continued"], true);
    let told = receiver.next().await;
    let secret = secret(&site.ingest).await;
    assert!(is_signed_by(&told, &secret));
    let body = verified(&told, &secret).await.unwrap();
    assert_eq!(body, told.json());
    let result = body["data"]["result_path"].as_str().unwrap();
    let document = site.ingest.get(&site.ingest.get(result).await.location()).await;
    assert_eq!(document.json()["content"], "# Talk");
    snapshot!(body);
    let wrong = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    assert_eq!((verified(&told, wrong).await, is_signed_by(&told, wrong)), (None, false));
    let mut changed = told.clone();
    changed.body = String::from_utf8(told.body).unwrap().replace("completed", "cancelled").into();
    assert_eq!((verified(&changed, &secret).await, is_signed_by(&changed, &secret)), (None, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_both_secrets_are_believed() {
    let mut receiver = Receiver::answering(200).await;
    let site = telling().await;
    let before = secret(&site.ingest).await;
    let rotated = Answer::to(site.admin.request(Method::POST, &format!("{SECRET}/rotate"))).await.ok();
    let after = rotated["secret"].as_str().unwrap();
    let job = site.job(&json!({"webhook_url": receiver.url("/ends")})).await;
    cancel(&site, &job).await;
    let told = receiver.next().await;
    assert_eq!(told.header("webhook-signature").split(' ').count(), 2);
    for secret in [&before, after] {
        assert!(is_signed_by(&told, secret));
        assert_eq!(verified(&told, secret).await.unwrap()["type"], "remote_job.cancelled");
    }
}

/// A program that is ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_of_the_documentation_is_told_and_believes_it_once() {
    let site = telling().await;
    let mut command = python("webhooks/receiver.py");
    command.arg("0").env("WEBHOOK_SECRET", secret(&site.ingest).await).stdout(Stdio::piped());
    let mut receiver = Program(command.spawn().unwrap());
    let mut said = BufReader::new(receiver.0.stdout.take().unwrap()).lines();
    let mut line = || tokio::task::block_in_place(|| said.next().unwrap().unwrap());
    let url = line().strip_prefix("listening on ").unwrap().to_owned();
    let forged = site.ingest.posting(&format!("{url}/ends"), &json!({"type": "remote_job.completed"}));
    assert_eq!(Answer::to(forged).await.status, 401);
    let job = site.job(&json!({"webhook_url": format!("{url}/ends")})).await;
    cancel(&site, &job).await;
    assert_eq!(line(), format!("{job} cancelled"));
}

#[tokio::test]
async fn no_receiver_leads_to_this_machine_unless_an_operator_says_so() {
    let receiver = Receiver::answering(200).await;
    let site = Site::start().await;
    let job = site.job(&json!({"webhook_url": format!("https://localhost:{}/", receiver.port)})).await;
    cancel(&site, &job).await;
    let error = last_error(&site).await;
    assert!(error.starts_with("localhost has no address that webhooks may be at"), "{error}");
    assert_eq!(receiver.connections(), 0);
    let inside = Receiver::answering(200).await;
    let location = format!("location: {}\r\n", inside.url("/"));
    let redirecting = Receiver::start(move |_| Reply::Status(307, location.clone())).await;
    let site = telling().await;
    let job = site.job(&json!({"webhook_url": redirecting.url("/")})).await;
    cancel(&site, &job).await;
    let error = last_error(&site).await;
    assert!(error.starts_with("the receiver answered 307 Temporary Redirect"), "{error}");
    assert_eq!((redirecting.connections(), inside.connections()), (1, 0));
}

/// What makes TLS of a connection to `localhost`, and the file of the certificate to trust.
fn tls(folder: &Path) -> (TlsAcceptor, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = folder.join("trusted.pem");
    std::fs::write(&file, cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), file.to_str().unwrap().to_owned())
}

/// The program's log lines of deliveries.
fn deliveries(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["message"] == "delivery")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_tells_over_https_by_itself_and_logs_every_try_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (data, (tls, trusted)) = (folder.path().join("data"), tls(folder.path()));
    let mut receiver = Receiver::with_tls(tls, |_| Reply::Status(200, String::new())).await;
    let refusing = Receiver::answering(410).await;
    let nobody = format!("http://127.0.0.1:{}", system_tests::free_port());
    let variables = [
        ("MORAG_WEBHOOK_NETWORKS", "127.0.0.0/8"),
        ("MORAG_LOG_LEVEL", "TRACE"),
        ("SSL_CERT_FILE", trusted.as_str()),
        // A proxy would be asked to resolve names, and asked for what this program must not reach.
        ("HTTPS_PROXY", nobody.as_str()),
        ("HTTP_PROXY", nobody.as_str()),
        ("ALL_PROXY", nobody.as_str()),
    ];
    let gateway = GatewayProgram::start(&data, &[], &variables);
    let admin = gateway.admin(&data);
    let secret = secret(&admin).await;
    let path = "/secret-path?token=secret-token";
    let urls = [format!("https://localhost:{}{path}", receiver.port), refusing.url(path)];
    for url in &urls {
        let source = admin.upload("talk.mp3", b"sound").await;
        let job = json!({
            "source_file_path": source, "content_type": "audio", "ingestion_task_id": "t", "webhook_url": url,
        });
        let job = admin.post(JOBS, &job).await.ok()["job_id"].as_str().unwrap().to_owned();
        let cancelled = admin.request(Method::POST, &format!("{JOBS}/{job}/cancel"));
        Answer::to(cancelled).await.ok();
    }
    let told = receiver.next().await;
    assert!(is_signed_by(&told, &secret));
    let until = Instant::now() + PATIENCE;
    while admin.get(EVENTS).await.ok()["events"] == json!([]) {
        assert!(Instant::now() < until, "the other event did not die");
    }
    let (code, log) = gateway.stop();
    assert_eq!(code, Some(0), "{log}");
    let signature = told.header("webhook-signature").strip_prefix("v1,").unwrap();
    for hidden in [secret.strip_prefix("whsec_").unwrap(), signature, "secret-path", "secret-token"] {
        let place = log.lines().find(|line| line.contains(hidden));
        assert!(place.is_none(), "{hidden:?} is in the log: {}", place.unwrap_or_default());
    }
    let mut lines = deliveries(&log);
    lines.sort_by_key(|line| line["outcome"].to_string());
    for line in &mut lines {
        assert_eq!(line["event_id"].as_str().unwrap().split('.').next(), line["job_id"].as_str());
        line["host"] = line["host"].as_str().unwrap().split(':').next().unwrap().into();
        line["timestamp"] = "…".into();
    }
    snapshot!(lines);
}
