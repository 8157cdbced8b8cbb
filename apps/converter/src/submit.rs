//! Submits a spooled result until the server has answered for good.

use std::{
    path::{Path, PathBuf},
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

/// The largest result, as JSON, that is submitted inline.
const MOST_INLINE: usize = 1 << 20;
/// The longest wait after the first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after any failure.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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

/// Submits until there is an answer for good, or `stop` is cancelled. `path` is where the result is spooled, if it is.
pub async fn until_answered(
    client: &Client,
    spool: &Spool,
    path: Option<&Path>,
    spooled: &Spooled,
    stop: &CancellationToken,
) -> Submitted {
    let mut failed = 0;
    loop {
        let tried = tokio::select! {
            tried = once(client, spool, path, spooled) => tried,
            () = stop.cancelled() => return Submitted::Left("the converter stops".to_owned()),
        };
        let (reason, asked) = match tried {
            Ok(done) => return done,
            Err(error) => (error.to_string(), error.retry_after().unwrap_or_default()),
        };
        failed += 1;
        let wait = asked.min(LONGEST_WAIT) + jittered(failed);
        tracing::warn!(reason, failed, wait_ms = wait.as_millis(), "the result could not be submitted yet");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Submitted::Left(reason),
        }
    }
}

fn jittered(failed: u32) -> Duration {
    let bound = FIRST_WAIT.saturating_mul(1 << (failed - 1).min(10)).min(LONGEST_WAIT);
    bound.mul_f64(rand::rng().random_range(0.1..=1.0))
}

/// Submits once, and takes the result out of the spool if that was answered for good.
///
/// # Errors
/// The client's, when another try may be answered otherwise.
pub async fn once(
    client: &Client,
    spool: &Spool,
    path: Option<&Path>,
    spooled: &Spooled,
) -> Result<Submitted, Error> {
    match submit(client, spool, spooled).await {
        Ok(answer) => {
            settle(path.map_or(Ok(()), |path| spool.remove(path)));
            Ok(Submitted::Accepted(answer.status))
        }
        Err(error) if is_final(&error) => {
            settle(path.map_or(Ok(()), |path| spool.reject(path)));
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

async fn submit(client: &Client, spool: &Spool, spooled: &Spooled) -> Result<ResultResponse, Error> {
    let lease = spooled.lease();
    let size = serde_json::to_vec(&spooled.result).map(|bytes| bytes.len()).unwrap_or_default();
    if !spooled.result.success || size <= MOST_INLINE {
        return client.submit_result(&lease, &spooled.result).await;
    }
    let document = document(spool, spooled).await?;
    let result_key = client.upload_result(&lease, document.path()).await?;
    tracing::info!(bytes = size, "a large result is uploaded");
    let request = ResultRequest {
        success: true,
        processing_time: spooled.result.processing_time,
        result_key: Some(result_key),
        ..ResultRequest::default()
    };
    client.submit_result(&lease, &request).await
}

async fn document(spool: &Spool, spooled: &Spooled) -> Result<crate::spool::Document, Error> {
    let (spool, spooled) = (spool.clone(), spooled.clone());
    let written = tokio::task::spawn_blocking(move || spool.write_document(&spooled)).await;
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
        | Error::TimedOut { .. }
        | Error::Unreadable { .. }
        | Error::Transfer { .. }
        | Error::File { .. }
        | Error::Corrupt { .. } => false,
    }
}
