//! The files: presigned requests, small objects, and uploads in parts.

use std::{io::Write, time::Duration};

use bytes::Bytes;
use domain::{FileName, JobId};
use sha2::{Digest, Sha256};
use store::{Object, Part, Presigned, SignedPart, StorageKey};
use uuid::Uuid;

use crate::{
    backend::S3_URL,
    support::{Place, why},
};

const HOUR: Duration = Duration::from_secs(3600);
const MIB: usize = 1 << 20;

pub(crate) fn source(name: &str) -> StorageKey {
    StorageKey::Source {
        tenant: "t".parse().unwrap(),
        upload: Uuid::from_u128(1),
        name: FileName::from_client(name),
    }
}

fn sha256(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

impl Place {
    async fn sent(&self, request: &Presigned, body: impl Into<Bytes>) -> u16 {
        let sent = self.backend.send(&request.method, &request.url, &request.headers, body).await;
        sent.0.status.as_u16()
    }

    async fn stored(&self, key: &StorageKey) -> Option<Bytes> {
        self.handoff.get(&key.to_string(), 64 << 20).await.unwrap()
    }
}

/// The request with the length that a longer body has.
fn lengthened(request: &Presigned) -> Presigned {
    let mut request = request.clone();
    request.headers.insert("content-length".to_owned(), "12".to_owned());
    request
}

/// The headers that a presigned URL says are signed.
fn signed_headers(url: &str) -> Vec<String> {
    let (_, rest) = url.split_once("X-Amz-SignedHeaders=").unwrap();
    rest.split('&').next().unwrap().split("%3B").map(str::to_owned).collect()
}

#[tokio::test]
async fn a_presigned_put_takes_just_the_bytes_it_was_made_for_and_only_once() {
    let place = Place::new().await;
    let key = source("a.txt");
    let put = place.handoff.presign_put(&key, 5, &sha256(b"hello"), HOUR).await.unwrap();
    assert_eq!(place.sent(&put, "hullo").await, 400);
    assert_eq!(place.sent(&lengthened(&put), "hello, world").await, 403);
    assert_eq!(place.stored(&key).await, None);
    assert_eq!(place.sent(&put, "hello").await, 200);
    assert_eq!(place.sent(&put, "hello").await, 412);
    assert_eq!(place.stored(&key).await, Some("hello".into()));
}

#[tokio::test]
async fn a_presigned_put_signs_length_checksum_and_that_it_replaces_nothing_and_no_other_checksum() {
    let place = Place::new().await;
    let put = place.handoff.presign_put(&source("a.txt"), 5, &sha256(b"hello"), HOUR).await.unwrap();
    assert_eq!(
        (put.method.as_str(), put.url.starts_with(&format!("{S3_URL}/handoff/sources/t/"))),
        ("PUT", true)
    );
    let signed = signed_headers(&put.url);
    for header in ["content-length", "host", "if-none-match"] {
        assert!(signed.contains(&header.to_owned()), "{header} is not in {signed:?}");
    }
    assert_eq!(put.headers["content-length"], "5");
    assert_eq!(put.headers["if-none-match"], "*");
    let everything = format!("{} {:?}", put.url, put.headers).to_lowercase();
    assert!(everything.contains("checksum-sha256"), "{everything}");
    assert!(!everything.contains("crc"), "{everything}");
    // Everything that is signed and is not the host comes along, so that it can be sent.
    for header in signed.iter().filter(|header| *header != "host") {
        assert!(put.headers.contains_key(header), "{header} is signed and not told");
    }
    assert_eq!(
        (put.url.contains("X-Amz-Expires=3600"), format!("{put:?}").contains("Signature")),
        (true, false)
    );
}

#[tokio::test]
async fn a_presigned_put_without_what_it_signs_is_refused() {
    let place = Place::new().await;
    let put = place.handoff.presign_put(&source("a.txt"), 5, &sha256(b"hello"), HOUR).await.unwrap();
    for header in put.headers.keys() {
        let mut less = put.clone();
        less.headers.remove(header);
        assert_eq!(place.sent(&less, "hello").await, 403, "without {header}");
    }
    let other = Presigned { url: put.url.replace("a.txt", "b.txt"), ..put };
    assert_eq!(place.sent(&other, "hello").await, 403);
}

#[tokio::test]
async fn a_presigned_get_gives_the_object_under_the_name_to_save_it_as() {
    let place = Place::new().await;
    let key = source("a.txt");
    place.handoff.put(&key, "hello".into(), &sha256(b"hello")).await.unwrap();
    let name = FileName::from_client("Minutes of May.txt");
    let get = place.handoff.presign_get(&key.to_string(), &name, HOUR).await.unwrap();
    assert_eq!(get.method, "GET");
    let (parts, body) = place.backend.send("GET", &get.url, &get.headers, "").await;
    assert_eq!((parts.status.as_u16(), body), (200, "hello".into()));
    assert_eq!(parts.headers["content-disposition"], "attachment; filename=\"Minutes_of_May.txt\"");
    let forged = get.url.replace("Minutes_of_May", "other");
    assert_eq!(place.backend.send("GET", &forged, &get.headers, "").await.0.status.as_u16(), 403);
}

#[tokio::test]
async fn an_object_is_written_once_and_a_second_write_leaves_it_as_it_is() {
    let place = Place::new().await;
    let key = StorageKey::Options { tenant: "t".parse().unwrap(), job: JobId(Uuid::from_u128(2)) };
    place.handoff.put(&key, "first".into(), &sha256(b"first")).await.unwrap();
    place.handoff.put(&key, "second".into(), &sha256(b"second")).await.unwrap();
    assert_eq!(place.stored(&key).await, Some("first".into()));
}

#[tokio::test]
async fn an_object_whose_bytes_are_not_those_announced_is_not_written() {
    let place = Place::new().await;
    let key = source("a.txt");
    let (kind, _) = why(place.handoff.put(&key, "other".into(), &sha256(b"first")).await);
    assert_eq!((kind, place.stored(&key).await), ("rejected", None));
}

#[tokio::test]
async fn a_file_is_written_from_where_it_is_open() {
    let place = Place::new().await;
    let key = source("a.bin");
    let body = vec![7; 3 * MIB];
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&body).unwrap();
    let open = || async { tokio::fs::File::open(file.path()).await.unwrap() };
    let size = body.len() as u64;
    for _ in 0..2 {
        assert!(place.handoff.put_file(&key, open().await, size, &sha256(&body)).await.unwrap());
    }
    assert_eq!(place.stored(&key).await, Some(body.into()));
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_hashed_is_not_written() {
    let place = Place::new().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"after").unwrap();
    let written = async |before: &[u8]| {
        let open = tokio::fs::File::open(file.path()).await.unwrap();
        let key = source("b.bin");
        let written = place.handoff.put_file(&key, open, before.len() as u64, &sha256(before)).await;
        (written.map_err(|e| e.to_string()), place.stored(&key).await)
    };
    assert_eq!(written(b"fresh").await, (Ok(false), None));
    assert_eq!(written(b"after that").await, (Ok(false), None));
}

