//! Submits a spooled result until the server has answered for good.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use api::{
    Kind,
    result::{ResultRequest, ResultResponse},
};
use client::{Client, Error};
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::spool::{Spool, Spooled};

/// The status of a body that is too large, whoever in between says so.
const TOO_LARGE: u16 = 413;
/// The longest wait after the first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after any failure.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long the last try may take once the program stops.
const LAST_TRY: Duration = Duration::from_secs(5);

/// What became of a spooled result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The server took it, and the job has this status now.
    Accepted(String),
    /// The server refused it for good, and it was put aside.
    Rejected(String),
    /// It was not answered for good yet, and stays in the spool.
    Left(String),
}

/// Submits until there is an answer for good, or `stop` is cancelled, after which there is one short try more. `path`
/// is where the result is spooled, if it is.
pub async fn until_answered(
    client: &Client,
    spool: &Spool,
    path: Option<&Path>,
    spooled: &Arc<Spooled>,
    stop: &CancellationToken,
) -> Submitted {
    let mut failed = 0;
    loop {
        let mut trying = pin!(once(client, spool, path, spooled));
        let tried = tokio::select! {
            biased;
            tried = &mut trying => tried,
            () = stop.cancelled() => match tokio::time::timeout(LAST_TRY, trying).await {
                Ok(tried) => tried,
                Err(_) => return Submitted::Left("the converter stops".to_owned()),
            },
        };
        let error = match tried {
            Ok(done) => return done,
            Err(error) => error,
        };
        if stop.is_cancelled() {
            return Submitted::Left(error.to_string());
        }
        failed += 1;
        let wait = wait(failed, error.retry_after());
        tracing::warn!(%error, failed, wait_ms = wait.as_millis(), "the result could not be submitted yet");
        stop.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

/// How long to wait after this many failures in a row, when the server asks for so much.
#[must_use]
pub fn wait(failed: u32, asked: Option<Duration>) -> Duration {
    asked.unwrap_or_default().min(LONGEST_WAIT) + jittered(failed)
}

fn jittered(failed: u32) -> Duration {
    let bound = FIRST_WAIT.saturating_mul(1 << (failed - 1).min(10)).min(LONGEST_WAIT);
    bound.mul_f64(rand::rng().random_range(0.1..=1.0))
}

/// Submits a result of an earlier process once. A server that does not know its job may be another one behind the same
/// URL, or one whose data is not back yet, so that the result is kept then.
///
/// # Errors
/// The client's, when another try may be answered otherwise.
pub async fn earlier(
    client: &Client,
    spool: &Spool,
    path: &Path,
    spooled: &Arc<Spooled>,
) -> Result<Submitted, Error> {
    match submit(client, spool, Some(path), spooled).await {
        Err(error) if error.kind() == Some(Kind::NotFound) => Ok(Submitted::Left(error.to_string())),
        tried => settled(spool, Some(path), tried),
    }
}

/// Submits once, and takes the result out of the spool if that was answered for good.
async fn once(
    client: &Client,
    spool: &Spool,
    path: Option<&Path>,
    spooled: &Arc<Spooled>,
) -> Result<Submitted, Error> {
    settled(spool, path, submit(client, spool, path, spooled).await)
}

fn settled(
    spool: &Spool,
    path: Option<&Path>,
    tried: Result<ResultResponse, Error>,
) -> Result<Submitted, Error> {
    match tried {
        Ok(answer) => {
            settle(path.map_or(Ok(()), |path| spool.remove(path)));
            Ok(Submitted::Accepted(answer.status))
        }
        Err(error) if is_final(&error) => {
            let is_late = error.kind() == Some(Kind::StaleLease);
            let reject = if is_late { Spool::reject_late } else { Spool::reject };
            settle(path.map_or(Ok(()), |path| reject(spool, path)));
            Ok(Submitted::Rejected(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// A result that stays in the spool is submitted again after a restart, which gets the same answer.
fn settle(settled: std::io::Result<()>) {
    if let Err(error) = settled {
        tracing::error!(%error, "an answered result could not be taken out of the spool");
    }
}

async fn submit(
    client: &Client,
    spool: &Spool,
    path: Option<&Path>,
    spooled: &Arc<Spooled>,
) -> Result<ResultResponse, Error> {
    let lease = spooled.lease();
    if let Some(result_key) = spooled.uploaded_as() {
        match client.submit_result(&lease, &uploaded(spooled, result_key)).await {
            // What was uploaded is not there any more.
            Err(error) if error.kind() == Some(Kind::Invalid) => note(spool, path, spooled, None).await,
            answered => return answered,
        }
    }
    let success = spooled.result.success;
    if !success || !spooled.is_large() {
        match client.submit_result(&lease, &spooled.result).await {
            // The server, or a proxy before it, takes less in one request than is usual.
            Err(error) if success && error.status() == Some(TOO_LARGE) => {}
            answered => return answered,
        }
    }
    let document = document(spool, spooled).await?;
    let result_key = client.upload_result(&lease, document.path()).await?;
    tracing::info!("a large result is uploaded");
    note(spool, path, spooled, Some(result_key.clone())).await;
    client.submit_result(&lease, &uploaded(spooled, result_key)).await
}

/// What submits a result that is uploaded.
fn uploaded(spooled: &Spooled, result_key: String) -> ResultRequest {
    ResultRequest {
        success: true,
        processing_time: spooled.result.processing_time,
        result_key: Some(result_key),
        ..ResultRequest::default()
    }
}

/// Notes where a result is uploaded. Without the note it is uploaded once more after a restart.
async fn note(spool: &Spool, path: Option<&Path>, spooled: &Arc<Spooled>, result_key: Option<String>) {
    let (spool, path, spooled) = (spool.clone(), path.map(Path::to_owned), Arc::clone(spooled));
    let noting =
        tokio::task::spawn_blocking(move || spool.note_upload(path.as_deref(), &spooled, result_key));
    if let Err(error) = noting.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        tracing::warn!(%error, "where a result is uploaded could not be noted");
    }
}

async fn document(spool: &Spool, spooled: &Arc<Spooled>) -> Result<crate::spool::Document, Error> {
    let (spool, spooled) = (spool.clone(), Arc::clone(spooled));
    let written = tokio::task::spawn_blocking(move || spool.document(&spooled)).await;
    written
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|source| Error::File { path: PathBuf::from("the spool"), source })
}

/// Whether no later try of the same result can be answered otherwise. A refused key is not that: it may be mended,
/// and nothing finished is thrown away before.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Invalid { .. } => true,
        Error::Refused { problem, .. } => problem.known_kind().is_some_and(|kind| match kind {
            Kind::Malformed
            | Kind::NotFound
            | Kind::Refused
            | Kind::StaleLease
            | Kind::SourceExpired
            | Kind::TooLarge
            | Kind::UnsupportedMediaType
            | Kind::Invalid => true,
            Kind::Unauthorized
            | Kind::Forbidden
            | Kind::MethodNotAllowed
            | Kind::IdempotencyMismatch
            | Kind::TooManyRequests
            | Kind::Internal
            | Kind::Unavailable => false,
        }),
        Error::Unreachable { .. }
        | Error::Untrusted { .. }
        | Error::TimedOut { .. }
        | Error::Unreadable { .. }
        | Error::Transfer { .. }
        | Error::File { .. }
        | Error::Corrupt { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_result_is_tried_once_when_the_program_stops_already() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: client::BaseUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let body = r#"{"status":"completed","ingestion_continued":false}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let lease = client::Lease { job_id: "j".to_owned(), token: "secret".into() };
        let spooled = Arc::new(Spooled::new(&base, &lease, 1, ResultRequest::default()));
        let client = Client::new(base, None, "t/0").unwrap();
        let (spool, stop) = (Spool::new(PathBuf::new(), PathBuf::new()), CancellationToken::new());
        stop.cancel();
        let submitted = until_answered(&client, &spool, None, &spooled, &stop).await;
        assert_eq!(submitted, Submitted::Accepted("completed".to_owned()));
    }
}
