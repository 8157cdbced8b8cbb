//! The room on the disk of `temp_dir`, which jobs that run at the same time share.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much stays free beside the sources, for results, logs and whoever else uses the disk, in bytes.
const RESERVE: u64 = 64 << 20;
/// At most this share of a small disk is kept so.
const RESERVED_SHARE: u64 = 16;

/// How often in a row a job is given back for lack of room. It comes back first each time, and holds up all others.
const MOST_GIVEN_BACK: u32 = 3;

/// Who was promised how much of a disk.
#[derive(Clone, Debug)]
pub struct Space {
    folder: Arc<Path>,
    /// The files that grow, with the sizes that they will have.
    promised: Arc<Mutex<HashMap<PathBuf, u64>>>,
    /// The job that there was no room for last, and how often in a row.
    refused: Arc<Mutex<(String, u32)>>,
}

/// The promise that a file may grow to its size. It ends with the value.
#[derive(Debug)]
pub struct Promise {
    space: Space,
    file: PathBuf,
}

/// A file does not fit on the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The disk of {} is too full: {} bytes are free, and {} are needed ({wanted} for the source, {promised} for other \
     sources on their way, {} in reserve).",
    .folder.display(), .disk.free, .wanted.saturating_add(*promised).saturating_add(.disk.reserve()),
    .disk.reserve()
)]
pub struct TooFull {
    folder: PathBuf,
    disk: Disk,
    wanted: u64,
    promised: u64,
}

impl TooFull {
    /// Whether the disk has no room for it even when there is nothing else on it.
    #[must_use]
    pub fn is_for_ever(&self) -> bool {
        self.wanted.saturating_add(self.disk.reserve()) > self.disk.size
    }
}

impl Space {
    /// The room on the disk of this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.into(), promised: Arc::default(), refused: Arc::default() }
    }

    /// Promises `file` that it may grow to `size` bytes, if there is room for it and for all that was promised before.
    ///
    /// # Errors
    /// [`TooFull`] when there is not. How much is free is not known of every disk, and then everything fits.
    pub fn promise(&self, file: &Path, size: u64) -> Result<Promise, TooFull> {
        let unknown = Disk { free: u64::MAX, size: u64::MAX };
        self.promise_of(Disk::of(&self.folder).unwrap_or(unknown), file, size)
    }

    fn promise_of(&self, disk: Disk, file: &Path, wanted: u64) -> Result<Promise, TooFull> {
        let mut all = self.all();
        let promised =
            all.iter().fold(0, |sum: u64, (file, size)| sum.saturating_add(size.saturating_sub(taken(file))));
        let needed = wanted.saturating_add(promised).saturating_add(disk.reserve());
        if needed > disk.free {
            return Err(TooFull { folder: self.folder.to_path_buf(), disk, wanted, promised });
        }
        all.insert(file.to_owned(), wanted);
        Ok(Promise { space: self.clone(), file: file.to_owned() })
    }

    /// Notes that there was no room for this job. Whether it has been given back often enough, and must wait its turn.
    #[must_use]
    pub fn must_wait(&self, job_id: &str) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.0 != job_id {
            *refused = (job_id.to_owned(), 0);
        }
        refused.1 += 1;
        refused.1 > MOST_GIVEN_BACK
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PathBuf, u64>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.space.all().remove(&self.file);
    }
}

/// A disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    /// What it has free for this user.
    free: u64,
    size: u64,
}

impl Disk {
    fn of(folder: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Self { free: bytes(disk.f_bavail), size: bytes(disk.f_blocks) })
    }

    fn reserve(self) -> u64 {
        RESERVE.min(self.size / RESERVED_SHARE)
    }
}

/// What a file has of the disk already, and what is therefore not free any more: its blocks, not its length, because
/// room may be taken before there are bytes.
fn taken(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    /// The unit of `st_blocks`, whatever the disk's is.
    const BLOCK: u64 = 512;
    file.metadata().map_or(0, |found| found.blocks().saturating_mul(BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn large(free: u64) -> Disk {
        Disk { free, size: u64::MAX }
    }

    #[test]
    fn two_sources_are_not_promised_the_same_room() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let space = Space::of(folder.path());
        let free = RESERVE + 150 * MIB;
        let promise = space.promise_of(large(free), &first, 100 * MIB).unwrap();
        let refused = space.clone().promise_of(large(free), &second, 100 * MIB).unwrap_err();
        let text = refused.to_string();
        for part in [
            folder.path().to_str().unwrap().to_owned(),
            format!("{free} bytes are free"),
            format!("{} are needed", RESERVE + 200 * MIB),
        ] {
            assert!(text.contains(&part), "{text}");
        }
        space.promise_of(large(free), &second, 50 * MIB).unwrap();
        drop(promise);
        space.promise_of(large(free), &second, 150 * MIB).unwrap();
        assert!(space.promise_of(large(free), &second, 150 * MIB + 1).is_err());
    }

    #[test]
    fn what_a_source_has_taken_already_is_not_counted_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let space = Space::of(folder.path());
        let _promise = space.promise_of(large(u64::MAX), &first, 10 * MIB).unwrap();
        let free = RESERVE + 12 * MIB;
        assert!(space.promise_of(large(free), &second, 10 * MIB).is_err());
        let file = std::fs::File::create(&first).unwrap();
        std::io::Write::write_all(&mut &file, &vec![1; 9 << 20]).unwrap();
        file.sync_all().unwrap();
        space.promise_of(large(free), &second, 10 * MIB).unwrap();
    }

    #[test]
    fn nothing_is_too_large_for_numbers_and_a_real_disk_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::of(folder.path());
        let file = folder.path().join("file");
        drop(space.promise(&file, 1).unwrap());
        let error = space.promise(&file, u64::MAX).unwrap_err();
        assert!(error.disk.free > 0 && error.disk.free < u64::MAX, "{error}");
        assert!(error.is_for_ever());
    }

    #[test]
    fn little_of_a_small_disk_is_kept_in_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let (space, file) = (Space::of(folder.path()), folder.path().join("file"));
        let small = Disk { free: 32 * MIB, size: 32 * MIB };
        drop(space.promise_of(small, &file, 30 * MIB).unwrap());
        assert!(space.promise_of(small, &file, 31 * MIB).unwrap_err().is_for_ever());
        let filled = Disk { free: 20 * MIB, ..small };
        assert!(!space.promise_of(filled, &file, 30 * MIB).unwrap_err().is_for_ever());
    }

    #[test]
    fn a_job_that_comes_back_again_and_again_must_wait() {
        let space = Space::of("/".as_ref());
        let mut must_wait = (0..=MOST_GIVEN_BACK).map(|_| space.must_wait("large"));
        assert_eq!(must_wait.by_ref().position(|must_wait| must_wait), Some(MOST_GIVEN_BACK as usize));
        assert!(!space.must_wait("other") && !space.must_wait("large"));
    }
}
