use std::os::unix::fs::PermissionsExt;

use engines::{Engines, OpenError};
use tempfile::TempDir;

use crate::support::{Place, blobs, bytes, incoming, leave_interrupted};

#[tokio::test]
async fn a_folder_is_opened_once_at_a_time() {
    let dir = TempDir::new().unwrap();
    let engines = Engines::open(dir.path()).unwrap();
    let Err(error) = Engines::open(dir.path()) else { panic!("opened twice") };
    assert!(matches!(&error, OpenError::Locked { folder } if folder == dir.path()));
    let text = error.to_string();
    assert!(text.contains(dir.path().to_str().unwrap()) && text.contains("stop that process"), "{text}");

    // What could still write keeps the lock.
    let client = engines.dynamodb_http();
    drop(engines);
    assert!(Engines::open(dir.path()).is_err());
    drop(client);
    Engines::open(dir.path()).unwrap();
}

#[tokio::test]
async fn credentials_are_random_private_and_made_once() {
    let dir = TempDir::new().unwrap();
    let first = Engines::open(dir.path()).unwrap();
    let key = first.s3_credentials().clone();
    let path = dir.path().join("s3-credentials.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!format!("{key:?}").contains(key.secret_access_key()));
    assert!(!format!("{first:?}").contains(key.secret_access_key()));
    drop(first);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let second = Engines::open(dir.path()).unwrap();
    assert_eq!(second.s3_credentials().secret_access_key(), key.secret_access_key());
    assert_eq!(second.s3_credentials().access_key_id(), key.access_key_id());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(second);

    let other = Engines::in_memory().unwrap();
    assert_ne!(other.s3_credentials().secret_access_key(), key.secret_access_key());

    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(Engines::open(dir.path()), Err(OpenError::Credentials { .. })));
}

#[tokio::test]
async fn a_folder_of_a_newer_version_is_left_alone() {
    let place = Place::new().await;
    let dir = place.close();
    let path = dir.path().join("objects/objects.sqlite");
    rusqlite::Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Engines::open(dir.path()), Err(OpenError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn what_the_last_run_left_is_removed_at_the_start() {
    let place = Place::new().await;
    place.put("kept", bytes(100_000, 1)).await;
    let dir = place.close();
    let kept = blobs(dir.path());
    assert_eq!(kept.len(), 1);
    leave_interrupted(dir.path());
    assert_eq!((blobs(dir.path()).len(), incoming(dir.path()).len()), (2, 1));

    let engines = Engines::open(dir.path()).unwrap();
    drop(engines);
    assert_eq!(blobs(dir.path()), kept);
    assert!(incoming(dir.path()).is_empty());
}

#[tokio::test]
async fn a_temporary_folder_goes_with_the_last_clone() {
    let engines = Engines::in_memory().unwrap();
    let text = format!("{engines:?}");
    let path = text.split('"').nth(1).unwrap().to_owned();
    let clone = engines.clone();
    drop(engines);
    assert!(std::fs::exists(&path).unwrap());
    drop(clone);
    assert!(!std::fs::exists(&path).unwrap());
}
