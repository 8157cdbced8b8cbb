//! Multipart uploads. A part is a blob from the start; completing an upload gives its blobs to an object, in order.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use s3s::S3ErrorCode;
use s3s::crypto::{Checksum as _, Md5};
use uuid::Uuid;

use super::blobs::{Name, PendingBlob};
use super::change::{Change, NewObject};
use super::digests::base64;
use super::error::ObjectError;
use super::headers::Headers;
use super::rows::{Condition, require_bucket};

/// Every part but the last has at least this many bytes.
const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// An upload as a request names it: its id counts only together with its object.
#[derive(Clone)]
pub(crate) struct UploadRef {
    pub(crate) id: String,
    pub(crate) bucket: String,
    pub(crate) key: String,
}

/// A part that was uploaded.
pub(crate) struct Part {
    pub(crate) number: i32,
    /// In bytes.
    pub(crate) size: u64,
    /// The MD5 of its bytes, in hex.
    pub(crate) etag: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) modified_ms: i64,
    pub(super) blob: Name,
}

/// A part that the object is to be made of.
pub(crate) struct CompletedPart {
    pub(crate) number: i32,
    pub(crate) etag: Option<String>,
    /// In base64.
    pub(crate) sha256: Option<String>,
}

pub(super) fn create(
    change: &Change<'_>,
    bucket: &str,
    key: &str,
    headers: &Headers,
    now_ms: i64,
) -> Result<String, ObjectError> {
    require_bucket(change.sql(), bucket)?;
    let id = Uuid::new_v4().simple().to_string();
    let statement = "INSERT INTO uploads (id, bucket, key, headers, started_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    let headers = serde_json::to_string(headers)?;
    change.sql().prepare_cached(statement)?.execute(params![id, bucket, key, headers, now_ms])?;
    Ok(id)
}

/// The headers that the upload's object will have.
pub(super) fn require(sql: &Connection, upload: &UploadRef) -> Result<Headers, ObjectError> {
    let headers: Option<String> = sql
        .prepare_cached("SELECT headers FROM uploads WHERE id = ?1 AND bucket = ?2 AND key = ?3")?
        .query_row([&upload.id, &upload.bucket, &upload.key], |row| row.get(0))
        .optional()?;
    match headers {
        Some(headers) => Ok(serde_json::from_str(&headers)?),
        None => Err(ObjectError::refused(
            S3ErrorCode::NoSuchUpload,
            "There is no such upload; it may have been completed or aborted.",
        )),
    }
}

/// Stores a part in place of the one that has its number.
pub(super) fn put_part(
    change: &mut Change<'_>,
    upload: &UploadRef,
    part: &Part,
    blob: PendingBlob,
) -> Result<(), ObjectError> {
    require(change.sql(), upload)?;
    remove_part(change, &upload.id, part.number)?;
    let statement = "INSERT INTO parts (upload, number, size, etag, sha256, modified_ms, name)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    change.sql().prepare_cached(statement)?.execute(params![
        upload.id,
        part.number,
        part.size,
        part.etag,
        part.sha256,
        part.modified_ms,
        part.blob.as_bytes(),
    ])?;
    change.keep(blob);
    Ok(())
}

fn remove_part(change: &mut Change<'_>, upload: &str, number: i32) -> rusqlite::Result<()> {
    let replaced = change
        .sql()
        .prepare_cached("DELETE FROM parts WHERE upload = ?1 AND number = ?2 RETURNING name")?
        .query_map(params![upload, number], |row| row.get(0).map(Name::from_bytes))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    change.free(replaced);
    Ok(())
}

pub(super) fn parts(sql: &Connection, upload: &str) -> rusqlite::Result<Vec<Part>> {
    let statement = "SELECT number, size, etag, sha256, modified_ms, name FROM parts
                     WHERE upload = ?1 ORDER BY number";
    sql.prepare_cached(statement)?
        .query_map([upload], |row| {
            Ok(Part {
                number: row.get(0)?,
                size: row.get(1)?,
                etag: row.get(2)?,
                sha256: row.get(3)?,
                modified_ms: row.get(4)?,
                blob: Name::from_bytes(row.get(5)?),
            })
        })?
        .collect()
}

