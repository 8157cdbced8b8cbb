//! The client against a server of this module: real sockets, and a clock that only the test moves.

mod calls;
mod downloads;
mod errors;
mod ranges;
mod uploads;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{Request, Response, body::Frame, header::HeaderMap, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Notify};

use crate::{ApiKey, Client, Lease};

pub(crate) const KEY: &str = "k1.very-secret";

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: hyper::Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A piece of an answer's body.
#[derive(Clone)]
pub(crate) enum Piece {
    Bytes(Bytes),
    /// The connection is dropped.
    Break,
    /// Nothing more ever comes.
    Stall,
}

/// What the server answers.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<Piece>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn json(value: impl serde::Serialize) -> Self {
        Self::new(200).body(serde_json::to_vec(&value).unwrap())
    }

    pub(crate) fn problem(kind: api::Kind, detail: &str) -> Self {
        Self::new(kind.status()).body(serde_json::to_vec(&api::Problem::new(kind, detail)).unwrap())
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        self.piece(Piece::Bytes(body.into()))
    }

    /// How many bytes the body has.
    pub(crate) fn len(&self) -> usize {
        let len = |piece: &Piece| if let Piece::Bytes(bytes) = piece { bytes.len() } else { 0 };
        self.body.iter().map(len).sum()
    }

    pub(crate) fn piece(mut self, piece: Piece) -> Self {
        self.body.push(piece);
        self
    }
}

/// A server on a port of its own, for as long as the test's runtime lives.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Told whenever an answer has come to a [`Piece::Stall`].
    pub(crate) stalled: Arc<Notify>,
}

type Body = BoxBody<Bytes, io::Error>;

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Server, &Seen) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Self { address, seen: Arc::default(), stalled: Arc::default() });
        tokio::spawn(accept(listener, Arc::clone(&server), Arc::new(answer)));
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.url("").parse().unwrap(), Some(ApiKey::from(KEY)), "test/0").unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests to one path so far.
    pub(crate) fn seen_at(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path == path).collect()
    }
}

type Answer = dyn Fn(&Server, &Seen) -> Reply + Send + Sync;

async fn accept(listener: TcpListener, server: Arc<Server>, answer: Arc<Answer>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (server, answer) = (Arc::clone(&server), Arc::clone(&answer));
        let service = service_fn(move |request| respond(request, Arc::clone(&server), Arc::clone(&answer)));
        // A connection that breaks is what some tests want.
        tokio::spawn(async move {
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await
        });
    }
}

async fn respond(
    request: Request<hyper::body::Incoming>,
    server: Arc<Server>,
    answer: Arc<Answer>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::new(Body::default())) };
    let seen = Seen {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
    };
    let reply = answer(&server, &seen);
    server.seen.lock().unwrap().push(seen);
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(stream_of(reply.body, Arc::clone(&server.stalled))).unwrap())
}

fn stream_of(pieces: Vec<Piece>, stalled: Arc<Notify>) -> Body {
    let frames = stream::iter(pieces).then(move |piece| {
        let stalled = Arc::clone(&stalled);
        async move {
            match piece {
                Piece::Bytes(bytes) => Ok(Frame::data(bytes)),
                // What was said before must get out first, or it would be lost with the connection.
                Piece::Break => {
                    tokio::task::yield_now().await;
                    Err(io::Error::other("the test wants it"))
                }
                Piece::Stall => {
                    stalled.notify_one();
                    std::future::pending().await
                }
            }
        }
    });
    BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(Box::pin(frames)))))
}

/// A stream that may be looked at from several threads, as a boxed body asks for.
struct SyncStream<S>(Mutex<std::pin::Pin<Box<S>>>);

impl<S: futures::Stream> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.lock().unwrap().as_mut().poll_next(context)
    }
}

pub(crate) fn lease() -> Lease {
    Lease { job_id: "job-1".to_owned(), token: "lease-secret".into() }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// Bytes that differ from place to place, so that a wrong offset shows.
pub(crate) fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}
