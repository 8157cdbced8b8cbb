//! The remote conversion itself: upload, creation, waiting, result.

use std::{path::Path, time::Duration};

use api::{create::CreateJobRequest, status::StatusResponse};
use client::{Error, RetryPolicy, retrying};
use tokio::time::{Instant, sleep, timeout_at};

use super::run::{Known, Run};
use crate::{
    Converted, Event, Events, FallbackReason, LocalConversion, Pace, Source, detect,
    questions::{self, NoAnswer, is_denied},
};

/// How long a call is to be held open at most, in seconds. The most that the control plane admits.
const LONGEST_HOLD: u64 = 20;
/// How often a job is asked for that somebody looks at: at first, for how long, and then.
const OFTEN: Duration = Duration::from_secs(1);
const LIVELY: Duration = Duration::from_secs(30);
const SELDOM: Duration = Duration::from_secs(3);
/// How much more seldom a job is asked for of whose end a webhook tells.
const TOLD: u32 = 6;
/// The waits between tries to reach a control plane that is away.
const AWAY: RetryPolicy =
    RetryPolicy { tries: u32::MAX, base: Duration::from_secs(1), cap: Duration::from_secs(15) };
/// The longest time for a result to arrive that is there when time is up. Local work waits for it.
const FETCH: Duration = Duration::from_secs(10);

/// What is told of a job when it changes.
#[derive(PartialEq)]
struct Told {
    status: String,
    percentage: u8,
    message: Option<String>,
}

