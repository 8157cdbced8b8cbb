use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::Error;

/// How much is read at a time, in bytes.
pub(super) const CHUNK: usize = 256 << 10;

/// The bytes of a file from its beginning, or from a position on, as a hash that can go on.
#[derive(Clone, Default)]
pub(super) struct Hashed {
    pub(super) len: u64,
    pub(super) sha256: Sha256,
}

impl Hashed {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.len += bytes.len() as u64;
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.sha256.finalize().into()
    }
}

/// Hashes a whole regular file.
pub(super) async fn file(path: &Path) -> Result<Hashed, Error> {
    blocking(path, |path| {
        let mut file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        read(&mut file, u64::MAX)
    })
    .await
}

/// Hashes `len` bytes of a file from `offset` on.
pub(super) async fn part(path: &Path, offset: u64, len: u64) -> Result<[u8; 32], Error> {
    blocking(path, move |path| {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let hashed = read(&mut file, len)?;
        if hashed.len == len { Ok(hashed.finish()) } else { Err(changed()) }
    })
    .await
}

/// Hashes what a file holds; nothing when there is none, or when it holds more than `most` bytes.
pub(super) async fn beginning(path: &Path, most: u64) -> Result<Hashed, Error> {
    blocking(path, move |path| match File::open(path) {
        Ok(file) if file.metadata()?.len() > most => Ok(Hashed::default()),
        Ok(mut file) => read(&mut file, most),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Hashed::default()),
        Err(error) => Err(error),
    })
    .await
}

/// Hashes on behind what `have` covers, up to `to`.
pub(super) async fn further(path: &Path, have: Hashed, to: u64) -> Result<Hashed, Error> {
    blocking(path, move |path| {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(have.len))?;
        let missing = to.saturating_sub(have.len);
        let hashed = read_on(have, &mut file, missing)?;
        if hashed.len == to { Ok(hashed) } else { Err(changed()) }
    })
    .await
}

/// Fails when a file's size is not `size` any more: then that is why sending it failed.
pub(super) async fn unchanged(path: &Path, size: u64) -> Result<(), Error> {
    blocking(path, move |path| if path.metadata()?.len() == size { Ok(()) } else { Err(changed()) }).await
}

fn changed() -> io::Error {
    io::Error::other("it changed meanwhile, so try it again")
}

fn read(file: &mut File, most: u64) -> io::Result<Hashed> {
    read_on(Hashed::default(), file, most)
}

fn read_on(mut hashed: Hashed, file: &mut File, most: u64) -> io::Result<Hashed> {
    let mut buffer = vec![0; CHUNK];
    let mut source = file.take(most);
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hashed),
            Ok(count) => hashed.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Works on a file away from the tasks that move bytes.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let owned: PathBuf = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&owned))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| Error::File { path: path.to_owned(), source })
}
