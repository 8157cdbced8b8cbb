use std::time::Duration;

use api::{
    Kind,
    create::{CreateJobRequest, CreateJobResponse, PriorityName},
    rfc3339,
};
use bytes::Bytes;
use domain::{Job, JobId, Limits, MAX_RETRIES, Priority, Spec, TaskOptions, WebhookUrl};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::{Creation, StorageKey};
use uuid::Uuid;

use crate::{Caller, Error, Service, transition::note, uploads::checked_idempotency_key};

/// Larger task options are kept as an object, because every heartbeat pays for the whole row by the kilobyte. What
/// the original's ingestion asks for takes 247 bytes and stays in the row.
pub(crate) const INLINE_OPTIONS: usize = 256;
/// The largest task options.
const LARGEST_OPTIONS: usize = 256 << 10;

/// A day and thirty days, the bounds of what a request may ask for.
const LONGEST_RUN: u64 = 24 * 3600;
const LONGEST_WAIT: u64 = 30 * 24 * 3600;

/// How long a job waits for a worker when its creator would rather convert it locally, and otherwise.
const QUEUE_WITH_FALLBACK: Duration = Duration::from_secs(300);
pub(crate) const QUEUE: Duration = Duration::from_secs(24 * 3600);

impl Service {
    /// A new job; or, under an idempotency key, the job that the same request created before.
    ///
    /// # Errors
    /// A field that does not fit, an idempotency key that belongs to another request, or the store.
    pub async fn create(
        &self,
        caller: &Caller,
        request: &CreateJobRequest,
        idempotency_key: Option<&str>,
    ) -> Result<CreateJobResponse, Error> {
        let limits = self.limits(request)?;
        checked_task_id(&request.ingestion_task_id)?;
        if let Some(url) = &request.webhook_url {
            self.rules.webhook_networks.url(url).map_err(|error| Error::field("webhook_url", error.0))?;
        }
        let id = match idempotency_key {
            Some(key) => JobId::of_idempotency_key(&caller.tenant, checked_idempotency_key(key)?),
            None => JobId(Uuid::now_v7()),
        };
        let request_hash = idempotency_key.map(|_| request_hash(request)).transpose()?;
        let options = options_text(&request.task_options)?;
        let source = match self.source(caller, &request.source_file_path, &request.content_type, id.0).await {
            Ok(source) => source,
            // The source of an earlier creation may be gone by now, and its job is still the answer.
            Err(error) => match self.store.jobs.get(id).await? {
                Some(job) if request_hash.is_some() => return existing(&job, request_hash),
                Some(_) | None => return Err(error),
            },
        };
        let inline = inline_room(request.webhook_url.as_ref(), request_hash.is_some());
        let spec = Spec {
            content_type: request.content_type.clone(),
            ingestion_task_id: request.ingestion_task_id.clone(),
            source,
            task_options: self.task_options(caller, id, options, inline).await?,
            limits,
            priority: match request.priority {
                Some(PriorityName::High) => Priority::High,
                Some(PriorityName::Normal) | None => Priority::Normal,
                Some(PriorityName::Low) => Priority::Low,
            },
            request_hash,
            webhook: request.webhook_url.clone(),
        };
        let job = Job::create(id, caller.tenant.clone(), spec, self.now());
        match self.store.jobs.create(&job).await? {
            Creation::Created => {
                note(&job);
                self.announce(&job).await;
                Ok(created(&job))
            }
            // Without a key the id was made for this call alone: the SDK repeated the write after a lost answer, and a
            // worker was there in between.
            Creation::Exists(job) if request_hash.is_none() => Ok(created(&job)),
            Creation::Exists(job) => existing(&job, request_hash),
        }
    }

    fn limits(&self, request: &CreateJobRequest) -> Result<Limits, Error> {
        let run = bounded("timeout_seconds", request.timeout_seconds, LONGEST_RUN)?;
        let queue = bounded("queue_timeout_seconds", request.queue_timeout_seconds, LONGEST_WAIT)?;
        let by_default = if request.fallback_to_local == Some(true) { QUEUE_WITH_FALLBACK } else { QUEUE };
        Ok(Limits {
            queue: queue.unwrap_or(by_default),
            run: run.unwrap_or_else(|| self.rules.run_timeout(&request.content_type)),
            total: bounded("total_timeout_seconds", request.total_timeout_seconds, LONGEST_WAIT)?,
            max_retries: checked_retries(request.max_retries)?,
        })
    }