impl<L: LocalConversion, E: Events> Run<'_, L, E> {
    /// Converts remotely, from wherever an earlier run has got to.
    pub(super) async fn remotely(&self) -> Result<Converted, FallbackReason> {
        let job_id = match self.job_id() {
            Some(job_id) => job_id,
            None => self.create().await?,
        };
        self.events.tell(Event::Created { job_id: &job_id });
        self.wait(&job_id).await?;
        self.fetch(&job_id).await
    }

    /// Uploads and creates, and gives the job's id.
    async fn create(&self) -> Result<String, FallbackReason> {
        if self.deadline <= Instant::now() {
            return Err(FallbackReason::Deadline);
        }
        let source = match &self.task.source {
            Source::Url(url) => detect::with_small_scheme(url),
            Source::File { path, name } => self.upload(path, name).await?,
        };
        let request = self.request(source);
        // From here on there may be a job, whatever is answered.
        self.learn(Known::Asked(Box::new(request.clone())));
        let policy = RetryPolicy::default();
        let creating = retrying(&policy, || self.create_job(&request));
        match timeout_at(self.deadline, creating).await {
            Err(_) => Err(FallbackReason::Deadline),
            Ok(created) => created.map_err(|error| refused(&error)),
        }
    }

    /// Creates the job once, or finds it, and notes what is known then.
    ///
    /// # Errors
    /// The control plane's. If it is a refusal, there is no job.
    pub(super) async fn create_job(&self, request: &CreateJobRequest) -> Result<String, Error> {
        let error = match self.client.create_job(request, Some(&self.key)).await {
            Ok(created) => {
                self.learn(Known::Job(created.job_id.clone()));
                return Ok(created.job_id);
            }
            Err(error) => error,
        };
        if error.kind() == Some(api::Kind::IdempotencyMismatch)
            && let Ok(Some(job_id)) = self.earlier_job().await
        {
            // The settings were others when an earlier run created it. It is the task's job.
            self.learn(Known::Job(job_id.clone()));
            return Ok(job_id);
        }
        if matches!(refused(&error), FallbackReason::Refused(_) | FallbackReason::Unauthorized(_)) {
            self.learn(Known::None);
        }
        Err(error)
    }

    async fn upload(&self, path: &Path, name: &str) -> Result<String, FallbackReason> {
        let told = |done, total| self.events.tell(Event::Uploading { done, total });
        let uploading = self.client.upload_file_as(path, name, &self.key, &told);
        match timeout_at(self.deadline, uploading).await {
            Err(_) => Err(FallbackReason::Deadline),
            Ok(Ok(uploaded)) => Ok(uploaded.source_file_path),
            Ok(Err(error)) => Err(refused(&error)),
        }
    }

    /// The same for every run of the task, or the control plane would take it for another request.
    fn request(&self, source_file_path: String) -> CreateJobRequest {
        let task = self.task;
        CreateJobRequest {
            source_file_path,
            content_type: task.content_type.clone(),
            task_options: task.options.clone(),
            ingestion_task_id: task.task_id.clone(),
            timeout_seconds: Some(self.settings.timeout(&task.content_type).as_secs()),
            queue_timeout_seconds: None,
            total_timeout_seconds: task.total_timeout.map(|total| total.as_secs().max(1)),
            fallback_to_local: Some(task.fallback_to_local),
            priority: task.priority,
            max_retries: None,
            webhook_url: task.webhook_url.clone(),
        }
    }

    pub(super) async fn earlier_job(&self) -> Result<Option<String>, NoAnswer> {
        let (task, longest) = (self.task, self.settings.longest_question);
        questions::earlier_job(self.client, longest, &task.task_id, &task.content_type).await
    }

    /// Waits until the job is completed.
    async fn wait(&self, job_id: &str) -> Result<(), FallbackReason> {
        let begun = Instant::now();
        // A job of an earlier run is looked at once, however late it is.
        let until = self.deadline.max(begun + self.settings.longest_question);
        let mut watch = Watch { begun, last: None, failed: 0, silent_since: None };
        loop {
            let asked = Instant::now();
            // The first call is answered at once, because it tells where the job stands.
            let first = watch.last.is_none();
            let hold = match self.task.pace {
                Pace::Quiet if !first => (until - asked).as_secs().min(LONGEST_HOLD),
                Pace::Quiet | Pace::Lively => 0,
            };
            let answer = tokio::select! {
                biased;
                answer = self.status(job_id, hold) => Some(answer),
                // Whoever wakes it knows of an end, which a call that is held may not have noticed.
                () = self.woken() => None,
                () = tokio::time::sleep_until(until) => return Err(FallbackReason::Deadline),
            };
            let pause = match answer {
                None => Duration::ZERO,
                Some(Ok(job)) => match self.noted(&mut watch, &job)? {
                    true => return Ok(()),
                    false if first && self.task.pace == Pace::Quiet => Duration::ZERO,
                    false => self.pause(&watch, &job, asked),
                },
                Some(Err(error)) => watch.failed(&error, asked, self.settings.patience)?,
            };
            if Instant::now() >= self.deadline {
                return Err(FallbackReason::Deadline);
            }
            tokio::select! {
                () = self.woken(), if !pause.is_zero() => {}
                () = sleep(pause.min(until - Instant::now())) => {}
            }
        }
    }

    async fn status(&self, job_id: &str, hold: u64) -> Result<StatusResponse, Error> {
        if hold == 0 {
            self.client.status(job_id).await
        } else {
            self.client.status_within(job_id, hold).await
        }
    }

    /// Returns once somebody who has heard of the job's end says so.
    async fn woken(&self) {
        match &self.task.wake {
            Some(wake) => wake.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Tells what is new of a job, and says whether it is completed.
    fn noted(&self, watch: &mut Watch, job: &StatusResponse) -> Result<bool, FallbackReason> {
        (watch.failed, watch.silent_since) = (0, None);
        let message = match job.status.as_str() {
            "completed" | "processing" => job.progress_message.as_ref(),
            _ => job.error_message.as_ref(),
        };
        let told = Told { status: job.status.clone(), percentage: job.percentage, message: message.cloned() };
        if watch.last.as_ref() != Some(&told) {
            let (status, percentage, message) = (&*told.status, told.percentage, told.message.as_deref());
            self.events.tell(Event::Remote { status, percentage, message });
        }
        watch.last = Some(told);
        let why = || job.error_message.clone().unwrap_or_else(|| "nobody says why".to_owned());
        match job.status.as_str() {
            "completed" => Ok(true),
            "failed" => Err(FallbackReason::Failed(why())),
            "timeout" => Err(FallbackReason::Timeout(why())),
            "cancelled" => Err(FallbackReason::Cancelled),
            _ => Ok(false),
        }
    }

    /// How long to wait before a job is asked for again that has not ended.
    fn pause(&self, watch: &Watch, job: &StatusResponse, asked: Instant) -> Duration {
        let interval = self.settings.poll_interval * if self.task.wake.is_some() { TOLD } else { 1 };
        match (self.task.pace, job.poll_again_in_seconds) {
            (Pace::Lively, _) if watch.begun.elapsed() < LIVELY => OFTEN,
            (Pace::Lively, _) => SELDOM,
            // The call was held. One that was answered early, by a server that is about to stop, is not repeated at once.
            (Pace::Quiet, Some(0)) => OFTEN.saturating_sub(asked.elapsed()),
            // An older server does not know that it could hold a call.
            (Pace::Quiet, again) => interval.max(Duration::from_secs(again.unwrap_or(0))),
        }
    }

    /// The result of a job that is completed.
    pub(super) async fn fetch(&self, job_id: &str) -> Result<Converted, FallbackReason> {
        let until = self.deadline.max(Instant::now() + FETCH);
        let policy = RetryPolicy { tries: 8, ..AWAY };
        let fetching = retrying(&policy, || self.client.result(job_id));
        match timeout_at(until, fetching).await {
            Err(_) => Err(FallbackReason::ResultUnavailable("time is up".to_owned())),
            Ok(Err(error @ Error::Corrupt { .. })) => Err(FallbackReason::UnusableResult(error.to_string())),
            Ok(Err(error)) => Err(FallbackReason::ResultUnavailable(error.to_string())),
            Ok(Ok(document)) if document.content.trim().is_empty() => {
                Err(FallbackReason::UnusableResult("it has no content".to_owned()))
            }
            Ok(Ok(document)) => Ok(Converted {
                content: document.content,
                metadata: document.metadata,
                processing_time: document.processing_time.unwrap_or(0.0),
            }),
        }
    }

    /// The result of a job that was completed before it could be taken over.
    pub(super) async fn remote_after_all(&self, job_id: &str) -> Result<Converted, FallbackReason> {
        let fetched = self.fetch(job_id).await;
        self.events.tell(match &fetched {
            Ok(_) => Event::RemoteAfterAll { job_id },
            Err(reason) => Event::FallingBack { reason },
        });
        fetched
    }
}

/// Where the waiting for a job stands.
struct Watch {
    begun: Instant,
    last: Option<Told>,
    /// How many calls failed in a row, and when the first of them was made.
    failed: u32,
    silent_since: Option<Instant>,
}

impl Watch {
    /// How long to wait after a call that failed.
    fn failed(
        &mut self,
        error: &Error,
        asked: Instant,
        patience: Duration,
    ) -> Result<Duration, FallbackReason> {
        if error.kind() == Some(api::Kind::NotFound) {
            return Err(FallbackReason::JobGone);
        }
        if is_denied(error) {
            return Err(FallbackReason::Unauthorized(error.to_string()));
        }
        self.failed += 1;
        if self.silent_since.get_or_insert(asked).elapsed() >= patience {
            return Err(FallbackReason::Unreachable(error.to_string()));
        }
        // What answers in a strange way, as a proxy does whose server is away, may still come to itself.
        Ok(AWAY.wait(self.failed, error).unwrap_or(AWAY.cap))
    }
}

/// Why an upload or a creation came to nothing.
fn refused(error: &Error) -> FallbackReason {
    let said = error.to_string();
    match error {
        _ if is_denied(error) => FallbackReason::Unauthorized(said),
        Error::Refused { status: 400..=499, .. } | Error::Unreadable { status: 400..=499, .. }
            if !error.retryable() =>
        {
            FallbackReason::Refused(said)
        }
        Error::Invalid { .. } => FallbackReason::Refused(said),
        Error::Transfer { .. } | Error::File { .. } | Error::Corrupt { .. } => {
            FallbackReason::UploadFailed(said)
        }
        Error::Refused { .. }
        | Error::Unreadable { .. }
        | Error::Unreachable { .. }
        | Error::Untrusted { .. }
        | Error::TimedOut { .. } => FallbackReason::Unreachable(said),
    }
}
