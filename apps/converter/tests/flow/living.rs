//! How it lives on a machine that sleeps, goes away, or cannot do what it is asked to.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use client::{Client, Lease};
use http_body_util::Full;
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use remote_converter::{
    heartbeat::{Heartbeat, Lost},
    suspend::{Clock, Wakes},
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{COPY, SLEEP, converter::Converter, gone, server::Server};

/// A moment so many seconds ahead, as notices spell it.
fn ahead(seconds: u64) -> String {
    let moment = SystemTime::now() + Duration::from_secs(seconds);
    jiff::Timestamp::try_from(moment).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_gives_jobs_back_that_do_not_end_in_time() {
    let server = Server::start().await;
    let mut converter = Converter::start_with(
        &server,
        SLEEP,
        &["--spot-notice", "./going", "--shutdown-grace-seconds", "600"],
    );
    let job = server.offer("hello");
    let id = converter.grandchild().await;
    // Ten seconds of it are kept for giving jobs back.
    std::fs::write(converter.home().join("going"), ahead(11)).unwrap();
    assert_eq!(server.wait_for("release", &job).await.body["reason"], "the converter stops");
    gone(&id).await;
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("this machine goes away") && !server.has_seen("result", &job), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_converter_that_starts_while_its_machine_goes_away_takes_no_work() {
    let server = Server::start().await;
    server.offer("hello");
    let url = format!("{}/health", server.url());
    let mut converter = Converter::start_with(&server, COPY, &["--spot-notice", &url]);
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("this machine goes away") && !server.has_seen("poll", ""), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_converter_that_starts_while_its_machine_goes_away_submits_what_is_left() {
    let server = Server::start().await;
    server.answer_result(503, crate::server::problem(503, "unavailable"));
    let mut converter = Converter::start_with(&server, COPY, &["--spot-notice", "./going"]);
    let job = server.offer("precious");
    server.wait_for("result", &job).await;
    converter.signal("KILL");
    converter.end().await;

    server.forget();
    server.answer_result(200, json!({"status": "completed", "ingestion_continued": false}));
    std::fs::write(converter.home().join("going"), ahead(600)).unwrap();
    let mut converter = converter.again();
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(server.has_seen("result", &job) && !server.has_seen("poll", ""), "{log}");
    assert_eq!(converter.files_in("spool"), 0);
}

/// EC2's metadata service, which has no notice before its second answer. The requests that it gets, as text.
async fn metadata_service(notice: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (asked, notice) = (Arc::clone(&kept), notice.clone());
            let service = service_fn(move |request| {
                let answer = metadata(&asked, &notice, &request);
                async { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, asked)
}

fn metadata(asked: &Mutex<Vec<String>>, notice: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (method, path) = (request.method(), request.uri().path());
    let mut asked = asked.lock().unwrap();
    asked.push(format!("{method} {path}"));
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
    let (status, body) = match (method, path) {
        (&Method::PUT, "/latest/api/token") if header("x-aws-ec2-metadata-token-ttl-seconds").is_some() => {
            (200, "metadata-token")
        }
        (&Method::GET, "/latest/meta-data/spot/instance-action") => {
            match header("x-aws-ec2-metadata-token") {
                Some("metadata-token") if asked.len() > 2 => (200, notice),
                Some("metadata-token") => (404, ""),
                _ => (401, ""),
            }
        }
        _ => (400, ""),
    };
    Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_service_of_ec2_is_asked_for_the_notice() {
    let server = Server::start().await;
    let notice = json!({"action": "terminate", "time": ahead(0)}).to_string();
    let (url, asked) = metadata_service(notice).await;
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)];
    let mut converter = Converter::start_among(&server, COPY, &["--spot-notice", "aws"], &variables);
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("this machine goes away") && server.has_seen("poll", ""), "{log}");
    let action = "GET /latest/meta-data/spot/instance-action";
    assert_eq!(*asked.lock().unwrap(), ["PUT /latest/api/token", action, action]);
    assert!(!log.contains("metadata-token"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_closes_stops_it_as_a_signal_to_stop_does() {
    let server = Server::start().await;
    let mut converter = Converter::start_hearing_hangups(&server, SLEEP, &["--shutdown-grace-seconds", "0"]);
    let job = server.offer("hello");
    converter.grandchild().await;
    converter.signal("HUP");
    server.wait_for("release", &job).await;
    assert_eq!(converter.end().await.0, Some(0));
}

/// What `nohup` does is to start a program deaf to the signal.
#[tokio::test(flavor = "multi_thread")]
async fn under_nohup_it_outlives_its_terminal() {
    let server = Server::start().await;
    let mut converter = Converter::start_deaf_to(&server, COPY, "HUP");
    let job = server.offer("hello");
    server.wait_for("result", &job).await;
    converter.signal("HUP");
    let job = server.offer("once more");
    server.wait_for("result", &job).await;
    converter.signal("TERM");
    assert_eq!(converter.end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_that_it_is_ready_still_runs_and_stops() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let variables =
        [("NOTIFY_SOCKET", path.to_str().unwrap().to_owned()), ("WATCHDOG_USEC", "300000".to_owned())];
    let mut converter = Converter::start_among(&server, COPY, &[], &variables);
    let told = async || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    assert_eq!(told().await, "READY=1");
    for _ in 0..3 {
        assert_eq!(told().await, "WATCHDOG=1");
    }
    converter.signal("TERM");
    while told().await != "STOPPING=1" {}
    assert_eq!(converter.end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_whose_jobs_all_fail_is_not_asked_for_any_more() {
    let server = Server::start().await;
    let flags = ["--content-types", "x-test,x-other", "--max-jobs", "1"];
    let jobs: Vec<String> = (0..5).map(|number| server.offer(&number.to_string())).collect();
    let converter = Converter::start_with(&server, "echo broken >&2; exit 1", &flags);
    for job in &jobs {
        assert_eq!(server.wait_for("result", job).await.body["success"], false);
    }
    server.wait_for_poll(&json!(["x-other"])).await;
    converter.logged("remote-converter doctor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_file_takes_the_place_of_standard_error() {
    let server = Server::start().await;
    let mut converter = Converter::start_with(&server, COPY, &["--log-file", "converter.log"]);
    let job = server.offer("hello");
    server.wait_for("result", &job).await;
    converter.signal("TERM");
    let (code, said) = converter.end().await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let log = std::fs::read_to_string(converter.home().join("converter.log")).unwrap();
    let mut lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert!(lines.any(|line| line["message"] == "stopped"), "{log}");
}

struct Fake(Arc<AtomicU64>);

impl Clock for Fake {
    fn asleep(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_wakes_asks_at_once_whether_the_job_is_still_its_own() {
    let server = Server::start().await;
    let asleep = Arc::new(AtomicU64::new(0));
    let wakes = Wakes::by(Fake(Arc::clone(&asleep)), Duration::from_millis(1));
    let client = Client::new(server.url().parse().unwrap(), None, "test/1").unwrap();
    let job = server.offer("hello");
    let lease = Lease { job_id: job.clone(), token: "token-secret".into() };
    let hour = Duration::from_secs(3600);
    server.report_every(3600);
    let heartbeat = Heartbeat::start(client, lease, hour, hour, wakes);
    server.wait_for("progress", &job).await;
    server.answer_progress(409, crate::server::problem(409, "stale-lease"));
    asleep.store(7200, Ordering::Relaxed);
    // The next report would be due in an hour.
    heartbeat.stop().cancelled().await;
    assert_eq!(heartbeat.lost(), Some(Lost::Stale));
}
