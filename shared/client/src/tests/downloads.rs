use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use api::poll::Download;
use tempfile::TempDir;

use super::*;
use crate::{Error, Uploaded};

const SIZE: usize = 300_000;
const ETAG: &str = "\"etag-1\"";

/// What a test downloads, and where to.
struct Job {
    server: Arc<Server>,
    download: Download,
    folder: TempDir,
}

impl Job {
    /// A job whose object is answered by `object`, told the number of the request from 0.
    async fn new(object: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        let requests = AtomicUsize::new(0);
        let server = Server::start(move |server, seen| match seen.path.as_str() {
            "/bucket/source" => object(requests.fetch_add(1, Ordering::Relaxed), seen),
            _ => Reply::new(307).header("location", server.url("/bucket/source?fresh")),
        })
        .await;
        let download = Download {
            url: server.url("/bucket/source?first"),
            filename: "talk.mp3".into(),
            size_bytes: SIZE as u64,
            sha256: Some(sha256(&sample(SIZE))),
            etag: ETAG.into(),
            expires_in_seconds: 900,
        };
        Self { server, download, folder: TempDir::new().unwrap() }
    }

    fn dest(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    async fn run(&self) -> Result<(), Error> {
        self.server.client().download(&lease(), &self.download, &self.dest(), &|_, _| ()).await
    }

    fn assert_complete(&self) {
        assert!(std::fs::read(self.dest()).unwrap() == sample(SIZE), "other bytes than the source's");
    }

    /// The `Range` headers of the requests for the object.
    fn ranges(&self) -> Vec<Option<String>> {
        self.server
            .seen_at("/bucket/source")
            .iter()
            .map(|seen| seen.header("range").map(str::to_owned))
            .collect()
    }
}

/// The object from the position that the request asks for.
fn from_range(seen: &Seen) -> Reply {
    let object = sample(SIZE);
    match seen.header("range") {
        None => Reply::new(200).header("content-length", SIZE).body(object),
        Some(range) => {
            let start: usize =
                range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
            Reply::new(206)
                .header("content-range", format!("bytes {start}-{}/{SIZE}", SIZE - 1))
                .header("content-length", SIZE - start)
                .body(object[start..].to_vec())
        }
    }
}

/// The beginning of the object, and then something else.
fn beginning(then: Piece) -> Reply {
    Reply::new(200).header("content-length", SIZE).body(sample(SIZE)[..SIZE / 3].to_vec()).piece(then)
}

#[tokio::test]
async fn the_source_arrives_and_progress_is_told() {
    let job = Job::new(|_, seen| from_range(seen)).await;
    let told = Mutex::new(Vec::new());
    let tell = |done, total| told.lock().unwrap().push((done, total));
    job.server.client().download(&lease(), &job.download, &job.dest(), &tell).await.unwrap();
    job.assert_complete();
    let told = told.into_inner().unwrap();
    assert!(
        told.is_sorted()
            && told.first() == Some(&(0, SIZE as u64))
            && told.last() == Some(&(SIZE as u64, SIZE as u64))
    );
    let request = job.server.seen_at("/bucket/source").pop().unwrap();
    assert_eq!(request.header("authorization"), None);
    assert_eq!(request.header("lease-token"), None);
    assert_eq!(request.header("if-match"), Some(ETAG));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_is_taken_up_where_it_broke() {
    let job =
        Job::new(|request, seen| if request == 0 { beginning(Piece::Break) } else { from_range(seen) }).await;
    job.run().await.unwrap();
    job.assert_complete();
    assert!(job.ranges().contains(&Some(format!("bytes={}-", SIZE / 3))), "{:?}", job.ranges());
}

#[tokio::test]
async fn a_stall_is_taken_up_where_it_stalled() {
    let job =
        Job::new(|request, seen| if request == 0 { beginning(Piece::Stall) } else { from_range(seen) }).await;
    let arrived = Notify::new();
    // Told in the same breath in which the wait for the next piece begins.
    let tell = |done, _| {
        if done == SIZE as u64 / 3 {
            arrived.notify_one()
        }
    };
    let (client, lease, dest) = (job.server.client(), lease(), job.dest());
    let wait_for_stall = async {
        arrived.notified().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
    };
    let (done, ()) = tokio::join!(client.download(&lease, &job.download, &dest, &tell), wait_for_stall);
    done.unwrap();
    job.assert_complete();
    assert!(job.ranges().iter().any(Option::is_some), "{:?}", job.ranges());
}

#[tokio::test]
async fn a_beginning_on_disk_is_continued() {
    let job = Job::new(|_, seen| from_range(seen)).await;
    std::fs::write(job.dest(), &sample(SIZE)[..1000]).unwrap();
    job.run().await.unwrap();
    job.assert_complete();
    assert_eq!(job.ranges(), [Some("bytes=1000-".to_owned())]);
    job.run().await.unwrap();
    assert_eq!(job.ranges().len(), 1, "what is complete is not fetched again");
}

#[tokio::test]
async fn a_beginning_of_something_else_is_thrown_away() {
    let job = Job::new(|_, seen| from_range(seen)).await;
    std::fs::write(job.dest(), [0; 1000]).unwrap();
    job.run().await.unwrap();
    job.assert_complete();
    assert_eq!(job.ranges(), [Some("bytes=1000-".to_owned()), None]);

    std::fs::write(job.dest(), vec![0; SIZE + 1]).unwrap();
    job.run().await.unwrap();
    job.assert_complete();
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_beginning() {
    let job = Job::new(|_, _| Reply::new(200).body(sample(SIZE))).await;
    std::fs::write(job.dest(), &sample(SIZE)[..1000]).unwrap();
    job.run().await.unwrap();
    job.assert_complete();
}

#[tokio::test]
async fn an_expired_url_is_replaced() {
    let expired = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
    let job = Job::new(move |_, seen| match seen.query.as_str() {
        "fresh" => from_range(seen),
        _ => Reply::new(403).body(expired),
    })
    .await;
    job.run().await.unwrap();
    job.assert_complete();
    let minted = job.server.seen_at("/api/v1/remote-jobs/job-1/download").pop().unwrap();
    assert_eq!(minted.header("lease-token"), Some("lease-secret"));
}

#[tokio::test]
async fn a_url_that_is_never_right_is_given_up() {
    let job =
        Job::new(|_, _| Reply::new(403).body("<Error><Code>SignatureDoesNotMatch</Code></Error>")).await;
    let error = job.run().await.unwrap_err();
    assert!(
        matches!(&error, Error::Transfer { status: Some(403), code: Some(code), .. } if code == "SignatureDoesNotMatch")
    );
    assert!(!error.retryable() && !error.to_string().contains("fresh"), "{error}");
    assert_eq!(job.ranges().len(), 3);
}

#[tokio::test]
async fn a_lost_lease_ends_it() {
    let requests = AtomicUsize::new(0);
    let server = Server::start(move |_, seen| match seen.path.as_str() {
        "/bucket/source" if requests.fetch_add(1, Ordering::Relaxed) == 0 => Reply::new(403),
        _ => Reply::problem(api::Kind::StaleLease, "The lease is not held any more."),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let download = Download {
        url: server.url("/bucket/source"),
        filename: "f".into(),
        size_bytes: 1,
        sha256: None,
        etag: String::new(),
        expires_in_seconds: 1,
    };
    let done = server.client().download(&lease(), &download, &folder.path().join("f"), &|_, _| ()).await;
    assert_eq!(done.unwrap_err().kind(), Some(api::Kind::StaleLease));
}

fn if_match_refused(_: usize, seen: &Seen) -> Reply {
    if seen.header("if-match").is_some() { Reply::new(412) } else { from_range(seen) }
}

#[tokio::test]
async fn another_etag_means_from_the_beginning_and_the_hash_decides() {
    let job = Job::new(if_match_refused).await;
    std::fs::write(job.dest(), &sample(SIZE)[..1000]).unwrap();
    job.run().await.unwrap();
    job.assert_complete();
    assert_eq!(job.ranges(), [Some("bytes=1000-".to_owned()), None]);
}

#[tokio::test]
async fn another_etag_without_a_hash_is_another_source() {
    let mut job = Job::new(if_match_refused).await;
    job.download.sha256 = None;
    let error = job.run().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("replaced"), "{error}");
}

#[tokio::test]
async fn other_bytes_are_corrupt_and_do_not_stay() {
    let wrong = || vec![1; SIZE];
    for reply in [Reply::new(200).body(wrong()), Reply::new(200).body([wrong(), vec![1]].concat())] {
        let job = Job::new(move |_, _| reply.clone()).await;
        let error = job.run().await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }) && !error.retryable(), "{error:?}");
        assert!(error.to_string().contains("talk.mp3") && !job.dest().exists(), "{error}");
    }
}

#[tokio::test]
async fn an_empty_source_is_an_empty_file() {
    let mut job = Job::new(|_, _| Reply::new(500)).await;
    job.download.size_bytes = 0;
    job.download.sha256 = Some(sha256(b""));
    std::fs::write(job.dest(), "left over").unwrap();
    job.run().await.unwrap();
    assert_eq!(std::fs::read(job.dest()).unwrap(), b"");
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_a_local_problem() {
    let job = Job::new(|_, seen| from_range(seen)).await;
    let dest = job.folder.path().join("missing/source");
    let done = job.server.client().download(&lease(), &job.download, &dest, &|_, _| ()).await;
    assert!(matches!(done, Err(Error::File { path, .. }) if path == dest));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_is_given_up() {
    let job = Job::new(|_, _| {
        Reply::new(503).body("<Error><Code>SlowDown</Code></Error>").header("retry-after", 2)
    })
    .await;
    let error = job.run().await.unwrap_err();
    assert!(error.retryable() && error.retry_after() == Some(Duration::from_secs(2)), "{error:?}");
}

#[test]
fn transfers_can_run_on_tasks_of_their_own() {
    fn spawnable<T: Send>(_: impl FnOnce() -> T) {}
    spawnable(|| async {
        let client: Client = Client::new("http://h".parse()?, None, "t/0")?;
        let (lease, path) = (lease(), PathBuf::new());
        let download: Download = serde_json::from_str("{}").unwrap();
        client.download(&lease, &download, &path, &|_, _| ()).await?;
        client.upload_result(&lease, &path).await?;
        client.upload_file(&path, "n", &|_, _| ()).await.map(|_: Uploaded| ())
    });
}
