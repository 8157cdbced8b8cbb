use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use api::uploads::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{Error, transfer::STALL};

const UPLOADS: &str = "/api/v1/remote-jobs/uploads";
const OBJECT: &str = "/bucket/object";

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("talk.mp3");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn place(put: Value, multipart: Value, uploaded: bool) -> Reply {
    let mut answer =
        json!({"upload_id": "u", "source_file_path": "sources/t/u/talk.mp3", "uploaded": uploaded});
    for (name, value) in [("put", put), ("multipart", multipart)] {
        if !value.is_null() {
            answer[name] = value;
        }
    }
    Reply::json(answer)
}

fn put_to(url: &str, len: usize) -> Value {
    let headers = json!({"content-length": len.to_string(), "if-none-match": "*", "host": "ignored"});
    json!({"method": "PUT", "url": url, "headers": headers, "expires_in_seconds": 900})
}

/// A server with one PUT for the whole file, answered by `object`, told the number of the request from 0.
async fn single(object: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Arc<Server> {
    let requests = AtomicUsize::new(0);
    Server::start(move |server, seen| match seen.path.as_str() {
        OBJECT => object(requests.fetch_add(1, Ordering::Relaxed)),
        _ => {
            let request: Value = seen.json();
            let len = usize::try_from(request["size_bytes"].as_u64().unwrap()).unwrap();
            place(put_to(&server.url("/bucket/object?signed"), len), Value::Null, false)
        }
    })
    .await
}

#[tokio::test]
async fn a_small_file_is_one_put_without_the_key() {
    let server = single(|_| Reply::new(200)).await;
    let bytes = sample(700_000);
    let (_folder, path) = file(&bytes);
    let told = Mutex::new(Vec::new());
    let tell = |done, total| told.lock().unwrap().push((done, total));
    let uploaded = server.client().upload_file(&path, "talk.mp3", &tell).await.unwrap();
    assert_eq!(uploaded.source_file_path, "sources/t/u/talk.mp3");
    assert_eq!((uploaded.size_bytes, uploaded.sha256), (700_000, sha256(&bytes)));
    let put = server.seen_at(OBJECT).pop().unwrap();
    assert!(put.body == bytes && put.query == "signed");
    assert_eq!(put.header("authorization"), None);
    assert_eq!(put.header("if-none-match"), Some("*"));
    assert_eq!(put.header("content-length"), Some("700000"));
    assert_eq!(put.header("transfer-encoding"), None);
    let told = told.into_inner().unwrap();
    assert!(
        told.is_sorted() && told.first() == Some(&(0, 700_000)) && told.last() == Some(&(700_000, 700_000))
    );
}

#[tokio::test]
async fn an_empty_file_is_uploaded_too() {
    let server = single(|_| Reply::new(200)).await;
    let (_folder, path) = file(b"");
    assert_eq!(server.client().upload_file(&path, "n", &|_, _| ()).await.unwrap().size_bytes, 0);
    assert_eq!(server.seen_at(OBJECT).pop().unwrap().header("content-length"), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_put_is_repeated_at_the_same_place_with_a_new_url() {
    let server = single(|request| match request {
        0 => Reply::new(403).body("<Error><Code>AccessDenied</Code></Error>"),
        1 => Reply::new(503),
        2 => Reply::new(200).header("content-length", 1).piece(Piece::Break),
        _ => Reply::new(200),
    })
    .await;
    let (_folder, path) = file(b"bytes");
    server.client().upload_file(&path, "n", &|_, _| ()).await.unwrap();
    let asked = server.seen_at(UPLOADS);
    assert!(asked.len() >= 4);
    let key = asked[0].header("idempotency-key").unwrap();
    assert!(asked.iter().all(|request| request.header("idempotency-key") == Some(key)));
}

#[tokio::test]
async fn bytes_that_are_there_already_are_done() {
    let server = single(|_| Reply::new(412).body("<Error><Code>PreconditionFailed</Code></Error>")).await;
    let (_folder, path) = file(b"bytes");
    server.client().upload_file(&path, "n", &|_, _| ()).await.unwrap();
    assert_eq!(server.seen_at(OBJECT).len(), 1);

    let server = Server::start(|_, _| place(Value::Null, Value::Null, true)).await;
    server.client().upload_file_as(&path, "n", "mine", &|_, _| ()).await.unwrap();
    assert_eq!(server.seen().len(), 1);
    assert_eq!(server.seen()[0].header("idempotency-key"), Some("mine"));
}

#[tokio::test]
async fn what_the_store_refuses_for_good_is_told_with_its_code() {
    let server = single(|_| Reply::new(400).body("<Error><Code>BadDigest</Code></Error>")).await;
    let (_folder, path) = file(b"bytes");
    let error = server.client().upload_file(&path, "n", &|_, _| ()).await.unwrap_err();
    assert!(!error.retryable(), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("400 BadDigest") && text.contains("send it again") && !text.contains("signed"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refused_creation_sends_nothing() {
    let server =
        Server::start(|_, _| Reply::problem(api::Kind::Forbidden, "The key lacks the scope ingest.")).await;
    let (_folder, path) = file(b"bytes");
    let error = server.client().upload_file(&path, "n", &|_, _| ()).await.unwrap_err();
    assert_eq!(error.kind(), Some(api::Kind::Forbidden));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_local_problem() {
    let server = single(|_| Reply::new(200)).await;
    let (folder, path) = file(b"bytes");
    for bad in [folder.path().join("missing"), folder.path().to_owned()] {
        let error = server.client().upload_file(&bad, "n", &|_, _| ()).await.unwrap_err();
        assert!(matches!(&error, Error::File { path, .. } if *path == bad), "{error:?}");
    }
    // A file that shrinks between hashing and sending.
    let shrinking = |_, _| std::fs::write(&path, b"b").unwrap();
    let error = server.client().upload_file(&path, "n", &shrinking).await.unwrap_err();
    assert!(matches!(&error, Error::File { .. }) && error.to_string().contains("changed"), "{error:?}");
}

/// What a multipart server keeps.
#[derive(Default)]
struct Kept {
    parts: Mutex<std::collections::BTreeMap<u64, Bytes>>,
    broken: AtomicBool,
}

const PART: u64 = 1000;

/// A server for a file in parts, below `base`. The first PUT of part 3 is refused as too old, that of part 5 breaks.
async fn multipart(base: &'static str, size: u64, kept: Arc<Kept>) -> Arc<Server> {
    Server::start(move |server, seen| {
        let rest = seen.path.strip_prefix(base).unwrap_or(&seen.path);
        match rest.rsplit('/').next().unwrap() {
            "parts" => sign(server, &seen.json()),
            "complete" => Reply::json(json!({"source_file_path": "results/x", "size_bytes": size})),
            "abort" => Reply::json(json!({"aborted": true})),
            number if rest.starts_with("/bucket/") => store(&kept, number.parse().unwrap(), seen),
            _ => place(
                Value::Null,
                json!({"multipart_upload_id": "m", "part_size_bytes": PART, "part_count": size.div_ceil(PART)}),
                false,
            ),
        }
    })
    .await
}

fn sign(server: &Server, request: &Value) -> Reply {
    let parts = request["parts"].as_array().unwrap();
    let signed: Vec<Value> = parts
        .iter()
        .map(|part| {
            let len = usize::try_from(part["size_bytes"].as_u64().unwrap()).unwrap();
            put_to(
                &server.url(&format!("/bucket/{}?{}", part["part_number"], part["sha256"].as_str().unwrap())),
                len,
            )
        })
        .collect();
    Reply::json(json!({"parts": signed}))
}

fn store(kept: &Kept, number: u64, seen: &Seen) -> Reply {
    // The signed hash stands for the check that an object store makes.
    assert_eq!(sha256(&seen.body), seen.query);
    if kept.broken.load(Ordering::Relaxed) {
        return Reply::new(400).body("<Error><Code>InvalidRequest</Code></Error>");
    }
    let first = kept.parts.lock().unwrap().insert(number, seen.body.clone()).is_none();
    match number {
        3 if first => Reply::new(403),
        5 if first => Reply::new(200).header("content-length", 1).piece(Piece::Break),
        _ => Reply::new(200).header("etag", format!("\"e{number}\"")),
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_file_travels_in_parts() {
    let kept = Arc::new(Kept::default());
    let bytes = sample(40_500);
    let server = multipart(UPLOADS, 40_500, Arc::clone(&kept)).await;
    let (_folder, path) = file(&bytes);
    let uploaded =
        server.client().upload_file(&path, "talk.mp3", &|done, total| assert!(done <= total)).await.unwrap();
    assert_eq!(uploaded.source_file_path, "results/x");
    assert!(kept.parts.lock().unwrap().values().flatten().copied().eq(bytes));
    let complete: CompleteUploadRequest =
        server.seen_at(&format!("{UPLOADS}/u/complete")).pop().unwrap().json();
    assert_eq!(complete.multipart_upload_id, "m");
    let numbers: Vec<u64> = complete.parts.iter().map(|part| part.part_number).collect();
    assert_eq!(numbers, (1..=41).collect::<Vec<u64>>());
    assert!(complete.parts.iter().all(|part| part.etag == format!("\"e{}\"", part.part_number)));
    let signings = server.seen_at(&format!("{UPLOADS}/u/parts"));
    let largest = signings.iter().map(|seen| seen.json::<SignPartsRequest>().parts.len()).max();
    assert!(signings.len() >= 5 && largest <= Some(SignPartsRequest::MOST_PARTS));
    assert!(
        server
            .seen()
            .iter()
            .filter(|seen| seen.path.starts_with("/bucket/"))
            .all(|seen| seen.header("authorization").is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_large_result_travels_in_parts_under_its_lease() {
    let base = "/api/v1/remote-jobs/job-1/result-upload";
    let server = multipart(base, 6_000, Arc::default()).await;
    let (_folder, path) = file(&sample(6_000));
    assert_eq!(server.client().upload_result(&lease(), &path).await.unwrap(), "results/x");
    for seen in server.seen().iter().filter(|seen| seen.path.starts_with("/api/")) {
        assert!(seen.path.starts_with(base), "{}", seen.path);
        assert_eq!(seen.header("lease-token"), Some("lease-secret"));
    }
}

#[tokio::test]
async fn an_upload_in_parts_that_fails_is_given_up() {
    let kept = Arc::new(Kept { broken: AtomicBool::new(true), ..Kept::default() });
    let server = multipart(UPLOADS, 6_000, kept).await;
    let (_folder, path) = file(&sample(6_000));
    let error = server.client().upload_file(&path, "n", &|_, _| ()).await.unwrap_err();
    assert!(matches!(error, Error::Transfer { status: Some(400), .. }), "{error:?}");
    assert_eq!(server.seen_at(&format!("{UPLOADS}/u/abort")).len(), 1);
    assert!(server.seen_at(&format!("{UPLOADS}/u/complete")).is_empty());
}

#[tokio::test]
async fn a_plan_that_does_not_make_up_the_file_is_refused() {
    for (part_size_bytes, part_count) in [(0, 1), (1000, 5), (1000, 7)] {
        let plan =
            json!({"multipart_upload_id": "m", "part_size_bytes": part_size_bytes, "part_count": part_count});
        let server = Server::start(move |_, _| place(Value::Null, plan.clone(), false)).await;
        let (_folder, path) = file(&sample(6_000));
        let error = server.client().upload_file(&path, "n", &|_, _| ()).await.unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
    }
}

/// An address that takes a connection and then reads nothing.
async fn deaf() -> (String, tokio::sync::oneshot::Receiver<tokio::net::TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/object", listener.local_addr().unwrap());
    let (sender, accepted) = tokio::sync::oneshot::channel();
    tokio::spawn(async move { sender.send(listener.accept().await.unwrap().0) });
    (url, accepted)
}

#[tokio::test]
async fn a_store_that_takes_no_bytes_is_given_up_after_a_minute() {
    // More than the buffers of both ends hold.
    let (_folder, path) = file(b"");
    let len = 64 << 20;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
    let (url, accepted) = deaf().await;
    let request: PresignedRequest = serde_json::from_value(put_to(&url, 64 << 20)).unwrap();
    let client = Client::new("http://unused".parse().unwrap(), None, "t/0").unwrap();
    let sending = async {
        let span = crate::transfer::Span { path: &path, offset: 0, len };
        crate::transfer::send_span(&client, &request, span, |_| ()).await
    };
    let watching = async {
        let socket = accepted.await.unwrap();
        // From here on nothing but the stall's limit is waited for.
        tokio::time::pause();
        socket
    };
    let (sent, _socket) = tokio::join!(sending, watching);
    assert!(matches!(sent, Err(Error::TimedOut { after, .. }) if after == STALL), "{sent:?}");
}
