use api::Problem;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{Error, Response};

/// When a caller is told to come back after a transient failure, in seconds.
const RETRY_AFTER_SECONDS: &str = "2";

/// 200 with this as JSON.
///
/// # Errors
/// [`Error::Internal`] when it cannot be spelled as JSON, which only a bug here causes.
pub fn json<T: Serialize>(body: &T) -> Result<Response, Error> {
    let body = serde_json::to_vec(body).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(with_type(StatusCode::OK, "application/json", body.into()))
}

/// 200 with a page that may fetch from its own server only.
#[must_use]
pub fn html(page: &'static str) -> Response {
    let mut response =
        with_type(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(page.as_bytes()));
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'",
        ),
    );
    response
}

/// 307 to a URL that is a secret and is not to be kept by anybody on the way.
///
/// # Errors
/// [`Error::Internal`] when it is no URL, which only a bug here causes.
pub fn redirect(url: &str) -> Result<Response, Error> {
    let location = HeaderValue::from_str(url).map_err(|error| Error::Internal(error.to_string()))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// 308 to the same call elsewhere, without a body: what is named may differ from what was asked for in its path only.
pub(crate) fn same_call_at(path: &str, query: Option<&str>) -> Response {
    let location = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    // It is made of a path and a query, which have no characters that a header cannot have.
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A problem as an answer.
pub(crate) fn problem(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = with_type(status, Problem::MEDIA_TYPE, body.into());
    if let Some((name, value)) = header_of(status) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn header_of(status: StatusCode) -> Option<(HeaderName, &'static str)> {
    match status {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Some((header::RETRY_AFTER, RETRY_AFTER_SECONDS))
        }
        _ => None,
    }
}

fn with_type(status: StatusCode, media_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
