use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use runtime::Origin;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Site;

/// How long requests in hand may take once the gateway stops.
const DRAIN: Duration = Duration::from_secs(30);
/// How long a connection may take to send a request's head, and to agree on TLS.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// How many connections there may be at most, where the system sets no smaller limit.
const MOST_CONNECTIONS: u64 = 10_000;
/// File descriptors that are left for everything but connections and the objects they read.
const SPARE_FILES: u64 = 128;

/// How many connections may be open at once: each may read an object, so it can take two file descriptors. Whoever comes
/// beyond that waits in the listener's queue instead of failing in the middle of a request.
fn most_connections() -> usize {
    let (soft, hard) = (getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
    // As many as this process may take without asking anybody.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).is_ok();
    let files = if raised { hard } else { soft }.unwrap_or(u64::MAX);
    let most = (files.saturating_sub(SPARE_FILES) / 2).clamp(16, MOST_CONNECTIONS);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Accepts connections until `stop`, then lets the requests in hand finish.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    site: Arc<Site>,
    stop: CancellationToken,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    let connections = Arc::new(Semaphore::new(most_connections()));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let connection = connection(stream, peer, tls.clone(), Arc::clone(&site), graceful.watcher());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely; accepting again at once would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if let Some(graceful) = Arc::into_inner(graceful)
        && tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err()
    {
        tracing::warn!("requests that took longer than 30 s were cut off");
    }
}

/// The next connection, once there is room for one more.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    site: Arc<Site>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let origin = if peer.ip().to_canonical().is_loopback() { Origin::Loopback } else { Origin::Network };
    match tls {
        None => requests(stream, Protocol::Http1, origin, site, watcher).await,
        Some(tls) => match tokio::time::timeout(HEAD_TIME, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
                requests(stream, protocol, origin, site, watcher).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS was not agreed on"),
            Err(_) => tracing::debug!("TLS was not agreed on in time"),
        },
    }
}

/// What a connection speaks, known before its first byte: one that had to be found out could stay silent for ever.
#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

async fn requests<S>(
    stream: S,
    protocol: Protocol,
    origin: Origin,
    site: Arc<Site>,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request, origin).await) }
    });
    let mut builder = match protocol {
        Protocol::Http1 => auto::Builder::new(TokioExecutor::new()).http1_only(),
        Protocol::Http2 => auto::Builder::new(TokioExecutor::new()).http2_only(),
    };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIME).keep_alive_timeout(HEAD_TIME);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended badly");
    }
}