#[tokio::test]
async fn an_object_is_read_up_to_the_size_that_is_asked_for() {
    let place = Place::new().await;
    let key = source("a.txt");
    place.handoff.put(&key, "hello".into(), &sha256(b"hello")).await.unwrap();
    assert_eq!(place.handoff.get(&key.to_string(), 5).await.unwrap(), Some("hello".into()));
    let (kind, cause) = why(place.handoff.get(&key.to_string(), 4).await);
    assert_eq!((kind, cause.as_str()), ("unreadable", "it is larger than 4 bytes"));
    assert_eq!(place.handoff.get("sources/none", 4).await.unwrap(), None);
}

#[tokio::test]
async fn head_tells_size_etag_and_the_checksum_that_was_verified() {
    let place = Place::new().await;
    let key = source("a.txt");
    assert_eq!(place.handoff.head(&key.to_string()).await.unwrap(), None);
    place.handoff.put(&key, "hello".into(), &sha256(b"hello")).await.unwrap();
    let Object { size_bytes, etag, sha256: hash, announced_bytes } =
        place.handoff.head(&key.to_string()).await.unwrap().unwrap();
    assert_eq!(announced_bytes, None, "its size was signed");
    assert_eq!((size_bytes, hash), (5, Some(sha256(b"hello"))));
    assert_eq!(etag, "\"5d41402abc4b2a76b9719d911017c592\"");
}

/// Uploads the parts, numbered from 1.
async fn uploaded(place: &Place, key: &StorageKey, id: &str, parts: &[Vec<u8>]) -> Vec<SignedPart> {
    let mut uploaded = Vec::new();
    for (body, number) in parts.iter().zip(1..) {
        let part = Part { number, size_bytes: body.len() as u64, sha256: sha256(body) };
        let put = place.handoff.presign_part(key, id, &part, HOUR).await.unwrap();
        let (answer, _) = place.backend.send(&put.method, &put.url, &put.headers, body.clone()).await;
        assert_eq!(answer.status.as_u16(), 200);
        let etag = answer.headers["etag"].to_str().unwrap().to_owned();
        uploaded.push(SignedPart { number, etag, sha256: part.sha256 });
    }
    uploaded
}

#[tokio::test]
async fn parts_become_one_object_with_the_checksum_that_was_declared() {
    let place = Place::new().await;
    let key = source("a.bin");
    let parts = [vec![1; 5 * MIB], vec![2; 100]];
    let whole = parts.concat();
    let id = place.handoff.begin_multipart(&key, whole.len() as u64, &sha256(&whole)).await.unwrap();
    let uploaded = uploaded(&place, &key, &id, &parts).await;
    assert_eq!(place.handoff.head(&key.to_string()).await.unwrap(), None);
    assert_eq!(place.handoff.complete_multipart(&key, &id, &uploaded).await.unwrap(), Ok(()));
    let object = place.handoff.head(&key.to_string()).await.unwrap().unwrap();
    assert_eq!((object.size_bytes, object.sha256), (whole.len() as u64, Some(sha256(&whole))));
    assert_eq!(place.stored(&key).await, Some(whole.into()));
}

