use std::time::Duration;

use api::{
    Kind, rfc3339,
    status::{AttemptView, StatusResponse},
};
use domain::{Attempt, FileName, Job, Outcome, Pending, Running, State, Status, Timestamp, Wait};

use crate::{Caller, Error, Service};

/// How long a result's URL is valid.
const RESULT_VALID: Duration = Duration::from_secs(300);

impl Service {
    /// Where a job stands.
    ///
    /// # Errors
    /// No job, or the store.
    pub async fn status(&self, caller: &Caller, job_id: &str) -> Result<StatusResponse, Error> {
        Ok(view(&self.job(caller, job_id).await?))
    }

    /// A URL of a completed job's result document.
    ///
    /// # Errors
    /// No job, a job that is not completed, or the store.
    pub async fn result_url(&self, caller: &Caller, job_id: &str) -> Result<String, Error> {
        let job = self.job(caller, job_id).await?;
        let State::Completed { result, .. } = &job.state else {
            return Err(Error::rejected(
                Kind::Refused,
                match job.ending() {
                    None => format!("Job {} is {}; it has no result yet.", job.id, job.status()),
                    Some(_) => format!("Job {} ended as {}; it has no result.", job.id, job.status()),
                },
            ));
        };
        let name = FileName::from_client("result.json");
        Ok(self.store.handoff.presign_get(&result.key, &name, RESULT_VALID).await?.url)
    }
}

fn view(job: &Job) -> StatusResponse {
    let last = job.attempts.last();
    let running = job.running();
    let ending = job.ending();
    // The last message of a job that is done would say that it still goes on.
    let message = match job.status() {
        Status::Completed => Some("Processing completed".to_owned()),
        _ => job.progress.as_ref().map(|progress| progress.message.clone()),
    };
    StatusResponse {
        job_id: job.id.to_string(),
        status: job.status().to_string(),
        worker_id: running
            .map(|running| running.worker.to_string())
            .or_else(|| last.map(|attempt| attempt.worker.to_string())),
        created_at: rfc3339(job.created_at),
        started_at: running
            .map(|running| running.started_at)
            .or_else(|| last.map(|attempt| attempt.started_at))
            .map(rfc3339),
        completed_at: ending.map(|ending| rfc3339(ending.at)),
        error_message: error_message(job),
        retry_count: job.retries,
        estimated_completion: job.estimated_completion().map(rfc3339),
        percentage: match (job.status(), &job.progress) {
            (Status::Completed, _) => 100,
            (_, Some(progress)) => progress.percentage,
            (_, None) => 0,
        },
        progress_message: message.clone(),
        summary: message,
        updated_at: rfc3339(job.updated_at),
        max_retries: job.spec.limits.max_retries,
        timeout_at: job.deadline().map(rfc3339),
        attempts: attempts(job),
        next_attempt_at: next_attempt_at(job).map(rfc3339),
        ingestion_task_id: job.spec.ingestion_task_id.clone(),
        content_type: job.spec.content_type.to_string(),
    }
}

/// Why the job ended, or why its last attempt failed while another is to follow.
fn error_message(job: &Job) -> Option<String> {
    if let Some(ending) = job.ending() {
        return ending.error.map(str::to_owned);
    }
    match &job.attempts.last()?.outcome {
        Outcome::Failed { error, .. } => Some(error.clone()),
        Outcome::TimedOut => Some("the last attempt ran past its timeout".to_owned()),
        Outcome::Lapsed => Some("the last attempt's worker stopped reporting".to_owned()),
        Outcome::NeverHeardOf | Outcome::Released | Outcome::Cancelled | Outcome::Completed => None,
    }
}

fn next_attempt_at(job: &Job) -> Option<Timestamp> {
    match &job.state {
        State::Pending(Pending { wait: Wait::Backoff, since }) => Some(*since),
        State::Pending(_)
        | State::Processing(_)
        | State::Completed { .. }
        | State::Failed { .. }
        | State::Timeout { .. }
        | State::Cancelled { .. } => None,
    }
}

fn attempts(job: &Job) -> Vec<AttemptView> {
    let ended = job.attempts.iter().map(ended_attempt);
    let running = job.running().map(running_attempt);
    ended.chain(running).zip(1..).map(|(view, attempt)| AttemptView { attempt, ..view }).collect()
}

fn ended_attempt(attempt: &Attempt) -> AttemptView {
    let (outcome, error) = match &attempt.outcome {
        Outcome::Completed => ("completed", None),
        Outcome::Failed { error, .. } => ("failed", Some(error.clone())),
        Outcome::TimedOut => ("timed-out", None),
        Outcome::Lapsed => ("lapsed", None),
        Outcome::NeverHeardOf => ("never-heard-of", None),
        Outcome::Released => ("released", None),
        Outcome::Cancelled => ("cancelled", None),
    };
    AttemptView {
        attempt: 0,
        worker_id: attempt.worker.to_string(),
        started_at: rfc3339(attempt.started_at),
        ended_at: Some(rfc3339(attempt.ended_at)),
        outcome: outcome.to_owned(),
        error,
    }
}

fn running_attempt(running: &Running) -> AttemptView {
    AttemptView {
        attempt: 0,
        worker_id: running.worker.to_string(),
        started_at: rfc3339(running.started_at),
        ended_at: None,
        outcome: "running".to_owned(),
        error: None,
    }
}
