use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use api::poll::Download;
use reqwest::{
    Method, Response, StatusCode,
    header::{CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, RANGE},
};

use super::{
    send,
    tries::{PATIENT, Tries, expired},
};
use crate::{Client, Error, Lease, PresignedUrl, answer, retrying};

/// The object behind a download, which outlives its URLs.
pub(super) struct Object<'a> {
    client: &'a Client,
    lease: &'a Lease,
    pub(super) download: &'a Download,
    url: Mutex<PresignedUrl>,
    /// Held while a new URL is asked for, so that of several that find theirs expired one asks.
    renewing: tokio::sync::Mutex<()>,
    /// Whether the ETag is insisted on. It is until the object store says that it is another one.
    if_match: AtomicBool,
}

/// An answer for the bytes of an object.
pub(super) enum Answer {
    /// Those that were asked for.
    Asked(Response),
    /// The whole object.
    Whole(Response),
    /// The object is another one than was announced.
    Changed,
    /// Nothing that fits what was asked for.
    Unfit,
}

impl<'a> Object<'a> {
    pub(super) fn new(client: &'a Client, lease: &'a Lease, download: &'a Download) -> Result<Self, Error> {
        Ok(Self {
            client,
            lease,
            download,
            url: Mutex::new(download.url.parse()?),
            renewing: tokio::sync::Mutex::default(),
            if_match: AtomicBool::new(!download.etag.is_empty()),
        })
    }

    pub(super) fn url(&self) -> PresignedUrl {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn insists_on_etag(&self) -> bool {
        self.if_match.load(Ordering::Relaxed)
    }

    /// From now on only the hash decides whether it is the right object.
    pub(super) fn take_any(&self) {
        self.if_match.store(false, Ordering::Relaxed);
    }

    /// Asks for the bytes from `from` on, up to but not with `to`; the object's end if there is none.
    pub(super) async fn ask(&self, url: &PresignedUrl, from: u64, to: Option<u64>) -> Result<Answer, Error> {
        let insists = self.insists_on_etag();
        let mut request = self.client.presigned(Method::GET, url.url().clone());
        if from > 0 || to.is_some() {
            let last = to.map(|to| (to - 1).to_string()).unwrap_or_default();
            request = request.header(RANGE, format!("bytes={from}-{last}"));
        }
        if insists {
            request = request.header(IF_MATCH, &self.download.etag);
        }
        let host = url.host();
        let response = send::answered(request, &host).await?;
        // A cache in between may pass over the condition.
        let is_other =
            || response.headers().get(ETAG).is_some_and(|etag| *etag != self.download.etag.as_str());
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT if insists && is_other() => Ok(Answer::Changed),
            StatusCode::PRECONDITION_FAILED if insists => Ok(Answer::Changed),
            StatusCode::OK => Ok(Answer::Whole(response)),
            StatusCode::PARTIAL_CONTENT if self.is_asked(response.headers(), from, to) => {
                Ok(Answer::Asked(response))
            }
            StatusCode::PARTIAL_CONTENT => Ok(Answer::Unfit),
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Ok(Answer::Unfit),
            _ => Err(answer::not_transferred(response, &host).await),
        }
    }

    /// Whether a `Content-Range: bytes 5-9/10` is the range that was asked for, of an object of the right size.
    fn is_asked(&self, headers: &HeaderMap, from: u64, to: Option<u64>) -> bool {
        let size = self.download.size_bytes;
        let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let parsed = range.and_then(|text| {
            let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let fits = total == "*" || total.parse() == Ok(size);
            Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, fits))
        });
        // An object that is longer than was announced is found out by its bytes, which says more than this could.
        parsed.is_some_and(|(first, last, fits)| {
            first == from && to.is_none_or(|to| fits && last.checked_add(1) == Some(to))
        })
    }

    /// Waits for the next try after a failure of a request by `used`, and gets a new URL when that one is too old.
    ///
    /// # Errors
    /// `error` itself, when there is no use in another try; else that of asking for a URL.
    pub(super) async fn again(
        &self,
        tries: &mut Tries,
        error: Error,
        used: &PresignedUrl,
    ) -> Result<(), Error> {
        let is_expired = expired(&error);
        tries.again(error).await?;
        if !is_expired {
            return Ok(());
        }
        let _alone = self.renewing.lock().await;
        if self.url() == *used {
            let fresh = retrying(&PATIENT, || self.client.download_url(self.lease)).await?;
            *self.url.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }

    pub(super) fn corrupt(&self, reason: &str) -> Error {
        let what = format!("The source {}", self.download.filename);
        Error::Corrupt { what, reason: reason.to_owned() }
    }
}