#[tokio::test]
async fn a_part_is_signed_with_its_length_and_checksum_and_taken_only_so() {
    let place = Place::new().await;
    let key = source("a.bin");
    let id = place.handoff.begin_multipart(&key, 1, &[0; 32]).await.unwrap();
    let part = Part { number: 1, size_bytes: 5, sha256: sha256(b"hello") };
    let put = place.handoff.presign_part(&key, &id, &part, HOUR).await.unwrap();
    assert!(signed_headers(&put.url).contains(&"content-length".to_owned()));
    assert!(!format!("{} {:?}", put.url, put.headers).to_lowercase().contains("crc"));
    assert_eq!(place.sent(&put, "hullo").await, 400);
    assert_eq!(place.sent(&lengthened(&put), "hello, world").await, 403);
    let second = Presigned { url: put.url.replace("partNumber=1", "partNumber=2"), ..put.clone() };
    assert_eq!(place.sent(&second, "hello").await, 403);
    assert_eq!(place.sent(&put, "hello").await, 200);
}

#[tokio::test]
async fn parts_that_are_not_what_was_uploaded_are_refused_with_the_reason() {
    let place = Place::new().await;
    let key = source("a.bin");
    let id = place.handoff.begin_multipart(&key, 1, &[0; 32]).await.unwrap();
    let good = uploaded(&place, &key, &id, &[vec![1; 5 * MIB], vec![2; 5 * MIB]]).await;
    let complete = async |parts: &[SignedPart]| {
        place.handoff.complete_multipart(&key, &id, parts).await.unwrap().unwrap_err()
    };
    let changed = "a part is missing, or is not what was uploaded";
    let missing = SignedPart { number: 3, ..good[1].clone() };
    assert_eq!(complete(&[good[0].clone(), missing]).await, changed);
    let other_etag = SignedPart { etag: good[0].etag.clone(), ..good[1].clone() };
    assert_eq!(complete(&[good[0].clone(), other_etag]).await, changed);
    let backwards: Vec<_> = good.iter().rev().cloned().collect();
    assert_eq!(complete(&backwards).await, changed);
    let other_bytes = SignedPart { sha256: [9; 32], ..good[1].clone() };
    let reason = complete(&[good[0].clone(), other_bytes]).await;
    assert!([changed, "a part's SHA-256 is not what was signed"].contains(&reason.as_str()), "{reason}");
    assert_eq!(place.stored(&key).await, None);
    // A refusal ends nothing: the right parts still become the object.
    assert_eq!(place.handoff.complete_multipart(&key, &id, &good).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn of_two_uploads_to_the_same_place_the_one_that_is_complete_first_counts() {
    let place = Place::new().await;
    let key = source("a.bin");
    let mut uploads = Vec::new();
    for body in [[1; 9], [2; 9]] {
        let id = place.handoff.begin_multipart(&key, body.len() as u64, &sha256(&body)).await.unwrap();
        let parts = uploaded(&place, &key, &id, &[body.to_vec()]).await;
        uploads.push((id, parts));
    }
    let mut done = Vec::new();
    for (id, parts) in &uploads {
        done.push(place.handoff.complete_multipart(&key, id, parts).await.unwrap());
    }
    let late = Err("another upload to the same place was complete first".to_owned());
    assert_eq!(done, [Ok(()), late]);
    assert_eq!(place.stored(&key).await, Some(vec![1; 9].into()));
}

#[tokio::test]
async fn only_the_last_part_may_be_small() {
    let place = Place::new().await;
    let key = source("a.bin");
    let id = place.handoff.begin_multipart(&key, 1, &[0; 32]).await.unwrap();
    let parts = uploaded(&place, &key, &id, &[vec![1; 100], vec![2; 100]]).await;
    assert_eq!(
        place.handoff.complete_multipart(&key, &id, &parts).await.unwrap(),
        Err("a part that is not the last is smaller than 5 MiB".to_owned())
    );
}

#[tokio::test]
async fn an_upload_that_is_given_up_is_gone_and_giving_it_up_again_is_no_error() {
    let place = Place::new().await;
    let key = source("a.bin");
    let id = place.handoff.begin_multipart(&key, 1, &[0; 32]).await.unwrap();
    let parts = uploaded(&place, &key, &id, &[vec![1; 100]]).await;
    place.handoff.abort_multipart(&key, &id).await.unwrap();
    place.handoff.abort_multipart(&key, &id).await.unwrap();
    assert_eq!(
        place.handoff.complete_multipart(&key, &id, &parts).await.unwrap(),
        Err("there is no such upload; it was completed, aborted or has expired".to_owned())
    );
    assert_eq!(place.stored(&key).await, None);
}

#[tokio::test]
async fn the_bucket_is_named_as_it_was_configured() {
    let place = Place::with(|connection| connection.bucket = "other-bucket".to_owned()).await;
    assert_eq!(place.handoff.bucket(), "other-bucket");
    let get = place.handoff.presign_get("sources/a", &FileName::from_client("a"), HOUR).await.unwrap();
    assert!(get.url.starts_with(&format!("{S3_URL}/other-bucket/sources/a?")), "{get:?}");
}
