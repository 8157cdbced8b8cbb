use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::error::OpenError;

/// The data folder, held exclusively until this is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    hold: Hold,
}

enum Hold {
    /// The open file that carries the lock.
    Lock(#[expect(dead_code, reason = "the lock lives as long as the file is open")] File),
    Temporary(#[expect(dead_code, reason = "the folder lives as long as this value")] TempDir),
}

impl Folder {
    /// Creates `dir` if needed, readable by its owner only, and locks it.
    pub(crate) fn lock(dir: &Path) -> Result<Self, OpenError> {
        create_private(dir).map_err(OpenError::file(dir))?;
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(OpenError::file(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: dir.to_owned(), hold: Hold::Lock(file) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { folder: dir.to_owned() }),
            Err(error) => Err(OpenError::file(&path)(error.into())),
        }
    }

    pub(crate) fn temporary() -> Result<Self, OpenError> {
        let dir = TempDir::with_prefix("engines-").map_err(OpenError::file(&std::env::temp_dir()))?;
        Ok(Self { path: dir.path().to_owned(), hold: Hold::Temporary(dir) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what is acknowledged must survive a power cut.
    pub(crate) fn is_durable(&self) -> bool {
        matches!(self.hold, Hold::Lock(_))
    }
}

/// Creates `dir` and what is missing above it. A folder that exists keeps its mode.
pub(crate) fn create_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes the names in `dir` durable: a new file's name survives a power cut only after this.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
