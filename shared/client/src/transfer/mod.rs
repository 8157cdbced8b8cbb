//! Files between this machine and the object store, by presigned URLs.
//!
//! A transfer takes as long as it takes; it is given up when no byte moves for [`STALL`].

mod download;
mod hash;
mod object;
mod ranges;
mod send;
mod sink;
mod tries;
mod upload;

#[cfg(test)]
pub(crate) use ranges::Cut;
#[cfg(test)]
pub(crate) use send::{Span, span as send_span};

use std::{path::Path, time::Duration};

use api::{poll::Download, result::ResultDocument, uploads::PresignedRequest};
use bytes::Bytes;
use reqwest::Method;
use uuid::Uuid;

use crate::{Client, Error, Lease, answer};

/// How long a transfer may stand still.
pub(crate) const STALL: Duration = Duration::from_secs(60);

/// The largest result document that is read into memory, in bytes.
const MOST_RESULT: usize = 1 << 30;

/// A source that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// What to name as `source_file_path` in the job.
    pub source_file_path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its SHA-256 as 64 hexadecimal digits.
    pub sha256: String,
}

/// Told how many bytes are done, of how many. It is called often, from the task that transfers.
pub type OnProgress<'a> = &'a (dyn Fn(u64, u64) + Sync);

impl Client {
    /// Uploads a file as a source under the name `name`, in one request or in parts as the server says.
    ///
    /// The file is read twice or three times (to hash it, and to send it) and never held in memory.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read or changes meanwhile; else as of any call, once what may pass has been
    /// retried for about a minute.
    pub async fn upload_file(
        &self,
        path: &Path,
        name: &str,
        progress: OnProgress<'_>,
    ) -> Result<Uploaded, Error> {
        self.upload_file_as(path, name, &Uuid::new_v4().to_string(), progress).await
    }

    /// As [`Client::upload_file`], under an idempotency key: a later call with the same file, name and key ends at
    /// the same place, and sends nothing when the bytes are there already.
    ///
    /// # Errors
    /// As [`Client::upload_file`]; [`api::Kind::IdempotencyMismatch`] when the key was used for another file.
    pub async fn upload_file_as(
        &self,
        path: &Path,
        name: &str,
        idempotency_key: &str,
        progress: OnProgress<'_>,
    ) -> Result<Uploaded, Error> {
        upload::upload(self, upload::Place::Source { name, idempotency_key }, path, progress).await
    }

    /// Uploads a result document, and says what to name as `result_key` in the result.
    ///
    /// # Errors
    /// As [`Client::upload_file`]; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn upload_result(&self, lease: &Lease, path: &Path) -> Result<String, Error> {
        let uploaded = upload::upload(self, upload::Place::Result(lease), path, &|_, _| ()).await?;
        Ok(uploaded.source_file_path)
    }

    /// Downloads a job's source to the file `dest`, and checks its size and its SHA-256 where that is known.
    ///
    /// What `dest` already holds is taken for a beginning and continued. A dropped connection is taken up where it
    /// broke; an expired URL is replaced by a new one. A large source travels in several ranges at a time. Memory does
    /// not grow with the source.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the bytes are not the announced ones (`dest` is removed then), [`Error::File`] when
    /// `dest` cannot be written, [`api::Kind::StaleLease`] when the job is another worker's now; else as of any
    /// transfer, once what may pass has been retried for about a minute without a byte.
    pub async fn download(
        &self,
        lease: &Lease,
        download: &Download,
        dest: &Path,
        progress: OnProgress<'_>,
    ) -> Result<(), Error> {
        download::Fetch::new(self, lease, download, dest, progress).await?.run().await
    }

    /// As [`Client::download`], cut otherwise than usual.
    #[cfg(test)]
    pub(crate) async fn download_cut(
        &self,
        lease: &Lease,
        download: &Download,
        dest: &Path,
        cut: Cut,
    ) -> Result<(), Error> {
        download::Fetch::new(self, lease, download, dest, &|_, _| ()).await?.cut(cut).run().await
    }

    /// Sends a small body as a presigned request says, once.
    ///
    /// # Errors
    /// [`Error::Transfer`] with the status when the object store refuses it; else as of any transfer.
    pub async fn send_presigned(&self, request: &PresignedRequest, body: Bytes) -> Result<(), Error> {
        send::bytes(self, request, body).await.map(drop)
    }
}

/// A job's result, by the redirect that the API answers.
pub(crate) async fn result_document(client: &Client, path: &str) -> Result<ResultDocument, Error> {
    let url = client.redirect(path, None).await?;
    let host = url.host();
    let response = send::answered(client.presigned(Method::GET, url.url().clone()), &host).await?;
    if !response.status().is_success() {
        return Err(answer::not_transferred(response, &host).await);
    }
    let body = answer::body(response, MOST_RESULT, &host, STALL).await?;
    serde_json::from_slice(&body).map_err(|error| Error::Corrupt {
        what: "The job's result".to_owned(),
        reason: format!("it is no result document (line {}); retry the job", error.line()),
    })
}
