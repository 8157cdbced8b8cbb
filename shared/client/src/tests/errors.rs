use std::time::Duration;

use super::*;
use crate::{Error, LeaseToken, PresignedUrl};

#[test]
fn secrets_are_masked() {
    let key = ApiKey::from(KEY);
    let token = LeaseToken::from("lease-secret");
    let url: PresignedUrl = "https://s3.example/bucket/key?X-Amz-Signature=abc".parse().unwrap();
    let client = Client::new("http://localhost:1".parse().unwrap(), Some(key.clone()), "t/0").unwrap();
    for shown in [
        format!("{key} {key:?} {token} {token:?} {:?}", lease()),
        format!("{url} {url:?} {client:?}"),
        format!("{:?} {:?}", key.header().unwrap(), token.header().unwrap()),
    ] {
        for secret in ["very-secret", "lease-secret", "abc"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert_eq!(key.id(), "k1");
    assert_eq!(url.to_string(), "https://s3.example/bucket/key?…");
    assert_eq!(url.reveal(), "https://s3.example/bucket/key?X-Amz-Signature=abc");
    assert_eq!(token.reveal(), "lease-secret");
    assert_eq!(
        "https://s3.example:444/a".parse::<PresignedUrl>().unwrap().to_string(),
        "https://s3.example:444/a"
    );
}

#[test]
fn what_cannot_stand_in_a_header_is_refused_without_being_shown() {
    let broken = ApiKey::from("k1.se\ncret");
    let error = Client::new("http://localhost:1".parse().unwrap(), Some(broken), "t/0").unwrap_err();
    assert!(!error.retryable() && !error.to_string().contains("cret"), "{error}");
    let token = LeaseToken::from("to\nken");
    assert!(matches!(token.header(), Err(Error::Invalid { .. })));
    let error = "ftp://x/?secret".parse::<PresignedUrl>().unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }) && !error.to_string().contains("secret"), "{error}");
}

async fn status_of(reply: Reply) -> Error {
    let server = Server::start(move |_, _| reply.clone()).await;
    server.client().status("j").await.unwrap_err()
}

#[tokio::test]
async fn a_problem_is_told_as_the_server_told_it() {
    let error = status_of(Reply::problem(api::Kind::NotFound, "Job j not found.")).await;
    assert_eq!(error.to_string(), "Job j not found. (404 not-found)");
    assert_eq!(
        (error.kind(), error.status(), error.retryable()),
        (Some(api::Kind::NotFound), Some(404), false)
    );
}

#[tokio::test]
async fn an_unavailable_server_says_when_to_come_back() {
    let error = status_of(Reply::problem(api::Kind::Unavailable, "Later.").header("retry-after", 7)).await;
    assert!(error.retryable());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn strangers_answers_name_status_and_host() {
    for (reply, words) in [
        (
            Reply::new(502).body("<html><title>Bad Gateway</title>"),
            "answered 502 with an HTML page titled \"Bad Gateway\"",
        ),
        (Reply::new(403).body(r#"{"message":"Forbidden"}"#), "answered 403 with the message \"Forbidden\""),
        (
            Reply::new(404).body("<Error><Code>NoSuchBucket</Code></Error>"),
            "404 with an object store's error, NoSuchBucket",
        ),
        (Reply::new(200).body("<html>welcome"), "answered 200 with an HTML page"),
        (
            Reply::new(301).header("location", "https://x.example/y?secret"),
            "301 with a redirect to https://x.example/y",
        ),
        (Reply::new(503), "answered 503 with an empty body"),
    ] {
        let status = reply.status;
        let error = status_of(reply).await;
        let text = error.to_string();
        assert!(text.contains(words) && text.starts_with("127.0.0.1:") && !text.contains("secret"), "{text}");
        assert_eq!(error.retryable(), status >= 500, "{text}");
        assert_eq!(error.kind(), None);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(format!("http://{nobody}").parse().unwrap(), None, "t/0").unwrap();
    let error = client.health().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.retryable(), "{error:?}");
    assert!(error.to_string().starts_with(&format!("Cannot reach {nobody}: ")), "{error}");
}

#[tokio::test]
async fn a_status_is_waited_for_longer_than_the_server_waits() {
    let server = Server::start(|_, _| Reply::new(200).header("content-length", 9).piece(Piece::Stall)).await;
    let client = server.client();
    let call = tokio::spawn(async move { client.status_within("j", 20).await });
    server.stalled.notified().await;
    tokio::time::pause();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::TimedOut { after, .. } if after == Duration::from_secs(50)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_stays_silent_is_timed_out() {
    let server = Server::start(|_, _| Reply::new(200).header("content-length", 9).piece(Piece::Stall)).await;
    let client = server.client();
    let request = api::poll::PollRequest {
        worker_id: "w".into(),
        content_types: vec!["audio".parse().unwrap()],
        max_jobs: None,
        lease_seconds: None,
        wait_seconds: Some(20),
        ..api::poll::PollRequest::default()
    };
    let call = tokio::spawn(async move { client.poll(&request).await });
    server.stalled.notified().await;
    // From here on nothing but the call's own limit is waited for.
    tokio::time::pause();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::TimedOut { after, .. } if after == Duration::from_secs(50)), "{error:?}");
    assert!(error.retryable());
}
