//! One job, from its claim to its end.

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use api::{
    Kind,
    poll::ClaimedJob,
    result::{ReleaseRequest, ResultRequest},
};
use client::{Client, Lease};
use domain::{ContentType, FileName, JobId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    activity::Activities,
    convert::{self, ConvertError, Converted, Source},
    converters::Converters,
    descriptions::Description,
    failing::{Conversion, Ended, Failing},
    folders::{Folders, WorkFolder},
    heartbeat::Heartbeat,
    run::{Progress, Run},
    space::TooFull,
    spool::Spool,
    submit,
    suspend::Wakes,
};

/// How long giving a job back may take when the converter stops. Without it the job comes back with its lease's end.
const RELEASE: Duration = Duration::from_secs(5);

/// The longest time limit of a run, whatever the server says: no clock goes on for ever.
const LONGEST_RUN: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What every job needs.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The server.
    pub client: Client,
    /// What converts.
    pub converters: Arc<Converters>,
    /// Where work is done.
    pub folders: Arc<Folders>,
    /// Where results wait.
    pub spool: Spool,
    /// How many jobs in a row this machine was unable to do.
    pub unable: Arc<AtomicU32>,
    /// What this program does, for whoever asks.
    pub activities: Arc<Activities>,
    /// Follows the jobs that run.
    pub progress: Arc<Progress>,
    /// How the conversions have gone lately.
    pub failing: Arc<Failing>,
    /// Tells when the machine was asleep.
    pub wakes: Wakes,
    /// Is cancelled when running jobs must be given back at once.
    pub kill: CancellationToken,
}

/// How an attempt came to nothing that could be submitted.
enum Stop {
    /// It is not this worker's job any more.
    Lost,
    /// This program stops.
    Killed,
    /// What the source names far from here cannot be had now.
    Elsewhere(String),
    /// It failed.
    Failed { message: String, retryable: bool },
    /// This machine cannot do it now, and probably no other job either: its disk is full, for example.
    Unable(String),
}

/// One attempt at a job.
struct Attempt<'a> {
    worker: &'a Worker,
    job: &'a ClaimedJob,
    lease: &'a Lease,
    heartbeat: &'a Heartbeat,
    run: &'a Run,
    /// Is cancelled when the job is lost and when this program stops.
    stop: CancellationToken,
    deadline: Instant,
    /// When the conversion began, if it has.
    converting_since: OnceLock<Instant>,
}

impl Worker {
    /// Does a job: converts its source and submits what came out, gives it back, or forgets it when it is lost.
    pub async fn run(self: Arc<Self>, job: ClaimedJob, conversion: Conversion) {
        let span = tracing::info_span!("job", job_id = job.job_id, attempt = job.lease.attempt);
        async move {
            let file = &job.lease.download;
            tracing::info!(content_type = job.content_type, bytes = file.size_bytes, "claimed");
            self.attempt(&job, conversion).await;
        }
        .instrument(span)
        .await;
    }

