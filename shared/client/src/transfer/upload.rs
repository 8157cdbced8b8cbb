use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use api::uploads::{
    AbortUploadRequest, CompleteUploadRequest, CompleteUploadResponse, CreateResultUploadRequest,
    CreateUploadRequest, Multipart, PartToSign, PresignedRequest, SignPartsRequest, UploadResponse,
    UploadedPart,
};
use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::header::{ETAG, HeaderMap};
use tokio::sync::mpsc;

use super::{
    OnProgress, Uploaded, hash,
    send::{self, Span},
    tries::{PATIENT, Tries},
};
use crate::{Client, Error, Lease, retrying};

/// How many parts travel at a time.
const PARALLEL: usize = 4;
/// How many parts are hashed and signed at a time: few enough that no URL grows old before its turn.
const BATCH: usize = 16;

/// Where a file goes, which decides the calls that ask for the way.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Source { name: &'a str, idempotency_key: &'a str },
    Result(&'a Lease),
}

/// Uploads a whole file.
pub(super) async fn upload(
    client: &Client,
    place: Place<'_>,
    path: &Path,
    progress: OnProgress<'_>,
) -> Result<Uploaded, Error> {
    let hashed = hash::file(path).await?;
    let size = hashed.len;
    let upload = Upload {
        client,
        place,
        path,
        size,
        sha256: hashed.finish(),
        meter: Meter { done: AtomicU64::new(0), size, progress },
    };
    progress(0, size);
    let source_file_path = upload.run().await?;
    progress(size, size);
    Ok(Uploaded { source_file_path, size_bytes: size, sha256: hex::encode(upload.sha256) })
}

struct Upload<'a> {
    client: &'a Client,
    place: Place<'a>,
    path: &'a Path,
    size: u64,
    sha256: [u8; 32],
    meter: Meter<'a>,
}

/// Adds up what the parts say.
struct Meter<'a> {
    done: AtomicU64,
    size: u64,
    progress: OnProgress<'a>,
}

impl Meter<'_> {
    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.progress)(done.min(self.size), self.size);
    }

    fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Upload<'_> {
    async fn run(&self) -> Result<String, Error> {
        let mut tries = Tries::default();
        loop {
            // Asked anew before every try: the answer has a fresh URL, or says that the bytes arrived after all.
            let way = retrying(&PATIENT, || self.create()).await?;
            match &way {
                UploadResponse { uploaded: true, .. } => return Ok(way.source_file_path),
                UploadResponse { multipart: Some(plan), .. } => return self.in_parts(&way, plan).await,
                UploadResponse { put: Some(put), .. } => match self.whole(put).await {
                    Ok(()) => return Ok(way.source_file_path),
                    Err(error) => tries.again(error).await?,
                },
                UploadResponse { .. } => return Err(self.unfit("an upload without a way to send it")),
            }
        }
    }

    async fn whole(&self, put: &PresignedRequest) -> Result<(), Error> {
        match self.send(put, 0, self.size).await {
            // The URL admits only the first arrival of just these bytes, so they are there.
            Err(Error::Transfer { status: Some(412), .. }) => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// Sends a stretch of the file once. What was counted of a failed try is taken back.
    async fn send(&self, request: &PresignedRequest, offset: u64, len: u64) -> Result<HeaderMap, Error> {
        let counted = AtomicU64::new(0);
        let sent = send::span(self.client, request, Span { path: self.path, offset, len }, |bytes| {
            counted.fetch_add(bytes, Ordering::Relaxed);
            self.meter.add(bytes);
        })
        .await;
        if sent.is_err() {
            self.meter.take_back(counted.load(Ordering::Relaxed));
            // A file that changed cannot be sent, however often it is tried.
            hash::unchanged(self.path, self.size).await?;
        }
        sent
    }

    async fn in_parts(&self, way: &UploadResponse, plan: &Multipart) -> Result<String, Error> {
        let count =
            self.size.checked_div(plan.part_size_bytes).map(|_| self.size.div_ceil(plan.part_size_bytes));
        if count != Some(u64::from(plan.part_count)) {
            return Err(self.unfit("parts that do not make up the file"));
        }
        let parts = Parts { upload: self, way, plan };
        match parts.run().await {
            Ok(done) => Ok(done.source_file_path),
            Err(error) => {
                // The parts that arrived would be stored, and paid for, until the store's own cleaning.
                if let Err(aborting) = parts.abort().await {
                    tracing::debug!(error = %aborting, "a failed upload could not be aborted");
                }
                Err(error)
            }
        }
    }

    fn unfit(&self, reason: &str) -> Error {
        Error::Unreadable {
            host: self.client.host(),
            status: 200,
            reason: reason.to_owned(),
            retry_after: None,
        }
    }

    async fn create(&self) -> Result<UploadResponse, Error> {
        let (size_bytes, sha256) = (self.size, self.sha256);
        match self.place {
            Place::Source { name, idempotency_key } => {
                let request = CreateUploadRequest { filename: name.to_owned(), size_bytes, sha256 };
                self.client.create_upload(&request, Some(idempotency_key)).await
            }
            Place::Result(lease) => {
                self.client
                    .create_result_upload(lease, &CreateResultUploadRequest { size_bytes, sha256 })
                    .await
            }
        }
    }
}

/// A part and the request that sends it.
type Ready = (PartToSign, PresignedRequest);

/// An upload in parts.
struct Parts<'a> {
    upload: &'a Upload<'a>,
    way: &'a UploadResponse,
    plan: &'a Multipart,
}

