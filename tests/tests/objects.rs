//! The object store on the gateway's own listener: only whoever holds a valid presigned URL gets in.

#![allow(clippy::unwrap_used, reason = "what a helper meets unexpectedly is a failed test")]

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Site, refused_objects, snapshot};

/// A URL of an uploaded source, valid for this long.
async fn url(site: &Site, filename: &str, valid: Duration) -> String {
    let source = site.ingest.upload(filename, b"0123456789").await;
    let name = domain::FileName::from_client(filename);
    site.gateway.service.store().handoff.presign_get(&source, &name, valid).await.unwrap().url
}

const LONG: Duration = Duration::from_secs(900);

#[tokio::test]
async fn a_tampered_url_is_refused() {
    let site = Site::start().await;
    let own = url(&site, "own.mp3", LONG).await;
    let other = url(&site, "other.mp3", LONG).await;
    let place = site.ingest.place("new.mp3", b"sound").await;
    let put = place["put"]["url"].as_str().unwrap();
    let (path, query) = own.split_once('?').unwrap();
    let (other_path, _) = other.split_once('?').unwrap();
    let date = query.split('&').find(|part| part.starts_with("X-Amz-Date=")).unwrap();
    let signature = query.split("X-Amz-Signature=").nth(1).unwrap();
    let (bucket, _) = path.split_once("/sources/").unwrap();
    assert_eq!(site.worker.get(&own).await.status, 200);
    let get = |target: String| site.worker.request(Method::GET, &target);
    snapshot!(
        refused_objects([
            ("another object", get(format!("{other_path}?{query}"))),
            ("another name to save it under", get(own.replace("own.mp3%22", "evil.html%22"))),
            ("a longer life", get(own.replace("X-Amz-Expires=900", "X-Amz-Expires=9000"))),
            ("more than a week", get(own.replace("X-Amz-Expires=900", "X-Amz-Expires=9000000"))),
            ("another date", get(own.replace(date, "X-Amz-Date=20200101T000000Z"))),
            ("another signature", get(own.replace(signature, &"0".repeat(64)))),
            ("no signature", get(path.to_owned())),
            ("only a parameter named like one", get(format!("{path}?X-Amz-Signature=0"))),
            ("another parameter", get(format!("{own}&versionId=1"))),
            ("a key of the API", get(path.to_owned()).bearer_auth(site.admin.key())),
            ("put by a URL to get", site.worker.request(Method::PUT, &own).body("x")),
            ("delete by a URL to get", site.worker.request(Method::DELETE, &own)),
            ("get by a URL to put", get(put.to_owned())),
            ("put without the signed headers", site.worker.request(Method::PUT, put).body("sound")),
            ("list the bucket", get(format!("{bucket}?list-type=2"))),
            ("list the bucket by a URL to get", get(format!("{bucket}?list-type=2&{query}"))),
            ("out of the bucket", get(format!("{bucket}/..%2F..%2Fetc%2Fpasswd?{query}"))),
        ])
        .await
    );
    let source = place["source_file_path"].as_str().unwrap();
    assert!(
        site.gateway.service.store().handoff.head(source).await.unwrap().is_none(),
        "something was stored"
    );
}

#[tokio::test]
async fn an_expired_url_is_refused() {
    let site = Site::start().await;
    let url = url(&site, "own.mp3", Duration::from_secs(1)).await;
    let key = "sources/default/0b8f3c5e-0000-7000-8000-000000000000/new.mp3".parse().unwrap();
    let handoff = &site.gateway.service.store().handoff;
    let put = handoff.presign_put(&key, 5, &[0; 32], Duration::from_secs(1)).await.unwrap();
    // The SDK signs by the system's clock, so this is the one test that lets it run.
    let expired = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let answer = site.worker.get(&url).await;
            if answer.status != 200 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let put = json!({"method": put.method, "url": put.url, "headers": put.headers});
    snapshot!(json!({
        "get": expired.await.unwrap().shown(),
        "put": site.worker.presigned(&put, "sound").await.shown(),
    }));
}

#[tokio::test]
async fn a_download_is_resumed_where_it_stopped() {
    let site = Site::start().await;
    let url = url(&site, "own.mp3", LONG).await;
    let etag = site.worker.get(&url).await.header("etag").to_owned();
    let get = |range: &'static str| site.worker.request(Method::GET, &url).header("Range", range);
    let shown = async |request| Answer::to(request).await.shown();
    snapshot!(json!({
        "from the middle": shown(get("bytes=5-").header("If-Match", &etag)).await,
        "the end": shown(get("bytes=-2")).await,
        "a piece": shown(get("bytes=2-3")).await,
        "past the end": shown(get("bytes=10-")).await,
        "of another object": shown(get("bytes=5-").header("If-Match", "\"0\"")).await,
    }));
}

#[tokio::test]
async fn an_object_that_is_not_there_is_told_from_one_that_may_not_be_read() {
    let site = Site::start().await;
    let key = "sources/default/0b8f3c5e-0000-7000-8000-000000000000/none.mp3";
    let name = domain::FileName::from_client("none.mp3");
    let url = site.gateway.service.store().handoff.presign_get(key, &name, LONG).await.unwrap().url;
    snapshot!(site.worker.get(&url).await.shown());
}

#[tokio::test]
async fn a_form_cannot_upload() {
    let site = Site::start().await;
    let request = site
        .worker
        .request(Method::POST, "/remote-jobs")
        .header("content-type", "multipart/form-data; boundary=x");
    let answer = Answer::to(request.body("--x--")).await;
    assert_eq!(answer.status, 501, "{}", answer.text());
    assert_eq!(site.ingest.get("/health").await.ok()["status"], Value::from("ok"));
}
