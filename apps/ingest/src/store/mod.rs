//! The tasks, in SQLite.
//!
//! Every method is one transaction, and each change of a task's phase is conditional on the phase before it. So of
//! everything that may want to end or continue a task at the same moment, a conversion here, a remote one, a cancel, a
//! restart, one wins and the others are told that they came too late.

mod hooks;
mod rows;
mod schema;
mod tellings;

pub use hooks::Seen;
pub use tellings::{Telling, Told};

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use domain::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};
use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    folder::Folder,
    task::{Content, Entry, Phase, Source, Spec, Stage, Task},
};

/// The tasks cannot be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("the disk of the data folder is full; free some space")]
    Full,
    /// SQLite says why.
    #[error("the tasks cannot be read or written: {0}")]
    Sqlite(rusqlite::Error),
    /// A newer version of this program wrote them.
    #[error("{} has format {found}, and this version knows formats up to {known}; use a newer version", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// A row is not as this program writes it.
    #[error("a row of the tasks cannot be read: {0}")]
    Row(#[from] serde_json::Error),
    /// The program is ending.
    #[error("the program is ending")]
    Ending,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

/// Something that happened to a task while it was converted.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The stage that begins with it.
    pub stage: Option<Stage>,
    /// The remote job that was created.
    pub remote_job_id: Option<String>,
    /// The decision that was made.
    pub decision: Option<Value>,
    /// What happened, for programs.
    pub event: &'static str,
    /// What happened, for a person.
    pub message: String,
    /// More of it, for programs.
    pub details: Option<Value>,
}

impl Note {
    /// Something to remember that changes nothing else.
    #[must_use]
    pub fn of(event: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { stage: None, remote_job_id: None, decision: None, event, message, details: None }
    }

    /// The same, with a stage that begins with it.
    #[must_use]
    pub fn at(self, stage: Stage) -> Self {
        Self { stage: Some(stage), ..self }
    }

    /// The same, with more for programs.
    #[must_use]
    pub fn with(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }
}

/// What a conversion leaves behind at the control plane once it has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// There is no remote job, or nothing comes of it any more.
    Nothing,
    /// A remote job may still run: this one, or else the one that the task waited for, if it did.
    Job(Option<String>),
}

/// What a cancel found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The task has ended now.
    Done,
    /// A conversion was taken before, or the task had ended.
    TooLate(Phase),
    /// There is no such task.
    Unknown,
}

/// The tasks. Clones share them.
#[derive(Clone)]
pub struct Store {
    kept: Arc<Kept>,
}

struct Kept {
    connection: Mutex<Connection>,
    // Held as long as anything may still be written, also by a caller that was dropped meanwhile.
    _folder: Arc<Folder>,
}

