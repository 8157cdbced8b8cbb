//! JSON over HTTP, tried again where that may help.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use reqwest::{
    Method, Response, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, settings::Secret};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(120);
/// How often a request is sent at most.
const TRIES: u32 = 5;
/// The wait after the first try. It doubles with every try.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait that a server may ask for before it is given up on.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// How much is told of an answer that says no, in characters.
const TOLD: usize = 300;

/// Waits for a time.
pub(crate) type Pause = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// Where requests go. It is shown without what may be secret in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Url);

impl Endpoint {
    /// An absolute URL of http or https.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(Self(url))
    }

    /// The URL of what is below this one.
    pub(crate) fn join(&self, segments: &[&str]) -> Self {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Self(url)
    }

    /// This URL with a query.
    pub(crate) fn with_query(&self, query: &str) -> Self {
        let mut url = self.0.clone();
        url.set_query(Some(query));
        Self(url)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // Only a URL that has no host refuses, and this one has one.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A request that may be sent more than once.
#[derive(Clone)]
pub(crate) struct Request {
    method: Method,
    url: Endpoint,
    headers: HeaderMap,
    body: Option<Value>,
    secrets: Vec<Secret>,
}

impl Request {
    pub(crate) fn get(url: Endpoint) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: None, secrets: Vec::new() }
    }

    pub(crate) fn post(url: Endpoint, body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(url) }
    }

    pub(crate) fn put(url: Endpoint, body: Value) -> Self {
        Self { method: Method::PUT, ..Self::post(url, body) }
    }

    /// With a key as `Authorization: Bearer`.
    pub(crate) fn bearer(self, key: &Secret) -> Self {
        let value = format!("Bearer {}", key.reveal());
        self.sensitive(AUTHORIZATION, &value, key)
    }

    /// With a key in a header of its own.
    pub(crate) fn header(self, name: &'static str, key: &Secret) -> Self {
        self.sensitive(HeaderName::from_static(name), key.reveal(), key)
    }

    fn sensitive(mut self, name: HeaderName, value: &str, key: &Secret) -> Self {
        // Keys are of characters that headers take, see the settings.
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self.secrets.push(key.clone());
        self
    }

    fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.reveal(), "***"))
    }
}

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    pause: Pause,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// # Errors
    ///
    /// [`Error::Invalid`], where TLS cannot be set up.
    pub(crate) fn new(pause: Pause) -> Result<Self, Error> {
        // Whoever comes first installs it; that it is there already is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            // A redirect would take the key to another host.
            .redirect(Policy::none())
            .build()
            .map_err(|error| Error::Invalid {
                reason: format!("HTTP cannot be set up: {}", cause(&error)),
            })?;
        Ok(Self { client, pause })
    }

    /// Sends a request until it is answered for good: again after 429, 5xx and broken connections, at the times the
    /// server asks for.
    ///
    /// # Errors
    ///
    /// The last try's.
    pub(crate) async fn send<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            let (error, asked) = match self.once(request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if !error.retryable() || asked.is_some_and(|asked| asked > LONGEST_ASKED) {
                return Err(error);
            }
            tracing::debug!(%error, "a request failed and is repeated");
            (self.pause)(wait.max(asked.unwrap_or_default())).await;
            wait *= 2;
        }
        self.once(request).await.map_err(|(error, _)| error)
    }

    async fn once<T: DeserializeOwned>(&self, request: &Request) -> Result<T, (Error, Option<Duration>)> {
        let mut call = self
            .client
            .request(request.method.clone(), request.url.0.clone())
            .headers(request.headers.clone());
        if let Some(body) = &request.body {
            call = call.json(body);
        }
        let broken = |error: reqwest::Error| {
            (Error::Unreachable { url: request.url.to_string(), reason: request.hide(&cause(&error)) }, None)
        };
        let response = call.send().await.map_err(broken)?;
        if !response.status().is_success() {
            let asked = retry_after(response.headers());
            return Err((refused(request, response).await, asked));
        }
        let body = response.bytes().await.map_err(broken)?;
        serde_json::from_slice(&body).map_err(|error| {
            (Error::Unusable { url: request.url.to_string(), reason: request.hide(&error.to_string()) }, None)
        })
    }
}

async fn refused(request: &Request, response: Response) -> Error {
    let status = response.status();
    // An error whose body breaks off is still that error.
    let body = response.text().await.unwrap_or_default();
    let told: String = request.hide(&explanation(&body)).chars().take(TOLD).collect();
    let reason = match told.trim().trim_end_matches('.') {
        "" => status.canonical_reason().unwrap_or("no reason given").to_owned(),
        told => told.to_owned(),
    };
    Error::Refused { url: request.url.to_string(), status: status.as_u16(), reason }
}

/// Where servers say what is wrong: `error.message` for models, `status.error` for Qdrant.
fn explanation(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    ["/error/message", "/status/error", "/error"]
        .into_iter()
        .find_map(|pointer| json.pointer(pointer).and_then(Value::as_str))
        .unwrap_or(body)
        .to_owned()
}

/// The innermost error, which shows no URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() {
        return "it stayed silent for too long".to_owned();
    }
    if std::ptr::addr_eq(cause, error) { "the connection was closed".to_owned() } else { cause.to_string() }
}

/// `Retry-After`, as seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_what_may_be_secret() {
        let endpoint = Endpoint::parse("http://me:hidden@host:6333/base/?key=hidden#hidden").unwrap();
        let below = endpoint.join(&["collections", "a b"]).with_query("wait=true&key=hidden");
        assert_eq!(below.to_string(), "http://host:6333/base/collections/a%20b");
        assert_eq!(format!("{below:?}"), below.to_string());
    }

    #[test]
    fn only_web_addresses_are_endpoints() {
        assert!(
            ["", "localhost:6333", "file:///x", "ftp://h/"]
                .into_iter()
                .all(|text| Endpoint::parse(text).is_none())
        );
    }

    #[test]
    fn explanations_are_found_where_servers_put_them() {
        assert_eq!(explanation(r#"{"error":{"message":"bad key"}}"#), "bad key");
        assert_eq!(explanation(r#"{"status":{"error":"no collection"}}"#), "no collection");
        assert_eq!(explanation("plain"), "plain");
    }
}
