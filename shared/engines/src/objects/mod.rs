//! The S3 engine's storage: what is where, and how it gets there durably.
//!
//! Everything but the bytes of larger objects is in one SQLite file, which [`writer`] alone changes; the bytes are
//! in files under random names ([`blobs`]). A file is complete and on the disk before a row names it, and is removed
//! after no row names it, so at every moment the rows are the truth.

mod blobs;
mod change;
mod digests;
mod error;
mod headers;
mod lifecycle;
mod readers;
mod receive;
mod rows;
mod schema;
mod stream;
mod uploads;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3s::dto::StreamingBlob;

use crate::Swept;
use crate::error::OpenError;
use crate::folder::Folder;

pub(crate) use digests::{Declared, Trailer, base64};
pub(crate) use error::ObjectError;
pub(crate) use headers::Headers;
pub(crate) use lifecycle::Rule;
pub(crate) use rows::{Condition, Content, Found, Listed};
pub(crate) use uploads::{CompletedPart, Part, UploadRef};

use blobs::Blobs;
use change::NewObject;
use readers::Readers;
use receive::{Body, Received};
use writer::Writer;

/// Files younger than this may belong to an upload that is still running.
const GARBAGE_AGE: Duration = Duration::from_secs(3600);

/// How many rows a sweep changes in one commit, so that puts between them don't wait long.
const SWEEP_BATCH: usize = 200;

/// The stored objects. Dropping it stops the writer's thread and lets go of the data folder.
pub(crate) struct Objects {
    // Fields drop in this order: the writer finishes before the folder's lock is let go.
    writer: Writer,
    readers: Arc<Readers>,
    blobs: Arc<Blobs>,
    folder: Arc<Folder>,
}

/// What a put is acknowledged with.
pub(crate) struct Stored {
    pub(crate) etag: String,
    pub(crate) checksums: s3s::dto::Checksum,
}

impl Objects {
    pub(crate) fn open(folder: &Arc<Folder>) -> Result<Self, OpenError> {
        let dir = folder.path().join("objects");
        let blobs = Arc::new(Blobs::open(&dir, folder).map_err(OpenError::file(&dir))?);
        let path = dir.join("objects.sqlite");
        let connection = schema::open_for_writing(&path, folder.is_durable())?;
        remove_leftovers(&connection, &blobs).map_err(OpenError::objects(&path))?;
        let writer = Writer::start(connection, Arc::clone(&blobs)).map_err(OpenError::file(&path))?;
        let readers = Arc::new(Readers::new(path, Arc::clone(folder)));
        Ok(Self { writer, readers, blobs, folder: Arc::clone(folder) })
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) async fn create_bucket(&self, bucket: String) -> Result<(), ObjectError> {
        let now = now_ms();
        self.writer.write(move |change| rows::create_bucket(change, &bucket, now)).await
    }

    pub(crate) async fn require_bucket(&self, bucket: String) -> Result<(), ObjectError> {
        self.readers.read(move |sql| rows::require_bucket(sql, &bucket)).await
    }

    /// Stores an object whole, durably, or not at all.
    pub(crate) async fn put(
        &self,
        bucket: String,
        key: String,
        headers: Headers,
        condition: Condition,
        body: Option<StreamingBlob>,
        declared: Declared,
    ) -> Result<Stored, ObjectError> {
        // A body of gigabytes must not arrive in vain.
        self.require_bucket(bucket.clone()).await?;
        let Received { body, size, md5, sha256, checksums } =
            receive::receive(body, declared, &self.blobs).await?;
        let etag = hex::encode(md5);
        let object = NewObject {
            bucket,
            key,
            size,
            etag: etag.clone(),
            sha256: Some(sha256),
            upload: None,
            headers,
            modified_ms: now_ms(),
        };
        self.writer
            .write(move |change| match body {
                Body::Inline(bytes) => change.put_inline(&object, &condition, &bytes),
                Body::Blob(blob) => change.put_blob(&object, &condition, blob),
            })
            .await?;
        Ok(Stored { etag, checksums })
    }

