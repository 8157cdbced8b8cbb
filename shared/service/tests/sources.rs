//! What a job can be created from besides an upload: a URL, or a file of this machine.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use api::create::CreateJobRequest;
use domain::{ContentType, FileName, JobId};
use service::SourceRoots;
use store::StorageKey;
use tempfile::TempDir;

use crate::support::{Place, caller, field, problem, request, sha256};

fn of_type(content_type: ContentType, path: &str) -> CreateJobRequest {
    CreateJobRequest { content_type, ..request(path) }
}

#[tokio::test]
async fn a_url_of_a_page_or_a_video_becomes_a_text_file_that_holds_it() {
    let place = Place::new().await;
    let custom: ContentType = "x-feed".parse().unwrap();
    for content_type in [ContentType::Web, ContentType::Youtube, custom] {
        for url in ["https://example.org/a?b=c#d", "http://example.org/ä"] {
            let created = place.create(&caller(), &of_type(content_type.clone(), url), None).await.unwrap();
            let source = place.job(&created.job_id).await.spec.source;
            assert_eq!((source.name.as_str(), source.sha256), ("url.txt", Some(sha256(url.as_bytes()))));
            let stored = place.store().handoff.get(&source.key, 99).await.unwrap();
            assert_eq!(stored.as_deref(), Some(url.as_bytes()));
        }
    }
}

#[tokio::test]
async fn a_type_that_converts_files_takes_no_url() {
    let place = Place::new().await;
    for content_type in [ContentType::Audio, ContentType::Video, ContentType::Document, ContentType::Image] {
        let text = format!("is a URL, and {content_type} jobs convert files; upload the file instead");
        let refused =
            place.create(&caller(), &of_type(content_type, "https://example.org/a.pdf"), None).await;
        assert_eq!(problem(refused), field("source_file_path", &text));
    }
}

#[tokio::test]
async fn a_url_is_one_word_of_at_most_eight_kilobytes() {
    let place = Place::new().await;
    let base = "https://example.org/";
    let longest = format!("{base}{}", "a".repeat(8192 - base.len()));
    let longer = format!("{longest}a");
    for url in ["https://example.org/a b", "https://example.org/a\nb", "https://example.org/\u{7}", &longer] {
        assert_eq!(
            problem(place.create(&caller(), &of_type(ContentType::Web, url), None).await),
            field(
                "source_file_path",
                "is a URL with spaces or control characters, or longer than 8192 bytes"
            )
        );
    }
    assert!(place.create(&caller(), &of_type(ContentType::Web, &longest), None).await.is_ok());
}

#[tokio::test]
async fn the_same_creation_of_a_url_is_the_same_job_and_another_url_is_another_request() {
    let place = Place::new().await;
    let first = of_type(ContentType::Web, "https://example.org/1");
    let second = of_type(ContentType::Web, "https://example.org/2");
    let id = place.create(&caller(), &first, Some("k")).await.unwrap().job_id;
    assert_eq!(place.create(&caller(), &first, Some("k")).await.unwrap().job_id, id);
    assert_eq!(problem(place.create(&caller(), &second, Some("k")).await).0, 422);
    let key = place.job(&id).await.spec.source.key;
    let kept = place.store().handoff.get(&key, 99).await.unwrap();
    assert_eq!(kept.as_deref(), Some("https://example.org/1".as_bytes()));
}

/// A service that may take files from a folder.
async fn with_root() -> (Place, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let roots = SourceRoots::open(&[root]).unwrap();
    (Place::with_rules(|rules| rules.source_roots = roots).await, folder)
}

async fn refused(place: &Place, path: &Path) -> (u16, String) {
    problem(place.create(&caller(), &request(path.to_str().unwrap()), None).await)
}

#[tokio::test]
async fn a_file_under_a_source_root_is_copied_as_it_is_at_the_creation() {
    let (place, folder) = with_root().await;
    let path = folder.path().join("root/Bericht Mai.pdf");
    std::fs::write(&path, "before").unwrap();
    let created = place.create(&caller(), &request(path.to_str().unwrap()), None).await.unwrap();
    std::fs::write(&path, "after").unwrap();
    let source = place.job(&created.job_id).await.spec.source;
    assert_eq!((source.name.as_str(), source.size_bytes), ("Bericht_Mai.pdf", 6));
    assert_eq!(source.sha256, Some(sha256(b"before")));
    assert_eq!(place.store().handoff.get(&source.key, 99).await.unwrap(), Some("before".into()));
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let (place, folder) = with_root().await;
    let path = folder.path().join("root/empty.txt");
    std::fs::write(&path, "").unwrap();
    let created = place.create(&caller(), &request(path.to_str().unwrap()), None).await.unwrap();
    assert_eq!(place.job(&created.job_id).await.spec.source.size_bytes, 0);
}

