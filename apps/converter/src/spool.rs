//! Results on their way to the server, on disk, so that a restart or a power cut loses none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use api::result::ResultRequest;
use client::{BaseUrl, Lease, LeaseToken};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How many refused results are kept.
const MOST_REJECTED: usize = 100;
/// The largest result, as JSON, that is submitted in the request itself.
const MOST_INLINE: usize = 1 << 20;
/// How the file of a large result's document ends.
const DOCUMENT: &str = "document";
/// How the names of those end, before the dot, that were only refused because their lease was over.
const LATE: &str = ".late";

/// The spool.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
    rejected: PathBuf,
    /// Is held by whoever moves results or copies one, which are more than one file.
    moving: Arc<Mutex<()>>,
}

/// A result, and what submits it. It holds the lease's token, so it is never shown.
#[derive(Serialize, Deserialize)]
pub struct Spooled {
    /// The URL of the server that it is for.
    pub server: String,
    /// The job's id.
    pub job_id: String,
    /// Which attempt this was.
    pub attempt: u64,
    lease_token: String,
    /// What to submit, without its content and metadata when they are in a file of their own.
    pub result: ResultRequest,
    /// Whether they are.
    #[serde(default)]
    apart: bool,
    /// The `result_key` that its upload was answered with.
    #[serde(default)]
    uploaded_as: Mutex<Option<String>>,
}

impl Spooled {
    /// The result of an attempt.
    #[must_use]
    pub fn new(server: &BaseUrl, lease: &Lease, attempt: u64, result: ResultRequest) -> Self {
        Self {
            server: server.as_str().to_owned(),
            job_id: lease.job_id.clone(),
            attempt,
            lease_token: lease.token.reveal().to_owned(),
            result,
            apart: false,
            uploaded_as: Mutex::default(),
        }
    }

    /// The `result_key` of its upload, once it is uploaded.
    #[must_use]
    pub fn uploaded_as(&self) -> Option<String> {
        self.key().clone()
    }

    fn key(&self) -> MutexGuard<'_, Option<String>> {
        self.uploaded_as.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is too large to be submitted in one request.
    #[must_use]
    pub fn is_large(&self) -> bool {
        // Found out without writing more of it than that.
        self.apart || serde_json::to_writer(vec![0; MOST_INLINE].as_mut_slice(), &self.result).is_err()
    }

    /// The lease that submits it.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease { job_id: self.job_id.clone(), token: LeaseToken::from(self.lease_token.as_str()) }
    }

    fn file_name(&self) -> String {
        format!("{}-{}.json", file_stem(&self.job_id), self.attempt)
    }
}

/// The id is the server's word, and never becomes a path.
fn file_stem(job_id: &str) -> String {
    job_id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(100).collect()
}

impl Spool {
    /// The spool in these two folders, which exist.
    #[must_use]
    pub fn new(folder: PathBuf, rejected: PathBuf) -> Self {
        Self { folder, rejected, moving: Arc::default() }
    }

    fn moving(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a result so that it outlasts a power cut, and says where it is. The content of a large one goes to a file
    /// of its own, just as it will be uploaded, and is not in memory any more then.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left of it on the disk then, and the value is as it was.
    pub fn write(&self, spooled: &mut Spooled) -> io::Result<PathBuf> {
        let path = self.folder.join(spooled.file_name());
        if spooled.apart || !spooled.result.success || !spooled.is_large() {
            write_durably(&path, &*spooled)?;
            return Ok(path);
        }
        // Before the result itself, so that no result is there whose document is not.
        let document = path.with_extension(DOCUMENT);
        write_durably(&document, &Content::of(&spooled.result))?;
        let (content, metadata) = (spooled.result.content.take(), spooled.result.metadata.take());
        spooled.apart = true;
        write_durably(&path, &*spooled).map(|()| path).inspect_err(|_| {
            (spooled.result.content, spooled.result.metadata, spooled.apart) = (content, metadata, false);
            let _ = fs::remove_file(&document);
        })
    }

    /// Notes that a result is uploaded, or is not after all. Once the server has it, it takes no upload any more, and
    /// only the same submission gets the same answer. `path` is where the result is spooled, if it is.
    ///
    /// # Errors
    /// When it cannot be written; it is noted for this process only then.
    pub fn note_upload(
        &self,
        path: Option<&Path>,
        spooled: &Spooled,
        result_key: Option<String>,
    ) -> io::Result<()> {
        *spooled.key() = result_key;
        path.map_or(Ok(()), |path| write_durably(path, spooled))
    }

    /// Spools the success of an earlier attempt at the same job, if there is one, as that of this attempt too, so that
    /// nothing finished is done again. The earlier one stays until it is answered itself; it may also have been put
    /// aside as late.
    ///
    /// # Errors
    /// When the spool cannot be read or written.
    pub fn inherit(
        &self,
        server: &BaseUrl,
        lease: &Lease,
        attempt: u64,
    ) -> io::Result<Option<(PathBuf, Spooled)>> {
        let _moving = self.moving();
        let late = entries(&self.rejected)?.into_iter().filter(|(path, _)| stem(path).ends_with(LATE));
        for (path, _) in entries(&self.folder)?.into_iter().chain(late) {
            let is_same_job =
                stem(&path).rsplit_once('-').is_some_and(|(id, _)| id == file_stem(&lease.job_id));
            if !is_result(&path) || !is_same_job {
                continue;
            }
            let earlier = match self.load(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                loaded => loaded?,
            };
            let Some(earlier) = earlier else { continue };
            if earlier.server == server.as_str() && earlier.attempt < attempt && earlier.result.success {
                return self.inherited(&path, earlier, lease, attempt).map(Some);
            }
        }
        Ok(None)
    }

    fn inherited(
        &self,
        from: &Path,
        earlier: Spooled,
        lease: &Lease,
        attempt: u64,
    ) -> io::Result<(PathBuf, Spooled)> {
        let lease_token = lease.token.reveal().to_owned();
        let mut spooled = Spooled { lease_token, attempt, uploaded_as: Mutex::default(), ..earlier };
        let path = self.folder.join(spooled.file_name());
        if spooled.apart {
            fs::hard_link(from.with_extension(DOCUMENT), path.with_extension(DOCUMENT))?;
        }
        Ok((self.write(&mut spooled)?, spooled))
    }

    /// The file to upload for a result: the one that it was spooled with, or else one that is written for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn document(&self, spooled: &Spooled) -> io::Result<Document> {
        let path = self.folder.join(spooled.file_name());
        if spooled.apart {
            return Ok(Document { path: path.with_extension(DOCUMENT), is_passing: false });
        }
        let document = Document { path: path.with_extension("upload"), is_passing: true };
        write_json(create(document.path())?, &Content::of(&spooled.result))?;
        Ok(document)
    }

