//! The data folder: who holds it, and the sources that wait in it.
//!
//! `lock` is held by one process at a time. `incoming` has what is being uploaded, under random names, and `sources` what
//! a task waits for, each under its task's id. No name that a caller gives becomes a path.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use uuid::Uuid;

/// The longest file that [`Folder::secret`] reads, in bytes.
const LONGEST_SECRET: u64 = 4096;

/// The data folder cannot be used. The text says what to do.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Another process has it.
    #[error(
        "the data folder {} is in use by another process; stop that process, or choose another folder with --data-dir",
        .0.display()
    )]
    Locked(PathBuf),
    /// A file or folder in it could not be made, read or written.
    #[error("cannot use {}: {source}; check its permissions and the disk's space, or choose another folder with --data-dir", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// The data folder, held until this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is not there, readable by its owner only, and takes hold of it.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let path = std::path::absolute(path).map_err(failed(path))?;
        for folder in [path.clone(), path.join("incoming"), path.join("sources")] {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed(&folder))?;
        }
        let file = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&file)
            .map_err(failed(&file))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FolderError::Locked(path)),
            Err(error) => Err(failed(&file)(error.into())),
        }
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the source of a task is kept.
    #[must_use]
    pub fn source(&self, task: Uuid) -> PathBuf {
        self.path.join("sources").join(task.to_string())
    }

    /// A new file for an upload. It is removed with the value unless it was kept.
    ///
    /// # Errors
    /// What the system says.
    pub fn incoming(&self) -> io::Result<Incoming> {
        let path = self.path.join("incoming").join(Uuid::new_v4().to_string());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Incoming { file: Some(file), path, kept: false })
    }

    /// Removes the source of a task, if it is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_source(&self, task: Uuid) -> io::Result<()> {
        match fs::remove_file(self.source(task)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes what no task waits for: uploads that were cut off, and sources of tasks that have ended or never came to
    /// be. Nothing may be uploaded meanwhile. Returns how many files went.
    ///
    /// # Errors
    /// The file that cannot be removed.
    pub fn sweep(&self, awaited: &HashSet<Uuid>) -> Result<usize, FolderError> {
        let mut removed = 0;
        for folder in ["incoming", "sources"] {
            let folder = self.path.join(folder);
            for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
                let path = entry.map_err(failed(&folder))?.path();
                let task = path.file_name().and_then(|name| name.to_str()?.parse::<Uuid>().ok());
                let wanted = folder.ends_with("sources") && task.is_some_and(|task| awaited.contains(&task));
                if !wanted {
                    fs::remove_file(&path).map_err(failed(&path))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// The text of a file of this folder that only its owner may read, made by `make` if it is not there.
    ///
    /// # Errors
    /// [`FolderError::File`].
    pub fn secret(&self, name: &str, make: impl FnOnce() -> String) -> Result<String, FolderError> {
        let path = self.path.join(name);
        match File::open(&path) {
            Ok(file) => {
                let mut text = String::new();
                file.take(LONGEST_SECRET).read_to_string(&mut text).map_err(failed(&path))?;
                Ok(text.trim().to_owned())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = make();
                self.write_secret(&path, &text).map_err(failed(&path))?;
                Ok(text)
            }
            Err(error) => Err(failed(&path)(error)),
        }
    }

    /// Written beside and renamed, so that a crash leaves no half of a secret.
    fn write_secret(&self, path: &Path, text: &str) -> io::Result<()> {
        let beside = self.path.join("incoming").join(Uuid::new_v4().to_string());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync(&self.path)
    }
}

/// A file that is being uploaded.
#[derive(Debug)]
pub struct Incoming {
    file: Option<File>,
    path: PathBuf,
    kept: bool,
}

impl Incoming {
    /// The file to write to. A second call makes an error.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn take(&mut self) -> io::Result<File> {
        self.file.take().ok_or_else(|| io::Error::other("the file of an upload was taken twice"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it the source of a task for good: it is there after a power cut. What it holds must have been synced.
    ///
    /// # Errors
    /// What the system says. Then the file is gone.
    pub fn keep(mut self, folder: &Folder, task: Uuid) -> io::Result<()> {
        let source = folder.source(task);
        fs::rename(&self.path, &source)?;
        self.kept = true;
        let synced = source.parent().map_or(Ok(()), sync);
        if synced.is_err() {
            let _ = fs::remove_file(&source);
        }
        synced
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "an upload that nobody wants is left until the next start");
        }
    }
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(matches!(Folder::open(dir.path()), Err(FolderError::Locked(_))));
        drop(folder);
        Folder::open(dir.path()).unwrap();
    }

    #[test]
    fn an_upload_is_removed_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let path = folder.incoming().unwrap().path().to_owned();
        assert!(!path.exists());
        let task = Uuid::now_v7();
        let mut incoming = folder.incoming().unwrap();
        incoming.take().unwrap().write_all(b"bytes").unwrap();
        assert!(incoming.take().is_err());
        incoming.keep(&folder, task).unwrap();
        assert_eq!(fs::read(folder.source(task)).unwrap(), b"bytes");
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
        folder.remove_source(task).unwrap();
        folder.remove_source(task).unwrap();
        assert!(!folder.source(task).exists());
    }

    #[test]
    fn what_no_task_waits_for_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let (awaited, ended) = (Uuid::now_v7(), Uuid::now_v7());
        for path in [folder.source(awaited), folder.source(ended), dir.path().join("incoming/x")] {
            fs::write(path, "").unwrap();
        }
        fs::write(dir.path().join("sources/no-task"), "").unwrap();
        assert_eq!(folder.sweep(&HashSet::from([awaited])).unwrap(), 3);
        assert!(folder.source(awaited).exists());
        assert_eq!(fs::read_dir(dir.path().join("sources")).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.secret("s", || "first".to_owned()).unwrap(), "first");
        assert_eq!(folder.secret("s", || "second".to_owned()).unwrap(), "first");
        assert_eq!(fs::metadata(dir.path().join("s")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
