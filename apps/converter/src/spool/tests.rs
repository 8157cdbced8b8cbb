use std::os::unix::fs::MetadataExt;

use api::result::ResultDocument;

use super::*;

fn spool(parent: &Path) -> Spool {
    let (folder, rejected) = (parent.join("spool"), parent.join("rejected"));
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(&rejected).unwrap();
    Spool::new(folder, rejected)
}

fn result(job_id: &str, attempt: u64) -> Spooled {
    let lease = Lease { job_id: job_id.to_owned(), token: "secret".into() };
    let result =
        ResultRequest { success: true, content: Some("text".to_owned()), ..ResultRequest::default() };
    Spooled::new(&"http://localhost:8000/".parse().unwrap(), &lease, attempt, result)
}

#[test]
fn what_is_written_is_found_again_oldest_first() {
    let parent = tempfile::tempdir().unwrap();
    let first = spool(parent.path()).write(&mut result("b", 1)).unwrap();
    File::open(&first).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let second = spool(parent.path()).write(&mut result("a", 2)).unwrap();
    assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o600);

    let spool = spool(parent.path());
    assert_eq!(spool.left().unwrap(), [first, second.clone()]);
    let loaded = spool.load(&second).unwrap().unwrap();
    assert_eq!((loaded.lease().token.reveal(), loaded.attempt), ("secret", 2));
    assert_eq!(loaded.server, "http://localhost:8000");
    assert_eq!(loaded.result.content.as_deref(), Some("text"));
}

#[test]
fn attempts_of_one_job_do_not_overwrite_each_other_and_ids_are_no_paths() {
    let parent = tempfile::tempdir().unwrap();
    let spool = spool(parent.path());
    assert_ne!(spool.write(&mut result("a", 1)).unwrap(), spool.write(&mut result("a", 2)).unwrap());
    let path = spool.write(&mut result("../../x", 1)).unwrap();
    assert_eq!(path.parent().unwrap(), spool.folder);
}

#[test]
fn damaged_results_are_put_aside_and_cut_writes_removed() {
    let parent = tempfile::tempdir().unwrap();
    let spool = spool(parent.path());
    fs::write(spool.folder.join("x-1.json"), "{").unwrap();
    fs::write(spool.folder.join("y-1.tmp"), "{").unwrap();
    let left = spool.left().unwrap();
    assert_eq!(left.len(), 1);
    assert!(spool.load(&left[0]).unwrap().is_none());
    assert!(spool.rejected.join("x-1.json").exists());
    assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 0);
}

#[test]
fn refused_results_are_bounded() {
    let parent = tempfile::tempdir().unwrap();
    let spool = spool(parent.path());
    for attempt in 0..MOST_REJECTED as u64 + 5 {
        let path = spool.write(&mut result("a", attempt)).unwrap();
        let age = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(attempt);
        File::open(&path).unwrap().set_modified(age).unwrap();
        spool.reject(&path).unwrap();
    }
    assert_eq!(fs::read_dir(&spool.rejected).unwrap().count(), MOST_REJECTED);
    assert!(!spool.rejected.join("a-4.json").exists() && spool.rejected.join("a-5.json").exists());
}

#[test]
fn a_document_holds_the_result_and_goes_with_its_value() {
    let parent = tempfile::tempdir().unwrap();
    let document = spool(parent.path()).document(&result("a", 1)).unwrap();
    let read: ResultDocument = serde_json::from_slice(&fs::read(document.path()).unwrap()).unwrap();
    assert_eq!(read.content, "text");
    let path = document.path().to_owned();
    drop(document);
    assert!(!path.exists());
}

fn large(job_id: &str, attempt: u64) -> Spooled {
    let mut spooled = result(job_id, attempt);
    spooled.result.content = Some("long ".repeat(MOST_INLINE / 4));
    spooled.result.metadata = serde_json::json!({"a": 1}).as_object().cloned();
    spooled
}

#[test]
fn a_large_result_is_spooled_as_it_is_uploaded_and_leaves_the_memory() {
    let parent = tempfile::tempdir().unwrap();
    let mut spooled = large("a", 1);
    let path = spool(parent.path()).write(&mut spooled).unwrap();
    assert!(spooled.is_large() && spooled.result.content.is_none() && spooled.result.metadata.is_none());

    let spool = spool(parent.path());
    assert_eq!(spool.left().unwrap(), std::slice::from_ref(&path));
    let loaded = spool.load(&path).unwrap().unwrap();
    assert!(loaded.is_large() && loaded.result.success && loaded.result.content.is_none());
    drop(spool.document(&loaded).unwrap());
    let document = spool.document(&loaded).unwrap();
    let read: ResultDocument = serde_json::from_slice(&fs::read(document.path()).unwrap()).unwrap();
    assert_eq!((read.content.len(), &read.metadata["a"]), (5 * (MOST_INLINE / 4), &Value::from(1)));
    spool.remove(&path).unwrap();
    assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 0);
}

