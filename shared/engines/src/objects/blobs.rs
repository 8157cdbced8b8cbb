//! The files that hold the bytes of larger objects.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use uuid::Uuid;

use crate::folder::{Folder, create_private, sync_folder};

const WRITE_BUFFER: usize = 1024 * 1024;

/// The name of a blob. It is random, so a key never becomes a path.
pub(super) type Name = Uuid;

/// The files under `objects/`: `incoming/` while they are written, `blobs/xx/` once they are complete.
pub(super) struct Blobs {
    incoming: PathBuf,
    stored: PathBuf,
    readers: Mutex<ReaderCounts>,
    folder: Arc<Folder>,
}

/// A blob that is being read outlives its row: it is removed by its last reader.
#[derive(Default)]
struct ReaderCounts {
    open: HashMap<Name, usize>,
    doomed: HashSet<Name>,
}

impl Blobs {
    pub(super) fn open(dir: &Path, folder: &Arc<Folder>) -> io::Result<Self> {
        let blobs = Self {
            incoming: dir.join("incoming"),
            stored: dir.join("blobs"),
            readers: Mutex::default(),
            folder: Arc::clone(folder),
        };
        create_private(&blobs.incoming)?;
        create_private(&blobs.stored)?;
        blobs.sync(dir)?;
        blobs.sync(folder.path())?;
        Ok(blobs)
    }

    /// Begins a new blob.
    pub(super) fn create(self: &Arc<Self>) -> io::Result<PendingBlob> {
        let name = Uuid::new_v4();
        let path = self.incoming.join(name.simple().to_string());
        let file = BufWriter::with_capacity(WRITE_BUFFER, File::create_new(&path)?);
        Ok(PendingBlob { blobs: Arc::clone(self), name, path, file: Some(file), kept: false })
    }

    pub(super) fn open_stored(&self, name: Name) -> io::Result<File> {
        File::open(self.path(name))
    }

    /// Removes a blob that no row names, now or when its last reader is done.
    pub(super) fn remove(&self, name: Name) {
        let mut readers = self.readers();
        if readers.open.contains_key(&name) {
            readers.doomed.insert(name);
            return;
        }
        drop(readers);
        remove_file(&self.path(name));
    }

    /// Keeps blobs from being removed until the answer is dropped.
    pub(super) fn pin(self: &Arc<Self>, names: Vec<Name>) -> Pins {
        let mut readers = self.readers();
        for name in &names {
            *readers.open.entry(*name).or_default() += 1;
        }
        drop(readers);
        Pins { blobs: Arc::clone(self), names }
    }

    fn unpin(&self, names: &[Name]) {
        let mut removable = Vec::new();
        let mut readers = self.readers();
        for name in names {
            if let Some(count) = readers.open.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    readers.open.remove(name);
                    removable.extend(readers.doomed.take(name));
                }
            }
        }
        drop(readers);
        removable.iter().for_each(|name| remove_file(&self.path(*name)));
    }

    /// Removes files under `incoming/` that were last written at a time that `is_old`; returns how many.
    pub(super) fn remove_unfinished(&self, is_old: impl Fn(SystemTime) -> bool) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.incoming)? {
            let entry = entry?;
            let Some(modified) = unless_gone(entry.metadata().and_then(|file| file.modified()))? else {
                continue;
            };
            if is_old(modified) {
                remove_file(&entry.path());
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Every complete blob, and when it was last written. A file that isn't where its name says is not one.
    pub(super) fn stored(&self) -> io::Result<HashMap<Name, SystemTime>> {
        let mut files = HashMap::new();
        for shelf in fs::read_dir(&self.stored)? {
            for entry in fs::read_dir(shelf?.path())? {
                let entry = entry?;
                let name = entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok());
                let name = name.filter(|name| self.path(*name) == entry.path());
                let modified = unless_gone(entry.metadata().and_then(|file| file.modified()))?;
                if let (Some(name), Some(modified)) = (name, modified) {
                    files.insert(name, modified);
                }
            }
        }
        Ok(files)
    }

    fn path(&self, name: Name) -> PathBuf {
        let name = name.simple().to_string();
        self.stored.join(&name[..2]).join(name)
    }

    fn sync(&self, dir: &Path) -> io::Result<()> {
        if self.folder.is_durable() { sync_folder(dir) } else { Ok(()) }
    }

    fn readers(&self) -> MutexGuard<'_, ReaderCounts> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blobs that stay readable while this lives.
pub(crate) struct Pins {
    blobs: Arc<Blobs>,
    names: Vec<Name>,
}

impl Pins {
    pub(super) fn blobs(&self) -> &Blobs {
        &self.blobs
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.blobs.unpin(&self.names);
    }
}

/// A blob that no row names yet. Dropping it removes its file, unless it was kept.
pub(super) struct PendingBlob {
    blobs: Arc<Blobs>,
    name: Name,
    path: PathBuf,
    file: Option<BufWriter<File>>,
    kept: bool,
}

impl PendingBlob {
    pub(super) fn name(&self) -> Name {
        self.name
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Puts the blob in its place, durably. Its bytes are on the disk before its name is.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if self.blobs.folder.is_durable() {
            file.sync_all()?;
        }
        let path = self.blobs.path(self.name);
        let shelf = path.parent().unwrap_or(&self.blobs.stored);
        match fs::create_dir(shelf) {
            Ok(()) => self.blobs.sync(&self.blobs.stored)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        fs::rename(&self.path, &path)?;
        let synced = self.blobs.sync(shelf);
        self.path = path;
        synced
    }

    /// Leaves the file to the row that names it now.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for PendingBlob {
    fn drop(&mut self) {
        if !self.kept {
            remove_file(&self.path);
        }
    }
}

/// A file that cannot be removed now is found again by the next sweep.
fn remove_file(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, file = %path.display(), "cannot remove a file that is no longer needed")
        }
    }
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
