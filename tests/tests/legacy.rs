//! The original's Python clients, unchanged, with and without a key.

#![allow(clippy::unwrap_used, reason = "what a helper meets unexpectedly is a failed test")]

use std::path::Path;

use serde_json::Value;
use system_tests::{Client, Site, python, snapshot};

/// A day of the original's ingestion service and remote converter, as they were answered.
async fn day(site: &Site, file: &Path, key: Option<&str>) -> Value {
    let mut command = python("legacy/client.py");
    command.arg(&site.gateway.public_url).arg(file);
    command.env_remove("MORAG_API_KEY").envs(key.map(|key| ("MORAG_API_KEY", key)));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn site(no_auth: bool) -> (Site, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Vortrag 1.mp3"), "sound").unwrap();
    let root = folder.path().to_owned();
    let site = Site::with(|config| {
        config.jobs.source_roots = vec![root];
        config.no_auth = no_auth;
    })
    .await;
    (site, folder)
}

/// Whoever follows a redirect to the same host keeps the header, so the object store must bear it.
fn check_authorization(day: &mut Value, sent: bool) {
    assert_eq!(day["download"]["sent_authorization"], sent);
    day["download"].as_object_mut().unwrap().remove("sent_authorization");
}

#[tokio::test(flavor = "multi_thread")]
async fn they_work_with_a_key() {
    let (site, folder) = site(false).await;
    let both: Client = site.client("default", &["ingest", "worker"]).await;
    let mut day = day(&site, &folder.path().join("Vortrag 1.mp3"), Some(both.key())).await;
    check_authorization(&mut day, true);
    snapshot!("a day of the original's clients", day);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_work_without_a_key_on_one_machine() {
    let (site, folder) = site(true).await;
    let mut day = day(&site, &folder.path().join("Vortrag 1.mp3"), None).await;
    check_authorization(&mut day, false);
    // The same answers as with a key.
    snapshot!("a day of the original's clients", day);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_they_read_what_is_missing() {
    let (site, folder) = site(false).await;
    let mut command = python("legacy/client.py");
    command.arg(&site.gateway.public_url).env_remove("MORAG_API_KEY").current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    snapshot!(said);
}
