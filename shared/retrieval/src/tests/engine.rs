//! What holds of the engine in this process only, and of the server only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    Given, open,
    qdrant::{KEY, Qdrant},
    texts,
};
use crate::Error;

fn shard(folder: &Path) -> PathBuf {
    folder.join("qdrant/morag_documents/shard")
}

fn logs(folder: &Path) -> usize {
    fs::read_dir(shard(folder).join("wal")).unwrap().count()
}

#[tokio::test]
async fn a_folder_that_is_in_use_is_refused_until_it_is_not() {
    let folder = TempDir::new().unwrap();
    let library = open(&[], folder.path()).await.unwrap();
    let refused = open(&[], folder.path()).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("qdrant/morag_documents"), "{refused}");

    let other = [("QDRANT_COLLECTION_NAME", "other")];
    assert!(open(&other, folder.path()).await.is_ok());
    drop(library);
    assert!(open(&[], folder.path()).await.is_ok());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = open(&[], &file).await.unwrap_err();
    assert!(matches!(refused, Error::File { .. }), "{refused}");
    assert!(refused.to_string().contains("file/qdrant"), "{refused}");
}

#[tokio::test]
async fn many_changes_are_tidied_up_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let library = open(&[], folder.path()).await.unwrap();
    let text: String =
        (0..400).map(|number| format!("This sentence has the number {number}x in it. ")).collect();
    for task in 0..8 {
        Given::new("changing", &format!("task-{task}")).store(&library, &text).await.unwrap();
        Given::new(&format!("d{task}"), "t").store(&library, "Carrots are orange.").await.unwrap();
    }
    assert_eq!(library.count("changing").await.unwrap(), 400);
    assert_eq!(texts(&library, "399x").await.len(), 1);
    assert_eq!(texts(&library, "carrots").await.len(), 8);
    drop(library);

    let library = open(&[], folder.path()).await.unwrap();
    assert_eq!(library.count("changing").await.unwrap(), 400);
    assert_eq!(texts(&library, "carrots").await.len(), 8);
    assert_eq!(library.search("sentence", 100, Some("changing")).await.unwrap().len(), 100);
}

#[tokio::test]
async fn the_log_does_not_grow_for_ever() {
    let folder = TempDir::new().unwrap();
    let library = open(&[], folder.path()).await.unwrap();
    // More than half of a file of the log.
    let ballast = serde_json::Value::from("x".repeat(1100 * 1024));
    for round in 0..22 {
        let mut given = Given::new("large", &format!("task-{round}"));
        given.metadata.insert("ballast".to_owned(), ballast.clone());
        given.store(&library, "Carrots.").await.unwrap();
        assert!(logs(folder.path()) <= 20, "{} files", logs(folder.path()));
    }
    assert_eq!(library.count("large").await.unwrap(), 1);
    Given::new("small", "t").store(&library, "Carrots.").await.unwrap();
    drop(library);

    let library = open(&[], folder.path()).await.unwrap();
    assert!(logs(folder.path()) <= 4, "{} files", logs(folder.path()));
    assert_eq!(texts(&library, "carrots").await.len(), 2);
    Given::new("small", "t2").store(&library, "Beets.").await.unwrap();
    assert_eq!(texts(&library, "beets").await.len(), 1);
    assert_eq!(texts(&library, "carrots").await.len(), 1);
}

#[tokio::test]
async fn unfinished_segments_are_cleared_away() {
    let folder = TempDir::new().unwrap();
    drop(open(&[], folder.path()).await.unwrap());
    let unfinished = shard(folder.path()).join("temp_segments/half");
    fs::create_dir_all(&unfinished).unwrap();
    drop(open(&[], folder.path()).await.unwrap());
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_server_is_told_to_index_what_is_filtered_by() {
    let (qdrant, folder) = (Qdrant::start().await, TempDir::new().unwrap());
    let url = qdrant.url();
    let variables = [("QDRANT_URL", url.as_str()), ("QDRANT_API_KEY", KEY)];
    drop(open(&variables, folder.path()).await.unwrap());
    let mut indexes = qdrant.indexes("morag_documents");
    indexes.sort();
    assert_eq!(indexes, ["document_id", "task_id"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written here");
}

#[tokio::test]
async fn a_collection_of_somebody_else_is_refused_and_left_alone() {
    let (qdrant, folder) = (Qdrant::start().await, TempDir::new().unwrap());
    qdrant.add_foreign("theirs");
    let url = qdrant.url();
    let variables =
        [("QDRANT_URL", url.as_str()), ("QDRANT_API_KEY", KEY), ("QDRANT_COLLECTION_NAME", "theirs")];
    let refused = open(&variables, folder.path()).await.unwrap_err();
    assert!(matches!(refused, Error::OtherEmbedding { .. }), "{refused}");
    assert_eq!(qdrant.indexes("theirs"), [""; 0]);
}

#[tokio::test]
async fn a_change_that_a_server_only_noted_is_not_done() {
    let (qdrant, folder) = (Qdrant::start().await, TempDir::new().unwrap());
    let url = qdrant.url();
    let variables = [("QDRANT_URL", url.as_str()), ("QDRANT_API_KEY", KEY)];
    let library = open(&variables, folder.path()).await.unwrap();
    qdrant.answer_changes(Some("acknowledged"));
    let failed = Given::new("a", "t").store(&library, "Carrots.").await.unwrap_err();
    assert!(failed.retryable(), "{failed}");
    qdrant.answer_changes(None);
    Given::new("a", "t").store(&library, "Carrots.").await.unwrap();
    assert_eq!(library.count("a").await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_or_is_away_is_named_without_the_key() {
    let (qdrant, folder) = (Qdrant::start().await, TempDir::new().unwrap());
    let url = qdrant.url().replace("http://", "http://me:hidden-password@");
    let wrong = [("QDRANT_URL", url.as_str()), ("QDRANT_API_KEY", "hidden-wrong-key")];
    let refused = open(&wrong, folder.path()).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { status: 401, .. }), "{refused}");
    assert!(
        refused.to_string().contains(&format!("{}/collections/morag_documents", qdrant.url())),
        "{refused}"
    );

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let away = open(&[("QDRANT_URL", nobody.as_str()), wrong[1]], folder.path()).await.unwrap_err();
    assert!(matches!(away, Error::Unreachable { .. }), "{away}");
    assert!(away.retryable());
    for error in [refused, away] {
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
    }
}