impl Store {
    /// Opens the tasks of a data folder.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(folder: &Arc<Folder>) -> Result<Self, StoreError> {
        let connection = schema::open(&folder.path().join("tasks.db"))?;
        let kept = Kept { connection: Mutex::new(connection), _folder: Arc::clone(folder) };
        Ok(Self { kept: Arc::new(kept) })
    }

    /// Runs one transaction away from the threads that serve connections. It is finished even when the caller is dropped.
    async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let kept = Arc::clone(&self.kept);
        let working = tokio::task::spawn_blocking(move || {
            // A panic in a transaction rolls it back, so the connection is as good as before.
            let mut connection = kept.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        working.await.unwrap_or(Err(StoreError::Ending))
    }

    /// Accepts a task. Its source must be in place.
    ///
    /// # Errors
    /// [`StoreError`]; then there is no such task.
    pub async fn accept(&self, id: Uuid, spec: Spec, now: Timestamp) -> Result<(), StoreError> {
        self.transact(move |sql| {
            let statement = "INSERT INTO tasks (id, document_id, spec, phase, stage, created_ms)
                             VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let (phase, stage) = (Phase::Waiting.name(), Stage::Initializing.name());
            let text = serde_json::to_string(&spec)?;
            sql.execute(statement, params![id.to_string(), spec.document_id, text, phase, stage, now.0])?;
            let what = match &spec.source {
                Source::File { name, size } => format!("The file {name:?} of {size} bytes was accepted."),
                Source::Url(url) => format!("The URL {url} was accepted."),
            };
            rows::remember(sql, id, now, "accepted", &what, None)
        })
        .await
    }

    /// A task.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn task(&self, id: Uuid) -> Result<Option<Task>, StoreError> {
        self.transact(move |sql| rows::task(sql, id)).await
    }

    /// The tasks that were accepted last, the last one first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recent(&self, most: u32) -> Result<Vec<Task>, StoreError> {
        self.transact(move |sql| rows::recent(sql, most)).await
    }

    /// What happened to a task, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, id: Uuid) -> Result<Vec<Entry>, StoreError> {
        self.transact(move |sql| rows::history(sql, id)).await
    }

    /// The first `most` tasks that have not ended and whose document no earlier task is at, in the order they were
    /// accepted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ready(&self, most: usize) -> Result<Vec<Uuid>, StoreError> {
        self.transact(move |sql| rows::ready(sql, most)).await
    }

    /// The tasks that have not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unended(&self) -> Result<HashSet<Uuid>, StoreError> {
        self.transact(rows::unended).await
    }

    /// Begins a task, or goes on with one that was being converted when the program ended. `false` when there is nothing
    /// to convert any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        self.transact(move |sql| {
            let statement = "UPDATE tasks SET phase = ?2, started_ms = ?3 WHERE id = ?1 AND phase = ?4";
            let (converting, waiting) = (Phase::Converting.name(), Phase::Waiting.name());
            if sql.execute(statement, params![id.to_string(), converting, now.0, waiting])? == 1 {
                rows::remember(sql, id, now, "started", "The task was begun.", None)?;
                return Ok(true);
            }
            let resumed = rows::is_at(sql, id, Phase::Converting)?;
            if resumed {
                let what = "The service was started again, and goes on with the conversion.";
                rows::remember(sql, id, now, "resumed", what, None)?;
            }
            Ok(resumed)
        })
        .await
    }

    /// Remembers what happened while a task was converted. Once it is not converted any more only a job that it left
    /// behind matters, which is then to be cancelled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note(&self, id: Uuid, note: Note, now: Timestamp) -> Result<(), StoreError> {
        self.transact(move |sql| {
            if let Some(job) = &note.remote_job_id {
                let statement = "UPDATE tasks SET remote_job_id = ?2, abandon = (phase = ?3) WHERE id = ?1";
                sql.execute(statement, params![id.to_string(), job, Phase::Failed.name()])?;
            }
            if !rows::is_at(sql, id, Phase::Converting)? {
                return Ok(());
            }
            // A run after a restart begins with stages that were passed before.
            if let Some(stage) = note.stage
                && rows::stage(sql, id)?.is_some_and(|before| before < stage)
            {
                let statement = "UPDATE tasks SET stage = ?2 WHERE id = ?1";
                sql.execute(statement, params![id.to_string(), stage.name()])?;
            }
            if let Some(decision) = &note.decision {
                // That a run goes on with a job does not say why the job was created.
                let resumed = decision["reason"] == "resumed";
                let statement =
                    "UPDATE tasks SET decision = ?2 WHERE id = ?1 AND (decision IS NULL OR NOT ?3)";
                sql.execute(statement, params![id.to_string(), decision.to_string(), resumed])?;
            }
            rows::remember(sql, id, now, note.event, &note.message, note.details.as_ref())
        })
        .await
    }

    /// Remembers something of a task that is being stored or has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remember(
        &self,
        id: Uuid,
        event: &'static str,
        message: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transact(move |sql| rows::remember(sql, id, now, event, &message, None)).await
    }

    /// **The continuation**: takes this conversion, if none was taken and the task has not ended. `false` when it came too
    /// late and must be dropped. What it has left behind is to be cancelled either way.
    ///
    /// # Errors
    /// [`StoreError`]; then it is not known whether it was taken, and asking again tells.
    pub async fn take(
        &self,
        id: Uuid,
        content: Content,
        method: &'static str,
        left: Left,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.transact(move |sql| {
            rows::leave(sql, id, &left)?;
            let statement = "UPDATE tasks SET phase = ?2, stage = ?3, processing_method = ?4
                             WHERE id = ?1 AND phase = ?5";
            let (storing, converting) = (Phase::Storing.name(), Phase::Converting.name());
            let stage = Stage::Storing.name();
            let taken =
                sql.execute(statement, params![id.to_string(), storing, stage, method, converting])?;
            if taken == 0 {
                return Ok(false);
            }
            let statement =
                "INSERT INTO contents (task, text, metadata, processing_time) VALUES (?1, ?2, ?3, ?4)";
            let metadata = serde_json::to_string(&content.metadata)?;
            sql.execute(statement, params![id.to_string(), content.text, metadata, content.processing_time])?;
            let what = format!("The {method} conversion was taken; the task goes on with it.");
            let details = json!({"processing_method": method, "characters": content.text.chars().count()});
            rows::remember(sql, id, now, "continued", &what, Some(&details))?;
            Ok(true)
        })
        .await
    }

    /// The conversion that was taken, while it is being stored.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn content(&self, id: Uuid) -> Result<Option<Content>, StoreError> {
        self.transact(move |sql| rows::content(sql, id)).await
    }

    /// Ends a task whose content is stored. `false` when it had ended before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn succeed(&self, id: Uuid, result: Value, now: Timestamp) -> Result<bool, StoreError> {
        self.transact(move |sql| {
            let statement = "UPDATE tasks SET phase = ?2, stage = ?3, result = ?4, ended_ms = ?5
                             WHERE id = ?1 AND phase = ?6";
            let (succeeded, stage) = (Phase::Succeeded.name(), Stage::Completed.name());
            let from = Phase::Storing.name();
            let row = params![id.to_string(), succeeded, stage, result.to_string(), now.0, from];
            if sql.execute(statement, row)? == 0 {
                return Ok(false);
            }
            let what = match result["chunks_stored"].as_u64() {
                Some(1) => "The document is stored in 1 chunk and can be searched.".to_owned(),
                chunks => {
                    format!("The document is stored in {} chunks and can be searched.", chunks.unwrap_or(0))
                }
            };
            rows::end(sql, id, now, "completed", &what)?;
            Ok(true)
        })
        .await
    }

    /// Ends a task that is at this phase, because it failed. `false` when it is not at it any more. What it has left behind
    /// is to be cancelled either way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fail(
        &self,
        id: Uuid,
        from: Phase,
        error: String,
        left: Left,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.transact(move |sql| {
            rows::leave(sql, id, &left)?;
            rows::fail(sql, id, from, "failed", &error, now)
        })
        .await
    }

    /// Ends a task, unless a conversion was taken: from then on it goes on to its end by itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel(&self, id: Uuid, now: Timestamp) -> Result<Cancelled, StoreError> {
        self.transact(move |sql| {
            let Some(phase) = rows::phase(sql, id)? else { return Ok(Cancelled::Unknown) };
            let error = "The task was cancelled.";
            match phase {
                Phase::Waiting | Phase::Converting => {
                    rows::leave(sql, id, &Left::Job(None))?;
                    rows::fail(sql, id, phase, "cancelled", error, now)?;
                    Ok(Cancelled::Done)
                }
                Phase::Storing | Phase::Succeeded | Phase::Failed => Ok(Cancelled::TooLate(phase)),
            }
        })
        .await
    }

    /// The remote jobs that nobody waits for any more, and that may still run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn abandoned(&self) -> Result<Vec<(Uuid, String)>, StoreError> {
        self.transact(rows::abandoned).await
    }

    /// Remembers that the remote job of a task is seen to, and how.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seen_to(&self, id: Uuid, how: String, now: Timestamp) -> Result<(), StoreError> {
        self.transact(move |sql| {
            let statement = "UPDATE tasks SET abandon = 0 WHERE id = ?1 AND abandon = 1";
            if sql.execute(statement, [id.to_string()])? == 1 {
                rows::remember(sql, id, now, "remote_job_cancelled", &how, None)?;
            }
            Ok(())
        })
        .await
    }

    /// The task that waits for this remote job, or has this id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn awaiting(&self, job: String) -> Result<Option<Uuid>, StoreError> {
        self.transact(move |sql| {
            let statement = "SELECT id FROM tasks WHERE remote_job_id = ?1 AND phase = ?2";
            let row = sql
                .prepare_cached(statement)?
                .query_row(params![job, Phase::Converting.name()], |row| row.get::<_, String>(0));
            Ok(row.optional()?.and_then(|id| id.parse().ok()))
        })
        .await
    }

    /// Forgets tasks that ended before this, unless their end is still to be told or a job of theirs to be cancelled.
    /// Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget(&self, ended_before: Timestamp) -> Result<usize, StoreError> {
        self.transact(move |sql| {
            let statement = "DELETE FROM tasks WHERE ended_ms < ?1 AND abandon = 0
                             AND id NOT IN (SELECT task FROM tellings)";
            Ok(sql.execute(statement, [ended_before.0])?)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
