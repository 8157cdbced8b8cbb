//! The engine's files, as far as the engine does not look after them.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::Error;

/// The folder of the engine's log, in its own.
const LOG: &str = "wal";
/// What the names of the log's full files begin with; the number of the first entry follows.
const CLOSED: &str = "closed-";
/// Where the engine builds segments that are not in use yet.
const UNFINISHED: &str = "temp_segments";

/// Makes a folder if it is not there, and locks it for as long as the file is open.
pub(super) fn lock(folder: &Path) -> Result<File, Error> {
    fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| at(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(at(&path, source)),
    }
}

/// Makes the engine's folder ready to be opened, and frees it of what the engine needs no more.
pub(super) fn prepare(shard: &Path) -> Result<(), Error> {
    fs::create_dir_all(shard).map_err(|source| at(shard, source))?;
    let unfinished = shard.join(UNFINISHED);
    match fs::remove_dir_all(&unfinished) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(at(&unfinished, source)),
        Ok(()) | Err(_) => {}
    }
    let mut closed = closed(shard)?;
    closed.pop();
    for (_, path) in closed {
        fs::remove_file(&path).map_err(|source| at(&path, source))?;
    }
    Ok(())
}

/// How many full files the log has.
pub(super) fn closed_logs(shard: &Path) -> usize {
    closed(shard).map_or(0, |closed| closed.len())
}

/// The log's full files, the oldest first.
fn closed(shard: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut closed = Vec::new();
    for path in entries(&shard.join(LOG))? {
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(first) = name.and_then(|name| name.strip_prefix(CLOSED)?.parse().ok()) {
            closed.push((first, path));
        }
    }
    closed.sort_unstable();
    Ok(closed)
}

/// Makes the names of all files under `folder` as durable as what is in them.
pub(super) fn sync_folders(folder: &Path) -> Result<(), Error> {
    for path in entries(folder)? {
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| at(folder, source))
}

/// What is in a folder; nothing, where there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listing = match fs::read_dir(folder) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(|source| at(folder, source))?,
    };
    listing.map(|entry| entry.map(|entry| entry.path()).map_err(|source| at(folder, source))).collect()
}

fn at(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}
