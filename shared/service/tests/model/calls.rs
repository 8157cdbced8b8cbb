//! The calls that a history makes, and what is answered, in the words that the model uses too.

use api::{
    create::{CreateJobRequest, PriorityName},
    manage::CancelRequest,
    poll::{PollRequest, PollResponse},
    progress::ProgressRequest,
    result::{ReleaseRequest, ResultDocument, ResultRequest},
    status::{StatusRequest, StatusResponse},
};
use domain::Refused;
use serde_json::Map;
use service::{Caller, Error, Service};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant};

use crate::{
    deliver::{Carried, Script, deliver, redrive},
    job::Brought,
    steps::{SHAPES, WORKERS},
    system::caller,
};

/// Who calls about a job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Who {
    pub(crate) tenant: &'static str,
    pub(crate) key: &'static str,
    pub(crate) token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// A text, which is part of the request.
    Inline,
    /// A text that was uploaded before.
    Uploaded,
    Failed {
        retryable: bool,
    },
}

pub(crate) const FAILURE: &str = "no text in it";

/// A call with all that it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Create { tenant: &'static str, source: String, shape: usize, key: Option<u8> },
    Poll { worker: usize, content_types: Vec<&'static str>, most: u64, lease: Option<u64> },
    Heartbeat { job: String, who: Who, percent: u8 },
    Submit { job: String, who: Who, verdict: Verdict, key: String },
    Release { job: String, who: Who },
    Cancel { job: String, tenant: &'static str, takeover: bool },
    Retry { job: String, tenant: &'static str },
    Delete { job: String, tenant: &'static str },
    Pause { tenant: &'static str, content_type: &'static str, resume: bool },
    Status { job: String, tenant: &'static str },
    Result { job: String, tenant: &'static str },
    Sweep,
    Deliver(Script),
    Redrive { event: String, tenant: &'static str },
}

impl Call {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Poll { .. } => "poll",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Submit { .. } => "submit",
            Self::Release { .. } => "release",
            Self::Cancel { .. } => "cancel",
            Self::Retry { .. } => "retry",
            Self::Delete { .. } => "delete",
            Self::Pause { .. } => "pause",
            Self::Status { .. } => "status",
            Self::Result { .. } => "result",
            Self::Sweep => "sweep",
            Self::Deliver(_) => "deliver",
            Self::Redrive { .. } => "redrive",
        }
    }
}

/// What a call was answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answered {
    /// All that matters of it, in words.
    pub(crate) text: String,
    /// The job that was created, or was there already.
    pub(crate) job: Option<String>,
    pub(crate) given: Vec<Given>,
    pub(crate) carried: Vec<Carried>,
    pub(crate) url: Option<String>,
}

/// A job that a poll gave out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    pub(crate) job: String,
    pub(crate) token: Option<String>,
    /// What its lease is, in words.
    pub(crate) lease: String,
}

fn said(text: impl Into<String>) -> Answered {
    Answered { text: text.into(), ..Answered::default() }
}

/// Makes a call.
pub(crate) async fn make(service: Service, call: Call) -> Answered {
    let answered = match &call {
        Call::Create { tenant, source, shape, key } => create(&service, tenant, source, *shape, *key).await,
        Call::Poll { worker, content_types, most, lease } => {
            poll(&service, *worker, content_types, *most, *lease).await
        }
        Call::Heartbeat { job, who, percent } => heartbeat(&service, job, who, *percent).await,
        Call::Submit { job, who, verdict, key } => submit(&service, job, who, *verdict, key).await,
        Call::Release { job, who } => {
            let released =
                service.release(&who.caller(), job, who.token.as_deref(), &ReleaseRequest::default()).await;
            released.map(|released| said(released.status))
        }
        Call::Cancel { job, tenant, takeover } => {
            let request = CancelRequest { takeover: *takeover };
            let cancelled = service.cancel(&caller(tenant, "ingest"), job, &request).await;
            cancelled.map(|job| said(format!("{}, by {}", job.status, job.continued_by.unwrap_or_default())))
        }
        Call::Retry { job, tenant } => {
            let retried = service.retry(&caller(tenant, "ingest"), job).await;
            retried.map(|job| said(format!("{}, by {}", job.status, job.continued_by.unwrap_or_default())))
        }
        Call::Delete { job, tenant } => {
            service.delete(&caller(tenant, "ingest"), job).await.map(|_| said("deleted"))
        }
        Call::Pause { tenant, content_type, resume: false } => {
            service.pause_queue(&caller(tenant, "operator"), content_type).await.map(|_| said("paused"))
        }
        Call::Pause { tenant, content_type, resume: true } => {
            service.resume_queue(&caller(tenant, "operator"), content_type).await.map(|_| said("resumed"))
        }
        Call::Status { job, tenant } => {
            let status = service.status(&caller(tenant, "ingest"), job, StatusRequest::default()).await;
            status.map(|status| said(status_text(&status)))
        }
        Call::Result { job, tenant } => {
            let url = service.result_url(&caller(tenant, "ingest"), job).await;
            url.map(|url| Answered { url: Some(url), ..said("a URL") })
        }
        Call::Sweep => {
            let swept = service.sweep(Instant::now() + Duration::from_secs(3600)).await;
            swept.map(|swept| {
                let (live, over, back) = (swept.live, swept.timed_out, swept.returned);
                said(format!("{live} live, {over} timed out, {back} returned, complete {}", swept.complete))
            })
        }
        Call::Deliver(script) => {
            let (done, carried) = deliver(&service, script).await;
            let text = done.unwrap_or_else(|error| refusal(&error));
            Ok(Answered { carried, ..said(text) })
        }
        Call::Redrive { event, tenant } => redrive(&service, tenant, event).await.map(said),
    };
    answered.unwrap_or_else(|error| said(refusal(&error)))
}

impl Who {
    fn caller(&self) -> Caller {
        caller(self.tenant, self.key)
    }

    pub(crate) fn brings(&self) -> Brought {
        let token = self.token.as_ref().map(|token| hex::encode(Sha256::digest(token.as_bytes())));
        Brought { token, key: self.key }
    }
}

async fn create(
    service: &Service,
    tenant: &str,
    source: &str,
    shape: usize,
    key: Option<u8>,
) -> Result<Answered, Error> {
    let asked = &SHAPES[shape];
    let seconds = |span: i64| u64::try_from(span / 1000).ok();
    let mut task_options = Map::new();
    if asked.large_options {
        task_options.insert("prompt".to_owned(), "p".repeat(300).into());
    }
    let request = CreateJobRequest {
        source_file_path: source.to_owned(),
        content_type: asked.content_type.parse().map_err(|_| Error::Internal("no such type".to_owned()))?,
        task_options,
        ingestion_task_id: "task-1".to_owned(),
        timeout_seconds: seconds(asked.run),
        queue_timeout_seconds: seconds(asked.queue),
        total_timeout_seconds: asked.total.and_then(seconds),
        fallback_to_local: None,
        priority: Some(match asked.credit / 3_600_000 {
            0 => PriorityName::Low,
            1 => PriorityName::Normal,
            _ => PriorityName::High,
        }),
        max_retries: Some(asked.max_retries.into()),
        webhook_url: asked.webhook.and_then(|url| url.parse().ok()),
    };
    let key = key.map(|key| format!("key-{key}"));
    let created = service.create(&caller(tenant, "ingest"), &request, key.as_deref()).await?;
    let text = format!("{} since {}", created.status, created.created_at);
    Ok(Answered { job: Some(created.job_id), ..said(text) })
}

async fn poll(
    service: &Service,
    worker: usize,
    content_types: &[&'static str],
    most: u64,
    lease: Option<u64>,
) -> Result<Answered, Error> {
    let worker = &WORKERS[worker];
    let request = PollRequest {
        worker_id: worker.name.to_owned(),
        content_types: content_types.iter().filter_map(|name| name.parse().ok()).collect(),
        max_jobs: Some(most),
        lease_seconds: lease.filter(|_| worker.native),
        wait_seconds: None,
        ..PollRequest::default()
    };
    let answer = service.poll(&caller(worker.tenant, worker.key), &request, worker.native).await?;
    Ok(Answered { given: given(answer), ..said("jobs") })
}

fn given(answer: PollResponse) -> Vec<Given> {
    let of = |job: String, lease: Option<api::poll::LeaseGrant>| Given {
        job,
        lease: lease.as_ref().map(lease_text).unwrap_or_default(),
        token: lease.map(|lease| lease.lease_token),
    };
    match answer.jobs {
        Some(jobs) => jobs.into_iter().map(|job| of(job.job_id, Some(job.lease))).collect(),
        None => answer.job_id.into_iter().map(|job| of(job, answer.lease.clone())).collect(),
    }
}

fn lease_text(lease: &api::poll::LeaseGrant) -> String {
    format!(
        "attempt {}, {} s, report every {} s, run {} s",
        lease.attempt, lease.lease_expires_in_seconds, lease.report_every_seconds, lease.run_timeout_seconds
    )
}

async fn heartbeat(service: &Service, job: &str, who: &Who, percent: u8) -> Result<Answered, Error> {
    let request =
        ProgressRequest { percentage: percent.into(), message: String::new(), timestamp: None, stage: None };
    let answer = service.report_progress(&who.caller(), job, who.token.as_deref(), &request).await?;
    Ok(said(match answer.cancelled {
        true => "cancelled".to_owned(),
        false => format!(
            "goes on for {} s, report every {} s",
            answer.lease_expires_in_seconds, answer.report_every_seconds
        ),
    }))
}

async fn submit(
    service: &Service,
    job: &str,
    who: &Who,
    verdict: Verdict,
    key: &str,
) -> Result<Answered, Error> {
    let request = match verdict {
        Verdict::Inline => ResultRequest { success: true, content: Some(content(who)), ..Default::default() },
        Verdict::Uploaded => {
            ResultRequest { success: true, result_key: Some(key.to_owned()), ..Default::default() }
        }
        Verdict::Failed { retryable } => ResultRequest {
            error_message: Some(FAILURE.to_owned()),
            retryable: Some(retryable),
            ..Default::default()
        },
    };
    let answer = service.submit_result(&who.caller(), job, who.token.as_deref(), &request).await?;
    Ok(said(format!("{}, continued {}", answer.status, answer.ingestion_continued)))
}

/// What a worker reads out of every file: no two attempts come to the same.
fn content(who: &Who) -> String {
    format!("text for {} {}", who.key, who.token.as_deref().unwrap_or("nobody"))
}

/// The document that a result is kept as.
pub(crate) fn document(who: &Who) -> Vec<u8> {
    let document = ResultDocument { content: content(who), ..ResultDocument::default() };
    serde_json::to_vec(&document).unwrap_or_default()
}

pub(crate) fn status_text(status: &StatusResponse) -> String {
    let maybe = |text: &Option<String>| text.clone().unwrap_or_default();
    let attempts: Vec<String> = status
        .attempts
        .iter()
        .map(|attempt| {
            let ended = maybe(&attempt.ended_at);
            let (number, worker, from) = (attempt.attempt, &attempt.worker_id, &attempt.started_at);
            format!("{number} {worker} {from} {ended} {} {}", attempt.outcome, maybe(&attempt.error))
        })
        .collect();
    format!(
        "{} of {} since {}, updated {}, started {}, completed {}, error {}, retry {} of {}, {} %, until {}, next {}, [{}]",
        status.status,
        maybe(&status.worker_id),
        status.created_at,
        status.updated_at,
        maybe(&status.started_at),
        maybe(&status.completed_at),
        status.error_message.is_some(),
        status.retry_count,
        status.max_retries,
        status.percentage,
        maybe(&status.timeout_at),
        maybe(&status.next_attempt_at),
        attempts.join(", ")
    )
}

/// Why a call was refused, in the words of [`crate::job::Refusal`].
fn refusal(error: &Error) -> String {
    let Error::Refused(_, refused) = error else {
        return match error {
            Error::NoJob(_) => "no such job".to_owned(),
            Error::Rejected(problem) if !problem.errors.is_empty() => problem.detail.clone(),
            Error::Rejected(problem) => problem.kind.clone(),
            other => format!("an error: {other:?}"),
        };
    };
    let name = match refused {
        Refused::StaleLease { .. } => "StaleLease".to_owned(),
        Refused::NoLeaseToken { .. } => "NoLeaseToken".to_owned(),
        Refused::RunTimeout { .. } => "RunTimeout".to_owned(),
        Refused::OtherOutcome { first, .. } => format!("OtherOutcome({first:?})"),
        Refused::NotDue { .. } => "NotDue".to_owned(),
        Refused::Ended { .. } => "Ended".to_owned(),
        Refused::NotRetryable { .. } => "NotRetryable".to_owned(),
        Refused::TakenOver { .. } => "TakenOver".to_owned(),
        Refused::TooManyAttempts { .. } => "TooManyAttempts".to_owned(),
        Refused::NotEnded { .. } => "NotEnded".to_owned(),
    };
    format!("refused: {name} of a job that is {}", refused.status())
}
