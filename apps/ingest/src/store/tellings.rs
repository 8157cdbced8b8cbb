//! The ends of tasks that are still to be told.

use std::time::Duration;

use domain::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::json;
use uuid::Uuid;

use super::{Store, StoreError, rows};
use crate::task::{Phase, Task};

/// The end of a task, to be told to the task's webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// The task. Its webhook's message id is made of it, so it is the same in every try.
    pub task: Uuid,
    /// Who is told.
    pub url: String,
    /// What is told: the same bytes in every try.
    pub body: Vec<u8>,
    /// How often it was tried.
    pub tries: u32,
}

/// How one try to tell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The receiver has taken it.
    Taken,
    /// It did not work, and is tried again after this.
    Later(String, Duration),
    /// It is given up.
    GivenUp(String),
}

/// Owes a task's webhook its end, if it has one.
pub(super) fn owe(sql: &Transaction<'_>, task: &Task, now: Timestamp) -> Result<(), StoreError> {
    let Some(url) = &task.spec.webhook_url else { return Ok(()) };
    let kind = if task.phase == Phase::Succeeded { "ingestion.completed" } else { "ingestion.failed" };
    let body = json!({
        "type": kind,
        "timestamp": api::rfc3339(now),
        "data": {
            "task_id": task.id,
            "status": task.phase.status(),
            "document_id": task.spec.document_id,
            "source_type": task.spec.content_type,
            "stage": task.stage.name(),
            "progress": task.stage.progress(),
            "remote_job_id": task.remote_job_id,
            "error": task.error,
            "result": task.result,
        },
    });
    let statement = "INSERT INTO tellings (task, url, body, due_ms) VALUES (?1, ?2, ?3, ?4)";
    sql.execute(statement, params![task.id.to_string(), url.as_str(), serde_json::to_vec(&body)?, now.0])?;
    Ok(())
}

impl Store {
    /// The ends that are due to be told, the oldest first, and when the next one will be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due(
        &self,
        now: Timestamp,
        most: u32,
    ) -> Result<(Vec<Telling>, Option<Timestamp>), StoreError> {
        self.transact(move |sql| {
            let statement = "SELECT task, url, body, tries FROM tellings WHERE due_ms <= ?1
                             ORDER BY due_ms LIMIT ?2";
            let mut statement = sql.prepare_cached(statement)?;
            let rows = statement.query_map(params![now.0, most], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            let mut due = Vec::new();
            for row in rows {
                let (task, url, body, tries) = row?;
                if let Ok(task) = task.parse() {
                    due.push(Telling { task, url, body, tries });
                }
            }
            let statement = "SELECT due_ms FROM tellings WHERE due_ms > ?1 ORDER BY due_ms LIMIT 1";
            let next = sql.prepare_cached(statement)?.query_row([now.0], |row| row.get(0)).optional()?;
            Ok((due, next.map(Timestamp)))
        })
        .await
    }

    /// Remembers how a try to tell ended.
    ///
    /// # Errors
    /// [`StoreError`]; then the try is made again.
    pub async fn tried(&self, task: Uuid, told: Told, now: Timestamp) -> Result<(), StoreError> {
        self.transact(move |sql| {
            let id = task.to_string();
            match told {
                Told::Taken => {
                    sql.execute("DELETE FROM tellings WHERE task = ?1", [id])?;
                    rows::remember(sql, task, now, "webhook_told", "The task's webhook took its end.", None)
                }
                Told::Later(why, after) => {
                    let statement = "UPDATE tellings SET tries = tries + 1, due_ms = ?2 WHERE task = ?1";
                    sql.execute(statement, params![id, now.plus(after).0])?;
                    let what = format!(
                        "The task's webhook could not be told and is tried again in {} s: {why}.",
                        after.as_secs()
                    );
                    rows::remember(sql, task, now, "webhook_failed", &what, None)
                }
                Told::GivenUp(why) => {
                    sql.execute("DELETE FROM tellings WHERE task = ?1", [id])?;
                    let what = format!("The task's webhook is not told: {why}.");
                    rows::remember(sql, task, now, "webhook_given_up", &what, None)
                }
            }
        })
        .await
    }
}
