//! What was acknowledged survives the end of the process, at whatever moment it comes.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{Given, open};
use crate::Library;

/// Tells a process that it is the one that is killed, and where it works.
const FOLDER: &str = "RETRIEVAL_TEST_FOLDER";
/// Which round of killing it is.
const ROUND: &str = "RETRIEVAL_TEST_ROUND";
/// What the process says before the number of the document that is stored.
const STORED: &str = "stored ";
/// How many documents there are.
const DOCUMENTS: usize = 6;

/// How many chunks each has: enough that the engine tidies up now and then.
const LINES: usize = 60;

/// The text of a document in a round.
fn text(round: usize, document: usize) -> String {
    (0..LINES).map(|line| format!("Line {line} of document d{document} is of the round r{round}. ")).collect()
}

fn given(round: usize, document: usize) -> Given {
    Given::new(&format!("d{document}"), &format!("round-{round}"))
}

/// Stores documents over and over, and says so, until it is killed.
async fn store_until_killed(folder: &Path, round: usize) {
    let library = open(&[], folder).await.unwrap();
    for document in (0..DOCUMENTS).cycle() {
        given(round, document).store(&library, &text(round, document)).await.unwrap();
        println!("{STORED}{document}");
    }
}

/// Starts a process that stores documents, and kills it right after it said so `acknowledged` times.
fn kill_after(acknowledged: usize, folder: &Path, round: usize) -> Vec<usize> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "tests::crash::what_was_acknowledged_survives_a_kill"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let stored = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix(STORED)?.parse().ok());
    let stored: Vec<usize> = stored.take(acknowledged).collect();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(stored.len(), acknowledged, "the process ended by itself");
    stored
}

async fn check(library: &Library, document: usize, rounds: &[usize]) {
    let id = format!("d{document}");
    let mut found = Vec::new();
    for round in rounds {
        let hits = library.search(&format!("r{round}"), 100, Some(&id)).await.unwrap();
        found.push(hits.len());
    }
    // What was stored after the last word that was read may have replaced it, but then it is there as a whole.
    assert!(found.contains(&LINES), "{id} has {found:?} chunks of the rounds {rounds:?}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    if let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) {
        return store_until_killed(Path::new(&folder), round.parse().unwrap()).await;
    }
    let folder = TempDir::new().unwrap();
    let mut latest = [0; DOCUMENTS];
    for (round, acknowledged) in [1, 2, 5, 9, 14].into_iter().enumerate() {
        for document in kill_after(acknowledged, folder.path(), round + 1) {
            latest[document] = round + 1;
        }
        let library = open(&[], folder.path()).await.unwrap();
        for (document, latest) in latest.into_iter().enumerate().filter(|(_, latest)| *latest > 0) {
            check(&library, document, &[latest, round + 1]).await;
        }
        drop(library);
    }

    let library = open(&[], folder.path()).await.unwrap();
    for document in 0..DOCUMENTS {
        given(9, document).store(&library, &text(9, document)).await.unwrap();
        assert_eq!(
            library.count(&format!("d{document}")).await.unwrap(),
            LINES,
            "what a crash left is healed"
        );
    }
}
