use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use engines::{Engines, OpenError};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::crypto::Checksum as _;
use tempfile::TempDir;

pub(crate) const BUCKET: &str = "handoff";
pub(crate) const MIB: usize = 1024 * 1024;

/// Engines on a real data folder, and an SDK client with a bucket.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) engines: Engines,
    pub(crate) s3: aws_sdk_s3::Client,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let engines = Engines::open(dir.path()).unwrap();
        let s3 = s3_client(&engines, "http://127.0.0.1:9000");
        s3.create_bucket().bucket(BUCKET).send().await.unwrap();
        Self { dir, engines, s3 }
    }

    /// Lets go of everything and opens the folder again.
    pub(crate) fn reopen(self) -> Self {
        let Self { dir, engines, s3 } = self;
        drop((engines, s3));
        let engines = open_again(dir.path());
        let s3 = s3_client(&engines, "http://127.0.0.1:9000");
        Self { dir, engines, s3 }
    }

    /// Lets go of everything, so that all that was begun is finished, and returns the folder.
    pub(crate) fn close(self) -> TempDir {
        drop((self.engines, self.s3));
        self.dir
    }

    pub(crate) async fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) -> String {
        let body = ByteStream::from(bytes.into());
        let put = self.s3.put_object().bucket(BUCKET).key(key).body(body).send().await.unwrap();
        put.e_tag().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, key: &str) -> Vec<u8> {
        let got = self.s3.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        got.body.collect().await.unwrap().to_vec()
    }

    pub(crate) fn blobs(&self) -> Vec<PathBuf> {
        blobs(self.dir.path())
    }
}

/// What a call had begun when its client was dropped keeps the folder until it is finished.
fn open_again(dir: &Path) -> Engines {
    let started = Instant::now();
    loop {
        match Engines::open(dir) {
            Err(OpenError::Locked { .. }) if started.elapsed() < Duration::from_secs(30) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

pub(crate) fn s3_client(engines: &Engines, endpoint: &str) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(s3_config(engines, endpoint).build())
}

pub(crate) fn s3_config(engines: &Engines, endpoint: &str) -> aws_sdk_s3::config::Builder {
    let key = engines.s3_credentials();
    aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(
            key.access_key_id(),
            key.secret_access_key(),
            None,
            None,
            "test",
        ))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .http_client(engines.s3_http())
        .retry_config(RetryConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

pub(crate) fn dynamodb_client(engines: &Engines) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "test"))
        .endpoint_url("http://dynamodb.local")
        .retry_config(RetryConfig::disabled())
        .http_client(engines.dynamodb_http())
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

/// The status and code of a refusal.
pub(crate) fn refusal<T, E>(
    result: Result<T, SdkError<E, aws_sdk_s3::config::http::HttpResponse>>,
) -> (u16, String)
where
    E: ProvideErrorMetadata + std::fmt::Debug,
{
    let Err(error) = result else { panic!("it was not refused") };
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    (status, code.to_owned())
}

pub(crate) fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Bytes that no part of repeats another.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn sha256(data: &[u8]) -> String {
    base64(s3s::crypto::Sha256::checksum(data))
}

pub(crate) fn md5_etag(data: &[u8]) -> String {
    format!("\"{}\"", hex::encode(s3s::crypto::Md5::checksum(data)))
}

/// Every complete blob's file.
pub(crate) fn blobs(dir: &Path) -> Vec<PathBuf> {
    let shelves = std::fs::read_dir(dir.join("objects/blobs")).unwrap();
    shelves.flat_map(|shelf| files(&shelf.unwrap().path())).collect()
}

/// Every file of an upload that is still being written.
pub(crate) fn incoming(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join("objects/incoming"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Writes what an interrupted upload leaves: a file half-written, and one whose row was never written.
pub(crate) fn leave_interrupted(dir: &Path) {
    std::fs::write(dir.join("objects/incoming/0123456789abcdef0123456789abcdef"), "half").unwrap();
    let shelf = dir.join("objects/blobs/00");
    std::fs::create_dir_all(&shelf).unwrap();
    std::fs::write(shelf.join("00000000000040008000000000000000"), "nobody's").unwrap();
}

/// Lets other tasks run until `done`.
pub(crate) async fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen");
        tokio::task::yield_now().await;
    }
}

/// Serves the engines' S3 on a loopback port until the test ends.
pub(crate) async fn serve(engines: &Engines) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engines = engines.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let engines = engines.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    let engines = engines.clone();
                    async move { Ok::<_, Infallible>(engines.serve_s3(request).await) }
                });
                let server = auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(socket), service).await);
            });
        }
    });
    address
}

/// An HTTP client that knows nothing of AWS.
pub(crate) fn plain_http() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}
