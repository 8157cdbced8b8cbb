//! Brings results to the server: those of this process, and those that an earlier one or an earlier attempt left.

use std::{
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api::{poll::ClaimedJob, result::ResultRequest};
use client::{Client, Lease};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    run::Run,
    spool::{Spool, Spooled},
    submit::{self, Submitted},
    work::Worker,
};

/// How long the first poll waits for what an earlier process left to be tried.
const FIRST_ROUND: Duration = Duration::from_secs(10);

impl Worker {
    /// Spools what an attempt came to, and submits it until it is answered.
    pub(crate) async fn submit(&self, run: &Run, lease: &Lease, job: &ClaimedJob, result: ResultRequest) {
        let mut spooled = Spooled::new(self.client.base(), lease, job.lease.attempt, result);
        let spool = self.spool.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let written = spool.write(&mut spooled);
            (Arc::new(spooled), written)
        });
        let Ok((spooled, written)) = writing.await else {
            tracing::error!("the result could not be spooled; the job comes back when its lease ends");
            return;
        };
        let path = written
            .inspect_err(|error| {
                // The disk is full or broken. What cannot be made durable can still be delivered.
                tracing::error!(%error, "the result could not be spooled; it is submitted without");
            })
            .ok();
        self.deliver(run, path.as_deref(), &spooled).await;
    }

    /// Submits what is spooled until it is answered, or until this program ends.
    pub(crate) async fn deliver(&self, run: &Run, path: Option<&Path>, spooled: &Arc<Spooled>) {
        run.submitting();
        let submitted = submit::until_answered(&self.client, &self.spool, path, spooled, &self.kill).await;
        if let Submitted::Accepted(_) = submitted {
            let result = &spooled.result;
            run.completed(result.success, result.error_message.as_deref().unwrap_or("Converted"));
        }
        log(submitted);
    }

    /// What an earlier attempt at the job finished here, when its lease had lapsed before the server had it.
    pub(crate) async fn finished_before(
        &self,
        lease: &Lease,
        job: &ClaimedJob,
    ) -> Option<(PathBuf, Spooled)> {
        let (spool, server) = (self.spool.clone(), self.client.base().clone());
        let (lease, attempt) = (lease.clone(), job.lease.attempt);
        let looking = tokio::task::spawn_blocking(move || spool.inherit(&server, &lease, attempt));
        let found = looking.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "whether an earlier attempt has finished cannot be found out");
            None
        })
    }
}

/// Brings the results to the server that an earlier process left.
#[derive(Debug)]
pub(crate) struct Bringing {
    task: JoinHandle<()>,
    tried: CancellationToken,
}

impl Bringing {
    /// Begins to submit all that is spooled, in rounds of one try for each, so that one that is not answered holds up
    /// no other. It ends with the last one, or when `kill` is cancelled.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub(crate) fn begin(client: Client, spool: Spool, kill: CancellationToken) -> io::Result<Self> {
        let left = spool.left()?;
        let tried = CancellationToken::new();
        let all_tried = tried.clone();
        let earlier = Earlier { client, spool };
        let task = tokio::spawn(async move {
            kill.run_until_cancelled(earlier.submit_in_rounds(left, &all_tried)).await;
            all_tried.cancel();
        });
        Ok(Self { task, tried })
    }

    /// Waits until each has been tried once, though not for long, so that no job is claimed again whose result is
    /// about to be accepted.
    pub(crate) async fn once_tried(&self) {
        let _ = tokio::time::timeout(FIRST_ROUND, self.tried.cancelled()).await;
    }

    /// Waits until nothing is left to submit, or `kill` was cancelled.
    pub(crate) async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "submitting earlier results broke off; they stay in the spool");
        }
    }
}

struct Earlier {
    client: Client,
    spool: Spool,
}

impl Earlier {
    async fn submit_in_rounds(&self, mut left: Vec<PathBuf>, tried: &CancellationToken) {
        let mut failed = 0;
        loop {
            let mut asked = None;
            for path in mem::take(&mut left) {
                if let Err(error) = self.submit_earlier(&path).await {
                    asked = asked.max(error.retry_after());
                    left.push(path);
                }
            }
            tried.cancel();
            if left.is_empty() {
                return;
            }
            failed += 1;
            tokio::time::sleep(submit::wait(failed, asked)).await;
        }
    }

    /// Tries once to submit what is spooled there, if it can be read and is for this server.
    async fn submit_earlier(&self, path: &Path) -> Result<(), client::Error> {
        let (spool, copy) = (self.spool.clone(), path.to_owned());
        let loaded = tokio::task::spawn_blocking(move || spool.load(&copy)).await;
        let spooled = match loaded.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(Some(spooled)) => Arc::new(spooled),
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "an earlier result cannot be read; it stays in the spool");
                return Ok(());
            }
        };
        let span = tracing::info_span!("job", job_id = spooled.job_id, attempt = spooled.attempt);
        async {
            if spooled.server != self.client.base().as_str() {
                tracing::warn!(
                    server = spooled.server,
                    "an earlier result is for another server; it stays in the spool"
                );
                return Ok(());
            }
            let tried = submit::earlier(&self.client, &self.spool, path, &spooled).await;
            tried.map(log).inspect_err(|error| {
                tracing::warn!(%error, "an earlier result could not be submitted yet");
            })
        }
        .instrument(span)
        .await
    }
}

fn log(submitted: Submitted) {
    match submitted {
        Submitted::Accepted(status) => tracing::info!(status, "submitted"),
        Submitted::Rejected(reason) => {
            tracing::warn!(reason, "the server refused the result; it was put aside")
        }
        Submitted::Left(reason) => {
            tracing::warn!(reason, "the result stays in the spool until the next start")
        }
    }
}
