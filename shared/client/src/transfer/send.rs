use std::{io::SeekFrom, path::Path, pin::pin};

use api::uploads::PresignedRequest;
use bytes::Bytes;
use futures::StreamExt;
use reqwest::{
    Body, Method, RequestBuilder, Response,
    header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::watch,
    time::timeout,
};
use tokio_util::io::ReaderStream;

use super::{STALL, hash::CHUNK};
use crate::{Client, Error, PresignedUrl, answer};

/// Which bytes of which file.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) path: &'a Path,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Sends a stretch of a file as a presigned request says. `moved` is told the bytes that went out since it was last.
pub(crate) async fn span(
    client: &Client,
    presigned: &PresignedRequest,
    span: Span<'_>,
    moved: impl Fn(u64),
) -> Result<HeaderMap, Error> {
    let (request, host) = request(client, presigned, span.len)?;
    let (sent, mut seen) = watch::channel(0);
    let body = body(span, sent).await?;
    let mut answer = pin!(request.body(body).send());
    let mut told = 0;
    let response = loop {
        tokio::select! {
            answer = &mut answer => break answer.map_err(|error| answer::sending(&error, &host, STALL))?,
            change = timeout(STALL, seen.changed()) => match change {
                Ok(Ok(())) => {
                    let now = *seen.borrow_and_update();
                    moved(now - told);
                    told = now;
                }
                // The body is out, or given up: all that is left is the answer.
                Ok(Err(_)) => break answered_by(answer.as_mut(), &host).await?,
                Err(_) => return Err(silent(&host)),
            }
        }
    };
    let headers = taken(response, &host).await?;
    moved(span.len - told);
    Ok(headers)
}

/// Sends bytes as a presigned request says.
pub(super) async fn bytes(
    client: &Client,
    presigned: &PresignedRequest,
    body: Bytes,
) -> Result<HeaderMap, Error> {
    let (request, host) = request(client, presigned, body.len() as u64)?;
    let response = answered(request.body(body), &host).await?;
    taken(response, &host).await
}

/// Sends a request and waits for the beginning of its answer.
pub(super) async fn answered(request: RequestBuilder, host: &str) -> Result<Response, Error> {
    answered_by(request.send(), host).await
}

/// The object store stayed silent.
pub(super) fn silent(host: &str) -> Error {
    Error::TimedOut { host: host.to_owned(), after: STALL }
}

/// The object store closed the connection too early.
pub(super) fn broken_off(host: &str) -> Error {
    let reason = "the connection was closed before the end".to_owned();
    Error::Unreachable { host: host.to_owned(), reason }
}

async fn answered_by(
    answer: impl Future<Output = reqwest::Result<Response>>,
    host: &str,
) -> Result<Response, Error> {
    let answer = timeout(STALL, answer).await.map_err(|_| silent(host))?;
    answer.map_err(|error| answer::sending(&error, host, STALL))
}

/// The headers of an answer that says that the bytes were taken. Its body is read so that the connection can be
/// used again.
async fn taken(response: Response, host: &str) -> Result<HeaderMap, Error> {
    if !response.status().is_success() {
        return Err(answer::not_transferred(response, host).await);
    }
    let headers = response.headers().clone();
    answer::body(response, CHUNK, host, STALL).await?;
    Ok(headers)
}

fn request(
    client: &Client,
    presigned: &PresignedRequest,
    len: u64,
) -> Result<(RequestBuilder, String), Error> {
    let url: PresignedUrl = presigned.url.parse()?;
    let host = url.host();
    let unusable = |what: &str| Error::Unreadable {
        host: "The server".to_owned(),
        status: 200,
        reason: format!("a transfer with a {what} that HTTP does not have"),
        retry_after: None,
    };
    let method = Method::from_bytes(presigned.method.as_bytes()).map_err(|_| unusable("method"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &presigned.headers {
        let name: HeaderName = name.parse().map_err(|_| unusable("header name"))?;
        let value: HeaderValue = value.parse().map_err(|_| unusable("header value"))?;
        headers.insert(name, value);
    }
    // The host follows from the URL, and a second one would be refused.
    headers.remove(HOST);
    // A streamed body has no length of its own, and S3 takes none in chunks.
    headers.insert(CONTENT_LENGTH, len.into());
    Ok((client.presigned(method, url.url().clone()).headers(headers), host))
}

async fn body(span: Span<'_>, sent: watch::Sender<u64>) -> Result<Body, Error> {
    let at = |source| Error::File { path: span.path.to_owned(), source };
    let mut file = File::open(span.path).await.map_err(at)?;
    file.seek(SeekFrom::Start(span.offset)).await.map_err(at)?;
    let pieces = ReaderStream::with_capacity(file.take(span.len), CHUNK).inspect(move |piece| {
        let count = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        sent.send_modify(|sent| *sent += count);
    });
    Ok(Body::wrap_stream(pieces))
}
