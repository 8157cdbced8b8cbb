use api::status::{AttemptView, StatusResponse};
use clap::Args;
use client::retrying;

use super::{Each, Session, TRIES};
use crate::{
    failure::Failure,
    table::{self, Table},
};

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The jobs' ids
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) async fn run(session: &Session<'_>, args: &StatusArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let mut each = Each::of(session.output, &args.jobs);
    let mut found = Vec::new();
    for job_id in &args.jobs {
        let status = retrying(&TRIES, || client.status(job_id)).await;
        if let Some(job) = each.note(job_id, status.map_err(Failure::from))? {
            session.output.value(&job)?;
            found.push(job);
        }
    }
    match found.as_slice() {
        [] => {}
        [job] if args.jobs.len() == 1 => session.output.line(&whole(job))?,
        jobs => session.output.line(&overview(jobs))?,
    }
    each.end()
}

/// Everything about one job.
fn whole(job: &StatusResponse) -> String {
    let progress = format!("{} %", job.percentage);
    let retries = format!("{} of {}", job.retry_count, job.max_retries);
    let message = job.progress_message.as_deref();
    let text = table::fields(&[
        ("Job", Some(&job.job_id)),
        ("Status", Some(&job.status)),
        ("Type", Some(&job.content_type)),
        ("Progress", Some(progress.as_str()).filter(|_| job.started_at.is_some())),
        ("Message", message),
        ("Error", job.error_message.as_deref()),
        ("Worker", job.worker_id.as_deref()),
        ("Task", Some(&job.ingestion_task_id)),
        ("Created", Some(&job.created_at)),
        ("Started", job.started_at.as_deref()),
        ("Ended", job.completed_at.as_deref()),
        ("Expected", job.estimated_completion.as_deref()),
        ("Next attempt", job.next_attempt_at.as_deref()),
        ("Times out", job.timeout_at.as_deref()),
        ("Retries", Some(&retries)),
    ]);
    if job.attempts.is_empty() { text } else { format!("{text}\n\n{}", attempts(&job.attempts)) }
}

fn attempts(attempts: &[AttemptView]) -> String {
    let mut table = Table::new(["ATTEMPT", "OUTCOME", "WORKER", "STARTED", "ENDED", "ERROR"]);
    for attempt in attempts {
        table.row([
            &attempt.attempt.to_string(),
            &attempt.outcome,
            &attempt.worker_id,
            &attempt.started_at,
            attempt.ended_at.as_deref().unwrap_or_default(),
            attempt.error.as_deref().unwrap_or_default(),
        ]);
    }
    table.render()
}

/// One line for each job.
fn overview(jobs: &[StatusResponse]) -> String {
    let mut table = Table::new(["JOB", "STATUS", "%", "TYPE", "WORKER", "CREATED", "MESSAGE"]);
    for job in jobs {
        let message = job.error_message.as_deref().or(job.progress_message.as_deref());
        table.row([
            &job.job_id,
            &job.status,
            &job.percentage.to_string(),
            &job.content_type,
            job.worker_id.as_deref().unwrap_or_default(),
            &job.created_at,
            message.unwrap_or_default(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::tests::job;

    #[test]
    fn one_job_is_shown_whole() {
        let mut job = job("processing");
        job.started_at = Some("s".into());
        job.attempts.push(AttemptView {
            attempt: 1,
            worker_id: "gpu".into(),
            started_at: "s".into(),
            ended_at: None,
            outcome: "running".into(),
            error: None,
        });
        assert_eq!(
            whole(&job),
            "Job:       j-1\nStatus:    processing\nType:      audio\nProgress:  40 %\nTask:      t\nCreated:   c\n\
             Started:   s\nRetries:   0 of 3\n\n\
             ATTEMPT  OUTCOME  WORKER  STARTED  ENDED  ERROR\n\
             1        running  gpu     s        -      -"
        );
    }

    #[test]
    fn several_jobs_are_a_table() {
        let text = overview(&[job("pending"), job("failed")]);
        assert_eq!(
            text,
            "JOB  STATUS   %   TYPE   WORKER  CREATED  MESSAGE\n\
             j-1  pending  40  audio  -       c        -\n\
             j-1  failed   40  audio  -       c        -"
        );
    }
}
