//! What the transactions of tasks are made of.

use std::collections::HashSet;

use domain::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::{Left, StoreError, tellings};
use crate::task::{Content, Entry, Phase, Stage, Task};

const COLUMNS: &str = "id, spec, phase, stage, remote_job_id, decision, processing_method, error, result,
                       created_ms, started_ms, ended_ms";

/// A row as SQLite has it.
struct Raw {
    id: String,
    spec: String,
    phase: String,
    stage: String,
    remote_job_id: Option<String>,
    decision: Option<String>,
    processing_method: Option<String>,
    error: Option<String>,
    result: Option<String>,
    created_ms: i64,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            spec: row.get(1)?,
            phase: row.get(2)?,
            stage: row.get(3)?,
            remote_job_id: row.get(4)?,
            decision: row.get(5)?,
            processing_method: row.get(6)?,
            error: row.get(7)?,
            result: row.get(8)?,
            created_ms: row.get(9)?,
            started_ms: row.get(10)?,
            ended_ms: row.get(11)?,
        })
    }

    fn task(self) -> Result<Task, StoreError> {
        Ok(Task {
            id: id_of(&self.id)?,
            spec: serde_json::from_str(&self.spec)?,
            phase: phase_of(&self.phase)?,
            stage: Stage::named(&self.stage).ok_or_else(|| unknown("stage", &self.stage))?,
            remote_job_id: self.remote_job_id,
            decision: parsed(self.decision)?,
            processing_method: self.processing_method,
            error: self.error,
            result: parsed(self.result)?,
            created_at: Timestamp(self.created_ms),
            started_at: self.started_ms.map(Timestamp),
            ended_at: self.ended_ms.map(Timestamp),
        })
    }
}

fn parsed<T: DeserializeOwned>(text: Option<String>) -> Result<Option<T>, StoreError> {
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

fn id_of(text: &str) -> Result<Uuid, StoreError> {
    text.parse().map_err(|_| unknown("id", text))
}

fn phase_of(name: &str) -> Result<Phase, StoreError> {
    Phase::named(name).ok_or_else(|| unknown("phase", name))
}

fn unknown(what: &str, text: &str) -> StoreError {
    StoreError::Row(serde::de::Error::custom(format!("{text:?} is no {what}")))
}

pub(super) fn task(sql: &Transaction<'_>, id: Uuid) -> Result<Option<Task>, StoreError> {
    let statement = format!("SELECT {COLUMNS} FROM tasks WHERE id = ?1");
    let row = sql.prepare_cached(&statement)?.query_row([id.to_string()], Raw::read).optional()?;
    row.map(Raw::task).transpose()
}

pub(super) fn recent(sql: &Transaction<'_>, most: u32) -> Result<Vec<Task>, StoreError> {
    let statement = format!("SELECT {COLUMNS} FROM tasks ORDER BY seq DESC LIMIT ?1");
    let mut statement = sql.prepare_cached(&statement)?;
    let rows = statement.query_map([most], Raw::read)?;
    rows.map(|row| row?.task()).collect()
}

pub(super) fn phase(sql: &Transaction<'_>, id: Uuid) -> Result<Option<Phase>, StoreError> {
    let statement = "SELECT phase FROM tasks WHERE id = ?1";
    let name: Option<String> =
        sql.prepare_cached(statement)?.query_row([id.to_string()], |row| row.get(0)).optional()?;
    name.map(|name| phase_of(&name)).transpose()
}

pub(super) fn is_at(sql: &Transaction<'_>, id: Uuid, at: Phase) -> Result<bool, StoreError> {
    Ok(phase(sql, id)? == Some(at))
}

pub(super) fn stage(sql: &Transaction<'_>, id: Uuid) -> Result<Option<Stage>, StoreError> {
    let statement = "SELECT stage FROM tasks WHERE id = ?1";
    let name: Option<String> =
        sql.prepare_cached(statement)?.query_row([id.to_string()], |row| row.get(0)).optional()?;
    Ok(name.as_deref().and_then(Stage::named))
}

pub(super) fn ready(sql: &Transaction<'_>, most: usize) -> Result<Vec<Uuid>, StoreError> {
    let statement = "SELECT id FROM tasks AS task WHERE ended_ms IS NULL AND NOT EXISTS (
                         SELECT 1 FROM tasks AS earlier WHERE earlier.ended_ms IS NULL
                         AND earlier.document_id = task.document_id AND earlier.seq < task.seq
                     ) ORDER BY seq LIMIT ?1";
    ids(sql, statement, i64::try_from(most).unwrap_or(i64::MAX))?.iter().map(|id| id_of(id)).collect()
}

