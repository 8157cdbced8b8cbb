//! Following a job by asking for its status, and telling what changed.

use std::time::Duration;

use api::status::StatusResponse;
use client::{Client, RetryPolicy, retrying};
use tokio::time::Instant;

use crate::failure::Failure;

/// How long a job is asked for often: most of what a person watches from the start is over soon.
const LIVELY: Duration = Duration::from_secs(30);
/// How often a job is asked for at first, and then.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(3);

/// How long a call waits for a job's end when nobody looks on. The most that the server admits.
const WAIT_SECONDS: u64 = 20;
/// How many calls wait at a time. More would keep more connections open than a server may give one caller.
const MOST_WAITING: usize = 20;

/// How a job is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Every second, and later every three, because somebody looks on.
    Lively,
    /// By calls that wait for the job's end, which then is known at once. What happens before is seen now and then.
    Quiet,
}

impl Pace {
    /// How so many jobs are followed together, with somebody looking on or not.
    pub(crate) fn of(jobs: usize, looked_on: bool) -> Self {
        if looked_on || jobs > MOST_WAITING { Self::Lively } else { Self::Quiet }
    }
}

/// How long a server that is away is waited for: about five minutes, a restart or a short outage.
const PATIENT: RetryPolicy =
    RetryPolicy { tries: 12, base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Follows a job until it has ended, and tells every change, the first status included.
pub(crate) async fn follow(
    client: &Client,
    job_id: &str,
    pace: Pace,
    mut changed: impl FnMut(&StatusResponse) -> Result<(), Failure>,
) -> Result<StatusResponse, Failure> {
    let begun = Instant::now();
    let mut last: Option<StatusResponse> = None;
    loop {
        let asked = Instant::now();
        // The first status is told at once, in any case.
        let held = pace == Pace::Quiet && last.is_some();
        let now = if held {
            retrying(&PATIENT, || client.status_within(job_id, WAIT_SECONDS)).await?
        } else {
            retrying(&PATIENT, || client.status(job_id)).await?
        };
        if last.as_ref().is_none_or(|last| differs(last, &now)) {
            changed(&now)?;
        }
        if has_ended(&now.status) {
            return Ok(now);
        }
        let again = now.poll_again_in_seconds.map(Duration::from_secs);
        last = Some(now);
        if held || pace == Pace::Lively {
            let answered = Instant::now();
            tokio::time::sleep(wait(answered - begun, answered - asked, again)).await;
        }
    }
}

/// How long to wait before the next call of a job that is followed for so long, after a call that took so long, when the
/// server says when to come again.
fn wait(followed: Duration, took: Duration, again: Option<Duration>) -> Duration {
    match again {
        // A server that is about to stop holds no call, and must not be asked all the time.
        Some(again) => again.max(OFTEN.saturating_sub(took)),
        None if followed < LIVELY => OFTEN,
        None => SELDOM,
    }
}

/// Whether a job with this status will not change by itself any more.
pub(crate) fn has_ended(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "timeout" | "cancelled")
}

/// A job that has ended, as a failure unless it is completed.
pub(crate) fn completed(job: &StatusResponse) -> Result<(), Failure> {
    if job.status == "completed" {
        return Ok(());
    }
    let (job_id, status, reason) = (job.job_id.clone(), job.status.clone(), job.error_message.clone());
    Err(Failure::JobEnded { job_id, status, reason })
}

/// What is worth a line about a job.
pub(crate) fn line(job: &StatusResponse) -> String {
    let said = match job.status.as_str() {
        "completed" => None,
        "processing" => job.progress_message.as_deref(),
        _ => job.error_message.as_deref(),
    };
    let progress =
        if job.status == "processing" { format!("  {:>3} %", job.percentage) } else { String::new() };
    let said = said.map(|said| format!("  {}", said.replace(['\n', '\r'], " "))).unwrap_or_default();
    format!("{}  {}  {:<10}{progress}{said}", job.updated_at, job.job_id, job.status).trim_end().to_owned()
}

fn differs(a: &StatusResponse, b: &StatusResponse) -> bool {
    let told = |job: &StatusResponse| {
        (
            job.status.clone(),
            job.percentage,
            job.progress_message.clone(),
            job.error_message.clone(),
            job.attempts.len(),
        )
    };
    told(a) != told(b)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn job(status: &str) -> StatusResponse {
        serde_json::from_value(serde_json::json!({
            "job_id": "j-1", "status": status, "created_at": "c", "retry_count": 0, "percentage": 40,
            "updated_at": "u", "max_retries": 3, "attempts": [], "ingestion_task_id": "t", "content_type": "audio",
        }))
        .unwrap()
    }

    #[test]
    fn only_what_is_told_makes_a_change() {
        let a = job("processing");
        assert!(!differs(&a, &StatusResponse { updated_at: "later".into(), ..a.clone() }));
        assert!(differs(&a, &StatusResponse { percentage: 41, ..a.clone() }));
        assert!(differs(&a, &job("pending")));
    }

    #[test]
    fn calls_wait_when_nobody_looks_on_and_they_are_few() {
        assert_eq!(Pace::of(1, true), Pace::Lively);
        assert_eq!(Pace::of(MOST_WAITING, false), Pace::Quiet);
        assert_eq!(Pace::of(MOST_WAITING + 1, false), Pace::Lively);
    }

    #[test]
    fn the_server_says_when_it_is_asked_again_but_not_all_the_time() {
        let s = Duration::from_secs;
        assert_eq!(wait(s(5), s(0), None), OFTEN);
        assert_eq!(wait(s(60), s(0), None), SELDOM);
        assert_eq!(wait(s(60), s(0), Some(s(7))), s(7), "a server that holds no calls");
        assert_eq!(wait(s(60), s(20), Some(s(0))), s(0), "a call that was held");
        assert_eq!(wait(s(60), s(0), Some(s(0))), OFTEN, "a call that was not");
    }

    #[test]
    fn a_line_says_what_matters_now() {
        let said = StatusResponse { progress_message: Some("half\nway".into()), ..job("processing") };
        assert_eq!(line(&said), "u  j-1  processing   40 %  half way");
        assert_eq!(line(&StatusResponse { status: "completed".into(), ..said }), "u  j-1  completed");
        let failed = StatusResponse { error_message: Some("no speech".into()), ..job("failed") };
        assert_eq!(line(&failed), "u  j-1  failed      no speech");
    }

    #[test]
    fn jobs_that_have_not_ended_go_on() {
        assert!(["pending", "processing", "new-one"].iter().all(|status| !has_ended(status)));
        for status in ["failed", "timeout", "cancelled"] {
            assert!(has_ended(status));
            assert_eq!(completed(&job(status)).unwrap_err().code(), 1);
        }
        assert!(has_ended("completed") && completed(&job("completed")).is_ok());
    }
}
