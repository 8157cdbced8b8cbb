use std::collections::BTreeSet;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumMode, Delete, EncodingType, ObjectIdentifier};
use engines::Engines;

use crate::support::{BUCKET, MIB, Place, bytes, md5_etag, refusal, refused, s3_client, s3_config, sha256};

#[tokio::test]
async fn objects_come_back_as_they_were_put_also_after_a_restart() {
    let mut place = Place::new().await;
    let sizes = [0, 1, 32_768, 32_769, MIB, 3 * MIB + 17];
    for (seed, size) in (0..).zip(sizes) {
        let data = bytes(size, seed);
        assert_eq!(place.put(&format!("size/{size}"), data.clone()).await, md5_etag(&data));
    }
    for _ in 0..2 {
        for (seed, size) in (0..).zip(sizes) {
            assert!(place.get(&format!("size/{size}")).await == bytes(size, seed), "{size} bytes");
        }
        place = place.reopen();
    }
}

#[tokio::test]
async fn what_is_said_about_an_object_is_kept() {
    let place = Place::new().await;
    let data = bytes(100, 1);
    let put = place.s3.put_object().bucket(BUCKET).key("k").body(ByteStream::from(data.clone()));
    put.content_type("audio/mpeg")
        .content_disposition("attachment; filename=\"talk.mp3\"")
        .content_language("de")
        .cache_control("no-store")
        .metadata("origin", "studio 7")
        .send()
        .await
        .unwrap();
    let place = place.reopen();
    let head = place.s3.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send();
    let head = head.await.unwrap();
    assert_eq!(head.content_type(), Some("audio/mpeg"));
    assert_eq!(head.content_disposition(), Some("attachment; filename=\"talk.mp3\""));
    assert_eq!(head.content_language(), Some("de"));
    assert_eq!(head.cache_control(), Some("no-store"));
    assert_eq!(head.metadata().unwrap()["origin"], "studio 7");
    assert_eq!(head.content_length(), Some(100));
    assert_eq!(head.e_tag(), Some(&*md5_etag(&data)));
    assert_eq!(head.checksum_sha256(), Some(&*sha256(&data)));
    assert!(head.last_modified().is_some());

    let plain = place.s3.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(plain.checksum_sha256(), None);
    let get = place.s3.get_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled);
    let get = get.response_content_disposition("inline").response_content_type("text/plain").send();
    let get = get.await.unwrap();
    assert_eq!(get.checksum_sha256(), Some(&*sha256(&data)));
    assert_eq!(get.content_disposition(), Some("inline"));
    assert_eq!(get.content_type(), Some("text/plain"));
}

#[tokio::test]
async fn every_key_is_just_a_key() {
    let place = Place::new().await;
    let long = "k".repeat(1000);
    let longest = "k".repeat(1024);
    let keys = [
        "../../x",
        "/etc/passwd",
        "a",
        "a/b",
        "a//b",
        ".",
        "..",
        "a/../b",
        "emoji 😀/ü",
        "line\nbreak",
        "percent%2Fsign+plus",
        "nul\u{1}control",
        "C:\\x",
        &long,
        &longest,
    ];
    for key in keys {
        // One of each storage form under every key.
        for size in [10, 70_000] {
            let data = [key.as_bytes(), &bytes(size, 1)].concat();
            place.put(key, data.clone()).await;
            assert!(place.get(key).await == data, "{key:?}");
        }
    }
    let listed = place.s3.list_objects_v2().bucket(BUCKET).encoding_type(EncodingType::Url).send().await;
    assert_eq!(listed.unwrap().key_count(), Some(i32::try_from(keys.len()).unwrap()));
    let head = place.s3.head_object().bucket(BUCKET).key("A").send().await;
    assert_eq!(refusal(head), refused(404, "NotFound"));
    assert_eq!(place.blobs().len(), keys.len());

    let too_long = "k".repeat(1025);
    let put = place.s3.put_object().bucket(BUCKET).key(too_long).body(ByteStream::from_static(b"x"));
    assert_eq!(refusal(put.send().await), refused(400, "KeyTooLongError"));

    for key in keys {
        place.s3.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
    }
    let dir = place.close();
    assert!(crate::support::blobs(dir.path()).is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let place = Place::new().await;
    let get = place.s3.get_object().bucket(BUCKET).key("k").send().await;
    assert_eq!(refusal(get), refused(404, "NoSuchKey"));
    let get = place.s3.get_object().bucket("elsewhere").key("k").send().await;
    assert_eq!(refusal(get), refused(404, "NoSuchBucket"));
    let put = place.s3.put_object().bucket("elsewhere").key("k").send().await;
    assert_eq!(refusal(put), refused(404, "NoSuchBucket"));
    let head = place.s3.head_object().bucket(BUCKET).key("k").send().await;
    assert!(head.unwrap_err().into_service_error().is_not_found());
    let head = place.s3.head_bucket().bucket("elsewhere").send().await;
    assert!(head.unwrap_err().into_service_error().is_not_found());
    place.s3.head_bucket().bucket(BUCKET).send().await.unwrap();
    place.s3.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    let again = place.s3.create_bucket().bucket(BUCKET).send().await;
    assert!(again.unwrap_err().into_service_error().is_bucket_already_owned_by_you());
}

#[tokio::test]
async fn ranges_are_exact() {
    let place = Place::new().await;
    for size in [1000, 2 * MIB + 5] {
        let data = bytes(size, 9);
        place.put("k", data.clone()).await;
        let last = size - 1;
        for (range, from, to) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=10-19".to_owned(), 10, 20),
            (format!("bytes={last}-"), last, size),
            ("bytes=-7".to_owned(), size - 7, size),
            (format!("bytes=5-{}", size * 2), 5, size),
        ] {
            let got = place.s3.get_object().bucket(BUCKET).key("k").range(&range).send().await.unwrap();
            let expected = format!("bytes {from}-{}/{size}", to - 1);
            assert_eq!(got.content_range(), Some(&*expected));
            assert_eq!(got.content_length(), Some(i64::try_from(to - from).unwrap()));
            assert!(got.body.collect().await.unwrap().to_vec() == data[from..to], "{range} of {size}");
        }
        let beyond = place.s3.get_object().bucket(BUCKET).key("k").range(format!("bytes={size}-"));
        assert_eq!(refusal(beyond.send().await), refused(416, "InvalidRange"));
    }
    place.put("empty", "").await;
    let empty = place.s3.get_object().bucket(BUCKET).key("empty").range("bytes=-5").send().await;
    assert_eq!(refusal(empty), refused(416, "InvalidRange"));
}