#[tokio::test]
async fn a_link_is_followed_within_its_root_and_not_out_of_it() {
    let (place, folder) = with_root().await;
    let root = folder.path().join("root");
    std::fs::write(root.join("in.txt"), "in").unwrap();
    std::fs::write(folder.path().join("out.txt"), "out").unwrap();
    symlink("in.txt", root.join("inner")).unwrap();
    symlink("../out.txt", root.join("outer")).unwrap();
    symlink(folder.path(), root.join("up")).unwrap();
    let inner = request(root.join("inner").to_str().unwrap());
    let id = place.create(&caller(), &inner, None).await.unwrap().job_id;
    assert_eq!(place.job(&id).await.spec.source.size_bytes, 2);
    for path in ["outer", "up/out.txt", "../out.txt"] {
        assert_eq!(
            refused(&place, &root.join(path)).await,
            field(
                "source_file_path",
                "names a local file that may not be read, or a link that leads out of its source root"
            ),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_file_outside_every_root_is_not_taken() {
    let (place, folder) = with_root().await;
    std::fs::write(folder.path().join("out.txt"), "out").unwrap();
    let outside = field(
        "source_file_path",
        "names a local file outside the folders of MORAG_SOURCE_ROOTS; upload it instead",
    );
    assert_eq!(refused(&place, &folder.path().join("out.txt")).await, outside);
    assert_eq!(refused(&place, Path::new("/etc/passwd")).await, outside);
    assert_eq!(refused(&place, &folder.path().join("rooted")).await, outside);
    assert_eq!(refused(&Place::new().await, &folder.path().join("root")).await, outside);
}

#[tokio::test]
async fn what_is_no_regular_file_is_not_taken_and_not_waited_for() {
    let (place, folder) = with_root().await;
    let root = folder.path().join("root");
    let pipe = root.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::create_dir(root.join("folder")).unwrap();
    let no_file = field("source_file_path", "names something that is not a regular file");
    assert_eq!(refused(&place, &pipe).await, no_file);
    assert_eq!(refused(&place, &root.join("folder")).await, no_file);
    assert_eq!(refused(&place, &root).await, no_file);
}

#[tokio::test]
async fn a_file_that_is_missing_is_said_to_be() {
    let (place, folder) = with_root().await;
    std::fs::write(folder.path().join("root/file"), "").unwrap();
    let missing = field("source_file_path", "names a local file that does not exist");
    assert_eq!(refused(&place, &folder.path().join("root/none.pdf")).await, missing);
    assert_eq!(refused(&place, &folder.path().join("root/file/none.pdf")).await, missing);
}

#[tokio::test]
async fn a_file_of_more_than_five_gigabytes_is_to_be_uploaded() {
    let (place, folder) = with_root().await;
    let path = folder.path().join("root/large.bin");
    // Nothing of it is on the disk.
    std::fs::File::create(&path).unwrap().set_len((5 << 30) + 1).unwrap();
    assert_eq!(
        refused(&place, &path).await,
        field("source_file_path", "names a local file of more than 5 GiB; upload it instead")
    );
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_said_to_be_so() {
    let (place, folder) = with_root().await;
    let path = folder.path().join("root/secret");
    std::fs::write(&path, "secret").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Nothing is kept from an administrator.
    let readable = std::fs::read(&path).is_ok();
    let created = place.create(&caller(), &request(path.to_str().unwrap()), None).await;
    assert_eq!(created.is_ok(), readable);
    if let Err(error) = created {
        assert!(error.problem().detail.contains("may not be read"), "{error}");
    }
}

#[tokio::test]
async fn the_same_creation_of_a_file_is_the_same_job_whatever_became_of_the_file() {
    let (place, folder) = with_root().await;
    let path = folder.path().join("root/a.txt");
    std::fs::write(&path, "before").unwrap();
    let request = request(path.to_str().unwrap());
    let id = place.create(&caller(), &request, Some("k")).await.unwrap().job_id;
    std::fs::write(&path, "after").unwrap();
    assert_eq!(place.create(&caller(), &request, Some("k")).await.unwrap().job_id, id);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(place.create(&caller(), &request, Some("k")).await.unwrap().job_id, id);
    let source = place.job(&id).await.spec.source;
    assert_eq!(place.store().handoff.get(&source.key, 99).await.unwrap(), Some("before".into()));
}

#[tokio::test]
async fn a_creation_that_was_broken_off_after_its_copy_goes_on_only_with_the_same_bytes() {
    let (place, folder) = with_root().await;
    let path = folder.path().join("root/a.txt");
    let copy = StorageKey::Source {
        tenant: "t".parse().unwrap(),
        upload: JobId::of_idempotency_key(&"t".parse().unwrap(), "k").0,
        name: FileName::from_client("a.txt"),
    };
    place.store().handoff.put(&copy, "before".into(), &sha256(b"before")).await.unwrap();
    let request = request(path.to_str().unwrap());
    std::fs::write(&path, "after").unwrap();
    assert_eq!(
        problem(place.create(&caller(), &request, Some("k")).await),
        field(
            "source_file_path",
            "was something else when this Idempotency-Key was used first; use a new key"
        )
    );
    std::fs::write(&path, "before").unwrap();
    assert!(place.create(&caller(), &request, Some("k")).await.is_ok());
}

#[test]
fn a_root_that_cannot_be_opened_is_named() {
    let error = SourceRoots::open(&["/does/not/exist".into()]).unwrap_err();
    assert!(error.to_string().starts_with("source root /does/not/exist cannot be opened"), "{error}");
}
