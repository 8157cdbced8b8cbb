use reqwest::{
    Method, RequestBuilder,
    header::{CONTENT_TYPE, HeaderMap},
    redirect::Policy,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The headers that a snapshot of an answer shows.
const SHOWN: [&str; 13] = [
    "accept-ranges",
    "allow",
    "cache-control",
    "content-disposition",
    "content-range",
    "content-security-policy",
    "content-type",
    "etag",
    "location",
    "retry-after",
    "www-authenticate",
    "x-amz-checksum-sha256",
    "x-request-id",
];

/// A plain HTTP client with or without an API key. It follows no redirect.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// The SHA-256 of these bytes as hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What each of these requests is refused with, by the case's name.
pub async fn refusals<'a>(cases: impl IntoIterator<Item = (&'a str, RequestBuilder)>) -> Value {
    let mut all = serde_json::Map::new();
    for (name, request) in cases {
        let answer = Answer::to(request).await;
        assert!(answer.status >= 400, "{name} was not refused: {}", answer.text());
        assert!(all.insert(name.to_owned(), answer.refusal()).is_none(), "two cases are named {name}");
    }
    all.into()
}

/// What the object store refuses each of these requests with, by the case's name.
pub async fn refused_objects<'a>(cases: impl IntoIterator<Item = (&'a str, RequestBuilder)>) -> Value {
    let mut all = serde_json::Map::new();
    for (name, request) in cases {
        let answer = Answer::to(request).await;
        assert!(answer.status >= 400, "{name} was not refused: {}", answer.text());
        let shown = json!({"status": answer.status, "body": answer.text()});
        assert!(all.insert(name.to_owned(), shown).is_none(), "two cases are named {name}");
    }
    all.into()
}

impl Client {
    /// A client of the server at `base`.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self::with(base, |builder| builder)
    }

    /// As [`Client::new`], with changed settings.
    pub fn with(base: &str, change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Self {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().redirect(Policy::none()).no_proxy();
        Self { http: change(builder).build().unwrap(), base: base.to_owned(), key: None }
    }

    /// The same client with this key.
    #[must_use]
    pub fn keyed(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The same client without a key.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap()
    }

    /// A request to a path of the server, or to a whole URL, which gets no key.
    pub fn request(&self, method: Method, target: &str) -> RequestBuilder {
        if !target.starts_with('/') {
            return self.http.request(method, target);
        }
        let request = self.http.request(method, format!("{}{target}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// GETs a path or a whole URL.
    pub async fn get(&self, target: &str) -> Answer {
        Answer::to(self.request(Method::GET, target)).await
    }

    /// A POST of JSON, to be sent or changed.
    pub fn posting(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    /// A POST of a JSON text, which need not be JSON.
    pub fn posting_text(&self, path: &str, body: &str) -> RequestBuilder {
        self.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(body.to_owned())
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.posting(path, body)).await
    }

    /// Makes a call under a lease, with a JSON body unless it is null.
    pub async fn leased(&self, method: Method, path: &str, token: &str, body: &Value) -> Answer {
        let request = self.request(method, path).header("Lease-Token", token);
        Answer::to(if body.is_null() { request } else { request.json(body) }).await
    }

    /// Makes the presigned request that an answer described as `{method, url, headers}`.
    pub async fn presigned(&self, described: &Value, body: impl Into<reqwest::Body>) -> Answer {
        let method = described["method"].as_str().unwrap().parse().unwrap();
        let mut request = self.request(method, described["url"].as_str().unwrap()).body(body);
        for (name, value) in described["headers"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        Answer::to(request).await
    }

    /// Uploads a file and gives the `source_file_path` to name in a job.
    pub async fn upload(&self, filename: &str, bytes: &[u8]) -> String {
        let place = self.place(filename, bytes).await;
        let put = self.presigned(&place["put"], bytes.to_vec()).await;
        assert_eq!(put.status, 200, "{}", put.text());
        place["source_file_path"].as_str().unwrap().to_owned()
    }

    /// A place to upload a file to.
    pub async fn place(&self, filename: &str, bytes: &[u8]) -> Value {
        let file = json!({"filename": filename, "size_bytes": bytes.len(), "sha256": sha256_hex(bytes)});
        self.post("/api/v1/remote-jobs/uploads", &file).await.ok()
    }
}

impl Answer {
    /// The answer to this request.
    pub async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    /// The body of a success, which this asserts.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// Where a redirect leads.
    #[must_use]
    pub fn location(&self) -> String {
        assert_eq!(self.status, 307, "{}", self.text());
        self.header("location").to_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status and the detail of a problem.
    #[must_use]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        (self.status, self.json()["detail"].as_str().unwrap().to_owned())
    }

    /// The status, the headers that matter and the body, for a snapshot.
    #[must_use]
    pub fn shown(&self) -> Value {
        let headers: serde_json::Map<String, Value> = SHOWN
            .iter()
            .filter(|name| self.headers.contains_key(**name))
            .map(|name| ((*name).to_owned(), self.header(name).into()))
            .collect();
        let is_json =
            self.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.to_str().unwrap().contains("json"));
        let body = if is_json { self.json() } else { self.text().into() };
        json!({"status": self.status, "headers": headers, "body": body})
    }

    /// The status and the problem's fields that differ, for a snapshot of many refusals.
    #[must_use]
    pub fn refusal(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        let mut shown = json!({"status": self.status, "type": problem["type"], "detail": problem["detail"]});
        if let Some(errors) = problem.get("errors") {
            shown["fields"] = errors.as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
        }
        shown
    }
}
