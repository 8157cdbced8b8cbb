//! What was acknowledged is there after `kill -9`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use aws_sdk_s3::primitives::ByteStream;
use engines::Engines;
use tempfile::TempDir;

use crate::support::{BUCKET, Place, blobs, bytes, incoming, s3_client};

const DATA_FOLDER: &str = "ENGINES_CRASH_TEST_FOLDER";
const STORED: &str = "stored ";

/// Every third object is a file, the others are rows.
fn object(n: u64) -> Vec<u8> {
    bytes(if n.is_multiple_of(3) { 100_000 } else { 1000 }, n)
}

/// The test starts itself once more as the process that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    if let Some(folder) = std::env::var_os(DATA_FOLDER) {
        return put_until_killed(Path::new(&folder)).await;
    }
    for acknowledged in [1, 40, 150] {
        let dir = TempDir::new().unwrap();
        let stored = kill_after(acknowledged, dir.path());
        let engines = Engines::open(dir.path()).unwrap();
        let s3 = s3_client(&engines, "http://127.0.0.1:9000");
        let place = Place { dir, engines, s3 };
        for n in stored {
            assert!(place.get(&n.to_string()).await == object(n), "object {n}");
        }
        let listed = place.s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
        let files = listed.contents().iter().filter(|object| object.size() == Some(100_000)).count();
        assert_eq!((blobs(place.dir.path()).len(), incoming(place.dir.path()).len()), (files, 0));
    }
}

/// Returns what the killed process said it had stored.
fn kill_after(acknowledged: usize, folder: &Path) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "crash::what_was_acknowledged_survives_a_kill"])
        .env(DATA_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number = |line: String| line.split_once(STORED).map(|(_, n)| n.parse().unwrap());
    let mut stored: Vec<u64> =
        lines.by_ref().map_while(Result::ok).filter_map(number).take(acknowledged).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // A line is one write to the pipe, so what was said before the kill is here whole.
    stored.extend(
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix(STORED)?.parse::<u64>().ok()),
    );
    assert!(stored.len() >= acknowledged);
    stored
}

#[expect(clippy::print_stdout, reason = "it is how the process that kills this one learns what was stored")]
async fn put_until_killed(folder: &Path) {
    let engines = Engines::open(folder).unwrap();
    let s3 = s3_client(&engines, "http://127.0.0.1:9000");
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let puts = (0..8).map(|worker| {
        let s3 = s3.clone();
        tokio::spawn(async move {
            for n in (worker..900).step_by(8) {
                let put = s3.put_object().bucket(BUCKET).key(n.to_string());
                put.body(ByteStream::from(object(n))).send().await.unwrap();
                println!("{STORED}{n}");
            }
        })
    });
    futures::future::join_all(puts).await;
}
