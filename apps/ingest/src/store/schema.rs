use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// The format that this version writes, kept as SQLite's `user_version`.
const FORMAT: i64 = 1;

/// `tasks.seq` is the order in which tasks were accepted. A conversion's text is in a table of its own, so that listing
/// tasks does not read past it. `tellings` are the ends that are still to be told, `hooks` the webhooks that came.
const TABLES: &str = "
    CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        document_id TEXT NOT NULL,
        spec TEXT NOT NULL,
        phase TEXT NOT NULL,
        stage TEXT NOT NULL,
        remote_job_id TEXT,
        abandon INTEGER NOT NULL DEFAULT 0,
        decision TEXT,
        processing_method TEXT,
        error TEXT,
        result TEXT,
        created_ms INTEGER NOT NULL,
        started_ms INTEGER,
        ended_ms INTEGER
    ) STRICT;
    CREATE INDEX unended ON tasks (seq) WHERE ended_ms IS NULL;
    CREATE INDEX unended_of ON tasks (document_id, seq) WHERE ended_ms IS NULL;
    CREATE INDEX of_job ON tasks (remote_job_id) WHERE remote_job_id IS NOT NULL;
    CREATE INDEX ended ON tasks (ended_ms) WHERE ended_ms IS NOT NULL;
    CREATE INDEX abandoned ON tasks (seq) WHERE abandon = 1;
    CREATE TABLE contents (
        task TEXT NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
        text TEXT NOT NULL,
        metadata TEXT NOT NULL,
        processing_time REAL NOT NULL
    ) STRICT;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        task TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
        at_ms INTEGER NOT NULL,
        event TEXT NOT NULL,
        message TEXT NOT NULL,
        details TEXT
    ) STRICT;
    CREATE INDEX history_of ON history (task, id);
    CREATE TABLE tellings (
        task TEXT NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
        url TEXT NOT NULL,
        body BLOB NOT NULL,
        due_ms INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX due ON tellings (due_ms);
    CREATE TABLE hooks (
        id TEXT NOT NULL PRIMARY KEY,
        signed_s INTEGER NOT NULL,
        seen_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX hooks_seen ON hooks (seen_ms);
";

/// Opens the database, creating it if it is not there. What was committed survives a power cut.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What a conversion said is gone from the disk with its task.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.set_prepared_statement_cache_capacity(64);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    if found == 0 {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.commit()?;
    }
    Ok(connection)
}