/// Makes the object and returns its ETag. Repeating it after a lost answer gives that answer again.
pub(super) fn complete(
    change: &mut Change<'_>,
    upload: &UploadRef,
    wanted: &[CompletedPart],
    size: Option<u64>,
    condition: &Condition,
    now_ms: i64,
) -> Result<String, ObjectError> {
    if let Some(etag) = completed_before(change.sql(), upload)? {
        return Ok(etag);
    }
    let headers = require(change.sql(), upload)?;
    let chosen = choose(parts(change.sql(), &upload.id)?, wanted)?;
    let total = chosen.iter().map(|part| part.size).sum();
    if size.is_some_and(|size| size != total) {
        return Err(ObjectError::refused(
            S3ErrorCode::InvalidRequest,
            "The parts together are not as long as you declared.",
        ));
    }
    let object = NewObject {
        bucket: upload.bucket.clone(),
        key: upload.key.clone(),
        size: total,
        etag: etag_of(&chosen)?,
        sha256: None,
        upload: Some(upload.id.clone()),
        headers,
        modified_ms: now_ms,
    };
    let id = change.put(&object, condition)?;
    for part in &chosen {
        change.add_blob(id, part.number, part.blob, part.size)?;
        change
            .sql()
            .prepare_cached("DELETE FROM parts WHERE upload = ?1 AND number = ?2")?
            .execute(params![upload.id, part.number])?;
    }
    remove(change, &upload.id)?;
    Ok(object.etag)
}

fn completed_before(sql: &Connection, upload: &UploadRef) -> rusqlite::Result<Option<String>> {
    sql.prepare_cached("SELECT etag FROM objects WHERE bucket = ?1 AND key = ?2 AND upload = ?3")?
        .query_row([&upload.bucket, &upload.key, &upload.id], |row| row.get(0))
        .optional()
}

/// The parts that `wanted` names, if it names them as S3 requires.
fn choose(parts: Vec<Part>, wanted: &[CompletedPart]) -> Result<Vec<Part>, ObjectError> {
    if wanted.is_empty() {
        return Err(ObjectError::refused(S3ErrorCode::MalformedXML, "You must name at least one part."));
    }
    if !wanted.is_sorted_by(|a, b| a.number < b.number) {
        return Err(ObjectError::refused(
            S3ErrorCode::InvalidPartOrder,
            "The parts must be listed in ascending order of their numbers.",
        ));
    }
    let mut uploaded: BTreeMap<i32, Part> = parts.into_iter().map(|part| (part.number, part)).collect();
    let chosen = wanted
        .iter()
        .map(|wanted| {
            uploaded.remove(&wanted.number).filter(|part| wanted.is(part)).ok_or_else(|| {
                let message =
                    format!("Part {} was not uploaded, or is not the one you named.", wanted.number);
                ObjectError::refused(S3ErrorCode::InvalidPart, message)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let all_but_last = &chosen[..chosen.len() - 1];
    if let Some(part) = all_but_last.iter().find(|part| part.size < SMALLEST_PART) {
        let message = format!("Part {} is smaller than 5 MiB and is not the last one.", part.number);
        return Err(ObjectError::refused(S3ErrorCode::EntityTooSmall, message));
    }
    Ok(chosen)
}

impl CompletedPart {
    fn is(&self, part: &Part) -> bool {
        self.etag.as_ref() == Some(&part.etag)
            && self.sha256.as_ref().is_none_or(|declared| *declared == base64(&part.sha256))
    }
}

/// S3's ETag of such an object: the MD5 of its parts' MD5s, and how many there are.
fn etag_of(parts: &[Part]) -> Result<String, ObjectError> {
    let mut md5 = Md5::new();
    for part in parts {
        let bytes = hex::decode(&part.etag)
            .map_err(|_| ObjectError::refused(S3ErrorCode::InternalError, "A part's row is damaged."))?;
        md5.update(&bytes);
    }
    Ok(format!("{}-{}", hex::encode(md5.finalize()), parts.len()))
}

/// Removes an upload with the parts that it still has.
pub(super) fn remove(change: &mut Change<'_>, upload: &str) -> rusqlite::Result<()> {
    let names = change
        .sql()
        .prepare_cached("DELETE FROM parts WHERE upload = ?1 RETURNING name")?
        .query_map([upload], |row| row.get(0).map(Name::from_bytes))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    change.free(names);
    change.sql().prepare_cached("DELETE FROM uploads WHERE id = ?1")?.execute([upload])?;
    Ok(())
}
