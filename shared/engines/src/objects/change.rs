use rusqlite::{Connection, OptionalExtension, params};
use s3s::S3ErrorCode;

use super::blobs::{Name, PendingBlob};
use super::error::ObjectError;
use super::headers::Headers;
use super::rows::{Condition, require_bucket};

/// One change on its way into a commit: its rows, the blobs that they come to name, and those that nothing names
/// once it is committed.
pub(super) struct Change<'a> {
    sql: &'a Connection,
    kept: Vec<PendingBlob>,
    freed: Vec<Name>,
}

/// An object's row before it has an id.
pub(super) struct NewObject {
    pub(super) bucket: String,
    pub(super) key: String,
    /// In bytes.
    pub(super) size: u64,
    pub(super) etag: String,
    /// Of the whole object; unknown for one made of parts.
    pub(super) sha256: Option<[u8; 32]>,
    /// The multipart upload it was made by.
    pub(super) upload: Option<String>,
    pub(super) headers: Headers,
    pub(super) modified_ms: i64,
}

impl<'a> Change<'a> {
    pub(super) fn new(sql: &'a Connection) -> Self {
        Self { sql, kept: Vec::new(), freed: Vec::new() }
    }

    pub(super) fn into_parts(self) -> (Vec<PendingBlob>, Vec<Name>) {
        (self.kept, self.freed)
    }

    pub(super) fn sql(&self) -> &'a Connection {
        self.sql
    }

    /// Says that a row of this change names `blob`.
    pub(super) fn keep(&mut self, blob: PendingBlob) {
        self.kept.push(blob);
    }

    /// Says that no row names these blobs after this change.
    pub(super) fn free(&mut self, names: impl IntoIterator<Item = Name>) {
        self.freed.extend(names);
    }

    pub(super) fn put_inline(
        &mut self,
        object: &NewObject,
        condition: &Condition,
        bytes: &[u8],
    ) -> Result<(), ObjectError> {
        let id = self.put(object, condition)?;
        self.sql
            .prepare_cached("INSERT INTO inlined (object, bytes) VALUES (?1, ?2)")?
            .execute(params![id, bytes])?;
        Ok(())
    }

    pub(super) fn put_blob(
        &mut self,
        object: &NewObject,
        condition: &Condition,
        blob: PendingBlob,
    ) -> Result<(), ObjectError> {
        let id = self.put(object, condition)?;
        self.add_blob(id, 0, blob.name(), object.size)?;
        self.keep(blob);
        Ok(())
    }

    /// Appends a blob to an object's bytes.
    pub(super) fn add_blob(&self, object: i64, position: i32, name: Name, size: u64) -> rusqlite::Result<()> {
        self.sql
            .prepare_cached("INSERT INTO blobs (object, position, name, size) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![object, position, name.as_bytes(), size])
            .map(drop)
    }

    /// Writes an object's row in place of the one that has its key, if the condition holds. Changes are made one
    /// after the other, so of two puts that require the key to be free one is refused.
    pub(super) fn put(&mut self, object: &NewObject, condition: &Condition) -> Result<i64, ObjectError> {
        require_bucket(self.sql, &object.bucket)?;
        let existing = self.existing(&object.bucket, &object.key)?;
        condition.check(existing.as_ref().map(|(_, etag)| etag.as_str()))?;
        if let Some((id, _)) = existing {
            self.delete_row(id)?;
        }
        let statement = "INSERT INTO objects (bucket, key, size, etag, sha256, upload, headers, modified_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let sha256 = object.sha256.as_ref().map(<[u8; 32]>::as_slice);
        let headers = serde_json::to_string(&object.headers)?;
        Ok(self.sql.prepare_cached(statement)?.insert(params![
            object.bucket,
            object.key,
            object.size,
            object.etag,
            sha256,
            object.upload,
            headers,
            object.modified_ms,
        ])?)
    }

    pub(super) fn delete(&mut self, bucket: &str, key: &str) -> Result<(), ObjectError> {
        if let Some((id, _)) = self.existing(bucket, key)? {
            self.delete_row(id)?;
        }
        Ok(())
    }

    pub(super) fn delete_row(&mut self, id: i64) -> rusqlite::Result<()> {
        let names = self
            .sql
            .prepare_cached("DELETE FROM blobs WHERE object = ?1 RETURNING name")?
            .query_map([id], |row| row.get(0).map(Name::from_bytes))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        self.free(names);
        self.sql.prepare_cached("DELETE FROM inlined WHERE object = ?1")?.execute([id])?;
        self.sql.prepare_cached("DELETE FROM objects WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    fn existing(&self, bucket: &str, key: &str) -> rusqlite::Result<Option<(i64, String)>> {
        self.sql
            .prepare_cached("SELECT id, etag FROM objects WHERE bucket = ?1 AND key = ?2")?
            .query_row([bucket, key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }
}

impl Condition {
    fn check(&self, existing: Option<&str>) -> Result<(), ObjectError> {
        let holds = match self {
            Self::None => true,
            Self::Absent => existing.is_none(),
            Self::Matches(wanted) => match existing {
                Some(etag) => wanted.as_ref().is_none_or(|wanted| wanted == etag),
                None => return Err(ObjectError::refused(S3ErrorCode::NoSuchKey, "The key does not exist.")),
            },
        };
        if holds {
            return Ok(());
        }
        Err(ObjectError::refused(
            S3ErrorCode::PreconditionFailed,
            "At least one of the preconditions you specified did not hold.",
        ))
    }
}
