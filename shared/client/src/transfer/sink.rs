use std::{
    convert::Infallible,
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle};

use super::hash::Hashed;
use crate::Error;

/// How many pieces may wait for the disk. More would only cost memory.
const WAITING: usize = 8;

/// Writes on a thread of its own, so that the network never waits for the disk or a hash. What it is closed with says
/// what is written: `T` is the file's hash or a number of bytes.
pub(super) struct Sink<T> {
    path: PathBuf,
    pieces: mpsc::Sender<Bytes>,
    written: JoinHandle<(T, io::Result<()>)>,
}

impl Sink<Hashed> {
    /// Goes on behind what `begun` covers; whatever the file holds beyond it is cut.
    pub(super) fn open(path: &Path, begun: Hashed) -> Self {
        Self::start(path, begun, |path, begun, arriving| {
            let mut file = open(path)?;
            file.set_len(begun.len)?;
            file.seek(SeekFrom::Start(begun.len))?;
            while let Some(piece) = arriving.blocking_recv() {
                file.write_all(&piece)?;
                begun.update(&piece);
            }
            Ok(())
        })
    }
}

impl Sink<u64> {
    /// Writes from `offset` on, and leaves the rest of the file as it is. It is closed with how much was written. The
    /// thread that writes may outlast the value by a moment, and holds on to `writing` as long as it lives.
    pub(super) fn at(path: &Path, offset: u64, writing: mpsc::Sender<Infallible>) -> Self {
        Self::start(path, 0, move |path, written, arriving| {
            let _writing = writing;
            let mut file = open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            while let Some(piece) = arriving.blocking_recv() {
                file.write_all(&piece)?;
                *written += piece.len() as u64;
            }
            Ok(())
        })
    }
}

impl<T: Send + 'static> Sink<T> {
    fn start(
        path: &Path,
        mut state: T,
        write: impl FnOnce(&Path, &mut T, &mut mpsc::Receiver<Bytes>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let (pieces, mut arriving) = mpsc::channel(WAITING);
        let owned = path.to_owned();
        let written = tokio::task::spawn_blocking(move || {
            let done = write(&owned, &mut state, &mut arriving);
            (state, done)
        });
        Self { path: path.to_owned(), pieces, written }
    }

    /// False when the disk takes no more; [`Sink::close`] says why.
    pub(super) async fn write(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until everything is written, and says what was.
    pub(super) async fn close(self) -> Result<T, Error> {
        drop(self.pieces);
        let at = |source| Error::File { path: self.path, source };
        match self.written.await {
            Ok((state, Ok(()))) => Ok(state),
            Ok((_, Err(error))) => Err(at(error)),
            Err(error) => Err(at(io::Error::other(error))),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}