    /// Where the results are that an earlier process left, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn left(&self) -> io::Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for (path, modified) in entries(&self.folder)? {
            if is_result(&path) {
                left.push((modified, path));
            } else if !(is_document(&path) && path.with_extension("json").exists()) {
                // A write or an upload that was cut short; the result itself is in its own file, or was never done.
                fs::remove_file(&path)?;
            }
        }
        left.sort();
        Ok(left.into_iter().map(|(_, path)| path).collect())
    }

    /// Reads a result; none when it is damaged, and it is put with the refused ones then.
    ///
    /// # Errors
    /// When the file cannot be read, or not be put aside.
    pub fn load(&self, path: &Path) -> io::Result<Option<Spooled>> {
        match serde_json::from_slice(&fs::read(path)?) {
            Ok(spooled) => Ok(Some(spooled)),
            Err(error) => {
                tracing::error!(file = %path.display(), line = error.line(), "a spooled result is damaged");
                self.put_aside(path, "")?;
                Ok(None)
            }
        }
    }

    /// Removes a result that the server has.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let _moving = self.moving();
        remove_with_document(path)
    }

    /// Puts a result aside that the server refused for good, and forgets the oldest ones put aside before.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn reject(&self, path: &Path) -> io::Result<()> {
        let _moving = self.moving();
        self.put_aside(path, "")
    }

    /// As [`Self::reject`], for one that came too late. Another attempt at the same job may still submit it.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn reject_late(&self, path: &Path) -> io::Result<()> {
        let _moving = self.moving();
        self.put_aside(path, LATE)
    }

    fn put_aside(&self, path: &Path, mark: &str) -> io::Result<()> {
        let target = self.rejected.join(format!("{}{mark}.json", stem(path)));
        let document = path.with_extension(DOCUMENT);
        fs::rename(path, &target)?;
        if document.exists() {
            fs::rename(&document, target.with_extension(DOCUMENT))?;
        }
        let mut all = entries(&self.rejected)?;
        all.retain(|(path, _)| is_result(path));
        all.sort_by_key(|(_, modified)| *modified);
        let too_many = all.len().saturating_sub(MOST_REJECTED);
        all.iter().take(too_many).try_for_each(|(path, _)| remove_with_document(path))
    }
}

/// As [`api::result::ResultDocument`], without a copy of what may be large.
#[derive(Serialize)]
struct Content<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Map<String, Value>>,
    processing_time: Option<f64>,
}

impl<'a> Content<'a> {
    fn of(result: &'a ResultRequest) -> Self {
        Self {
            content: result.content.as_deref().unwrap_or_default(),
            metadata: result.metadata.as_ref(),
            processing_time: result.processing_time,
        }
    }
}

/// A file's name without its ending.
fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

fn is_result(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "json")
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == DOCUMENT)
}

/// Removes a result, and then the file that only it names.
fn remove_with_document(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    match fs::remove_file(path.with_extension(DOCUMENT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A file to upload. One that was written only for that is removed when the value goes.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    is_passing: bool,
}

impl Document {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        if !self.is_passing {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "an uploaded document could not be removed");
        }
    }
}

fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let found = fs::read_dir(folder)?.map(|entry| {
        let entry = entry?;
        match entry.metadata() {
            // Somebody else has just moved or removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            metadata => Ok(Some((entry.path(), metadata?.modified()?))),
        }
    });
    found.filter_map(Result::transpose).collect()
}

/// Creates a file that only its owner may read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Writes a file whole or not at all: the bytes first, then the name, each made to last.
fn write_durably(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_added_extension("tmp");
    let written = create(&temporary).and_then(|file| {
        write_json(file, value)?.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a value as JSON, however large it is, and gives the file back.
fn write_json(file: File, value: &impl Serialize) -> io::Result<File> {
    let mut writer = BufWriter::new(file);
    serde_json::to_writer(&mut writer, value)?;
    writer.flush()?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

#[cfg(test)]
mod tests;
