use std::{sync::atomic::Ordering, time::Duration};

use api::{
    Kind, Problem, rfc3339,
    status::{AttemptView, StatusRequest, StatusResponse},
};
use domain::{Attempt, FileName, Job, JobId, Outcome, Pending, Running, State, Status, Timestamp, Wait};
use tokio::{
    sync::broadcast,
    time::{Instant, timeout_at},
};

use crate::{Caller, Error, Service};

/// The longest that a caller may ask to wait, in seconds.
const LONGEST_WAIT: u64 = 20;
/// How often a call that waits looks for an end that another server wrote.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a result's URL is valid.
const RESULT_VALID: Duration = Duration::from_secs(300);

impl Service {
    /// Where a job stands: at once, or once it has ended, for as long as the caller and this server wait.
    ///
    /// # Errors
    /// No job, a wait that is too long, or the store.
    pub async fn status(
        &self,
        caller: &Caller,
        job_id: &str,
        request: StatusRequest,
    ) -> Result<StatusResponse, Error> {
        let asked = request.wait_seconds.unwrap_or(0);
        if asked > LONGEST_WAIT {
            return Err(Error::field("wait_seconds", format!("must be 0 to {LONGEST_WAIT}")));
        }
        let wait = Duration::from_secs(asked).min(self.rules.longest_wait);
        // Registered before looking, so that an end in between is not missed.
        let mut ended = self.ended.subscribe();
        let mut job = self.job(caller, job_id).await?;
        let until = Instant::now() + wait;
        while job.ending().is_none() && Instant::now() < until && !self.draining.load(Ordering::Relaxed) {
            let _ =
                timeout_at(until.min(Instant::now() + LOOK_AGAIN), one_of_interest(&mut ended, job.id)).await;
            job = self.job(caller, job_id).await?;
        }
        let mut view = view(&job, self.estimated_completion(&job).await);
        if asked > 0 && job.ending().is_none() {
            let again = if wait.is_zero() { self.rules.poll_again } else { Duration::ZERO };
            view.poll_again_in_seconds = Some(again.as_secs());
        }
        Ok(view)
    }

    /// A URL of a completed job's result document.
    ///
    /// # Errors
    /// No job, a job that is not completed, a result that is not stored any more, or the store.
    pub async fn result_url(&self, caller: &Caller, job_id: &str) -> Result<String, Error> {
        let job = self.job(caller, job_id).await?;
        let State::Completed { result, .. } = &job.state else {
            return Err(no_result(&job));
        };
        // Asked for here, because the object store would answer whoever follows the URL in words of its own.
        if self.store.handoff.head(&result.key).await?.is_none() {
            let detail = format!("The result of job {} is not stored any more; create a new job.", job.id);
            return Err(Error::rejected(Kind::NotFound, detail));
        }
        let name = FileName::from_client("result.json");
        Ok(self.store.handoff.presign_get(&result.key, &name, RESULT_VALID).await?.url)
    }
}

fn no_result(job: &Job) -> Error {
    let (id, status) = (job.id, job.status());
    let detail = match job.ending() {
        None => format!("Job {id} is {status}; it has no result yet, wait for its end."),
        Some(_) => format!("Job {id} ended as {status}; it has no result, retry it or convert locally."),
    };
    let problem = Problem::new(Kind::Refused, detail);
    Error::Rejected(Box::new(Problem { job_status: Some(status.to_string()), ..problem }))
}

/// Waits until `id` has ended here, this server stops, or so many others have ended that it may have been missed.
async fn one_of_interest(ended: &mut broadcast::Receiver<JobId>, id: JobId) {
    loop {
        match ended.recv().await {
            Ok(other) if other != id && !other.0.is_nil() => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Who runs a job, or ran it last.
pub(crate) fn last_worker(job: &Job) -> Option<String> {
    let last = job.attempts.last().map(|attempt| &attempt.worker);
    job.running().map(|running| &running.worker).or(last).map(ToString::to_string)
}

/// How far the running or last attempt is.
pub(crate) fn percentage(job: &Job) -> u8 {
    match (job.status(), &job.progress) {
        (Status::Completed, _) => 100,
        (_, Some(progress)) => progress.percentage,
        (_, None) => 0,
    }
}

fn view(job: &Job, estimated_completion: Option<Timestamp>) -> StatusResponse {
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
        worker_id: last_worker(job),
        created_at: rfc3339(job.created_at),
        started_at: running
            .map(|running| running.started_at)
            .or_else(|| last.map(|attempt| attempt.started_at))
            .map(rfc3339),
        completed_at: ending.map(|ending| rfc3339(ending.at)),
        error_message: error_message(job),
        retry_count: job.retries,
        estimated_completion: estimated_completion.map(rfc3339),
        percentage: percentage(job),
        progress_message: message.clone(),
        summary: message,
        updated_at: rfc3339(job.updated_at),
        max_retries: job.spec.limits.max_retries,
        timeout_at: job.deadline().map(rfc3339),
        attempts: attempts(job),
        next_attempt_at: next_attempt_at(job).map(rfc3339),
        ingestion_task_id: job.spec.ingestion_task_id.clone(),
        content_type: job.spec.content_type.to_string(),
        poll_again_in_seconds: None,
    }
}

/// Why the job ended, or why its last attempt failed while another is to follow.
pub(crate) fn error_message(job: &Job) -> Option<String> {
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
