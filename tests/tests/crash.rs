//! `kill -9` of the gateway at random moments under load: what was acknowledged is there after the restart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a test meets unexpectedly is a failed test"
)]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::{create::CreateJobRequest, poll::PollRequest, result::ResultRequest};
use client::{ApiKey, Client, Error, Lease};
use rand::Rng;
use serde_json::json;
use sha2::{Digest, Sha256};
use system_tests::GatewayProgram;

const ROUNDS: usize = 6;
const CALLERS: usize = 12;

/// What the gateway has acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Uploaded sources that no job names yet, with their content.
    uploads: HashMap<String, String>,
    /// Created jobs.
    jobs: Vec<String>,
    /// Completed jobs, with their results.
    results: HashMap<String, String>,
}

type Shared = Arc<Mutex<Acknowledged>>;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_gateway_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut gateway = GatewayProgram::start(&data, &[], &[]);
    let address = gateway.url.trim_start_matches("http://").to_owned();
    let key = std::fs::read_to_string(data.join("admin-key")).unwrap();
    let key = ApiKey::from(key.trim());
    let client = Client::new(gateway.url.parse().unwrap(), Some(key), "crash-test/0").unwrap();
    let acknowledged = Shared::default();
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let scratch = folder.path().join(caller.to_string());
            tokio::spawn(live_until(Arc::clone(&stop), client.clone(), scratch, Arc::clone(&acknowledged)))
        })
        .collect();
    for round in 0..ROUNDS {
        let moment = Duration::from_millis(rand::rng().random_range(300..1500));
        println!("round {round}: killed after {moment:?}");
        tokio::time::sleep(moment).await;
        // Dropping it is kill -9.
        drop(gateway);
        gateway = GatewayProgram::start(&data, &["--listen", &address], &[]);
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    println!(
        "acknowledged: {} jobs, {} results, {} uploads without a job",
        acknowledged.jobs.len(),
        acknowledged.results.len(),
        acknowledged.uploads.len()
    );
    assert!(acknowledged.results.len() > ROUNDS, "the load was too light to prove anything");
    for job in &acknowledged.jobs {
        let status = client.status(job).await.unwrap().status;
        match acknowledged.results.get(job) {
            Some(text) => {
                assert_eq!(status, "completed", "job {job}");
                assert_eq!(&client.result(job).await.unwrap().content, text, "job {job}");
            }
            None => assert!(
                ["pending", "processing", "completed"].contains(&status.as_str()),
                "job {job} is {status}"
            ),
        }
    }
    for path in acknowledged.uploads.keys() {
        client.create_job(&create_request(path), None).await.unwrap();
    }
}

/// Uploads, creates, claims and completes, over and over; a call that the kill cut off is left as it is.
async fn live_until(stop: Arc<AtomicBool>, client: Client, scratch: PathBuf, acknowledged: Shared) {
    std::fs::create_dir_all(&scratch).unwrap();
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = live(&client, &scratch, turn, &acknowledged).await {
            assert!(
                matches!(
                    error,
                    Error::Unreachable { .. }
                        | Error::TimedOut { .. }
                        | Error::Transfer { .. }
                        | Error::Unreadable { .. }
                ),
                "a dying gateway may break a connection, but it answered: {error}"
            );
        }
    }
}

async fn live(client: &Client, scratch: &Path, turn: usize, acknowledged: &Shared) -> Result<(), Error> {
    let text = format!("source {} of turn {turn} ", scratch.display()).repeat(turn % 200 + 1);
    let file = scratch.join(format!("{turn}.txt"));
    std::fs::write(&file, &text).unwrap();
    let source = client.upload_file(&file, "source.txt", &|_, _| ()).await?.source_file_path;
    acknowledged.lock().unwrap().uploads.insert(source.clone(), text);
    let job = client.create_job(&create_request(&source), None).await?.job_id;
    acknowledged.lock().unwrap().uploads.remove(&source);
    acknowledged.lock().unwrap().jobs.push(job);
    let answer = client.poll(&poll_request()).await?;
    let (Some(job_id), Some(grant)) = (answer.job_id, answer.lease) else { return Ok(()) };
    let lease = Lease { job_id: job_id.clone(), token: grant.lease_token.into() };
    let content = format!("result {}", hex_of(&job_id));
    let request = ResultRequest { success: true, content: Some(content.clone()), ..ResultRequest::default() };
    client.submit_result(&lease, &request).await?;
    acknowledged.lock().unwrap().results.insert(job_id, content);
    Ok(())
}

fn create_request(source_file_path: &str) -> CreateJobRequest {
    let request = json!({
        "source_file_path": source_file_path, "content_type": "document", "ingestion_task_id": "crash",
    });
    serde_json::from_value(request).unwrap()
}

fn poll_request() -> PollRequest {
    let request = json!({"worker_id": "crash", "content_types": ["document"], "lease_seconds": 60});
    serde_json::from_value(request).unwrap()
}

fn hex_of(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
