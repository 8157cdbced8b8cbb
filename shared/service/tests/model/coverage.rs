//! What the histories have met: counted, printed, and demanded of a whole run.

use std::collections::BTreeMap;

use crate::{
    calls::Call,
    events::{Event, Stands},
    job::Job,
    model::Model,
    run::Outcome,
};

/// How often something was met.
pub(crate) type Met = BTreeMap<String, u64>;

/// What a call has led to.
pub(crate) fn met(call: &Call, before: &Model, after: &Model, outcome: &Outcome) -> Vec<String> {
    let mut met = Vec::new();
    match &outcome.died_at {
        Some(_) => {}
        None => met.push(format!("{}: {}", call.name(), kind(&outcome.answered.text))),
    }
    for job in after.jobs.iter().filter(|job| before.job(&job.id) != Some(*job)) {
        met.extend(of_job(before.job(&job.id), job));
    }
    for event in after.events.iter().filter(|event| before.event(&event.id) != Some(*event)) {
        met.push(format!("event {}", of_event(before.event(&event.id), event)));
    }
    met
}

/// What an answer is besides its times and numbers.
fn kind(text: &str) -> &str {
    let ends = [" of a job", " since ", " of ", " for ", ", by", " live", " delivered"];
    ends.iter()
        .filter_map(|end| text.find(end))
        .min()
        .map_or(text, |end| &text[..end])
        .trim_matches(char::is_numeric)
}

fn of_job(before: Option<&Job>, job: &Job) -> Vec<String> {
    let mut met = vec![format!("job {}", job.status())];
    let known = before.map_or(0, |before| before.attempts.len());
    met.extend(job.attempts.iter().skip(known).map(|attempt| format!("attempt {}", attempt.how.name())));
    if let Some(before) = before.filter(|before| before.is_lapsed() && !job.is_lapsed()) {
        let same = job.attempt() == before.attempt();
        match (same, job.status()) {
            (true, "processing") => met.push("late: the attempt goes on".to_owned()),
            (true, "completed") => met.push("late: its result is accepted".to_owned()),
            _ => {}
        }
    }
    met
}

fn of_event(before: Option<&Event>, event: &Event) -> &'static str {
    match (before, event.stands) {
        (None, _) => "owed",
        (_, Stands::Delivered(_)) => "delivered",
        (_, Stands::Dead(_)) => "dead",
        (Some(before), Stands::Due(_)) if before.is_dead() => "redriven",
        // A whole delivery may lie between the two, so a claim alone is told by an error that has not changed.
        (Some(before), Stands::Due(_))
            if event.tries > before.tries && event.last_error == before.last_error =>
        {
            "claimed"
        }
        (Some(before), Stands::Due(_)) if event.last_error == before.last_error => "put off, or failed again",
        (Some(_), Stands::Due(_)) => "failed",
    }
}

/// What a whole run must have met.
pub(crate) fn demanded() -> Vec<String> {
    let plain = [
        "job pending",
        "job processing",
        "job completed",
        "job failed",
        "job timeout",
        "job cancelled",
        "attempt completed",
        "attempt failed",
        "attempt timed-out",
        "attempt lapsed",
        "attempt never-heard-of",
        "attempt released",
        "attempt cancelled",
        "late: the attempt goes on",
        "late: its result is accepted",
        "heartbeat: cancelled",
        "heartbeat: refused: StaleLease",
        "heartbeat: refused: NoLeaseToken",
        "heartbeat: refused: RunTimeout",
        "submit: refused: OtherOutcome(\"completed\")",
        "submit: refused: OtherOutcome(\"failed\")",
        "cancel: refused: Ended",
        "retry: refused: NotRetryable",
        "retry: refused: TakenOver",
        "retry: refused: TooManyAttempts",
        "delete: refused: NotEnded",
        "create: urn:remote-jobs:idempotency-mismatch",
        "status: no such job",
        "a result was fetched",
        "event owed",
        "event claimed",
        "event delivered",
        "event failed",
        "event dead",
        "event redriven",
        "came too late: cancel",
        "came too late: create",
        "came too late: deliver",
        "came too late: heartbeat",
        "came too late: poll",
        "came too late: release",
        "came too late: retry",
        "came too late: submit",
        "came too late: sweep",
    ];
    let writes = [
        "create, a new job",
        "create, task options",
        "poll, a job",
        "poll, an end with its event",
        "heartbeat, a job",
        "submit, a job",
        "submit, an end with its event",
        "submit, a result",
        "release, a job",
        "cancel, a job",
        "cancel, an end with its event",
        "retry, a job",
        "delete, a deletion",
        "sweep, a job",
        "sweep, an end with its event",
        "deliver, an event",
    ];
    let died = |moment: &'static str| writes.map(|write| format!("died {moment} {write}"));
    plain.map(str::to_owned).into_iter().chain(died("before")).chain(died("after")).collect()
}
