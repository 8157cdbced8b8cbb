//! The engines behind a [`Line`]: for functions in this process, and for programs of their own, over the network.

use std::{
    fmt, io,
    net::Ipv4Addr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
            http_client_fn,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Handle, task::JoinHandle};

use crate::{
    line::{Fault, Line},
    refusals::Refusal,
};

/// When an answer comes for which an attempt has just enough time.
const JUST_IN_TIME: Duration = Duration::from_millis(2900);
/// When an answer comes that nobody waits for any more.
const MUCH_LATER: Duration = Duration::from_secs(60);

/// What is left of a request when no answer comes.
enum Broken {
    Connection,
}

/// One engine, which is known from the first request of a client in this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Engine(Arc<OnceLock<SharedHttpConnector>>);

impl Engine {
    /// A client for functions in this process.
    pub(crate) fn client(&self, line: &Line, engine: SharedHttpClient) -> SharedHttpClient {
        let (this, line) = (self.clone(), line.clone());
        http_client_fn(move |settings, components| {
            let inner = this.0.get_or_init(|| engine.http_connector(settings, components)).clone();
            SharedHttpConnector::new(Way { inner, line: line.clone() })
        })
    }

    /// A server for programs, on a port of loopback. Some request must have come through the client before.
    pub(crate) async fn serve(&self, line: &Line) -> Served {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let way = Arc::new(Way { inner: self.0.get().unwrap().clone(), line: line.clone() });
        Served { url, accepting: tokio::spawn(accept(listener, way)) }
    }
}

/// A server, until it is dropped.
pub(crate) struct Served {
    pub(crate) url: String,
    accepting: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Way {
    inner: SharedHttpConnector,
    line: Line,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a way on which things go wrong")
    }
}

impl HttpConnector for Way {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let way = Self { inner: self.inner.clone(), line: self.line.clone() };
        HttpConnectorFuture::new(async move {
            let broken = |Broken::Connection| {
                ConnectorError::io(io::Error::from(io::ErrorKind::ConnectionReset).into())
            };
            way.carry(request).await.map_err(broken)
        })
    }
}

impl Way {
    async fn carry(&self, request: HttpRequest) -> Result<HttpResponse, Broken> {
        match self.line.fate_of(&request) {
            None => Ok(self.forward(request).await),
            Some(Fault::RefusedWith(refusal)) => Ok(refused(&request, refusal)),
            Some(Fault::Refused) => panic!("the line says with what"),
            Some(Fault::Lost) => Err(Broken::Connection),
            Some(Fault::AnswerLost) => {
                self.forward(request).await;
                Err(Broken::Connection)
            }
            Some(Fault::Slow) => Ok(self.forward_late(request, JUST_IN_TIME).await),
            Some(Fault::Late) => Ok(self.forward_late(request, MUCH_LATER).await),
            Some(Fault::Stalled) => std::future::pending().await,
            Some(Fault::KilledBefore) => self.kill().await,
            Some(Fault::KilledAfter) => {
                self.forward(request).await;
                self.kill().await
            }
        }
    }

    async fn kill(&self) -> Result<HttpResponse, Broken> {
        self.line.is_killing();
        std::future::pending().await
    }

    async fn forward_late(&self, request: HttpRequest, late: Duration) -> HttpResponse {
        let answer = self.forward(request).await;
        tokio::time::sleep(late).await;
        answer
    }

    /// Lets the engine answer, body and all. It works on a thread for blocking work, because while one is busy the
    /// paused clock of a test stands still; otherwise it would run on to the next timeout.
    async fn forward(&self, request: HttpRequest) -> HttpResponse {
        let inner = self.inner.clone();
        let (answering, runtime) =
            (async move { whole(inner.call(request).await.unwrap()).await }, Handle::current());
        tokio::task::spawn_blocking(move || runtime.block_on(answering)).await.unwrap()
    }
}

async fn whole(mut response: HttpResponse) -> HttpResponse {
    let body = std::mem::replace(response.body_mut(), SdkBody::taken());
    let body = body.collect().await.unwrap().to_bytes();
    *response.body_mut() = SdkBody::from(body);
    response
}

fn refused(request: &HttpRequest, refusal: Refusal) -> HttpResponse {
    let body = if request.method() == "HEAD" { "" } else { refusal.body };
    HttpResponse::new(StatusCode::try_from(refusal.status).unwrap(), SdkBody::from(body))
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let way = Arc::clone(&way);
        let answer = service_fn(move |request| {
            let way = Arc::clone(&way);
            // A broken connection is an error, at which the server hangs up without an answer.
            async move { way.answer(request).await.map_err(|Broken::Connection| io::Error::other("broken")) }
        });
        // Whoever hung up or was killed gets no answer, which is all that can be done.
        tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await)
        });
    }
}

impl Way {
    async fn answer(&self, request: http::Request<Incoming>) -> Result<http::Response<Full<Bytes>>, Broken> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Broken::Connection)?.to_bytes();
        let host = parts.headers.get("host").unwrap().to_str().unwrap();
        parts.uri = format!("http://{host}{}", parts.uri).parse().unwrap();
        let request = http::Request::from_parts(parts, SdkBody::from(body));
        let answer = self.carry(HttpRequest::try_from(request).unwrap()).await?;
        let (parts, body) = answer.try_into_http1x().unwrap().into_parts();
        let body = Bytes::copy_from_slice(body.bytes().unwrap_or_default());
        Ok(http::Response::from_parts(parts, Full::new(body)))
    }
}