    /// Finds an object. Its blobs, if it has any, can be read until the answer is dropped, even if the object is
    /// replaced or deleted.
    pub(crate) async fn find(&self, bucket: String, key: String) -> Result<Found, ObjectError> {
        let blobs = Arc::clone(&self.blobs);
        self.readers.read(move |sql| rows::find(sql, &blobs, &bucket, &key)).await
    }

    /// Deletes objects in one commit; a key that isn't there is no error.
    pub(crate) async fn delete(&self, bucket: String, keys: Vec<String>) -> Result<(), ObjectError> {
        self.writer
            .write(move |change| {
                rows::require_bucket(change.sql(), &bucket)?;
                keys.iter().try_for_each(|key| change.delete(&bucket, key))
            })
            .await
    }

    /// Lists at most `limit` objects in the order of their keys' bytes, and says whether there are more.
    pub(crate) async fn list(
        &self,
        bucket: String,
        prefix: String,
        after: String,
        limit: usize,
    ) -> Result<(Vec<Listed>, bool), ObjectError> {
        self.readers.read(move |sql| rows::list(sql, &bucket, &prefix, &after, limit)).await
    }

    pub(crate) async fn create_upload(
        &self,
        bucket: String,
        key: String,
        headers: Headers,
    ) -> Result<String, ObjectError> {
        let now = now_ms();
        self.writer.write(move |change| uploads::create(change, &bucket, &key, &headers, now)).await
    }

    pub(crate) async fn put_part(
        &self,
        upload: UploadRef,
        number: i32,
        body: Option<StreamingBlob>,
        declared: Declared,
    ) -> Result<Stored, ObjectError> {
        let checked = upload.clone();
        self.readers.read(move |sql| uploads::require(sql, &checked).map(drop)).await?;
        let received = receive::receive_to_file(body, declared, &self.blobs).await?;
        let etag = hex::encode(received.md5);
        let part = Part {
            number,
            size: received.size,
            etag: etag.clone(),
            sha256: received.sha256,
            modified_ms: now_ms(),
            blob: received.blob.name(),
        };
        let blob = received.blob;
        self.writer.write(move |change| uploads::put_part(change, &upload, &part, blob)).await?;
        Ok(Stored { etag, checksums: received.checksums })
    }

    /// Lists an upload's parts in the order of their numbers.
    pub(crate) async fn parts(&self, upload: UploadRef) -> Result<Vec<Part>, ObjectError> {
        self.readers
            .read(move |sql| {
                uploads::require(sql, &upload)?;
                Ok(uploads::parts(sql, &upload.id)?)
            })
            .await
    }

    /// Makes an object of an upload's parts in one commit; no byte is copied. Returns its ETag.
    pub(crate) async fn complete(
        &self,
        upload: UploadRef,
        parts: Vec<CompletedPart>,
        size: Option<u64>,
        condition: Condition,
    ) -> Result<String, ObjectError> {
        let now = now_ms();
        self.writer
            .write(move |change| uploads::complete(change, &upload, &parts, size, &condition, now))
            .await
    }

    pub(crate) async fn abort(&self, upload: UploadRef) -> Result<(), ObjectError> {
        self.writer
            .write(move |change| {
                uploads::require(change.sql(), &upload)?;
                Ok(uploads::remove(change, &upload.id)?)
            })
            .await
    }

    /// An empty list removes the bucket's lifecycle rules.
    pub(crate) async fn set_lifecycle(&self, bucket: String, rules: Vec<Rule>) -> Result<(), ObjectError> {
        self.writer.write(move |change| lifecycle::store(change, &bucket, &rules)).await
    }

    /// The bucket's lifecycle rules; empty if it has none.
    pub(crate) async fn lifecycle(&self, bucket: String) -> Result<Vec<Rule>, ObjectError> {
        self.readers.read(move |sql| lifecycle::load(sql, &bucket)).await
    }