    pub(crate) async fn task_options(
        &self,
        caller: &Caller,
        job: JobId,
        text: String,
        inline: usize,
    ) -> Result<TaskOptions, Error> {
        if text.len() <= inline {
            return Ok(TaskOptions::Inline(text));
        }
        let key = StorageKey::Options { tenant: caller.tenant.clone(), job };
        let sha256 = Sha256::digest(text.as_bytes()).into();
        self.store.handoff.put(&key, Bytes::from(text), &sha256).await?;
        // A put replaces nothing, and a creation that failed or a job that has expired may have left other options here.
        let stored = self.store.handoff.head(&key.to_string()).await?;
        if stored.and_then(|object| object.sha256).is_some_and(|there| there != sha256) {
            return Err(Error::field(
                "task_options",
                "are not those of an earlier request for this job, which are still stored; send those, or use another Idempotency-Key",
            ));
        }
        Ok(TaskOptions::Stored)
    }
}

/// How long task options may be to stay in a row that carries these as well.
fn inline_room(webhook: Option<&WebhookUrl>, hash: bool) -> usize {
    let webhook = webhook.map_or(0, |url| url.as_str().len());
    INLINE_OPTIONS.saturating_sub(webhook + if hash { 32 } else { 0 })
}

/// An ingestion task's id that can be one.
pub(crate) fn checked_task_id(id: &str) -> Result<(), Error> {
    if (1..=255).contains(&id.chars().count()) && !id.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::field("ingestion_task_id", "must be 1 to 255 characters without control characters"))
}

/// How many retries there may be.
pub(crate) fn checked_retries(asked: Option<u64>) -> Result<u32, Error> {
    u32::try_from(asked.unwrap_or(3))
        .ok()
        .filter(|retries| *retries <= MAX_RETRIES)
        .ok_or_else(|| Error::field("max_retries", format!("must be 0 to {MAX_RETRIES}")))
}

pub(crate) fn options_text(options: &Map<String, Value>) -> Result<String, Error> {
    let options = sorted(options.clone());
    let text = serde_json::to_string(&options).map_err(|error| Error::Internal(error.to_string()))?;
    if text.len() > LARGEST_OPTIONS {
        return Err(Error::field("task_options", "must be at most 256 KiB of JSON"));
    }
    Ok(text)
}

/// The same options in the one order. A client may spell them in another, and serde_json keeps that where any crate of the build
/// asks for it.
fn sorted(mut options: Map<String, Value>) -> Map<String, Value> {
    options.sort_keys();
    options.values_mut().for_each(Value::sort_all_objects);
    options
}

fn bounded(field: &str, seconds: Option<u64>, most: u64) -> Result<Option<Duration>, Error> {
    match seconds {
        Some(seconds) if !(1..=most).contains(&seconds) => {
            Err(Error::field(field, format!("must be 1 to {most} seconds")))
        }
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// What makes two creations the same request. An upload's path is left out: who repeats the whole creation may have
/// uploaded the same file to another place.
fn request_hash(request: &CreateJobRequest) -> Result<[u8; 32], Error> {
    let mut request = request.clone();
    if request.source_file_path.parse::<StorageKey>().is_ok() {
        request.source_file_path.clear();
    }
    request.task_options = sorted(request.task_options);
    let text = serde_json::to_vec(&request).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(Sha256::digest(text).into())
}

fn created(job: &Job) -> CreateJobResponse {
    CreateJobResponse {
        job_id: job.id.to_string(),
        status: job.status().to_string(),
        created_at: rfc3339(job.created_at),
    }
}

fn existing(job: &Job, request_hash: Option<[u8; 32]>) -> Result<CreateJobResponse, Error> {
    if request_hash.is_some() && job.spec.request_hash == request_hash {
        return Ok(created(job));
    }
    Err(Error::rejected(
        Kind::IdempotencyMismatch,
        format!(
            "This Idempotency-Key created job {} by another request; use a new key for a new job.",
            job.id
        ),
    ))
}