#[tokio::test]
async fn reads_keep_to_their_conditions() {
    let place = Place::new().await;
    let etag = place.put("k", "one").await;
    let get = || place.s3.get_object().bucket(BUCKET).key("k");
    get().if_match(&etag).send().await.unwrap();
    get().if_none_match("\"other\"").send().await.unwrap();
    assert_eq!(refusal(get().if_match("\"other\"").send().await), refused(412, "PreconditionFailed"));
    assert_eq!(refusal(get().if_none_match(&etag).send().await).0, 304);
    let future = DateTime::from_secs(32_503_680_000);
    assert_eq!(refusal(get().if_modified_since(future).send().await).0, 304);
    assert_eq!(refusal(get().if_unmodified_since(DateTime::from_secs(0)).send().await).0, 412);
    get().if_match(&etag).if_unmodified_since(DateTime::from_secs(0)).send().await.unwrap();
    let head = place.s3.head_object().bucket(BUCKET).key("k").if_match("\"other\"").send().await;
    assert_eq!(refusal(head).0, 412);
}

#[tokio::test]
async fn an_object_that_is_being_read_can_be_replaced_and_deleted() {
    let place = Place::new().await;
    let first = bytes(4 * MIB, 1);
    place.put("k", first.clone()).await;
    let mut reading = place.s3.get_object().bucket(BUCKET).key("k").send().await.unwrap().body;
    let mut read = reading.next().await.unwrap().unwrap().to_vec();
    place.put("k", bytes(4 * MIB, 2)).await;
    place.s3.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    while let Some(chunk) = reading.next().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    assert!(read == first);
    drop(reading);
    let dir = place.close();
    assert!(crate::support::blobs(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_beside_replacements_see_one_object_whole() {
    let place = Place::new().await;
    place.put("k", bytes(100_000, 0)).await;
    let candidates: BTreeSet<_> = (0..20).map(|seed| md5_etag(&bytes(100_000, seed))).collect();
    let writes = async {
        for seed in 1..20 {
            place.put("k", bytes(100_000, seed)).await;
        }
    };
    let reads = (0..8).map(|_| async {
        for _ in 0..20 {
            let got = place.s3.get_object().bucket(BUCKET).key("k").send().await.unwrap();
            let etag = got.e_tag().unwrap().to_owned();
            assert_eq!(md5_etag(&got.body.collect().await.unwrap().to_vec()), etag);
            assert!(candidates.contains(&etag));
        }
    });
    futures::future::join(writes, futures::future::join_all(reads)).await;
}

#[tokio::test]
async fn a_missing_file_is_an_internal_error() {
    let place = Place::new().await;
    place.put("k", bytes(100_000, 1)).await;
    for blob in place.blobs() {
        std::fs::remove_file(blob).unwrap();
    }
    let get = place.s3.get_object().bucket(BUCKET).key("k").send().await;
    assert_eq!(refusal(get), refused(500, "InternalError"));
    place.put("k", bytes(100_000, 2)).await;
    assert!(place.get("k").await == bytes(100_000, 2));
}

#[tokio::test]
async fn listings_are_ordered_and_come_in_pages() {
    let place = Place::new().await;
    let keys = ["a", "a/1", "a/2", "a/10", "b/1", "z", "ä", "😀", "a0"];
    for key in keys {
        place.put(key, "x").await;
    }
    let ordered: BTreeSet<_> = keys.into_iter().map(str::to_owned).collect();
    let mut pages = place.s3.list_objects_v2().bucket(BUCKET).max_keys(2).into_paginator().send();
    let mut listed = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        assert!(page.contents().len() <= 2);
        listed.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
    }
    assert_eq!(listed, ordered.into_iter().collect::<Vec<_>>());

    let under = place.s3.list_objects_v2().bucket(BUCKET).prefix("a/").send().await.unwrap();
    let under: Vec<_> = under.contents().iter().map(|object| object.key().unwrap()).collect();
    assert_eq!(under, ["a/1", "a/10", "a/2"]);
    let after =
        place.s3.list_objects_v2().bucket(BUCKET).prefix("a/").start_after("a/10").send().await.unwrap();
    assert_eq!(after.contents().len(), 1);
    let none = place.s3.list_objects_v2().bucket(BUCKET).prefix("nothing").send().await.unwrap();
    assert_eq!((none.key_count(), none.is_truncated()), (Some(0), Some(false)));
    let forged = place.s3.list_objects_v2().bucket(BUCKET).continuation_token("zz").send().await;
    assert_eq!(refusal(forged), refused(400, "InvalidArgument"));
}

#[tokio::test]
async fn many_objects_are_deleted_at_once() {
    let place = Place::new().await;
    for key in ["a", "b", "c"] {
        place.put(key, bytes(70_000, 1)).await;
    }
    let objects = ["a", "c", "never was"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder().set_objects(Some(objects.to_vec())).build().unwrap();
    let deleted = place.s3.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    assert_eq!((deleted.deleted().len(), deleted.errors().len()), (3, 0));
    let left = place.s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(left.contents()[0].key(), Some("b"));
    let dir = place.close();
    assert_eq!(crate::support::blobs(dir.path()).len(), 1);
}

#[tokio::test]
async fn what_this_system_does_not_use_is_not_implemented() {
    let place = Place::new().await;
    place.put("k", "x").await;
    let copy = place.s3.copy_object().bucket(BUCKET).key("l").copy_source("handoff/k").send().await;
    assert_eq!(refusal(copy), refused(501, "NotImplemented"));
    assert_eq!(refusal(place.s3.list_buckets().send().await), refused(501, "NotImplemented"));
    let put = place.s3.put_object().bucket(BUCKET).key("l").tagging("a=b").send().await;
    assert_eq!(refusal(put), refused(501, "NotImplemented"));
    let delimited = place.s3.list_objects_v2().bucket(BUCKET).delimiter("/").send().await;
    assert_eq!(refusal(delimited), refused(501, "NotImplemented"));
    let version = place.s3.get_object().bucket(BUCKET).key("k").version_id("1").send().await;
    assert_eq!(refusal(version), refused(501, "NotImplemented"));
}

#[tokio::test]
async fn the_sdks_own_checksums_are_verified() {
    let engines = Engines::in_memory().unwrap();
    // As the SDK comes: a CRC of every body, as a header or as a trailer, and every answer checked.
    let config = s3_config(&engines, "http://s3.local")
        .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenSupported)
        .response_checksum_validation(aws_sdk_s3::config::ResponseChecksumValidation::WhenSupported);
    let s3 = aws_sdk_s3::Client::from_conf(config.build());
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = bytes(300_000, 4);
    std::fs::write(file.path(), &data).unwrap();
    let bodies = [ByteStream::from(data.clone()), ByteStream::from_path(file.path()).await.unwrap()];
    for body in bodies {
        s3.put_object().bucket(BUCKET).key("k").body(body).send().await.unwrap();
        let got = s3.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(got.content_encoding(), None);
        assert!(got.body.collect().await.unwrap().to_vec() == data);
    }
}

#[tokio::test]
async fn another_key_is_refused() {
    let place = Place::new().await;
    let other = Engines::in_memory().unwrap();
    let config = s3_config(&other, "http://127.0.0.1:9000").http_client(place.engines.s3_http());
    let s3 = aws_sdk_s3::Client::from_conf(config.build());
    assert_eq!(refusal(s3.list_objects_v2().bucket(BUCKET).send().await).0, 403);
}

#[tokio::test]
async fn the_host_may_have_any_form() {
    let engines = Engines::in_memory().unwrap();
    s3_client(&engines, "http://localhost").create_bucket().bucket(BUCKET).send().await.unwrap();
    for endpoint in ["http://localhost:80", "https://localhost:443", "https://localhost", "http://[::1]:9000"]
    {
        s3_client(&engines, endpoint).head_bucket().bucket(BUCKET).send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_small_puts_are_all_kept() {
    let place = Place::new().await;
    let puts = (0..64_u64).map(|n| {
        let place = &place;
        async move { place.put(&format!("small/{n}"), bytes(1000, n)).await }
    });
    futures::future::join_all(puts).await;
    let place = place.reopen();
    for n in 0..64 {
        assert_eq!(place.get(&format!("small/{n}")).await, bytes(1000, n));
    }
}
