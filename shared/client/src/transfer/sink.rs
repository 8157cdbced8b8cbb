use std::{
    fs::OpenOptions,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle};

use super::hash::Hashed;
use crate::Error;

/// How many pieces may wait for the disk. More would only cost memory.
const WAITING: usize = 16;

/// Writes and hashes on a thread of its own, so that the network never waits for either.
pub(super) struct Sink {
    path: PathBuf,
    pieces: mpsc::Sender<Bytes>,
    written: JoinHandle<io::Result<Hashed>>,
}

impl Sink {
    /// Goes on behind what `begun` covers; whatever the file holds beyond it is cut.
    pub(super) fn open(path: &Path, begun: Hashed) -> Self {
        let (pieces, arriving) = mpsc::channel(WAITING);
        let owned = path.to_owned();
        let written = tokio::task::spawn_blocking(move || write(&owned, begun, arriving));
        Self { path: path.to_owned(), pieces, written }
    }

    /// False when the disk takes no more; [`Sink::close`] says why.
    pub(super) async fn write(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until everything is written, and says what the file holds now.
    pub(super) async fn close(self) -> Result<Hashed, Error> {
        drop(self.pieces);
        let written = self.written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|source| Error::File { path: self.path, source })
    }
}

fn write(path: &Path, mut hashed: Hashed, mut arriving: mpsc::Receiver<Bytes>) -> io::Result<Hashed> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.set_len(hashed.len)?;
    file.seek(SeekFrom::Start(hashed.len))?;
    while let Some(piece) = arriving.blocking_recv() {
        file.write_all(&piece)?;
        hashed.update(&piece);
    }
    Ok(hashed)
}