pub(super) fn unended(sql: &Transaction<'_>) -> Result<HashSet<Uuid>, StoreError> {
    // A negative limit is none.
    ids(sql, "SELECT id FROM tasks WHERE ended_ms IS NULL LIMIT ?1", -1)?.iter().map(|id| id_of(id)).collect()
}

fn ids(sql: &Transaction<'_>, statement: &str, most: i64) -> Result<Vec<String>, StoreError> {
    let mut statement = sql.prepare_cached(statement)?;
    let rows = statement.query_map([most], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn abandoned(sql: &Transaction<'_>) -> Result<Vec<(Uuid, String)>, StoreError> {
    let statement = "SELECT id, remote_job_id FROM tasks WHERE abandon = 1 AND remote_job_id IS NOT NULL";
    let mut statement = sql.prepare_cached(statement)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    rows.map(|row| row.map_err(StoreError::from).and_then(|(id, job)| Ok((id_of(&id)?, job)))).collect()
}

pub(super) fn content(sql: &Transaction<'_>, id: Uuid) -> Result<Option<Content>, StoreError> {
    let statement = "SELECT text, metadata, processing_time FROM contents WHERE task = ?1";
    let row = sql
        .prepare_cached(statement)?
        .query_row([id.to_string()], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?)))
        .optional()?;
    row.map(|(text, metadata, processing_time)| {
        Ok(Content { text, metadata: serde_json::from_str(&metadata)?, processing_time })
    })
    .transpose()
}

pub(super) fn history(sql: &Transaction<'_>, id: Uuid) -> Result<Vec<Entry>, StoreError> {
    let statement = "SELECT at_ms, event, message, details FROM history WHERE task = ?1 ORDER BY id";
    let mut statement = sql.prepare_cached(statement)?;
    let rows = statement.query_map([id.to_string()], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<String>>(3)?))
    })?;
    rows.map(|row| {
        let (at, event, message, details) = row?;
        Ok(Entry { at: Timestamp(at), event, message, details: parsed(details)? })
    })
    .collect()
}

/// Writes into a task's history.
pub(super) fn remember(
    sql: &Transaction<'_>,
    id: Uuid,
    now: Timestamp,
    event: &str,
    message: &str,
    details: Option<&Value>,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO history (task, at_ms, event, message, details) VALUES (?1, ?2, ?3, ?4, ?5)";
    let details = details.map(Value::to_string);
    sql.prepare_cached(statement)?.execute(params![id.to_string(), now.0, event, message, details])?;
    Ok(())
}

/// Has the remote job cancelled that a conversion leaves behind, if there is one.
pub(super) fn leave(sql: &Transaction<'_>, id: Uuid, left: &Left) -> Result<(), StoreError> {
    let Left::Job(job) = left else { return Ok(()) };
    let statement = "UPDATE tasks SET remote_job_id = COALESCE(?2, remote_job_id), abandon = 1
                     WHERE id = ?1 AND COALESCE(?2, remote_job_id) IS NOT NULL";
    sql.execute(statement, params![id.to_string(), job])?;
    Ok(())
}

/// Ends a task that is at `from`. `false` when it is not.
pub(super) fn fail(
    sql: &Transaction<'_>,
    id: Uuid,
    from: Phase,
    event: &'static str,
    error: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let statement = "UPDATE tasks SET phase = ?2, error = ?3, ended_ms = ?4 WHERE id = ?1 AND phase = ?5";
    let row = params![id.to_string(), Phase::Failed.name(), error, now.0, from.name()];
    if from.has_ended() || sql.execute(statement, row)? == 0 {
        return Ok(false);
    }
    end(sql, id, now, event, error)?;
    Ok(true)
}

/// What belongs to every end, in the same transaction: it is remembered, it is to be told, and the text is not needed
/// any more.
pub(super) fn end(
    sql: &Transaction<'_>,
    id: Uuid,
    now: Timestamp,
    event: &str,
    message: &str,
) -> Result<(), StoreError> {
    remember(sql, id, now, event, message, None)?;
    sql.execute("DELETE FROM contents WHERE task = ?1", [id.to_string()])?;
    match task(sql, id)? {
        Some(task) => tellings::owe(sql, &task, now),
        None => Ok(()),
    }
}
