use std::{fmt::Display, net::IpAddr, time::Instant};

use api::{Access, Function, Kind, NoRoute, Problem, Route, Scope, Verb};
use domain::{KeyId, Tenant};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use service::{Caller, Service};
use tokio::time::timeout_at;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use crate::{
    Call, Error, Invocation, Request, Response,
    call::{no_key, text},
    respond,
};

/// The largest body of most calls, in bytes.
const LARGEST_BODY: usize = 1 << 20;
/// The largest body of a submitted or imported result, in bytes. A Lambda takes less by itself.
const LARGEST_RESULT: usize = 16 << 20;

/// The use cases, and who may call them.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub service: Service,
    /// Who needs a key.
    pub auth: Auth,
}

/// Who needs an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everybody.
    Keys,
    /// Everybody but programs on this machine, which are this caller.
    WaivedOnLoopback(Caller),
}

/// Where a request came from, for whoever can tell. It travels in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A connection from this machine to this machine.
    Loopback,
    /// Any other connection.
    Network,
}

/// Marks a request whose body stopped coming. It travels in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyCutOff;

impl Auth {
    /// Waives keys for programs on this machine: they act for the tenant `default` with every scope.
    ///
    /// # Errors
    /// Never with the names that are spelled here; the types' rules could change.
    pub fn waived_on_loopback() -> Result<Self, domain::InvalidValue> {
        let tenant: Tenant = "default".parse()?;
        let key: KeyId = "loopback".parse()?;
        Ok(Self::WaivedOnLoopback(Caller { tenant, key, scopes: vec![Scope::Admin] }))
    }
}

impl App {
    /// The largest body that a call takes, in bytes.
    #[must_use]
    pub fn largest_body(verb: Verb) -> usize {
        match verb {
            Verb::SubmitResult | Verb::Import => LARGEST_RESULT,
            _ => LARGEST_BODY,
        }
    }

    /// Whether a request's head alone has a route and a caller who may make it, so that its body is worth reading.
    pub async fn admits(&self, head: &Request) -> bool {
        match api::find(head.method(), head.uri().path()) {
            Ok(matched) => self.caller(matched.route, head).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Answers a request to `function` by `handler`: finds the route, checks the key, turns errors into problems,
    /// and leaves one line in the log.
    ///
    /// Where the request has an [`Invocation`], it is answered before that must have ended: what is still under way then
    /// is dropped and answered with 503. A write of it that is on its way may happen or not, as when an answer is lost, so
    /// a repetition completes the call as it would after that.
    pub async fn answer(
        &self,
        function: Function,
        request: Request,
        handler: impl AsyncFnOnce(&Service, Call) -> Result<Response, Error>,
    ) -> Response {
        let started = Instant::now();
        let request_id = request_id(request.headers());
        let invocation = request.extensions().get::<Invocation>().cloned();
        let span = span(&request_id, invocation.as_ref());
        // In a box, because what is moved about as often as this is too large for a thread's stack.
        let calling = Box::pin(self.call(function, request, handler)).instrument(span.clone());
        let outcome = match invocation {
            None => calling.await,
            Some(invocation) => timeout_at(invocation.deadline.answer(), calling)
                .await
                .unwrap_or_else(|_| Err(span.in_scope(given_up))),
        };
        let _in_span = span.enter();
        let mut response = outcome.unwrap_or_else(|error| failure(&error, &request_id));
        let status = response.status();
        let outcome = if status.is_server_error() {
            "failed"
        } else if status.is_client_error() {
            "refused"
        } else {
            "done"
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(status = status.as_u16(), outcome, duration_ms, "call");
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(api::REQUEST_ID, value);
        }
        response
    }

    async fn call(
        &self,
        function: Function,
        request: Request,
        handler: impl AsyncFnOnce(&Service, Call) -> Result<Response, Error>,
    ) -> Result<Response, Error> {
        let matched = match api::find(request.method(), request.uri().path()) {
            Ok(matched) if matched.route.function == function => matched,
            Ok(matched) => return Ok(elsewhere(&request, matched.route)),
            Err(NoRoute::Path) => return Ok(no_such_path(&request)),
            Err(NoRoute::Method(allowed)) => return Ok(no_such_method(&allowed)),
        };
        Span::current().record("verb", format!("{:?}", matched.route.verb));
        let caller = self.caller(matched.route, &request).await?;
        if let Some(caller) = &caller {
            Span::current().record("key_id", caller.key.as_str());
        }
        if request.extensions().get() == Some(&BodyCutOff) {
            return Err(Error::rejected(
                Kind::Malformed,
                "The body did not arrive whole; send the request again.",
            ));
        }
        if request.body().len() > Self::largest_body(matched.route.verb) {
            return Err(too_large(matched.route.verb));
        }
        handler(&self.service, Call { verb: matched.route.verb, id: matched.id, caller, request }).await
    }

    async fn caller(&self, route: &Route, request: &Request) -> Result<Option<Caller>, Error> {
        if route.access == Access::Public {
            return Ok(None);
        }
        let caller = match (bearer(request.headers()), &self.auth) {
            (Some(key), _) => self.service.keys().authenticate(key).await?,
            (None, Auth::WaivedOnLoopback(caller)) if is_local_program(request) => caller.clone(),
            (None, Auth::Keys | Auth::WaivedOnLoopback(_)) => return Err(no_key()),
        };
        if caller.may(route.access) { Ok(Some(caller)) } else { Err(wrong_scope(route, &caller)) }
    }
}

/// The span of a call. Its fields are in every line that the call logs.
fn span(request_id: &str, invocation: Option<&Invocation>) -> Span {
    let span = tracing::info_span!(
        "call", %request_id, lambda_request_id = Empty, trace_id = Empty, verb = Empty, job_id = Empty,
        attempt = Empty, key_id = Empty
    );
    if let Some(Invocation { request_id, trace_id, .. }) = invocation {
        span.record("lambda_request_id", request_id);
        span.record("trace_id", trace_id);
    }
    span
}

/// A call that had not come to its end when the function's time was nearly over.
fn given_up() -> Error {
    tracing::error!(cause = "the function's time was over", "failed");
    Error::rejected(
        Kind::Unavailable,
        "This call took too long and was given up, whether or not it was done; repeat it.",
    )
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers, header::AUTHORIZATION.as_str())?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim()).filter(|key| !key.is_empty())
}