    async fn attempt(&self, job: &ClaimedJob, mut conversion: Conversion) {
        let begun = Instant::now();
        let lease = Lease { job_id: job.job_id.clone(), token: job.lease.lease_token.as_str().into() };
        let every = Duration::from_secs(job.lease.report_every_seconds);
        let lasts = Duration::from_secs(job.lease.lease_expires_in_seconds);
        let heartbeat =
            Heartbeat::start(self.client.clone(), lease.clone(), every, lasts, self.wakes.clone());
        let run = Run::begin(&self.progress, job, heartbeat.reporter());
        if let Some((path, spooled)) = self.finished_before(&lease, job).await {
            tracing::info!("an earlier attempt has finished; its result is submitted");
            drop(conversion);
            return self.deliver(&run, Some(&path), &Arc::new(spooled)).await;
        }
        let attempt = Attempt {
            worker: self,
            job,
            lease: &lease,
            heartbeat: &heartbeat,
            run: &run,
            stop: heartbeat.stop().clone(),
            deadline: begun + Duration::from_secs(job.lease.run_timeout_seconds).min(LONGEST_RUN),
            converting_since: OnceLock::new(),
        };
        let converted = attempt.converted().await;
        let seconds = attempt.converting_since.get().map(|since| since.elapsed().as_secs_f64());
        match &converted {
            Ok(_) => conversion.ends(Ended::Well),
            Err(Stop::Failed { retryable: true, .. }) if seconds.is_some() => conversion.ends(Ended::Badly),
            Err(_) => {}
        }
        // What comes now takes as long as the server does not answer, and the next job may begin meanwhile.
        drop(conversion);
        match converted {
            Ok(converted) => {
                tracing::info!(seconds, bytes = converted.content.len(), "converted");
                self.unable.store(0, Ordering::Relaxed);
                self.submit(&run, &lease, job, succeeded(converted, seconds)).await;
            }
            Err(Stop::Failed { message, retryable }) => {
                tracing::warn!(reason = message, retryable, seconds, "failed");
                self.submit(&run, &lease, job, failed(message, retryable, seconds)).await;
            }
            Err(Stop::Elsewhere(message)) => {
                tracing::warn!(reason = message, seconds, "what the source names cannot be had now");
                self.submit(&run, &lease, job, failed(message, true, seconds)).await;
            }
            Err(Stop::Lost) => {
                tracing::warn!(why = ?heartbeat.lost(), "dropped: the job is not this worker's any more")
            }
            Err(Stop::Killed) => self.release(&lease, "the converter stops").await,
            Err(Stop::Unable(reason)) => {
                tracing::error!(reason, "this machine cannot do the job now; others may");
                self.unable.fetch_add(1, Ordering::Relaxed);
                self.release(&lease, &reason).await;
            }
        }
    }

    async fn release(&self, lease: &Lease, reason: &str) {
        let request = ReleaseRequest { reason: Some(reason.to_owned()) };
        match tokio::time::timeout(RELEASE, self.client.release(lease, &request)).await {
            Ok(Ok(_)) => tracing::info!("released"),
            Ok(Err(error)) => tracing::warn!(%error, "not released; the job comes back when its lease ends"),
            Err(_) => tracing::warn!("not released in time; the job comes back when its lease ends"),
        }
    }
}

