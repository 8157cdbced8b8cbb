//! Large sources, which travel in several ranges at a time.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use api::poll::Download;
use tempfile::TempDir;

use super::*;
use crate::{Error, transfer::Cut};

const SIZE: usize = 1_000_000;
const RANGE: usize = 64_000;
const CUT: Cut = Cut { from: 100_000, range: RANGE as u64, parallel: 4 };
const ETAG: &str = "\"etag-1\"";

/// A request for some bytes of the object, and what was answered.
type Store = dyn Fn(Asked) -> Reply + Send + Sync;

/// What a request asks for.
struct Asked {
    /// Which request this is, from 0.
    number: usize,
    from: usize,
    /// Where the range ends, if it was asked for one with an end.
    to: Option<usize>,
    /// The query of the URL.
    query: String,
    if_match: Option<String>,
}

impl Asked {
    fn bytes(&self) -> Vec<u8> {
        sample(SIZE)[self.from..self.to.unwrap_or(SIZE)].to_vec()
    }

    /// An answer of this many bytes at most, whatever its head says.
    fn answered(&self, most: usize) -> Reply {
        let (from, to) = (self.from, self.to.unwrap_or(SIZE));
        let bytes = self.bytes();
        let most = most.min(bytes.len());
        let reply = Reply::new(if from == 0 && self.to.is_none() { 200 } else { 206 })
            .header("content-range", format!("bytes {from}-{}/{SIZE}", to - 1))
            .header("content-length", to - from)
            .header("etag", ETAG)
            .body(bytes[..most].to_vec());
        if most < bytes.len() { reply.piece(Piece::Break) } else { reply }
    }

    fn whole(&self) -> Reply {
        self.answered(SIZE)
    }

    fn is_range(&self) -> bool {
        self.to.is_some()
    }
}

struct Job {
    server: Arc<Server>,
    download: Download,
    folder: TempDir,
    /// How many bytes of the object were sent.
    sent: Arc<AtomicU64>,
}

