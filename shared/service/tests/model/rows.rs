//! What the stored rows say, and what the model says they must say, in the same words.

use std::{collections::BTreeMap, fmt::Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    backend::RETENTION,
    events::Event,
    job::{Attempt, Job, Phase, Proof, Run},
};

/// Everything that is known of one row, by name.
pub(crate) type Facts = BTreeMap<String, String>;

/// An item of DynamoDB's JSON without the marks of its types; bytes are hexadecimal digits.
pub(crate) fn plain(item: &Value) -> Value {
    let of = |attribute: &Value| {
        let (kind, value) = attribute.as_object().and_then(|object| object.iter().next())?;
        Some(match (kind.as_str(), value) {
            ("N", Value::String(digits)) => digits.parse::<i64>().map_or(Value::Null, Value::from),
            ("B", Value::String(text)) => hex::encode(STANDARD.decode(text).ok()?).into(),
            ("M", map) => plain(map),
            ("L", Value::Array(list)) => {
                list.iter().map(|one| plain(&json!({ "": one }))[""].clone()).collect()
            }
            (_, value) => value.clone(),
        })
    };
    let fields = item.as_object().into_iter().flatten();
    Value::Object(
        fields
            .map(|(name, attribute)| (name.clone(), of(attribute).unwrap_or_default()))
            .collect::<Map<_, _>>(),
    )
}

/// What a job's row says.
pub(crate) fn facts_of_row(row: &Value) -> Facts {
    let mut facts = Facts::new();
    let mut says = |name: &str, value: String| drop(facts.insert(name.to_owned(), value));
    let (limits, created) = (&row["limits"], row["created_at"].as_i64().unwrap_or_default());
    says("status", text(&row["status"]));
    says("tenant", text(&row["task"]).split('#').next().unwrap_or_default().to_owned());
    says("type", text(&row["type"]));
    says(
        "limits",
        [&limits["queue"], &limits["run"], &limits["total"], &limits["retries"]].map(text).join(" "),
    );
    says("priority", text(&row["priority"]));
    says("webhook", text(&row["webhook"]));
    says("options stored", flag(&row["options_stored"]));
    says("created", created.to_string());
    says("opened", row["opened_at"].as_i64().unwrap_or(created).to_string());
    says("updated", text(&row["updated"]));
    says("revision", text(&row["rev"]));
    says("retries", count(&row["retries"]));
    says("free returns", count(&row["free_returns"]));
    says("progress", text(&row["progress"]["percent"]));
    says("continued by", text(&row["continued_by"]));
    says("due", format!("{} at {}", text(&row["due_key"]), text(&row["due_at"])));
    says("deadline", text(&row["deadline"]));
    says("expires", text(&row["expires_at"]));
    let waits =
        |waits: &Value| format!("since {}, backoff {}", text(&waits["since"]), flag(&waits["backoff"]));
    says("waits", row.get("pending").map(waits).unwrap_or_default());
    says("runs", row.get("running").map(|run| run_of_row(run, &row["due_at"])).unwrap_or_default());
    let attempts: Vec<&Value> = row["attempts"].as_array().into_iter().flatten().collect();
    for (attempt, number) in attempts.iter().zip(1..) {
        says(&format!("attempt {number:03}"), attempt_of_row(attempt));
    }
    let end = &row["end"];
    says("ended", text(&end["at"]));
    says("error", text(&end["error"]));
    says("result", end.get("result").map(|result| result_of_row(row, result)).unwrap_or_default());
    facts
}

fn result_of_row(row: &Value, result: &Value) -> String {
    if let Some(key) = result["key"].as_str() {
        return key.to_owned();
    }
    let (id, task) = (text(&row["pk"]), text(&row["task"]));
    let attempts = row["attempts"].as_array().map_or(0, Vec::len);
    result_key(
        task.split('#').next().unwrap_or_default(),
        &id["job#".len()..],
        attempts,
        &text(&result["sha256"]),
    )
}

pub(crate) fn result_key(tenant: &str, id: &str, attempt: usize, sha256: &str) -> String {
    format!("results/{tenant}/{id}/{attempt}-{sha256}.json")
}

fn lease_of_row(lease: &Value) -> String {
    match lease["token"].as_str() {
        Some(token) => format!("token {token} for {} s", text(&lease["term"])),
        None => format!("key {}", text(&lease["api_key"])),
    }
}

fn run_of_row(run: &Value, due_at: &Value) -> String {
    let until = run.get("until").unwrap_or(due_at);
    let heard = run["unheard"] != true;
    let lease = lease_of_row(run);
    format!("{} by {lease}, {} to {}, heard {heard}", text(&run["worker"]), text(&run["since"]), text(until))
}

