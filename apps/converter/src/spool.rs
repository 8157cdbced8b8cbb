//! Results on their way to the server, on disk, so that a restart or a power cut loses none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use api::result::ResultRequest;
use client::{BaseUrl, Lease, LeaseToken};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How many refused results are kept.
const MOST_REJECTED: usize = 100;

/// The spool.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
    rejected: PathBuf,
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
    /// What to submit.
    pub result: ResultRequest,
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
        }
    }

    /// The lease that submits it.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease { job_id: self.job_id.clone(), token: LeaseToken::from(self.lease_token.as_str()) }
    }

    fn file_name(&self) -> String {
        // The id is the server's word, and never becomes a path.
        let id: String = self
            .job_id
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .take(100)
            .collect();
        format!("{id}-{}.json", self.attempt)
    }
}

impl Spool {
    /// The spool in these two folders, which exist.
    #[must_use]
    pub fn new(folder: PathBuf, rejected: PathBuf) -> Self {
        Self { folder, rejected }
    }

    /// Writes a result so that it outlasts a power cut, and says where it is.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left of it then.
    pub fn write(&self, spooled: &Spooled) -> io::Result<PathBuf> {
        let path = self.folder.join(spooled.file_name());
        write_durably(&path, spooled)?;
        Ok(path)
    }

    /// Writes the document of a large result beside it, for the upload.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_document(&self, spooled: &Spooled) -> io::Result<Document> {
        /// As [`api::result::ResultDocument`], without a copy of what may be large.
        #[derive(Serialize)]
        struct Content<'a> {
            content: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            metadata: Option<&'a Map<String, Value>>,
            processing_time: Option<f64>,
        }
        let content = Content {
            content: spooled.result.content.as_deref().unwrap_or_default(),
            metadata: spooled.result.metadata.as_ref(),
            processing_time: spooled.result.processing_time,
        };
        let document = Document(self.folder.join(spooled.file_name()).with_extension("upload"));
        write_json(create(document.path())?, &content)?;
        Ok(document)
    }

    /// Where the results are that an earlier process left, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn left(&self) -> io::Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for (path, modified) in entries(&self.folder)? {
            if path.extension().is_none_or(|ending| ending != "json") {
                // A write or an upload that was cut short; the result itself is in its own file, or was never done.
                fs::remove_file(&path)?;
            } else {
                left.push((modified, path));
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
                self.reject(path)?;
                Ok(None)
            }
        }
    }

    /// Removes a result that the server has.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Puts a result aside that the server refused for good, and forgets the oldest ones put aside before.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn reject(&self, path: &Path) -> io::Result<()> {
        fs::rename(path, self.rejected.join(path.file_name().unwrap_or_default()))?;
        let mut all = entries(&self.rejected)?;
        all.sort_by_key(|(_, modified)| *modified);
        let too_many = all.len().saturating_sub(MOST_REJECTED);
        all.iter().take(too_many).try_for_each(|(path, _)| fs::remove_file(path))
    }
}

/// A file that is removed when the value goes.
#[derive(Debug)]
pub struct Document(PathBuf);

impl Document {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(file = %self.0.display(), %error, "an uploaded document could not be removed");
        }
    }
}

fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    fs::read_dir(folder)?
        .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.metadata()?.modified()?))))
        .collect()
}

/// Creates a file that only its owner may read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Writes a file whole or not at all: the bytes first, then the name, each made to last.
fn write_durably(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
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
mod tests {
    use std::os::unix::fs::MetadataExt;

    use api::result::ResultDocument;

    use super::*;

    fn spool(parent: &Path) -> Spool {
        let (folder, rejected) = (parent.join("spool"), parent.join("rejected"));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&rejected).unwrap();
        Spool::new(folder, rejected)
    }

    fn result(job_id: &str, attempt: u64) -> Spooled {
        let lease = Lease { job_id: job_id.to_owned(), token: "secret".into() };
        let result =
            ResultRequest { success: true, content: Some("text".to_owned()), ..ResultRequest::default() };
        Spooled::new(&"http://localhost:8000/".parse().unwrap(), &lease, attempt, result)
    }

    #[test]
    fn what_is_written_is_found_again_oldest_first() {
        let parent = tempfile::tempdir().unwrap();
        let first = spool(parent.path()).write(&result("b", 1)).unwrap();
        File::open(&first).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let second = spool(parent.path()).write(&result("a", 2)).unwrap();
        assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o600);

        let spool = spool(parent.path());
        assert_eq!(spool.left().unwrap(), [first, second.clone()]);
        let loaded = spool.load(&second).unwrap().unwrap();
        assert_eq!((loaded.lease().token.reveal(), loaded.attempt), ("secret", 2));
        assert_eq!(loaded.server, "http://localhost:8000");
        assert_eq!(loaded.result.content.as_deref(), Some("text"));
    }

    #[test]
    fn attempts_of_one_job_do_not_overwrite_each_other_and_ids_are_no_paths() {
        let parent = tempfile::tempdir().unwrap();
        let spool = spool(parent.path());
        assert_ne!(spool.write(&result("a", 1)).unwrap(), spool.write(&result("a", 2)).unwrap());
        let path = spool.write(&result("../../x", 1)).unwrap();
        assert_eq!(path.parent().unwrap(), spool.folder);
    }

    #[test]
    fn damaged_results_are_put_aside_and_cut_writes_removed() {
        let parent = tempfile::tempdir().unwrap();
        let spool = spool(parent.path());
        fs::write(spool.folder.join("x-1.json"), "{").unwrap();
        fs::write(spool.folder.join("y-1.tmp"), "{").unwrap();
        let left = spool.left().unwrap();
        assert_eq!(left.len(), 1);
        assert!(spool.load(&left[0]).unwrap().is_none());
        assert!(spool.rejected.join("x-1.json").exists());
        assert_eq!(fs::read_dir(&spool.folder).unwrap().count(), 0);
    }

    #[test]
    fn refused_results_are_bounded() {
        let parent = tempfile::tempdir().unwrap();
        let spool = spool(parent.path());
        for attempt in 0..MOST_REJECTED as u64 + 5 {
            let path = spool.write(&result("a", attempt)).unwrap();
            let age = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(attempt);
            File::open(&path).unwrap().set_modified(age).unwrap();
            spool.reject(&path).unwrap();
        }
        assert_eq!(fs::read_dir(&spool.rejected).unwrap().count(), MOST_REJECTED);
        assert!(!spool.rejected.join("a-4.json").exists() && spool.rejected.join("a-5.json").exists());
    }

    #[test]
    fn a_document_holds_the_result_and_goes_with_its_value() {
        let parent = tempfile::tempdir().unwrap();
        let document = spool(parent.path()).write_document(&result("a", 1)).unwrap();
        let read: ResultDocument = serde_json::from_slice(&fs::read(document.path()).unwrap()).unwrap();
        assert_eq!(read.content, "text");
        let path = document.path().to_owned();
        drop(document);
        assert!(!path.exists());
    }
}
