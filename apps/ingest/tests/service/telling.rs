//! The tasks' own webhooks.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::Tried;
use ingest::{
    courier::HttpCourier,
    networks::Networks,
    seams::{Courier, Message},
    task::{Phase, Spec},
};
use serde_json::{Value, json};

use crate::bench::{Bench, World, secret, spec};

fn hooked(document: &str) -> Spec {
    Spec { webhook_url: Some("https://hooks.example/x".parse().unwrap()), ..spec(document) }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_again_until_it_is_taken_over_restarts() {
    let tries = Arc::new(AtomicUsize::new(0));
    let world = World::new().carrying(move |_| {
        let before = tries.fetch_add(1, Ordering::SeqCst);
        async move { if before < 4 { Tried::Failed("no".to_owned()) } else { Tried::Taken } }
    });
    let bench = Bench::new(world).await;
    let id = bench.accept(hooked("d"), "x").await;
    bench.until(id, |task| task.phase == Phase::Succeeded).await;
    let bench = bench.restart().await;
    bench.ended(id).await;
    let told = bench.world.told.lock().unwrap().clone();
    assert_eq!(told.len(), 5);
    let first = &told[0];
    assert!(told.iter().all(|message| message.id == first.id && message.body == first.body));
    assert!(told.is_sorted_by(|a, b| a.timestamp < b.timestamp), "signed anew each time");
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(body["type"], "ingestion.completed");
    assert_eq!(body["data"]["result"]["chunks_stored"], json!(1));
    for message in &told {
        let signed = secret().signature(&message.id, message.timestamp, &message.body);
        assert_eq!(message.signature, signed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_never_answers_is_given_up_and_said_so() {
    let world = World::new().carrying(|_| async { Tried::Failed("no answer within 15 s".to_owned()) });
    let bench = Bench::new(world).await;
    let id = bench.accept(hooked("d"), "x").await;
    bench.ended(id).await;
    assert_eq!(bench.world.told.lock().unwrap().len(), 16);
    let last = bench.history(id).await.pop().unwrap();
    assert_eq!(last.event, "webhook_given_up");
    assert_eq!(last.message, "The task's webhook is not told: no answer within 15 s, 16 times.");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_too() {
    let world = World::new().converting(|_| async { Err("It is a bomb.".to_owned()) });
    let bench = Bench::new(world).await;
    let id = bench.accept(hooked("d"), "x").await;
    bench.ended(id).await;
    let told = bench.world.told.lock().unwrap().pop().unwrap();
    let body: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["error"]),
        (&json!("ingestion.failed"), &json!("It is a bomb."))
    );
}

fn message(url: String) -> Message {
    let (id, timestamp, body) =
        ("ingestion.1".to_owned(), jiff::Timestamp::now().as_second(), b"{}".to_vec());
    let signature = secret().signature(&id, timestamp, &body);
    Message { id, timestamp, signature, url, body }
}

/// Answers one request with a status, and gives back what came.
fn receiver(status: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ends", listener.local_addr().unwrap());
    let receiving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"{}") {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "the request is cut off");
            came.extend_from_slice(&part[..read]);
        }
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:1/\r\n\r\n")
            .unwrap();
        String::from_utf8(came).unwrap()
    });
    (url, receiving)
}

#[tokio::test]
async fn what_is_sent_is_believed_by_the_libraries_of_standard_webhooks() {
    let (url, receiving) = receiver("204 No Content");
    let courier = HttpCourier::new(Networks::loopback()).unwrap();
    assert_eq!(courier.carry(&message(url)).await, Tried::Taken);
    let came = tokio::task::spawn_blocking(|| receiving.join().unwrap()).await.unwrap();
    let (head, body) = came.split_once("\r\n\r\n").unwrap();
    let headers: http::HeaderMap = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    let webhook = standardwebhooks::Webhook::new(secret().reveal()).unwrap();
    webhook.verify(body.as_bytes(), &headers).unwrap();
}

#[tokio::test]
async fn redirects_are_not_followed_and_gone_is_for_good() {
    let courier = HttpCourier::new(Networks::loopback()).unwrap();
    for (status, refused) in [("307 Temporary Redirect", false), ("500 Oops", false), ("410 Gone", true)] {
        let (url, receiving) = receiver(status);
        let tried = courier.carry(&message(url)).await;
        assert_eq!(matches!(tried, Tried::Refused(_)), refused, "{tried:?}");
        assert_ne!(tried, Tried::Taken);
        tokio::task::spawn_blocking(|| receiving.join().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn addresses_that_are_not_admitted_are_not_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let courier = HttpCourier::new(Networks::default()).unwrap();
    for url in [format!("https://127.0.0.1:{port}/"), format!("https://localhost:{port}/")] {
        assert_ne!(courier.carry(&message(url)).await, Tried::Taken);
    }
    let lan = HttpCourier::new("10.0.0.0/8".parse().unwrap()).unwrap();
    assert_ne!(lan.carry(&message(format!("http://localhost:{port}/"))).await, Tried::Taken);
    assert!(listener.accept().is_err(), "somebody connected");
}