fn attempt_of_row(attempt: &Value) -> String {
    let (worker, lease) = (text(&attempt["worker"]), lease_of_row(attempt));
    let mut line = format!("{worker} by {lease}, {} to {}", text(&attempt["since"]), text(&attempt["until"]));
    let _ = write!(line, ", {}", text(&attempt["outcome"]));
    if let Some(error) = attempt["error"].as_str() {
        let _ = write!(line, " {error:?} then {}", text(&attempt["then"]));
    }
    line
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn flag(value: &Value) -> String {
    (*value == true).to_string()
}

fn count(value: &Value) -> String {
    value.as_i64().unwrap_or(0).to_string()
}

/// What a job's row must say.
pub(crate) fn facts_of_job(job: &Job) -> Facts {
    let mut facts = Facts::new();
    let mut says = |name: &str, value: String| drop(facts.insert(name.to_owned(), value));
    let asked = &job.asked;
    says("status", job.status().to_owned());
    says("tenant", job.tenant.to_owned());
    says("type", asked.content_type.to_owned());
    let total = maybe(asked.total.map(|total| total / 1000));
    says("limits", format!("{} {} {total} {}", asked.queue / 1000, asked.run / 1000, asked.max_retries));
    let priority = match asked.credit / 3_600_000 {
        0 => "low",
        1 => "",
        _ => "high",
    };
    says("priority", priority.to_owned());
    says("webhook", asked.webhook.unwrap_or_default().to_owned());
    says("options stored", asked.large_options.to_string());
    says("created", job.created.to_string());
    says("opened", job.opened.to_string());
    says("updated", job.updated.to_string());
    says("revision", job.revision.to_string());
    says("retries", job.retries.to_string());
    says("free returns", job.free_returns.to_string());
    says("progress", maybe(job.progress));
    says("continued by", if job.local { "local" } else { "" }.to_owned());
    says("due", format!("{} at {}", job.due_key().unwrap_or_default(), maybe(job.due().map(|(_, at)| at))));
    says("deadline", maybe(job.deadline()));
    says("expires", maybe(job.is_over().then(|| expires(job.updated))));
    says("waits", waits(&job.phase));
    says("runs", job.run().map(runs).unwrap_or_default());
    for (attempt, number) in job.attempts.iter().zip(1..) {
        says(&format!("attempt {number:03}"), attempt_line(attempt));
    }
    let (ended, error, result) = end(&job.phase);
    says("ended", ended);
    says("error", error);
    says("result", result);
    facts
}

/// When a row goes that nobody needs since `at`, in seconds.
fn expires(at: i64) -> i64 {
    at / 1000 + i64::try_from(RETENTION.as_secs()).unwrap_or(i64::MAX)
}

fn maybe(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn waits(phase: &Phase) -> String {
    match phase {
        Phase::Waits { since, backoff } => format!("since {since}, backoff {backoff}"),
        Phase::Runs(_) | Phase::Over { .. } => String::new(),
    }
}

fn lease(run: &Run) -> String {
    match &run.proof {
        Proof::Token(hash) => format!("token {hash} for {} s", maybe(run.term.map(|term| term / 1000))),
        Proof::Key(key) => format!("key {key}"),
    }
}

fn runs(run: &Run) -> String {
    format!("{} by {}, {} to {}, heard {}", run.worker, lease(run), run.started, run.lease_ends, run.heard)
}

fn attempt_line(attempt: &Attempt) -> String {
    let Attempt { run, ended, how } = attempt;
    let mut line = format!("{} by {}, {} to {ended}, {}", run.worker, lease(run), run.started, how.name());
    if let crate::job::How::Failed { error, then } = how {
        let _ = write!(line, " {error:?} then {then}");
    }
    line
}

fn end(phase: &Phase) -> (String, String, String) {
    match phase {
        Phase::Waits { .. } | Phase::Runs(_) => Default::default(),
        Phase::Over { at, error, result, .. } => {
            (at.to_string(), error.clone().unwrap_or_default(), result.clone().unwrap_or_default())
        }
    }
}

/// What an event's row says.
pub(crate) fn facts_of_event_row(row: &Value) -> Facts {
    let mut facts = Facts::new();
    let mut says = |name: &str, value: String| drop(facts.insert(name.to_owned(), value));
    for name in ["tenant", "url", "status", "type", "attempts", "tries", "rev", "last_error"] {
        says(name, text(&row[name]));
    }
    says("error", text(&row["error"]));
    says("continued locally", flag(&row["continued_locally"]));
    says("created", text(&row["job_created_at"]));
    says("due", format!("{} at {}", kind_of_due(&row["due_key"]), text(&row["due_at"])));
    says("delivered", text(&row["delivered_at"]));
    says("expires", text(&row["expires_at"]));
    facts
}

/// `event`, `dead` or nothing; the rest of the key spreads events over shards and tenants.
fn kind_of_due(key: &Value) -> String {
    text(key).split('#').next().unwrap_or_default().to_owned()
}

/// What an event's row must say.
pub(crate) fn facts_of_event(event: &Event) -> Facts {
    let mut facts = Facts::new();
    let mut says = |name: &str, value: String| drop(facts.insert(name.to_owned(), value));
    says("tenant", event.tenant.to_owned());
    says("url", event.url.to_owned());
    says("status", event.status.to_owned());
    says("type", event.content_type.to_owned());
    says("attempts", event.attempts.to_string());
    says("tries", event.tries.to_string());
    says("rev", event.revision.to_string());
    says("last_error", event.last_error.unwrap_or_default().to_owned());
    says("error", event.error.clone().unwrap_or_default());
    says("continued locally", event.continued_locally.to_string());
    says("created", event.created.to_string());
    let (kind, at) = event.due();
    says("due", format!("{kind} at {}", maybe(at)));
    says("delivered", maybe(event.delivered()));
    says("expires", maybe(event.done().map(expires)));
    facts
}

/// Where two descriptions of the same thing differ. Of an error the model knows only some words.
pub(crate) fn difference(model: &Facts, system: &Facts) -> Option<String> {
    let nothing = String::new();
    let mut lines = String::new();
    let names: std::collections::BTreeSet<&String> = model.keys().chain(system.keys()).collect();
    for name in names {
        let (said, is) = (model.get(name).unwrap_or(&nothing), system.get(name).unwrap_or(&nothing));
        let fits =
            if name == "error" { is.contains(said) && said.is_empty() == is.is_empty() } else { is == said };
        if !fits {
            let _ = writeln!(lines, "      {name}: the model says {said:?}, the system {is:?}");
        }
    }
    (!lines.is_empty()).then_some(lines)
}
