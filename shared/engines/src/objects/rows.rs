//! What readers ask of the database.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};
use s3s::S3ErrorCode;

use super::blobs::{Blobs, Name};
use super::change::Change;
use super::error::ObjectError;
use super::headers::Headers;
use super::stream::Segments;

/// What must hold of a key's present object for a write to be made.
pub(crate) enum Condition {
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`: any object if no ETag is given.
    Matches(Option<String>),
}

/// An object as it was at one moment.
pub(crate) struct Found {
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) etag: String,
    /// Of the whole object; unknown for one made of parts.
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) headers: Headers,
    pub(crate) modified_ms: i64,
    pub(crate) content: Content,
}

/// Where an object's bytes are.
pub(crate) enum Content {
    Inline(Bytes),
    Blobs(Segments),
}

/// A line of a listing.
pub(crate) struct Listed {
    pub(crate) key: String,
    /// In bytes.
    pub(crate) size: i64,
    pub(crate) etag: String,
    pub(crate) modified_ms: i64,
}

pub(super) fn create_bucket(change: &Change<'_>, bucket: &str, now_ms: i64) -> Result<(), ObjectError> {
    let created = change
        .sql()
        .prepare_cached("INSERT INTO buckets (name, created_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute((bucket, now_ms))?;
    if created == 0 {
        return Err(ObjectError::refused(
            S3ErrorCode::BucketAlreadyOwnedByYou,
            "The bucket exists already, and it is yours.",
        ));
    }
    Ok(())
}

pub(super) fn require_bucket(sql: &Connection, bucket: &str) -> Result<(), ObjectError> {
    if sql.prepare_cached("SELECT 1 FROM buckets WHERE name = ?1")?.exists([bucket])? {
        return Ok(());
    }
    Err(ObjectError::refused(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist."))
}

/// Finds an object and keeps its blobs from being removed.
///
/// A blob could be removed between the reading of the row and the pinning of its blobs, so the row is read again
/// after that: if it is still the same object, none of its blobs had been given up before it was pinned. Ids are
/// never used twice.
pub(super) fn find(
    sql: &Connection,
    blobs: &Arc<Blobs>,
    bucket: &str,
    key: &str,
) -> Result<Found, ObjectError> {
    let mut row = find_row(sql, bucket, key)?;
    loop {
        if let Some(bytes) = inlined(sql, row.id)? {
            return row.with(Content::Inline(bytes));
        }
        let segments = pinned(sql, blobs, row.id)?;
        let again = find_row(sql, bucket, key)?;
        if again.id == row.id {
            return row.with(Content::Blobs(segments));
        }
        row = again;
    }
}

struct ObjectRow {
    id: i64,
    size: u64,
    etag: String,
    sha256: Option<[u8; 32]>,
    headers: String,
    modified_ms: i64,
}

impl ObjectRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            size: row.get(1)?,
            etag: row.get(2)?,
            sha256: row.get(3)?,
            headers: row.get(4)?,
            modified_ms: row.get(5)?,
        })
    }

    fn with(self, content: Content) -> Result<Found, ObjectError> {
        Ok(Found {
            size: self.size,
            etag: self.etag,
            sha256: self.sha256,
            headers: serde_json::from_str(&self.headers)?,
            modified_ms: self.modified_ms,
            content,
        })
    }
}

fn find_row(sql: &Connection, bucket: &str, key: &str) -> Result<ObjectRow, ObjectError> {
    let statement = "SELECT id, size, etag, sha256, headers, modified_ms FROM objects
                     WHERE bucket = ?1 AND key = ?2";
    let row = sql.prepare_cached(statement)?.query_row([bucket, key], ObjectRow::read).optional()?;
    match row {
        Some(row) => Ok(row),
        None => {
            require_bucket(sql, bucket)?;
            Err(ObjectError::refused(S3ErrorCode::NoSuchKey, "The specified key does not exist."))
        }
    }
}

fn inlined(sql: &Connection, object: i64) -> rusqlite::Result<Option<Bytes>> {
    sql.prepare_cached("SELECT bytes FROM inlined WHERE object = ?1")?
        .query_row([object], |row| row.get::<_, Vec<u8>>(0).map(Bytes::from))
        .optional()
}

fn pinned(sql: &Connection, blobs: &Arc<Blobs>, object: i64) -> rusqlite::Result<Segments> {
    let segments = sql
        .prepare_cached("SELECT name, size FROM blobs WHERE object = ?1 ORDER BY position")?
        .query_map([object], |row| Ok((Name::from_bytes(row.get(0)?), row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(Name, u64)>>>()?;
    let pins = blobs.pin(segments.iter().map(|(name, _)| *name).collect());
    Ok(Segments::new(segments, pins))
}

pub(super) fn list(
    sql: &Connection,
    bucket: &str,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<(Vec<Listed>, bool), ObjectError> {
    require_bucket(sql, bucket)?;
    // SQLite compares text by its bytes, which is S3's order.
    let statement = "SELECT key, size, etag, modified_ms FROM objects
                     WHERE bucket = ?1 AND key > ?2 AND key >= ?3 ORDER BY key LIMIT ?4";
    let mut statement = sql.prepare_cached(statement)?;
    let rows = statement.query_map((bucket, after, prefix, limit + 1), |row| {
        Ok(Listed { key: row.get(0)?, size: row.get(1)?, etag: row.get(2)?, modified_ms: row.get(3)? })
    })?;
    let mut listed = Vec::new();
    for row in rows {
        let row = row?;
        if !row.key.starts_with(prefix) {
            break;
        }
        if listed.len() == limit {
            return Ok((listed, true));
        }
        listed.push(row);
    }
    Ok((listed, false))
}

/// Calls `each` with every blob that a row names.
pub(super) fn each_blob(sql: &Connection, mut each: impl FnMut(Name)) -> rusqlite::Result<()> {
    let mut statement = sql.prepare("SELECT name FROM blobs UNION ALL SELECT name FROM parts")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(Name::from_bytes(row.get(0)?));
    }
    Ok(())
}
