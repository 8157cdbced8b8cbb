use std::{fmt::Write, time::Duration};

use console::{Term, measure_text_width, truncate_str};
use progress::printable;

use super::Status;
use crate::{
    activity::Activity,
    jobs::{Phase, RunningJob, spelled},
};

/// What stands between two columns.
const GAP: &str = "  ";

/// How many columns the terminal has, where there is one.
pub(super) fn width() -> Option<usize> {
    Term::stdout().size_checked().map(|(_, columns)| usize::from(columns))
}

/// What a person is shown, with the lines of jobs cut to this width.
pub(super) fn text(status: &Status, width: Option<usize>) -> String {
    let mut text = head(status);
    if !status.jobs.is_empty() {
        text.push('\n');
        for line in table(&status.jobs) {
            let line = match width {
                Some(width) => truncate_str(&line, width, "…"),
                None => line.as_str().into(),
            };
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn head(status: &Status) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: String| {
        // A string takes everything.
        let _ = writeln!(text, "{name:<9}{}", printable(&value));
    };
    field("Worker:", format!("{} (version {}, process {})", status.worker_id, status.version, status.pid));
    field("Server:", status.server.clone());
    field("State:", state(status));
    if let Some(answer) = &status.last_answer {
        let ago = seconds(answer.seconds_ago);
        field(
            "Answer:",
            format!("{}: {}, {ago} ago", if answer.ok { "good" } else { "failed" }, answer.text),
        );
    }
    let completed = &status.completed;
    field(
        "Jobs:",
        format!(
            "{} of {} running; {} finished and {} failed in {}",
            status.jobs.len(),
            status.max_concurrent_jobs,
            completed.finished,
            completed.failed,
            seconds(status.seconds)
        ),
    );
    field("Results:", format!("{} waiting in the spool, {} refused", status.spooled, status.rejected));
    text
}

fn state(status: &Status) -> String {
    let state = match status.activity {
        Activity::Starting => "starting: it finds out which converters it has",
        Activity::Polling => "polling",
        Activity::Busy => "busy: it has as many jobs as it may have",
        Activity::Waiting => "waiting before the next poll",
        Activity::Paused => "paused: it takes no work for now",
        Activity::Draining => "stopping: it takes no work, and ends what runs",
    };
    status.reason.as_ref().map_or_else(|| state.to_owned(), |reason| format!("{state} ({reason})"))
}

/// Lines whose columns line up, but for the last.
fn table(jobs: &[RunningJob]) -> Vec<String> {
    let headings = ["JOB", "TRY", "TYPE", "SOURCE", "PHASE", "DONE", "FOR", "MESSAGE"];
    let mut rows = vec![headings.map(str::to_owned)];
    rows.extend(jobs.iter().map(|job| cells(job).map(|cell| printable(&cell).into_owned())));
    let width = |column: usize| rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn cells(job: &RunningJob) -> [String; 8] {
    let message = if job.stalled {
        format!("no progress for {}; last: {}", seconds(job.seconds_since_progress), job.message)
    } else {
        job.message.clone()
    };
    [
        job.job_id.clone(),
        job.attempt.to_string(),
        job.content_type.clone(),
        job.source.clone(),
        phase(job),
        format!("{} %", job.percentage),
        seconds(job.seconds),
        message,
    ]
}

fn phase(job: &RunningJob) -> String {
    match (job.phase, &job.converter) {
        (_, _) if job.stalled => "stalled".to_owned(),
        (Phase::Downloading, _) => "downloading".to_owned(),
        (Phase::Converting, Some(converter)) => format!("converting ({converter})"),
        (Phase::Converting, None) => "converting".to_owned(),
        (Phase::Submitting, _) => "submitting".to_owned(),
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in row.iter().zip(widths) {
        text.push_str(cell);
        text.push_str(&" ".repeat(width.saturating_sub(measure_text_width(cell))));
        text.push_str(GAP);
    }
    text.trim_end().to_owned()
}

fn seconds(seconds: u64) -> String {
    spelled(Duration::from_secs(seconds))
}