#[test]
fn a_large_result_that_cannot_be_written_stays_as_it_is() {
    let parent = tempfile::tempdir().unwrap();
    let mut spooled = large("a", 1);
    let broken = Spool::new(parent.path().join("nowhere"), parent.path().join("rejected"));
    assert!(broken.write(&mut spooled).is_err());
    assert!(spooled.result.content.is_some() && spooled.result.metadata.is_some());

    // The document can be written and the result cannot.
    let spool = spool(parent.path());
    fs::create_dir(spool.folder.join("a-1.json.tmp")).unwrap();
    assert!(spool.write(&mut spooled).is_err());
    assert!(spooled.result.content.is_some() && !spool.folder.join("a-1.document").exists());
}

#[test]
fn a_later_attempt_inherits_what_an_earlier_one_finished() {
    let parent = tempfile::tempdir().unwrap();
    let spool = spool(parent.path());
    let server: BaseUrl = "http://localhost:8000".parse().unwrap();
    let lease = |job: &str| Lease { job_id: job.to_owned(), token: "new".into() };
    assert!(spool.inherit(&server, &lease("a"), 2).unwrap().is_none());
    spool.write(&mut result("a", 1)).unwrap();
    let old = spool.write(&mut large("b-2", 1)).unwrap();
    let mut failed = result("c", 1);
    failed.result.success = false;
    spool.write(&mut failed).unwrap();

    let (path, small) = spool.inherit(&server, &lease("a"), 2).unwrap().unwrap();
    assert_eq!((small.lease().token.reveal(), small.attempt), ("new", 2));
    assert_eq!(spool.load(&path).unwrap().unwrap().result.content.as_deref(), Some("text"));
    let earlier = spool.load(&old).unwrap().unwrap();
    spool.note_upload(Some(&old), &earlier, Some("key".to_owned())).unwrap();
    assert_eq!(spool.load(&old).unwrap().unwrap().uploaded_as().as_deref(), Some("key"));
    let (path, large) = spool.inherit(&server, &lease("b-2"), 3).unwrap().unwrap();
    assert_eq!(large.uploaded_as(), None, "its place goes with the attempt");
    spool.remove(&old).unwrap();
    assert!(spool.document(&large).unwrap().path().exists() && path.exists());

    assert!(spool.inherit(&server, &lease("a"), 1).unwrap().is_none());
    assert!(spool.inherit(&server, &lease("b"), 2).unwrap().is_none());
    assert!(spool.inherit(&server, &lease("c"), 2).unwrap().is_none(), "a failure is tried again");
    let other: BaseUrl = "http://elsewhere".parse().unwrap();
    assert!(spool.inherit(&other, &lease("a"), 3).unwrap().is_none());
}

#[test]
fn a_later_attempt_inherits_what_came_too_late_and_nothing_that_was_refused() {
    let parent = tempfile::tempdir().unwrap();
    let spool = spool(parent.path());
    let server: BaseUrl = "http://localhost:8000".parse().unwrap();
    let lease = |job: &str| Lease { job_id: job.to_owned(), token: "new".into() };
    spool.reject_late(&spool.write(&mut large("a", 1)).unwrap()).unwrap();
    spool.reject(&spool.write(&mut result("b", 1)).unwrap()).unwrap();
    assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 0);

    let (_, inherited) = spool.inherit(&server, &lease("a"), 2).unwrap().unwrap();
    let read: ResultDocument =
        serde_json::from_slice(&fs::read(spool.document(&inherited).unwrap().path()).unwrap()).unwrap();
    assert_eq!(read.content.len(), 5 * (MOST_INLINE / 4));
    assert!(spool.inherit(&server, &lease("b"), 2).unwrap().is_none());
}

#[test]
fn documents_without_their_results_are_removed() {
    let parent = tempfile::tempdir().unwrap();
    let spool = spool(parent.path());
    let path = spool.write(&mut large("a", 1)).unwrap();
    fs::write(spool.folder.join("b-1.document"), "{}").unwrap();
    assert_eq!(spool.left().unwrap(), std::slice::from_ref(&path));
    assert!(path.with_extension(DOCUMENT).exists() && !spool.folder.join("b-1.document").exists());
    spool.reject(&path).unwrap();
    assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&spool.rejected).unwrap().count(), 2);
}

#[test]
fn a_result_spooled_by_an_earlier_version_is_still_read() {
    let text = r#"{"server":"http://h","job_id":"a","attempt":1,"lease_token":"t","result":{"success":true,"content":"x"}}"#;
    let read: Spooled = serde_json::from_str(text).unwrap();
    assert!(!read.is_large() && read.result.content.as_deref() == Some("x"));
}
