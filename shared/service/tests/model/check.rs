//! What is compared after every step, and what must hold of every write whatever the model says.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    crash::Written,
    events::Event,
    job::Job,
    rows::{difference, facts_of_event, facts_of_event_row, facts_of_job, facts_of_row},
};

/// What is wrong, for a person.
pub(crate) type Fault = String;

impl Written {
    /// The row of the kind that a prefix says, and what was there before.
    fn row(&self, prefix: &str) -> Option<(&str, &Value, Option<&Value>)> {
        self.rows
            .iter()
            .zip(&self.before)
            .find_map(|((pk, row), before)| Some((pk.strip_prefix(prefix)?, row, before.as_ref())))
    }

    /// The id of the job that was written.
    pub(crate) fn job(&self) -> Option<&str> {
        self.row("job#").map(|(id, ..)| id)
    }

    /// The id of the event that was written.
    pub(crate) fn event(&self) -> Option<&str> {
        self.row("event#").map(|(id, ..)| id)
    }
}

/// Whether a job was written as the model says it is, together with what its end owes its webhook.
pub(crate) fn same(job: &Job, written: &Written) -> Result<(), Fault> {
    let (id, row, before) = written.row("job#").ok_or(format!("job {} was not written", job.id))?;
    let ended = job.is_over() && before.is_none_or(is_live);
    match (Event::of(job).filter(|_| ended), written.row("event#")) {
        (None, None) => {}
        (Some(owed), Some((id, ..))) if id == owed.id => same_event(&owed, written)?,
        (owed, event) => {
            let (owed, id) = (owed.map(|owed| owed.id), event.map(|(id, ..)| id));
            return Err(format!("with the end of {} the event {id:?} was written, not {owed:?}", job.id));
        }
    }
    match difference(&facts_of_job(job), &facts_of_row(row)) {
        None => Ok(()),
        Some(lines) => Err(format!("job {id} differs:\n{lines}")),
    }
}

pub(crate) fn same_event(event: &Event, written: &Written) -> Result<(), Fault> {
    let (id, row, _) = written.row("event#").ok_or(format!("event {} was not written", event.id))?;
    match difference(&facts_of_event(event), &facts_of_event_row(row)) {
        None if id == event.id => Ok(()),
        None => Err(format!("event {id} was written instead of {}", event.id)),
        Some(lines) => Err(format!("event {id} differs:\n{lines}")),
    }
}

fn is_live(row: &Value) -> bool {
    matches!(row["status"].as_str(), Some("pending" | "processing"))
}

fn attempts(row: &Value) -> usize {
    row["attempts"].as_array().map_or(0, Vec::len) + usize::from(row.get("running").is_some())
}

/// What must hold of every write of a job.
pub(crate) fn lawful(written: &Written, objects: &BTreeMap<String, String>) -> Result<(), Fault> {
    let Some((id, row, before)) = written.row("job#") else { return Ok(()) };
    if row["status"].is_null() {
        return Ok(());
    }
    let accepted =
        row["attempts"].as_array().into_iter().flatten().filter(|attempt| attempt["outcome"] == "completed");
    let accepted = accepted.count();
    let completed = row["status"] == "completed";
    let rules = [
        (accepted <= 1, "two outcomes of it were accepted"),
        (
            completed == (accepted == 1),
            "it is completed and no outcome of it was accepted, or the other way round",
        ),
        (
            is_live(row) == row.get("due_key").is_some(),
            "it is live and nobody is to look after it, or the other way round",
        ),
        (before.is_none_or(|before| attempts(before) <= attempts(row)), "an attempt of it is forgotten"),
        (
            before.is_none_or(|before| is_live(before) || row.get("running").is_none()),
            "it had ended and runs",
        ),
        (before.is_none_or(|before| before["status"] != "completed"), "it was completed and has changed"),
        (!completed || row.get("continued_by").is_none(), "both conversions of it continue"),
        (!completed || has_result(id, row, objects), "its result is not stored"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, broken)) => Err(format!("job {id}: {broken}")),
    }
}

/// Whether the object is there that a completed job's row names.
fn has_result(id: &str, row: &Value, objects: &BTreeMap<String, String>) -> bool {
    let facts = facts_of_row(row);
    let key = facts.get("result").cloned().unwrap_or_default();
    let sha256 = row["end"]["result"]["sha256"].as_str();
    key.contains(id) && sha256.is_some() && objects.get(&key).map(String::as_str) == sha256
}

/// Whether every row that there is says what the model says, and none is missing.
pub(crate) fn all_same(jobs: &[Job], events: &[Event], rows: &BTreeMap<String, Value>) -> Result<(), Fault> {
    let mut left: Vec<&String> =
        rows.keys().filter(|pk| pk.starts_with("job#") || pk.starts_with("event#")).collect();
    let mut row = |pk: String| {
        left.retain(|known| **known != pk);
        rows.get(&pk).cloned().ok_or(format!("{pk} is missing"))
    };
    for job in jobs {
        let row = row(format!("job#{}", job.id))?;
        if let Some(lines) = difference(&facts_of_job(job), &facts_of_row(&row)) {
            return Err(format!("job {} differs:\n{lines}", job.id));
        }
    }
    for event in events {
        let row = row(format!("event#{}", event.id))?;
        if let Some(lines) = difference(&facts_of_event(event), &facts_of_event_row(&row)) {
            return Err(format!("event {} differs:\n{lines}", event.id));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("there are also {left:?}")) }
}
