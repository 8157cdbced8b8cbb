//! An hour in which the server cannot be reached, on a clock that does not wait: how often what is tried, and what
//! happens when it is back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::result::ResultRequest;
use client::{BaseUrl, Client, Lease};
use remote_converter::{
    converters::Converters,
    descriptions::Description,
    folders::Folders,
    heartbeat::Heartbeat,
    jobs::Jobs,
    poll_loop::{self, Polling},
    run::Progress,
    spool::{Spool, Spooled},
    submit::{self, Submitted},
    suspend::Wakes,
    work::Worker,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;
use tracing::{Event, Subscriber, field::Visit, subscriber::DefaultGuard};
use tracing_subscriber::{Layer, layer::SubscriberExt};

const HOUR: Duration = Duration::from_secs(3600);

/// How often each message was logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<BTreeMap<String, u32>>>);

impl Logged {
    /// Counts what this thread logs from now on, as long as the guard lives.
    fn start() -> (Self, DefaultGuard) {
        let logged = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(logged.clone()));
        (logged, guard)
    }

    fn times(&self, beginning: &str) -> u32 {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(message, _)| message.starts_with(beginning)).map(|(_, times)| times).sum()
    }
}

impl<S: Subscriber> Layer<S> for Logged {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        *self.0.lock().unwrap().entry(message.0).or_default() += 1;
    }
}

/// An address where nobody listens, so that connections are refused at once.
async fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn client_of(address: std::net::SocketAddr) -> Client {
    let base: BaseUrl = format!("http://{address}").parse().unwrap();
    Client::new(base, None, "t/0").unwrap()
}

fn spool_in(folder: &Path) -> Spool {
    let folders = [folder.join("spool"), folder.join("rejected")];
    folders.iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    let [spool, rejected] = folders;
    Spool::new(spool, rejected)
}

fn lease() -> Lease {
    Lease { job_id: "019a0000-0000-7000-8000-000000000001".to_owned(), token: "secret".into() }
}

async fn worker(folder: &Path, client: Client) -> Worker {
    let folders = Folders::open(folder).unwrap();
    let text = "name: t\ncontent_types: [x-test]\ncommand: [cat, '{input}']\nresult: {format: markdown, from: stdout}\n";
    let description = Description::parse(text, folder).unwrap();
    let types = ["x-test".parse().unwrap()];
    let converters = Converters::check(
        vec![description],
        &types,
        "python3".into(),
        &folders,
        remote_converter::contain::Walls::default(),
    )
    .await
    .unwrap();
    Worker {
        client,
        converters: Arc::new(converters),
        spool: Spool::new(folders.spool(), folders.rejected()),
        folders: Arc::new(folders),
        unable: Arc::default(),
        progress: Arc::new(Progress::new(Arc::new(Jobs::new(HOUR)))),
        activities: Arc::default(),
        failing: Arc::default(),
        wakes: Wakes::of_this_machine(),
        kill: CancellationToken::new(),
    }
}

#[tokio::test]
async fn polls_are_few_and_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let worker = Arc::new(worker(folder.path(), client_of(nobody().await)).await);
    let polling = Polling {
        instant_wakeup: false,
        worker_id: "w".parse().unwrap(),
        content_types: vec!["x-test".parse().unwrap()],
        max_jobs: 2,
        interval: Duration::from_secs(1),
        lease_seconds: 60,
    };
    let (logged, _guard) = Logged::start();
    tokio::time::pause();
    let polls = poll_loop::run(worker, polling, CancellationToken::new());
    assert!(tokio::time::timeout(HOUR, polls).await.is_err(), "it polls on");
    let failed = logged.times("a poll failed");
    // Between half a minute and a minute apart, once the first seconds are over.
    assert!((50..=150).contains(&failed), "{failed} polls in an hour");
}

#[tokio::test]
async fn heartbeats_are_bounded_and_the_work_goes_on() {
    let (logged, _guard) = Logged::start();
    let client = client_of(nobody().await);
    tokio::time::pause();
    let (every, lasts) = (Duration::from_secs(20), Duration::from_secs(60));
    let heartbeat = Heartbeat::start(client, lease(), every, lasts, Wakes::of_this_machine());
    tokio::time::sleep(HOUR).await;
    let failed = logged.times("a heartbeat failed");
    assert!((180..=800).contains(&failed), "{failed} heartbeats in an hour");
    assert!(heartbeat.lost().is_none() && !heartbeat.stop().is_cancelled());
}

#[tokio::test]
async fn a_result_is_offered_rarely_and_arrives_when_the_server_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let address = nobody().await;
    let client = client_of(address);
    let spool = spool_in(folder.path());
    let content = "precious".to_owned();
    let result = ResultRequest { success: true, content: Some(content), ..ResultRequest::default() };
    let mut spooled = Spooled::new(client.base(), &lease(), 1, result);
    let path = spool.write(&mut spooled).unwrap();
    let (spooled, stop) = (Arc::new(spooled), CancellationToken::new());
    let (logged, _guard) = Logged::start();
    tokio::time::pause();
    let mut submitting =
        std::pin::pin!(submit::until_answered(&client, &spool, Some(&path), &spooled, &stop));
    assert!(tokio::time::timeout(HOUR, &mut submitting).await.is_err());
    let failed = logged.times("the result could not be submitted yet");
    assert!((55..=200).contains(&failed), "{failed} submissions in an hour");
    assert!(path.exists());

    let listener = TcpListener::bind(address).await.unwrap();
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("precious") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        let body = r#"{"status":"completed","ingestion_continued":false}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        // It stays open until the answer is read.
        std::future::pending::<()>().await;
    };
    let submitted = tokio::select! {
        submitted = &mut submitting => submitted,
        () = answering => unreachable!(),
    };
    assert_eq!(submitted, Submitted::Accepted("completed".to_owned()));
    assert!(!path.exists());
}
