//! Waiting for hints where the server gives some.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{COPY, SLEEP, converter::Converter, server::Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_ends_the_wait_at_once_and_nothing_else_is_asked_meanwhile() {
    let server = Server::start().await;
    server.give_hints();
    let converter = Converter::start(&server, COPY);
    server.wait_for("hint", "queue").await;
    assert_eq!(server.count("poll"), 1, "the server said to ask again in five minutes");
    let poll = server.wait_for("poll", "").await.body;
    assert_eq!((&poll["hints"], poll["idle_seconds"].is_u64()), (&json!(true), true));
    let job = server.offer("hello");
    let hinted = Instant::now();
    server.hint(1);
    assert_eq!(server.wait_for("result", &job).await.body["content"], "hello");
    assert!(hinted.elapsed() < Duration::from_secs(60), "{:?}", hinted.elapsed());
    let hint = server.wait_for("hint", "queue").await;
    assert_eq!(hint.authorization, "", "the key is the API's alone");
    converter.folder_emptied("work").await;
    assert!(!converter.log().contains("secret"), "{}", converter.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_is_followed_by_a_poll() {
    let server = Server::start().await;
    server.give_hints();
    server.offer("hello");
    let _converter = Converter::start(&server, COPY);
    // The first poll gives the job; the second finds nothing; the third follows the job's end, without a hint.
    server.wait_for_count("poll", 3).await;
    server.wait_for_count("result", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_led_nowhere_is_looked_into_once_more_and_many_make_no_busy_loop() {
    let server = Server::start().await;
    server.give_hints();
    let _converter = Converter::start_with(&server, COPY, &["--poll-interval", "600"]);
    server.wait_for("hint", "queue").await;
    server.hint(1000);
    let begun = Instant::now();
    // One before, and two for each of three hints, with pauses of 1, 2 and 4 seconds in between.
    server.wait_for_count("poll", 7).await;
    assert!(begun.elapsed() >= Duration::from_secs(7), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_answers_at_once_is_not_asked_again_at_once() {
    let server = Server::start().await;
    server.give_hints();
    server.answer_hints(200, Duration::ZERO);
    let _converter = Converter::start(&server, COPY);
    server.wait_for("hint", "queue").await;
    let begun = Instant::now();
    server.wait_for_count("hint", 3).await;
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(server.count("poll"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_refuses_is_asked_for_anew_and_then_done_without() {
    let server = Server::start().await;
    server.give_hints();
    server.answer_hints(403, Duration::ZERO);
    let converter = Converter::start(&server, COPY);
    server.wait_for_count("hint", 2).await;
    assert!(server.count("poll") >= 2, "a new URL comes with a new poll");
    converter.logged("polling without them for a while").await;
    server.forget();
    let poll = server.wait_for("poll", "").await.body;
    assert!(poll.get("hints").is_none(), "{poll}");
    let job = server.offer("hello");
    assert_eq!(server.wait_for("result", &job).await.body["content"], "hello");
    assert_eq!(server.count("hint"), 0);
    assert!(!converter.log().contains("secret"), "{}", converter.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_a_hint() {
    let server = Server::start().await;
    server.give_hints();
    let mut converter = Converter::start(&server, SLEEP);
    server.wait_for("hint", "queue").await;
    let begun = Instant::now();
    converter.signal("TERM");
    assert_eq!(converter.end().await.0, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_hints_who_does_not_want_to() {
    let server = Server::start().await;
    server.give_hints();
    let _converter = Converter::start_with(&server, COPY, &["--instant-wakeup", "false"]);
    server.wait_for_count("poll", 2).await;
    assert!(server.wait_for("poll", "").await.body.get("hints").is_none());
    assert_eq!(server.count("hint"), 0);
}