impl Attempt<'_> {
    async fn converted(&self) -> Result<Converted, Stop> {
        let _linked = self.stopping_with(&self.worker.kill);
        // What the server calls the job and its file must not decide where on this disk things go.
        let id: JobId =
            self.job.job_id.parse().map_err(|_| lasting("The server gave a job id that is not a UUID."))?;
        let content_type: ContentType =
            self.job.content_type.parse().map_err(|_| lasting("The server gave an unknown content type."))?;
        let name = FileName::from_client(&self.job.lease.download.filename);
        let converter = self.worker.converters.choose(&content_type, name.as_str()).ok_or_else(|| {
            passing(format!("No converter of this worker takes {content_type} sources named like {name}."))
        })?;
        let folder = self.worker.folders.work(&format!("{id}-{}", self.job.lease.attempt));
        let folder = folder.map_err(|error| no_folder(&error))?;
        let source = folder.path().join("source").join(name.as_str());
        let converted = match self.download(&source).await {
            Ok(()) => self.convert(converter, &folder, &source).await,
            Err(stop) => Err(stop),
        };
        folder.remove().await;
        converted
    }

    /// Lets the attempt's own stop follow another one while the returned value lives.
    fn stopping_with(&self, other: &CancellationToken) -> tokio_util::task::AbortOnDropHandle<()> {
        let (other, own) = (other.clone(), self.stop.clone());
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            other.cancelled().await;
            own.cancel();
        }))
    }

    async fn download(&self, source: &Path) -> Result<(), Stop> {
        if let Some(folder) = source.parent() {
            tokio::fs::create_dir(folder).await.map_err(|error| no_folder(&error))?;
        }
        let size = self.job.lease.download.size_bytes;
        let room = self.worker.folders.space().promise(source, size);
        let _room = room.map_err(|error| self.no_room(&error))?;
        tracing::info!("downloading");
        tokio::select! {
            downloaded = self.downloaded(source) => downloaded,
            () = self.stop.cancelled() => Err(self.stopped()),
            () = tokio::time::sleep_until(self.deadline) => {
                Err(passing("The download did not end within the job's time limit."))
            }
        }
    }

    /// A job that is given back comes back at once, so one that will find no room either then has to fail: it comes
    /// back later, and lets others pass.
    fn no_room(&self, error: &TooFull) -> Stop {
        if error.is_for_ever() || self.worker.folders.space().must_wait(&self.job.job_id) {
            return passing(error.to_string());
        }
        Stop::Unable(error.to_string())
    }

    /// Downloads, and as long as nothing at all can be reached, begins where it ended. What the object store alone
    /// does not give may be given to another worker.
    async fn downloaded(&self, source: &Path) -> Result<(), Stop> {
        let on_progress = |done: u64, total: u64| self.run.downloaded(done, total);
        let (client, offer) = (&self.worker.client, &self.job.lease.download);
        for failed in 1.. {
            let error = match client.download(self.lease, offer, source, &on_progress).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if matches!(error.kind(), Some(Kind::StaleLease | Kind::NotFound)) {
                return Err(Stop::Lost);
            }
            if matches!(error, client::Error::File { .. }) {
                return Err(Stop::Unable(error.to_string()));
            }
            if !error.retryable() || client.probe().await.is_ok() {
                let retryable = error.kind() != Some(Kind::SourceExpired);
                let message = format!("The source cannot be downloaded: {error}");
                return Err(Stop::Failed { message, retryable });
            }
            let wait = submit::wait(failed, error.retry_after());
            tracing::warn!(%error, wait_ms = wait.as_millis(), "nothing can be reached; the download goes on later");
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    async fn convert(
        &self,
        converter: &Description,
        folder: &WorkFolder,
        path: &Path,
    ) -> Result<Converted, Stop> {
        tracing::info!(converter = converter.name, "converting");
        self.run.converting(&converter.name);
        self.converting_since.get_or_init(Instant::now);
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).map_err(|error| no_folder(&error))?;
        let source = Source {
            path,
            options: &self.job.task_options,
            folder: &scratch,
            python: &self.worker.converters.python,
            deadline: self.deadline,
            walls: &self.worker.converters.walls,
        };
        let mut on_line = |line: &str| self.run.line(line);
        let converted = convert::convert(converter, source, &self.stop, &mut on_line).await;
        convert::blaming_the_disk(converted, folder.path()).await.map_err(|error| match error {
            ConvertError::Stopped => self.stopped(),
            ConvertError::Unable(reason) => Stop::Unable(reason),
            ConvertError::Elsewhere(message) => Stop::Elsewhere(message),
            ConvertError::Failed { message, retryable } => Stop::Failed { message, retryable },
        })
    }

    fn stopped(&self) -> Stop {
        if self.heartbeat.lost().is_some() { Stop::Lost } else { Stop::Killed }
    }
}

fn no_folder(error: &std::io::Error) -> Stop {
    Stop::Unable(format!("A work folder cannot be created: {error}."))
}

fn passing(message: impl Into<String>) -> Stop {
    Stop::Failed { message: message.into(), retryable: true }
}

fn lasting(message: impl Into<String>) -> Stop {
    Stop::Failed { message: message.into(), retryable: false }
}

fn succeeded(converted: Converted, processing_time: Option<f64>) -> ResultRequest {
    ResultRequest {
        success: true,
        content: Some(converted.content),
        metadata: Some(converted.metadata),
        processing_time,
        ..ResultRequest::default()
    }
}

fn failed(message: String, retryable: bool, processing_time: Option<f64>) -> ResultRequest {
    ResultRequest {
        success: false,
        error_message: Some(message),
        retryable: Some(retryable),
        processing_time,
        ..ResultRequest::default()
    }
}
