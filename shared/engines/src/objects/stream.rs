use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::task::JoinHandle;

use super::blobs::{Name, Pins};
use super::error::ObjectError;

/// Read at once: large enough that the disk is the limit, small enough that a hundred readers fit in memory.
const READ_SIZE: u64 = 512 * 1024;

/// An object's bytes as a row of blobs, which stay readable while this lives.
pub(crate) struct Segments {
    blobs: Vec<(Name, u64)>,
    pins: Arc<Pins>,
}

impl Segments {
    pub(super) fn new(blobs: Vec<(Name, u64)>, pins: Pins) -> Self {
        Self { blobs, pins: Arc::new(pins) }
    }

    /// Begins to read `length` bytes from `start`, if the first blob of them is there.
    pub(crate) async fn stream(self, start: u64, length: u64) -> Result<BlobStream, ObjectError> {
        let mut cursor = Cursor { segments: self, next: 0, skip: start, remaining: length, open: None };
        let cursor = tokio::task::spawn_blocking(move || cursor.open_next().map(|()| cursor)).await??;
        Ok(BlobStream { remaining: length, reading: BlobStream::read(cursor) })
    }
}

/// A place in an object's bytes.
struct Cursor {
    segments: Segments,
    /// The index of the blob after the open one.
    next: usize,
    /// How many bytes to pass over at the beginning of the next blob.
    skip: u64,
    /// How many bytes there are still to be read, of all blobs.
    remaining: u64,
    open: Option<OpenBlob>,
}

struct OpenBlob {
    name: Name,
    file: File,
    position: u64,
    end: u64,
}

impl Cursor {
    /// Opens the next blob that has bytes to be read, if there are any to be read.
    fn open_next(&mut self) -> Result<(), ObjectError> {
        while self.remaining > 0 {
            let Some((name, size)) = self.segments.blobs.get(self.next).copied() else {
                let file = format!("number {}", self.next);
                return Err(ObjectError::MissingBlob { file });
            };
            self.next += 1;
            if self.skip >= size {
                self.skip -= size;
                continue;
            }
            let file = self.segments.pins.blobs().open_stored(name).map_err(|source| absent(name, source))?;
            self.open = Some(OpenBlob { name, file, position: self.skip, end: size });
            self.skip = 0;
            break;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Bytes, ObjectError> {
        if self.open.as_ref().is_none_or(|blob| blob.position == blob.end) {
            self.open_next()?;
        }
        let Some(blob) = &mut self.open else { return Ok(Bytes::new()) };
        let wanted = READ_SIZE.min(blob.end - blob.position).min(self.remaining);
        let bytes = blob.read(wanted)?;
        self.remaining -= bytes.len() as u64;
        Ok(bytes)
    }
}

impl OpenBlob {
    fn read(&mut self, wanted: u64) -> Result<Bytes, ObjectError> {
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        let target = rustix::buffer::spare_capacity(&mut bytes);
        let read = rustix::io::pread(&self.file, target, self.position)
            .map_err(|error| ObjectError::file("read a blob")(error.into()))?;
        if read == 0 {
            return Err(absent(self.name, io::ErrorKind::NotFound.into()));
        }
        bytes.truncate(usize::try_from(wanted).unwrap_or_default());
        self.position += bytes.len() as u64;
        Ok(bytes.into())
    }
}

fn absent(name: Name, source: io::Error) -> ObjectError {
    if source.kind() == io::ErrorKind::NotFound {
        return ObjectError::MissingBlob { file: name.simple().to_string() };
    }
    ObjectError::file("open a blob")(source)
}

type Reading = JoinHandle<Result<(Cursor, Bytes), ObjectError>>;

/// Reads an object from its files with at most two chunks in memory: while one is sent, the next is read.
pub(crate) struct BlobStream {
    remaining: u64,
    reading: Option<Reading>,
}

impl BlobStream {
    fn read(mut cursor: Cursor) -> Option<Reading> {
        (cursor.remaining > 0)
            .then(|| tokio::task::spawn_blocking(move || cursor.read().map(|bytes| (cursor, bytes))))
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let result = ready!(Pin::new(reading).poll(cx)).map_err(ObjectError::from).flatten();
        self.reading = None;
        Poll::Ready(Some(match result {
            Ok((cursor, bytes)) => {
                self.remaining -= bytes.len() as u64;
                self.reading = Self::read(cursor);
                Ok(bytes)
            }
            Err(error) => {
                // The answer has begun, so the client only sees it end early.
                tracing::error!(error = &error as &dyn std::error::Error, "cannot read an object on");
                Err(Box::new(error))
            }
        }))
    }
}

impl ByteStream for BlobStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.remaining).unwrap_or(usize::MAX))
    }
}
