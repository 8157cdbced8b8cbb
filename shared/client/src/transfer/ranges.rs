use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs::{File, OpenOptions},
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::Response;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    OnProgress, STALL,
    hash::{self, Hashed},
    object::{Answer, Object},
    send,
    sink::Sink,
    tries::Tries,
};
use crate::{Error, PresignedUrl, answer};

/// How an object is cut into ranges that travel at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    /// How much must be missing for it to be worth while, in bytes.
    pub(crate) from: u64,
    /// How long a range is, in bytes.
    pub(crate) range: u64,
    /// How many travel at a time.
    pub(crate) parallel: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self { from: 64 << 20, range: 16 << 20, parallel: 4 }
    }
}

/// The fetching of an object in ranges. Each is written at its place and taken up by itself when it breaks off, and the
/// hash follows what is there without a gap.
pub(super) struct Ranges<'a> {
    object: &'a Object<'a>,
    dest: &'a Path,
    progress: OnProgress<'a>,
    cut: Cut,
    arrived: AtomicU64,
}

/// Why a range is not fetched.
enum Halt {
    /// An answer that ends the fetching in ranges.
    Unsuited(Answer),
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Ranges<'a> {
    pub(super) fn new(object: &'a Object<'a>, dest: &'a Path, progress: OnProgress<'a>, cut: Cut) -> Self {
        Self { object, dest, progress, cut, arrived: AtomicU64::new(0) }
    }

    /// Fetches what lies behind `have`. What the file holds without a gap then, and the answer that ended it early.
    pub(super) async fn run(&self, have: Hashed) -> (Hashed, Result<Option<Answer>, Error>) {
        self.arrived.store(have.len, Ordering::Relaxed);
        let (tell, told) = watch::channel(have.len);
        let (writing, mut written) = mpsc::channel(1);
        let fetching = self.fetch(have.len, tell, writing);
        let (fetched, (have, hashed)) = tokio::join!(fetching, self.hash(have, told));
        // Ranges that were given up may still be writing what had arrived, and nobody may write there before them.
        let _ = written.recv().await;
        let ended = match (hashed, fetched) {
            (Err(error), _) | (Ok(()), Err(Halt::Failed(error))) => Err(error),
            (Ok(()), Err(Halt::Unsuited(answer))) => Ok(Some(answer)),
            (Ok(()), Ok(())) => Ok(None),
        };
        (have, ended)
    }

    /// Takes the room on the disk at once, so that a disk too small is found out before anything has travelled. The
    /// file does not grow by that, because its length tells what it holds.
    async fn reserve(&self) -> Result<(), Error> {
        let size = self.object.download.size_bytes;
        hash::blocking(self.dest, move |path| {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            allocate(&file, size)
        })
        .await
    }

    /// Fetches what lies behind `begun`, and tells how much of the file is there without a gap.
    async fn fetch(
        &self,
        begun: u64,
        tell: watch::Sender<u64>,
        writing: mpsc::Sender<Infallible>,
    ) -> Result<(), Halt> {
        self.reserve().await?;
        let size = self.object.download.size_bytes;
        let (mut next, mut whole) = (begun, begun);
        // What is there behind a gap, by where it begins.
        let mut ahead = BTreeMap::new();
        let mut travelling = FuturesUnordered::new();
        loop {
            while next < size && travelling.len() < self.cut.parallel {
                let to = next.saturating_add(self.cut.range).min(size);
                travelling.push(self.range(next, to, writing.clone()));
                next = to;
            }
            let Some(fetched) = travelling.next().await else { return Ok(()) };
            let (from, to) = fetched?;
            ahead.insert(from, to);
            while let Some(to) = ahead.remove(&whole) {
                whole = to;
            }
            if tell.send(whole).is_err() {
                // The file cannot be read back, and who hashes it says why.
                return Ok(());
            }
        }
    }

    /// Hashes what is there without a gap, on a thread of its own, until nobody tells of more. The bytes were written
    /// a moment ago, so that they come from memory.
    async fn hash(&self, mut have: Hashed, mut told: watch::Receiver<u64>) -> (Hashed, Result<(), Error>) {
        while told.changed().await.is_ok() {
            let whole = *told.borrow_and_update();
            match hash::further(self.dest, have.clone(), whole).await {
                Ok(further) => have = further,
                Err(error) => return (have, Err(error)),
            }
        }
        (have, Ok(()))
    }

    /// Fetches a range, however often its connection breaks. Where it begins and ends.
    async fn range(&self, from: u64, to: u64, writing: mpsc::Sender<Infallible>) -> Result<(u64, u64), Halt> {
        let (mut at, mut tries) = (from, Tries::default());
        while at < to {
            let url = self.object.url();
            let sink = |at| Sink::at(self.dest, at, writing.clone());
            if let Err(error) = self.stretch(&url, &mut at, to, &mut tries, sink).await {
                match error {
                    Halt::Failed(error) => self.object.again(&mut tries, error, &url).await?,
                    unsuited @ Halt::Unsuited(_) => return Err(unsuited),
                }
            }
        }
        Ok((from, to))
    }

    /// Makes one request and keeps what arrives.
    async fn stretch(
        &self,
        url: &PresignedUrl,
        at: &mut u64,
        to: u64,
        tries: &mut Tries,
        sink: impl FnOnce(u64) -> Sink<u64>,
    ) -> Result<(), Halt> {
        let response = match self.object.ask(url, *at, Some(to)).await? {
            Answer::Asked(response) => response,
            other => return Err(Halt::Unsuited(other)),
        };
        let sink = sink(*at);
        let copied = self.copy(response, &sink, to - *at, tries, &url.host()).await;
        // A full disk explains a copy that broke off, so its error comes first.
        *at += sink.close().await?;
        copied
    }

    async fn copy(
        &self,
        mut response: Response,
        sink: &Sink<u64>,
        mut missing: u64,
        tries: &mut Tries,
        host: &str,
    ) -> Result<(), Halt> {
        while missing > 0 {
            let piece = timeout(STALL, response.chunk()).await.map_err(|_| send::silent(host))?;
            let Some(piece) = piece.map_err(|error| answer::sending(&error, host, STALL))? else {
                return Err(send::broken_off(host).into());
            };
            let len = piece.len() as u64;
            if len > missing {
                return Err(Halt::Unsuited(Answer::Unfit));
            }
            missing -= len;
            if !sink.write(piece).await {
                return Ok(());
            }
            tries.moved();
            let arrived = self.arrived.fetch_add(len, Ordering::Relaxed) + len;
            (self.progress)(arrived, self.object.download.size_bytes);
        }
        // A connection whose answer is read to its end can carry the next range.
        match timeout(STALL, response.chunk()).await {
            Ok(Ok(Some(_))) => Err(Halt::Unsuited(Answer::Unfit)),
            _ => Ok(()),
        }
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, size: u64) -> io::Result<()> {
    use rustix::{fs::FallocateFlags, io::Errno};

    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size) {
        // Not every file system can, and none must.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        done => done.map_err(io::Error::from),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_file: &File, _size: u64) -> io::Result<()> {
    Ok(())
}
