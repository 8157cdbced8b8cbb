//! Speaks HTTP with the converters: `CONNECT`, and plain requests with a whole URL.

use std::{
    convert::Infallible,
    sync::{Arc, Weak},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    client,
    ext::ReasonPhrase,
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{Conversion, Inner, admission::Refused, metered::Metered};

type Body = BoxBody<Bytes, hyper::Error>;

/// How many converters' connections are served at the same time, all conversions together.
const MOST_CLIENTS: usize = 512;
/// How long a connection may be open without a request.
const HEAD: Duration = Duration::from_secs(60);
/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(20);
/// How long nothing may come or go. Some sites think for a while.
const IDLE: Duration = Duration::from_secs(180);
/// How long to wait after a connection could not be accepted, which means that this process has too many open.
const PAUSE: Duration = Duration::from_millis(200);
/// What a proxy takes out of a message, as it is about the connection and not about the message.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// Why a request is not done: the status, and a sentence that the converter is told.
struct Answer(StatusCode, String);

/// Serves until the proxy is gone.
pub(super) async fn accept(listener: TcpListener, proxy: Weak<Inner>) {
    let clients = Arc::new(Semaphore::new(MOST_CLIENTS));
    while let Ok(client) = Arc::clone(&clients).acquire_owned().await {
        let accepted = listener.accept().await;
        let Some(proxy) = proxy.upgrade() else { return };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, proxy, client))),
            Err(error) => {
                tracing::warn!(%error, "the proxy of the converters cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, proxy: Arc<Inner>, _client: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(answer(&proxy, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a converter's connection to the proxy ended");
    }
}

async fn answer(proxy: &Inner, request: Request<Incoming>) -> Response<Body> {
    let Some(conversion) = who(proxy, request.headers()) else { return unknown() };
    let answered = match target(&request) {
        Ok((host, port)) => pass_on(proxy, &conversion, request, &host, port).await,
        Err(text) => Err(Answer(StatusCode::BAD_REQUEST, text.to_owned())),
    };
    answered.unwrap_or_else(|Answer(status, text)| said(status, &text))
}

/// The conversion whose token the request has.
fn who(proxy: &Inner, headers: &HeaderMap) -> Option<Arc<Conversion>> {
    let value = headers.get(header::PROXY_AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let token = decoded.strip_prefix("job:")?;
    proxy.conversions().get(token).map(Arc::clone)
}

fn unknown() -> Response<Body> {
    let text =
        "The proxy of remote-converter serves its own converters only: use HTTP_PROXY as it was given.";
    let mut response = said(StatusCode::PROXY_AUTHENTICATION_REQUIRED, text);
    let wanted = HeaderValue::from_static("Basic realm=\"remote-converter\"");
    response.headers_mut().insert(header::PROXY_AUTHENTICATE, wanted);
    response
}

/// Where a request wants to go.
fn target(request: &Request<Incoming>) -> Result<(String, u16), &'static str> {
    let uri = request.uri();
    let authority = uri.authority().ok_or("This is a proxy: it needs a whole URL, or CONNECT.")?;
    if authority.as_str().contains('@') {
        return Err("A URL for this proxy has no user and password in front of its host.");
    }
    // What follows the host is a port or nothing; the parser lets more pass.
    let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(port.parse::<u16>().map_err(|_| "The port is not a number from 1 to 65535.")?),
        None => None,
    };
    let port = match (request.method(), uri.scheme_str()) {
        (&Method::CONNECT, _) => port.ok_or("CONNECT needs a host and a port.")?,
        (_, Some("http")) => port.unwrap_or(80),
        _ => return Err("This proxy forwards http:// URLs; use CONNECT for others."),
    };
    Ok((authority.host().to_owned(), port))
}