impl Job {
    async fn new(store: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Self {
        let store: Box<Store> = Box::new(store);
        let requests = AtomicUsize::new(0);
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        let server = Server::start(move |server, seen| {
            if seen.path != "/bucket/source" {
                return Reply::new(307).header("location", server.url("/bucket/source?fresh"));
            }
            let range = seen
                .header("range")
                .map(|range| range.strip_prefix("bytes=").unwrap().split_once('-').unwrap());
            let reply = store(Asked {
                number: requests.fetch_add(1, Ordering::Relaxed),
                from: range.map_or(0, |(from, _)| from.parse().unwrap()),
                to: range.and_then(|(_, last)| last.parse().ok()).map(|last: usize| last + 1),
                query: seen.query.clone(),
                if_match: seen.header("if-match").map(str::to_owned),
            });
            counted.fetch_add(reply.len() as u64, Ordering::Relaxed);
            reply
        })
        .await;
        let download = Download {
            url: server.url("/bucket/source?first"),
            filename: "talk.mp4".into(),
            size_bytes: SIZE as u64,
            sha256: Some(sha256(&sample(SIZE))),
            etag: ETAG.into(),
            expires_in_seconds: 900,
        };
        Self { server, download, folder: TempDir::new().unwrap(), sent }
    }

    fn dest(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    async fn run(&self) -> Result<(), Error> {
        self.server.client().download_cut(&lease(), &self.download, &self.dest(), CUT).await
    }

    async fn complete(&self) {
        self.run().await.unwrap();
        assert!(std::fs::read(self.dest()).unwrap() == sample(SIZE), "other bytes than the source's");
    }

    /// The `Range` headers of the requests for the object.
    fn ranges(&self) -> Vec<String> {
        let seen = self.server.seen_at("/bucket/source");
        seen.iter().map(|seen| seen.header("range").unwrap_or("none").to_owned()).collect()
    }

    fn sent(&self) -> usize {
        usize::try_from(self.sent.load(Ordering::Relaxed)).unwrap()
    }
}

#[tokio::test]
async fn a_large_source_travels_in_ranges_and_every_byte_once() {
    let job = Job::new(|asked| asked.whole()).await;
    job.complete().await;
    let ranges = job.ranges();
    assert_eq!(ranges.len(), SIZE.div_ceil(RANGE));
    assert_eq!(ranges.iter().collect::<HashSet<_>>().len(), ranges.len());
    assert_eq!(job.sent(), SIZE);
}

#[tokio::test]
async fn only_what_is_missing_of_a_broken_range_is_fetched_again() {
    let job = Job::new(|asked| asked.answered(if asked.number == 1 { 10_000 } else { SIZE })).await;
    job.complete().await;
    assert_eq!(job.ranges().len(), SIZE.div_ceil(RANGE) + 1);
    assert_eq!(job.sent(), SIZE);
}

#[tokio::test]
async fn connections_that_always_break_do_not_end_it_as_long_as_bytes_arrive() {
    let job = Job::new(|asked| asked.answered(40_000)).await;
    job.complete().await;
    assert_eq!(job.sent(), SIZE);
    assert!(job.ranges().len() > SIZE.div_ceil(RANGE));
}

#[tokio::test]
async fn a_beginning_stays_where_it_is_and_the_rest_comes_in_ranges() {
    let job = Job::new(|asked| asked.whole()).await;
    std::fs::write(job.dest(), &sample(SIZE)[..300_000]).unwrap();
    job.complete().await;
    assert_eq!(job.sent(), SIZE - 300_000);
    assert!(job.ranges().len() > 4);
}

#[tokio::test]
async fn a_failed_download_leaves_a_beginning_without_gaps_for_the_next() {
    let first = AtomicUsize::new(0);
    let job = Job::new(move |asked| {
        let is_second_range = asked.from == RANGE && asked.is_range();
        match is_second_range && first.fetch_add(1, Ordering::Relaxed) == 0 {
            true => Reply::new(404).body("<Error><Code>NoSuchKey</Code></Error>"),
            false => asked.whole(),
        }
    })
    .await;
    let error = job.run().await.unwrap_err();
    assert!(matches!(error, Error::Transfer { status: Some(404), .. }), "{error}");
    let left = std::fs::read(job.dest()).unwrap();
    assert!(left.len() <= RANGE && left == sample(SIZE)[..left.len()], "{} bytes", left.len());
    job.complete().await;
}

#[tokio::test]
async fn one_new_url_serves_all_ranges_that_find_theirs_expired() {
    let job = Job::new(|asked| match asked.query.as_str() {
        "first" if asked.from >= 3 * RANGE => {
            Reply::new(403).body("<Error><Code>AccessDenied</Code></Error>")
        }
        _ => asked.whole(),
    })
    .await;
    job.complete().await;
    assert_eq!(job.server.seen_at("/api/v1/remote-jobs/job-1/download").len(), 1);
    assert!(job.sent() < SIZE + 4 * 100, "{}", job.sent());
}

#[tokio::test]
async fn a_store_without_ranges_is_read_as_a_whole() {
    let job = Job::new(|_| Reply::new(200).header("content-length", SIZE).body(sample(SIZE))).await;
    job.complete().await;
    assert_eq!(job.ranges().last().unwrap(), "none");
}

#[tokio::test]
async fn ranges_that_are_not_the_ones_asked_for_are_not_put_in_place() {
    for wrong in [
        |asked: &Asked| format!("bytes {}-{}/{SIZE}", asked.from + 1, asked.to.unwrap()),
        |asked: &Asked| format!("bytes {}-{}/{}", asked.from, asked.to.unwrap() - 1, SIZE + 5),
        |_: &Asked| "nonsense".to_owned(),
    ] {
        let job = Job::new(move |asked| match asked.is_range() {
            true => Reply::new(206).header("content-range", wrong(&asked)).body(vec![9; RANGE]),
            false => asked.whole(),
        })
        .await;
        job.complete().await;
        assert_eq!(job.ranges().last().unwrap(), "none");
    }
}

#[tokio::test]
async fn a_range_that_is_too_long_is_not_put_in_place() {
    let job = Job::new(|asked| match asked.to {
        Some(to) => Reply::new(206)
            .header("content-range", format!("bytes {}-{}/{SIZE}", asked.from, to - 1))
            .body([asked.bytes(), vec![9; 100]].concat()),
        None => asked.whole(),
    })
    .await;
    job.complete().await;
}

#[tokio::test]
async fn ranges_of_another_object_never_mix_with_those_of_the_first() {
    // From the third request on the object is another one, and a cache that knows no `If-Match` sits before it.
    let job = Job::new(|asked| match asked.number {
        0 | 1 => asked.whole(),
        _ if asked.is_range() => Reply::new(206)
            .header("content-range", format!("bytes {}-{}/{SIZE}", asked.from, asked.to.unwrap() - 1))
            .header("etag", "\"etag-2\"")
            .body(vec![7; asked.to.unwrap() - asked.from]),
        _ => Reply::new(200).header("etag", "\"etag-2\"").body(vec![7; SIZE]),
    })
    .await;
    let error = job.run().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }) && !job.dest().exists(), "{error}");
    let last = job.server.seen_at("/bucket/source").pop().unwrap();
    assert_eq!((last.header("range"), last.header("if-match")), (None, None));
}

#[tokio::test]
async fn every_range_insists_on_the_announced_object() {
    let job = Job::new(|asked| match asked.if_match.as_deref() {
        Some(ETAG) => asked.whole(),
        _ => Reply::new(412),
    })
    .await;
    job.complete().await;
    let moved =
        Job::new(|asked| if asked.if_match.is_some() { Reply::new(412) } else { asked.whole() }).await;
    moved.complete().await;
    assert_eq!(moved.ranges().last().unwrap(), "none", "a copy is read as a whole, and its hash decides");
}

#[tokio::test]
async fn without_a_hash_or_an_etag_nothing_travels_in_ranges() {
    for change in
        [|download: &mut Download| download.sha256 = None, |download: &mut Download| download.etag.clear()]
    {
        let mut job = Job::new(|asked| asked.whole()).await;
        change(&mut job.download);
        job.complete().await;
        assert_eq!(job.ranges(), ["none"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_in_the_middle_is_given_up() {
    let job = Job::new(|asked| if asked.from < 5 * RANGE { asked.whole() } else { Reply::new(503) }).await;
    let error = job.run().await.unwrap_err();
    assert!(matches!(error, Error::Transfer { status: Some(503), .. }) && error.retryable(), "{error}");
    assert!(job.ranges().len() < 5 + 4 * 8, "{}", job.ranges().len());
    assert_eq!(std::fs::read(job.dest()).unwrap(), sample(SIZE)[..5 * RANGE]);
}
