use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::OpenError;

/// The format that this version writes, kept as SQLite's `user_version`.
const FORMAT: i64 = 1;

/// Inlined bytes are in a table of their own, so that listing doesn't read past them. `blobs.position` orders the
/// blobs of an object that was made of parts.
const TABLES: &str = "
    CREATE TABLE buckets (
        name TEXT NOT NULL PRIMARY KEY,
        created_ms INTEGER NOT NULL,
        lifecycle TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE objects (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        bucket TEXT NOT NULL REFERENCES buckets (name),
        key TEXT NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        sha256 BLOB,
        upload TEXT,
        headers TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        UNIQUE (bucket, key)
    ) STRICT;
    CREATE TABLE inlined (
        object INTEGER PRIMARY KEY REFERENCES objects (id),
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE blobs (
        object INTEGER NOT NULL REFERENCES objects (id),
        position INTEGER NOT NULL,
        name BLOB NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (object, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE uploads (
        id TEXT NOT NULL PRIMARY KEY,
        bucket TEXT NOT NULL REFERENCES buckets (name),
        key TEXT NOT NULL,
        headers TEXT NOT NULL,
        started_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE parts (
        upload TEXT NOT NULL REFERENCES uploads (id),
        number INTEGER NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        modified_ms INTEGER NOT NULL,
        name BLOB NOT NULL,
        PRIMARY KEY (upload, number)
    ) STRICT, WITHOUT ROWID;
";

/// Opens the connection of the writer, creating the file if it isn't there.
pub(super) fn open_for_writing(path: &Path, durable: bool) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path).map_err(OpenError::objects(path))?;
    configure(&connection, durable).map_err(OpenError::objects(path))?;
    let found = format(&connection).map_err(OpenError::objects(path))?;
    if found > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    if found == 0 {
        create(&mut connection).map_err(OpenError::objects(path))?;
    }
    Ok(connection)
}

/// Opens a connection that only reads, beside the writer.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(connection)
}

fn configure(connection: &Connection, durable: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "OFF" })?;
    // 32 MiB of log between checkpoints: with the default of 4, inlined objects would make every commit one.
    connection.pragma_update(None, "wal_autocheckpoint", 8192)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}
