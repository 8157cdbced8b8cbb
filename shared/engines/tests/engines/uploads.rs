//! What happens to a body that isn't what it should be.

use std::io;

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use s3s::crypto::Checksum as _;

use crate::support::{
    BUCKET, MIB, Place, base64, bytes, incoming, leave_interrupted, md5_etag, refusal, refused, sha256, until,
};

/// Both storage forms: a row, a file.
const SIZES: [usize; 2] = [1000, 3 * MIB];

/// A body that is `data`, and then fails or ends.
fn body(data: &[u8], fails: bool) -> ByteStream {
    let chunks = data.chunks(MIB).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))));
    let end = fails.then(|| Err(io::Error::from(io::ErrorKind::ConnectionReset)));
    let stream = stream::iter(chunks.chain(end).collect::<Vec<_>>());
    ByteStream::new(SdkBody::from_body_1_x(StreamBody::new(stream)))
}

/// An object under `k`, and a put that would replace it.
async fn replacing(size: usize) -> (Place, PutObjectFluentBuilder, Vec<u8>) {
    let place = Place::new().await;
    let earlier = bytes(size, 7);
    place.put("k", earlier.clone()).await;
    let put = place.s3.put_object().bucket(BUCKET).key("k");
    (place, put, earlier)
}

/// The earlier object is untouched, and nothing else is on the disk.
async fn assert_untouched(place: Place, earlier: &[u8]) {
    let files = usize::from(earlier.len() > 32_768);
    assert_eq!((place.blobs().len(), incoming(place.dir.path()).len()), (files, 0));
    assert!(place.get("k").await == earlier);
}

#[tokio::test]
async fn a_body_that_fails_its_checksum_changes_nothing() {
    for size in SIZES {
        let (data, other) = (bytes(size, 1), bytes(size, 2));
        let (place, _, earlier) = replacing(size).await;
        let put = || place.s3.put_object().bucket(BUCKET).key("k").body(ByteStream::from(data.clone()));
        let crc32 = base64(s3s::crypto::Crc32::checksum(&other));
        let md5 = base64(s3s::crypto::Md5::checksum(&other));
        for wrong in
            [put().checksum_sha256(sha256(&other)), put().checksum_crc32(crc32), put().content_md5(md5)]
        {
            assert_eq!(refusal(wrong.send().await), refused(400, "BadDigest"));
        }
        assert_untouched(place, &earlier).await;
    }
}

#[tokio::test]
async fn right_checksums_are_accepted() {
    for size in SIZES {
        let data = bytes(size, 1);
        let (place, put, _) = replacing(size).await;
        let put = put
            .body(ByteStream::from(data.clone()))
            .content_md5(base64(s3s::crypto::Md5::checksum(&data)))
            .checksum_sha256(sha256(&data));
        let put = put.send().await.unwrap();
        assert_eq!(put.e_tag(), Some(&*md5_etag(&data)));
        assert_eq!(put.checksum_sha256(), Some(&*sha256(&data)));
        assert!(place.get("k").await == data);
    }
}

#[tokio::test]
async fn a_body_shorter_or_longer_than_declared_changes_nothing() {
    for size in SIZES {
        let (place, _, earlier) = replacing(size).await;
        for sent in [size - 1, size + 1] {
            let put =
                place.s3.put_object().bucket(BUCKET).key("k").content_length(i64::try_from(size).unwrap());
            let put = put.body(body(&bytes(sent, 1), false)).send().await;
            assert_eq!(refusal(put), refused(400, "IncompleteBody"));
        }
        assert_untouched(place, &earlier).await;
    }
}

#[tokio::test]
async fn a_body_whose_connection_drops_changes_nothing() {
    for size in SIZES {
        let (place, put, earlier) = replacing(size).await;
        let put = put.content_length(i64::try_from(size).unwrap()).body(body(&bytes(size / 2, 1), true));
        assert_eq!(refusal(put.send().await), refused(400, "IncompleteBody"));
        assert_untouched(place, &earlier).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_nobody_waits_for_any_more_leaves_nothing() {
    let (place, put, earlier) = replacing(MIB).await;
    let begun = stream::iter([Ok::<_, io::Error>(Frame::data(Bytes::from(bytes(2 * MIB, 1))))]);
    let endless = futures::StreamExt::chain(begun, stream::pending());
    let put = put.content_length(100 << 20);
    let put = put.body(ByteStream::new(SdkBody::from_body_1_x(StreamBody::new(endless))));
    let put = tokio::spawn(put.send());
    until(|| incoming(place.dir.path()).len() == 1).await;
    put.abort();
    until(|| incoming(place.dir.path()).is_empty()).await;
    assert_untouched(place, &earlier).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_puts_that_want_the_key_free_one_wins() {
    for size in [100, 70_000] {
        let place = Place::new().await;
        let puts = (0..64).map(|n| {
            let put = place.s3.put_object().bucket(BUCKET).key("k").if_none_match("*");
            tokio::spawn(put.body(ByteStream::from(bytes(size, n))).send())
        });
        let results = futures::future::join_all(puts).await;
        let (won, lost): (Vec<_>, Vec<_>) =
            results.into_iter().map(Result::unwrap).enumerate().partition(|(_, result)| result.is_ok());
        assert_eq!(won.len(), 1);
        for (_, result) in lost {
            assert_eq!(refusal(result), refused(412, "PreconditionFailed"));
        }
        assert!(place.get("k").await == bytes(size, won[0].0 as u64));
        assert_eq!((place.blobs().len(), incoming(place.dir.path()).len()), (usize::from(size > 32_768), 0));
    }
}

#[tokio::test]
async fn a_put_can_require_the_object_it_replaces() {
    let place = Place::new().await;
    let etag = place.put("k", "one").await;
    let put = |etag: &str| {
        place.s3.put_object().bucket(BUCKET).key("k").if_match(etag).body(ByteStream::from_static(b"two"))
    };
    put(&etag).send().await.unwrap();
    assert_eq!(refusal(put(&etag).send().await), refused(412, "PreconditionFailed"));
    let absent = place.s3.put_object().bucket(BUCKET).key("absent").if_match(&etag).send().await;
    assert_eq!(refusal(absent), refused(404, "NoSuchKey"));
}

#[tokio::test]
async fn a_disk_that_fails_is_an_internal_error_without_its_cause() {
    let (place, put, earlier) = replacing(MIB).await;
    let folder = place.dir.path().join("objects/incoming");
    std::fs::remove_dir(&folder).unwrap();
    let error = put.body(ByteStream::from(bytes(MIB, 1))).send().await.unwrap_err();
    let text = format!("{:?}", error.raw_response().unwrap().body());
    assert!(!text.contains("incoming") && !text.contains("No such file"), "{text}");
    assert_eq!(refusal::<(), _>(Err(error)), refused(500, "InternalError"));
    std::fs::create_dir(&folder).unwrap();
    assert_untouched(place, &earlier).await;
}

#[tokio::test]
async fn old_unfinished_files_are_swept_and_young_ones_are_not() {
    let place = Place::new().await;
    place.put("kept", bytes(100_000, 1)).await;
    let kept = place.blobs();
    let dir = place.dir.path();
    leave_interrupted(dir);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    assert_eq!(place.engines.sweep(now).await.unwrap().removed_files, 0);
    assert_eq!(place.engines.sweep(now + 2 * 3600 * 1000).await.unwrap().removed_files, 2);
    assert_eq!((place.blobs(), incoming(dir).len()), (kept, 0));
    assert!(place.get("kept").await == bytes(100_000, 1));
}
