use std::path::Path;

use api::poll::Download;
use reqwest::{
    Method, Response, StatusCode,
    header::{CONTENT_RANGE, HeaderMap, IF_MATCH, RANGE},
};
use tokio::time::timeout;

use super::{
    OnProgress, STALL,
    hash::{self, Hashed},
    send,
    sink::Sink,
    tries::{PATIENT, Tries, expired},
};
use crate::{Client, Error, Lease, PresignedUrl, answer, retrying};

/// One download, which outlives its connections and its URLs.
pub(super) struct Fetch<'a> {
    client: &'a Client,
    lease: &'a Lease,
    download: &'a Download,
    dest: &'a Path,
    progress: OnProgress<'a>,
    url: PresignedUrl,
    /// Whether the ETag is insisted on. It is until the object store says that it is another one.
    if_match: bool,
    /// What the file holds.
    have: Hashed,
    /// Whether some of it was there before, written by who knows whom.
    inherited: bool,
    tries: Tries,
}

impl<'a> Fetch<'a> {
    pub(super) async fn new(
        client: &'a Client,
        lease: &'a Lease,
        download: &'a Download,
        dest: &'a Path,
        progress: OnProgress<'a>,
    ) -> Result<Self, Error> {
        let have = hash::beginning(dest, download.size_bytes).await?;
        let inherited = have.len > 0;
        let if_match = !download.etag.is_empty();
        let url = download.url.parse()?;
        let tries = Tries::default();
        Ok(Self { client, lease, download, dest, progress, url, if_match, have, inherited, tries })
    }

    pub(super) async fn run(mut self) -> Result<(), Error> {
        loop {
            (self.progress)(self.have.len, self.download.size_bytes);
            let filled = self.fill().await.and_then(|()| self.verified());
            match filled {
                // The beginning that was found may be at fault, and the source itself be sound.
                Err(Error::Corrupt { .. }) if self.inherited => self.restart(),
                Err(error @ Error::Corrupt { .. }) => return Err(self.discard(error).await),
                done => return done,
            }
        }
    }

    /// Fetches until nothing is missing.
    async fn fill(&mut self) -> Result<(), Error> {
        if self.have.len == 0 {
            // Also for an empty source there is a file in the end, and a longer one that was there is gone.
            self.have = Sink::open(self.dest, Hashed::default()).close().await?;
        }
        while self.have.len < self.download.size_bytes {
            if let Err(error) = self.stretch().await {
                let renew = expired(&error);
                self.tries.again(error).await?;
                if renew {
                    self.url = retrying(&PATIENT, || self.client.download_url(self.lease)).await?;
                }
            }
        }
        Ok(())
    }

    /// Makes one request and keeps what arrives.
    async fn stretch(&mut self) -> Result<(), Error> {
        let host = self.url.host();
        let response = self.ask(&host).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(response.headers(), self.have.len) => {}
            // The whole source, or a stretch that was not asked for: it is only of use from its beginning.
            StatusCode::OK => self.restart(),
            StatusCode::PRECONDITION_FAILED if self.if_match => return self.changed(),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if self.have.len > 0 => {
                self.restart();
                return Ok(());
            }
            _ => return Err(answer::not_transferred(response, &host).await),
        }
        let sink = Sink::open(self.dest, std::mem::take(&mut self.have));
        let copied = self.copy(response, &sink, &host).await;
        // A full disk explains a copy that broke off, so its error comes first.
        self.have = sink.close().await?;
        copied
    }

    async fn ask(&self, host: &str) -> Result<Response, Error> {
        let mut request = self.client.presigned(Method::GET, self.url.url().clone());
        if self.have.len > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.have.len));
        }
        if self.if_match {
            request = request.header(IF_MATCH, &self.download.etag);
        }
        send::answered(request, host).await
    }

    async fn copy(&mut self, mut response: Response, sink: &Sink, host: &str) -> Result<(), Error> {
        let size = self.download.size_bytes;
        let mut arrived = self.begun_at(&response);
        loop {
            let piece = timeout(STALL, response.chunk()).await.map_err(|_| send::silent(host))?;
            let Some(piece) = piece.map_err(|error| answer::sending(&error, host, STALL))? else { break };
            arrived += piece.len() as u64;
            if arrived > size {
                return Err(self.corrupt(&format!("it is longer than {size} bytes")));
            }
            if !sink.write(piece).await {
                return Ok(());
            }
            self.tries.moved();
            (self.progress)(arrived, size);
        }
        if arrived == size {
            return Ok(());
        }
        let reason = "the connection was closed before the end".to_owned();
        Err(Error::Unreachable { host: host.to_owned(), reason })
    }

    /// Where in the source an answer begins that [`Fetch::stretch`] has accepted.
    fn begun_at(&self, response: &Response) -> u64 {
        if response.status() == StatusCode::OK { 0 } else { range_start(response.headers()).unwrap_or(0) }
    }

    /// The object is not the one whose ETag was announced. Its bytes may be the same all the same, after a copy.
    fn changed(&mut self) -> Result<(), Error> {
        if self.download.sha256.is_none() {
            return Err(self.corrupt("it was replaced since the job was claimed; release the job"));
        }
        self.if_match = false;
        self.restart();
        Ok(())
    }

    fn restart(&mut self) {
        self.have = Hashed::default();
        self.inherited = false;
    }

    fn verified(&self) -> Result<(), Error> {
        let Some(announced) = &self.download.sha256 else { return Ok(()) };
        let found = hex::encode(self.have.clone().finish());
        if found.eq_ignore_ascii_case(announced) {
            return Ok(());
        }
        Err(self.corrupt(&format!("its SHA-256 is {found} and {announced} was announced; submit it again")))
    }

    /// Bytes that are wrong must not be taken for a beginning later.
    async fn discard(&self, error: Error) -> Error {
        match hash::blocking(self.dest, |path| std::fs::remove_file(path)).await {
            Ok(()) => error,
            Err(removing) => removing,
        }
    }

    fn corrupt(&self, reason: &str) -> Error {
        Error::Corrupt { what: format!("The source {}", self.download.filename), reason: reason.to_owned() }
    }
}

fn begins_at(headers: &HeaderMap, offset: u64) -> bool {
    range_start(headers) == Some(offset)
}

/// The first position of a `Content-Range: bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}