impl Parts<'_> {
    async fn run(&self) -> Result<CompleteUploadResponse, Error> {
        // The next batch is hashed and signed while the last parts of this one travel.
        let (ready, coming) = mpsc::channel(PARALLEL);
        let ((), mut parts) = tokio::try_join!(self.prepare(ready), self.carry(coming))?;
        parts.sort_unstable_by_key(|part| part.part_number);
        retrying(&PATIENT, || self.complete(&parts)).await
    }

    /// Makes every part ready to travel, in order.
    async fn prepare(&self, ready: mpsc::Sender<Ready>) -> Result<(), Error> {
        let numbers: Vec<u64> = (1..=u64::from(self.plan.part_count)).collect();
        for batch in numbers.chunks(BATCH) {
            for part in self.signed(batch).await? {
                if ready.send(part).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Sends what is ready, a few parts at a time.
    async fn carry(&self, mut coming: mpsc::Receiver<Ready>) -> Result<Vec<UploadedPart>, Error> {
        let mut uploaded = Vec::new();
        let mut travelling = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(part) = travelling.next() => uploaded.push(part?),
                Some((part, request)) = coming.recv(), if travelling.len() < PARALLEL => {
                    travelling.push(self.part(part, request));
                }
                else => return Ok(uploaded),
            }
        }
    }

    /// Hashes parts and asks for their URLs.
    async fn signed(&self, numbers: &[u64]) -> Result<Vec<Ready>, Error> {
        let mut parts = Vec::with_capacity(numbers.len());
        for &part_number in numbers {
            let (offset, size_bytes) = self.stretch(part_number);
            let sha256 = hash::part(self.upload.path, offset, size_bytes).await?;
            parts.push(PartToSign { part_number, size_bytes, sha256 });
        }
        let requests = retrying(&PATIENT, || self.sign(&parts)).await?;
        Ok(parts.into_iter().zip(requests).collect())
    }

    /// Sends one part, with a new URL for every try.
    async fn part(&self, part: PartToSign, mut request: PresignedRequest) -> Result<UploadedPart, Error> {
        let (offset, len) = self.stretch(part.part_number);
        let mut tries = Tries::default();
        loop {
            match self.upload.send(&request, offset, len).await {
                Ok(headers) => return self.uploaded(&part, &headers),
                Err(error) => tries.again(error).await?,
            }
            let again = std::slice::from_ref(&part);
            let mut fresh = retrying(&PATIENT, || self.sign(again)).await?;
            request = fresh.pop().ok_or_else(|| self.upload.unfit("no URL for a part"))?;
        }
    }

    fn uploaded(&self, part: &PartToSign, headers: &HeaderMap) -> Result<UploadedPart, Error> {
        let etag = headers.get(ETAG).and_then(|value| value.to_str().ok());
        let etag = etag.ok_or_else(|| self.upload.unfit("a part without an ETag"))?;
        Ok(UploadedPart { part_number: part.part_number, etag: etag.to_owned(), sha256: part.sha256 })
    }

    /// Where a part begins and how long it is, in bytes.
    fn stretch(&self, part_number: u64) -> (u64, u64) {
        let offset = (part_number - 1) * self.plan.part_size_bytes;
        (offset, self.plan.part_size_bytes.min(self.upload.size - offset))
    }

    async fn sign(&self, parts: &[PartToSign]) -> Result<Vec<PresignedRequest>, Error> {
        let request = SignPartsRequest {
            source_file_path: self.way.source_file_path.clone(),
            multipart_upload_id: self.plan.multipart_upload_id.clone(),
            parts: parts.to_vec(),
        };
        let client = self.upload.client;
        let signed = match self.upload.place {
            Place::Source { .. } => client.sign_upload_parts(&self.way.upload_id, &request).await?,
            Place::Result(lease) => client.sign_result_parts(lease, &request).await?,
        };
        if signed.parts.len() == parts.len() {
            Ok(signed.parts)
        } else {
            Err(self.upload.unfit("another number of URLs than were asked for"))
        }
    }

    async fn complete(&self, parts: &[UploadedPart]) -> Result<CompleteUploadResponse, Error> {
        let request = CompleteUploadRequest {
            source_file_path: self.way.source_file_path.clone(),
            multipart_upload_id: self.plan.multipart_upload_id.clone(),
            parts: parts.to_vec(),
        };
        let client = self.upload.client;
        match self.upload.place {
            Place::Source { .. } => client.complete_upload(&self.way.upload_id, &request).await,
            Place::Result(lease) => client.complete_result_upload(lease, &request).await,
        }
    }

    async fn abort(&self) -> Result<(), Error> {
        let request = AbortUploadRequest {
            source_file_path: self.way.source_file_path.clone(),
            multipart_upload_id: self.plan.multipart_upload_id.clone(),
        };
        let client = self.upload.client;
        match self.upload.place {
            Place::Source { .. } => client.abort_upload(&self.way.upload_id, &request).await.map(drop),
            Place::Result(lease) => client.abort_result_upload(lease, &request).await.map(drop),
        }
    }
}