/// Whether a request is from a program on this machine. A reverse proxy on this machine speaks for others, and a
/// browser may speak for a page from elsewhere, whose name may even have been made to resolve to this machine.
fn is_local_program(request: &Request) -> bool {
    let headers = request.headers();
    let forwarded =
        ["forwarded", "x-forwarded-for", "x-real-ip"].iter().any(|name| headers.contains_key(*name));
    let from_page = headers.contains_key(header::ORIGIN)
        || text(headers, "sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = request.uri().host().or_else(|| host_of(text(headers, header::HOST.as_str())?));
    let names_loopback = host.is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    request.extensions().get() == Some(&Origin::Loopback) && names_loopback && !forwarded && !from_page
}

/// A `Host` header without its port.
fn host_of(value: &str) -> Option<&str> {
    match value.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(host),
        Some(_) | None => Some(value),
    }
}

/// The caller's own id where it is harmless, so that both sides' logs meet; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    text(headers, api::REQUEST_ID)
        .filter(|id| id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

fn failure(error: &Error, request_id: &str) -> Response {
    let mut problem = error.problem();
    problem.request_id = Some(request_id.to_owned());
    match error.internal_cause() {
        Some(cause) => tracing::error!(cause, kind = problem.kind, "failed"),
        None => tracing::debug!(detail = problem.detail, kind = problem.kind, "refused"),
    }
    respond::problem(&problem)
}

/// The answer where another function serves the path. It came here because of its slash: an HTTP API has no routes that
/// end in one. Whoever follows the redirect makes the same call at the path without it.
fn elsewhere(request: &Request, route: &Route) -> Response {
    let path = request.uri().path();
    match path.strip_suffix('/').and_then(|path| path.rsplit('/').next()) {
        Some(last) if route.function != Function::Gateway => {
            respond::same_call_at(&format!("../{last}"), request.uri().query())
        }
        Some(_) | None => no_such_path(request),
    }
}

fn no_such_path(request: &Request) -> Response {
    let detail = format!("There is no {}; GET /docs shows what there is.", request.uri().path());
    respond::problem(&Problem::new(Kind::NotFound, detail))
}

fn no_such_method(allowed: &[http::Method]) -> Response {
    let list = comma_separated(allowed);
    let mut response =
        respond::problem(&Problem::new(Kind::MethodNotAllowed, format!("This path takes {list}.")));
    debug_assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    if let Ok(value) = HeaderValue::from_str(&list) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

fn wrong_scope(route: &Route, caller: &Caller) -> Error {
    let needed = match route.access {
        Access::Scope(scope) => scope.as_str(),
        Access::Public | Access::Tenant => "any",
    };
    let has: Vec<&str> = caller.scopes.iter().map(|scope| scope.as_str()).collect();
    Error::rejected(
        Kind::Forbidden,
        format!("This call needs a key with the scope `{needed}`; this key has: {}.", comma_separated(&has)),
    )
}

fn too_large(verb: Verb) -> Error {
    let most = App::largest_body(verb);
    let hint = if verb == Verb::SubmitResult { "; upload a large result by POST result-upload" } else { "" };
    Error::rejected(Kind::TooLarge, format!("The body is larger than {most} bytes{hint}."))
}

fn comma_separated<T: Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn request(origin: Option<Origin>, headers: &[(&str, &str)]) -> Request {
        let mut builder = http::Request::builder().uri("/x");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut request = builder.body(Bytes::new()).unwrap();
        if let Some(origin) = origin {
            request.extensions_mut().insert(origin);
        }
        request
    }

    #[test]
    fn only_programs_on_this_machine_are_local() {
        let local = |headers: &[(&str, &str)]| is_local_program(&request(Some(Origin::Loopback), headers));
        assert!(local(&[("host", "localhost:8000")]));
        assert!(local(&[("host", "127.0.0.1")]));
        assert!(local(&[("host", "[::1]:8000")]));
        assert!(local(&[("host", "localhost"), ("sec-fetch-site", "none")]));
        assert!(!local(&[]));
        assert!(!local(&[("host", "rebound.example:8000")]));
        assert!(!local(&[("host", "localhost"), ("x-forwarded-for", "203.0.113.9")]));
        assert!(!local(&[("host", "localhost"), ("origin", "https://elsewhere.example")]));
        assert!(!local(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
        for origin in [None, Some(Origin::Network)] {
            assert!(!is_local_program(&request(origin, &[("host", "localhost")])));
        }
    }

    #[test]
    fn a_request_id_is_kept_when_it_is_harmless() {
        let id = |value| request_id(request(None, &[("x-request-id", value)]).headers());
        assert_eq!(id("abc-123"), "abc-123");
        assert_ne!(id("a b"), "a b");
        assert_eq!(id("").len(), 36);
    }

    #[test]
    fn keys_are_read_from_the_authorization_header() {
        for (value, key) in
            [("Bearer a.b", Some("a.b")), ("bearer  a.b ", Some("a.b")), ("Basic x", None), ("Bearer ", None)]
        {
            assert_eq!(bearer(request(None, &[("authorization", value)]).headers()), key, "{value:?}");
        }
    }
}