async fn pass_on(
    proxy: &Inner,
    conversion: &Arc<Conversion>,
    request: Request<Incoming>,
    host: &str,
    port: u16,
) -> Result<Response<Body>, Answer> {
    let slot = Arc::clone(&conversion.slots).try_acquire_owned().map_err(|_| {
        let text = format!("A conversion may have {} connections at the same time.", super::MOST_CONNECTIONS);
        Answer(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    let stream = connect(proxy, conversion, host, port).await.map_err(|refused| {
        conversion.note(&refused.to_string());
        match refused {
            Refused::Forbidden(text) => Answer(StatusCode::FORBIDDEN, text),
            Refused::Unreachable(text) => Answer(StatusCode::BAD_GATEWAY, text),
        }
    })?;
    let stream = Metered::new(stream, Arc::clone(conversion), IDLE);
    if request.method() == Method::CONNECT {
        tunnel(Arc::clone(conversion), request, stream, slot);
        return Ok(Response::new(empty()));
    }
    forward(Arc::clone(conversion), request, stream, slot).await
}

async fn connect(
    proxy: &Inner,
    conversion: &Conversion,
    host: &str,
    port: u16,
) -> Result<TcpStream, Refused> {
    let mut why = String::new();
    for address in proxy.rules.addresses(conversion.hosts, host, port).await? {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = format!("{host} cannot be connected to: {error}."),
            Err(_) => why = format!("{host} cannot be connected to: it does not answer."),
        }
    }
    Err(Refused::Unreachable(why))
}

/// Passes bytes both ways once the converter knows that it may send them.
fn tunnel(
    conversion: Arc<Conversion>,
    request: Request<Incoming>,
    mut stream: Metered<TcpStream>,
    slot: OwnedSemaphorePermit,
) {
    tokio::spawn(async move {
        let ended = conversion.ended.clone();
        let passing = async {
            let upgraded = hyper::upgrade::on(request).await.map_err(std::io::Error::other)?;
            copy_bidirectional(&mut TokioIo::new(upgraded), &mut stream).await
        };
        if let Some(Err(error)) = ended.run_until_cancelled(passing).await {
            tracing::debug!(%error, "a converter's connection through the proxy ended");
        }
        drop(slot);
    });
}

/// Sends one plain request on a connection of its own.
async fn forward(
    conversion: Arc<Conversion>,
    mut request: Request<Incoming>,
    stream: Metered<TcpStream>,
    slot: OwnedSemaphorePermit,
) -> Result<Response<Body>, Answer> {
    let failed = |error: hyper::Error| Answer(StatusCode::BAD_GATEWAY, format!("The host failed: {error}."));
    rewrite(&mut request).map_err(|text| Answer(StatusCode::BAD_REQUEST, text.to_owned()))?;
    let (mut sender, connection) =
        client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(async move {
        let ended = conversion.ended.clone();
        if let Some(Err(error)) = ended.run_until_cancelled(connection).await {
            tracing::debug!(%error, "a converter's request through the proxy ended");
        }
        drop(slot);
    });
    let mut response = sender.send_request(request).await.map_err(failed)?;
    strip(response.headers_mut());
    Ok(response.map(BodyExt::boxed))
}

/// Makes a request to a proxy one to the host itself.
fn rewrite(request: &mut Request<Incoming>) -> Result<(), &'static str> {
    let wrong = "The URL cannot be forwarded.";
    let uri = request.uri();
    let host = uri.authority().ok_or(wrong)?.as_str();
    let host = HeaderValue::from_str(host).map_err(|_| wrong)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| wrong)?;
    *request.version_mut() = hyper::Version::HTTP_11;
    strip(request.headers_mut());
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(())
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // How long the message is must stay.
        .filter(|name| name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove("proxy-connection");
    headers.remove("keep-alive");
}

/// An answer of the proxy's own. The sentence is its reason phrase too, as many clients show nothing else of an answer
/// to CONNECT.
fn said(status: StatusCode, text: &str) -> Response<Body> {
    let full = Full::new(Bytes::from(format!("remote-converter: {text}\n")));
    let mut response = Response::new(full.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    let phrase = format!("{}: {text}", status.canonical_reason().unwrap_or("Refused"));
    if let Ok(phrase) = ReasonPhrase::try_from(phrase.into_bytes()) {
        response.extensions_mut().insert(phrase);
    }
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
}