    /// Applies the lifecycle rules as of `now_ms`, then removes files that nothing refers to.
    pub(crate) async fn sweep(&self, now_ms: i64) -> Result<Swept, ObjectError> {
        let mut swept = Swept::default();
        for (bucket, rules) in self.readers.read(lifecycle::load_all).await? {
            for rule in rules.into_iter().filter(|rule| rule.enabled) {
                swept.expired_objects += self.expire(&bucket, &rule, now_ms).await?;
                swept.aborted_uploads += self.give_up(&bucket, &rule, now_ms).await?;
            }
        }
        swept.removed_files = self.remove_garbage(now_ms).await?;
        Ok(swept)
    }

    /// What has expired is found beside the writer, which then deletes it by ids: an object that was replaced since
    /// has another one.
    async fn expire(&self, bucket: &str, rule: &Rule, now_ms: i64) -> Result<usize, ObjectError> {
        let Some(before) = rule.expires_before(now_ms) else { return Ok(0) };
        let (bucket, prefix) = (bucket.to_owned(), rule.prefix.clone());
        let ids = self.readers.read(move |sql| lifecycle::expired(sql, &bucket, &prefix, before)).await?;
        for batch in ids.chunks(SWEEP_BATCH).map(<[_]>::to_vec) {
            self.writer
                .write(move |change| Ok(batch.iter().try_for_each(|id| change.delete_row(*id))?))
                .await?;
        }
        Ok(ids.len())
    }

    async fn give_up(&self, bucket: &str, rule: &Rule, now_ms: i64) -> Result<usize, ObjectError> {
        let Some(before) = rule.aborts_before(now_ms) else { return Ok(0) };
        let (bucket, prefix) = (bucket.to_owned(), rule.prefix.clone());
        let ids =
            self.readers.read(move |sql| lifecycle::stale_uploads(sql, &bucket, &prefix, before)).await?;
        for batch in ids.chunks(SWEEP_BATCH).map(<[_]>::to_vec) {
            self.writer
                .write(move |change| Ok(batch.iter().try_for_each(|id| uploads::remove(change, id))?))
                .await?;
        }
        Ok(ids.len())
    }

    async fn remove_garbage(&self, now_ms: i64) -> Result<usize, ObjectError> {
        let now = UNIX_EPOCH + Duration::from_millis(now_ms.try_into().unwrap_or_default());
        let blobs = Arc::clone(&self.blobs);
        self.readers
            .read(move |sql| {
                let is_old =
                    |modified: SystemTime| now.duration_since(modified).is_ok_and(|age| age >= GARBAGE_AGE);
                let removed =
                    blobs.remove_unfinished(is_old).map_err(ObjectError::file("remove old uploads"))?;
                // The files are listed before the rows are read, so a file whose row is being written is young.
                let files = blobs.stored().map_err(ObjectError::file("list the blobs"))?;
                Ok(removed + remove_unreferenced(sql, &blobs, files, is_old)?)
            })
            .await
    }
}

/// Removes what the last process left half-written. Nothing else runs yet, so every file without a row is garbage.
fn remove_leftovers(sql: &rusqlite::Connection, blobs: &Arc<Blobs>) -> rusqlite::Result<()> {
    let cleaned = blobs.remove_unfinished(|_| true).and_then(|removed| Ok((removed, blobs.stored()?)));
    match cleaned {
        Ok((removed, files)) => {
            let removed = removed + remove_unreferenced(sql, blobs, files, |_| true)?;
            if removed > 0 {
                tracing::info!(removed, "removed files of uploads that the last run did not finish");
            }
        }
        // The objects are whole all the same; the next sweep tries again.
        Err(error) => tracing::warn!(%error, "cannot remove what the last run did not finish"),
    }
    Ok(())
}

fn remove_unreferenced(
    sql: &rusqlite::Connection,
    blobs: &Arc<Blobs>,
    mut files: HashMap<blobs::Name, SystemTime>,
    is_old: impl Fn(SystemTime) -> bool,
) -> rusqlite::Result<usize> {
    rows::each_blob(sql, |name| {
        files.remove(&name);
    })?;
    let garbage: Vec<_> =
        files.into_iter().filter(|(_, modified)| is_old(*modified)).map(|(name, _)| name).collect();
    garbage.iter().for_each(|name| blobs.remove(*name));
    Ok(garbage.len())
}

/// The system's clock, in milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
