//! How one message is carried, to whom, and how long it may take.

use std::time::Duration;

use bytes::Bytes;
use deliver_events::HttpCourier;
use domain::Tried;
use service::{Courier, Message};
use system_tests::{Receiver, Reply};

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057.1750000001000.2";

fn message(url: &str) -> Message {
    Message {
        url: url.parse().unwrap(),
        id: ID.parse().unwrap(),
        timestamp: 1_750_000_002,
        signature: "v1,c2lnbmF0dXJl".to_owned(),
        body: Bytes::from_static(b"{\"type\":\"remote_job.completed\"}"),
    }
}

/// A courier that may speak to these networks besides.
fn courier(networks: &str) -> HttpCourier {
    HttpCourier::new(networks.parse().unwrap())
}

/// A courier that has little patience.
fn hasty() -> HttpCourier {
    HttpCourier::within("127.0.0.0/8".parse().unwrap(), Duration::from_millis(300))
}

fn failure(tried: Tried) -> String {
    match tried {
        Tried::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

fn refusal(tried: Tried) -> String {
    match tried {
        Tried::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_one_post_with_its_signature() {
    let mut receiver = Receiver::answering(204).await;
    let url = receiver.url("/hooks/a?token=5a5a");
    assert_eq!(courier("127.0.0.0/8").carry(&message(&url)).await, Tried::Taken);
    let received = receiver.next().await;
    assert_eq!(received.line, "POST /hooks/a?token=5a5a HTTP/1.1");
    assert_eq!(received.body, b"{\"type\":\"remote_job.completed\"}");
    let mut headers = received.headers.clone();
    headers.remove("host");
    let shown: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("accept", "*/*"),
            ("content-length", "31"),
            ("content-type", "application/json"),
            ("user-agent", concat!("remote-jobs/", env!("CARGO_PKG_VERSION"))),
            ("webhook-id", ID),
            ("webhook-signature", "v1,c2lnbmF0dXJl"),
            ("webhook-timestamp", "1750000002"),
        ]
    );
    assert_eq!((receiver.waiting(), receiver.connections()), (0, 1));
}

#[tokio::test]
async fn only_a_success_is_taken_and_only_gone_is_final() {
    let courier = courier("127.0.0.0/8");
    for status in [200, 201, 202, 204, 299] {
        let receiver = Receiver::answering(status).await;
        assert_eq!(courier.carry(&message(&receiver.url("/"))).await, Tried::Taken, "{status}");
    }
    for status in [304, 400, 401, 404, 409, 429, 500, 502, 503, 504, 599] {
        let receiver = Receiver::answering(status).await;
        let why = failure(courier.carry(&message(&receiver.url("/"))).await);
        assert!(why.starts_with(&format!("the receiver answered {status}")), "{why}");
    }
    let receiver = Receiver::answering(410).await;
    assert_eq!(refusal(courier.carry(&message(&receiver.url("/"))).await), "the receiver answered 410 Gone");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let courier = courier("127.0.0.0/8");
    let elsewhere = Receiver::answering(200).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", elsewhere.url("/?secret=5a5a"));
        let receiver = Receiver::start(move |_| Reply::Status(status, location.clone())).await;
        let why = failure(courier.carry(&message(&receiver.url("/"))).await);
        assert!(why.starts_with(&format!("the receiver answered {status}")), "{why}");
        assert!(why.contains("redirects are not followed") && !why.contains("5a5a"), "{why}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_receiver_that_answers_slowly_or_never_is_left_in_time() {
    let courier = hasty();
    for reply in [Reply::Silence, Reply::Endless("HTTP/1.1 200 OK\r\n", "x: y\r\n")] {
        let endless = matches!(reply, Reply::Endless(..));
        let receiver = Receiver::start(move |_| reply.clone()).await;
        let why = failure(courier.carry(&message(&receiver.url("/?secret=5a5a"))).await);
        // Endless headers are too many before they are too slow.
        assert!(why == "no answer within 0.3 s" || (endless && !why.is_empty()), "{why}");
        assert!(!why.contains("5a5a"), "{why}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_its_end() {
    let chunks = Reply::Endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "5\r\nhello\r\n");
    let huge = Reply::Endless("HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n", "hello");
    for reply in [chunks, huge] {
        let receiver = Receiver::start(move |_| reply.clone()).await;
        assert_eq!(courier("127.0.0.0/8").carry(&message(&receiver.url("/"))).await, Tried::Taken);
    }
}

#[tokio::test]
async fn a_broken_connection_is_a_failure_that_says_why() {
    let courier = courier("127.0.0.0/8");
    let receiver = Receiver::start(|_| Reply::HangUp).await;
    let why = failure(courier.carry(&message(&receiver.url("/?secret=5a5a"))).await);
    assert!(why.contains("connection closed"), "{why}");
    let unheard = format!("http://127.0.0.1:{}/?secret=5a5a", system_tests::free_port());
    let why = failure(courier.carry(&message(&unheard)).await);
    assert!(why.contains("refused"), "{why}");
    let plain = Receiver::answering(200).await;
    let encrypted = plain.url("/?secret=5a5a").replace("http:", "https:");
    assert_eq!(failure(hasty().carry(&message(&encrypted)).await), "no answer within 0.3 s");
}

#[tokio::test]
async fn nobody_is_spoken_to_at_an_address_that_is_not_admitted() {
    let receiver = Receiver::answering(200).await;
    let port = receiver.port;
    let strict = courier("");
    let elsewhere = courier("10.0.0.0/8,fd00::/8");
    for host in
        ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]"]
    {
        for scheme in ["http", "https"] {
            for courier in [&strict, &elsewhere] {
                let url = format!("{scheme}://{host}:{port}/?secret=5a5a");
                let why = refusal(courier.carry(&message(&url)).await);
                assert!(why.starts_with("the URL ") && !why.contains("5a5a"), "{url}: {why}");
            }
        }
    }
    // What a name resolves to may change, so that it is tried again.
    for host in ["localhost", "LOCALHOST", "localhost."] {
        for (courier, scheme) in [(&strict, "https"), (&elsewhere, "https"), (&elsewhere, "http")] {
            let why =
                failure(courier.carry(&message(&format!("{scheme}://{host}:{port}/?secret=5a5a"))).await);
            // Not every resolver knows the name with a dot.
            let expected = "localhost has no address that webhooks may be at";
            assert!(why.starts_with(expected) || host.ends_with('.'), "{why}");
            assert!(!why.contains("127.0.0.1") && !why.contains("5a5a"), "{why}");
        }
    }
    assert_eq!(receiver.connections(), 0);
    let named = format!("http://localhost:{port}/");
    assert_eq!(courier("127.0.0.0/8,::1/128").carry(&message(&named)).await, Tried::Taken);
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn no_part_of_a_message_is_shown_for_debugging_but_its_id() {
    let shown = format!("{:?}", message("https://hooks.example/secret-path?token=5a5a"));
    assert!(shown.contains("01890a5d"), "{shown}");
    for secret in ["c2lnbmF0dXJl", "5a5a", "secret-path", "remote_job"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
