use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use api::status::HealthResponse;
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION},
    redirect::Policy,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{ApiKey, BaseUrl, Error, Lease, PresignedUrl, answer};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a call may take that does not wait for anything.
pub(crate) const CALL: Duration = Duration::from_secs(30);
/// How long a call may take that makes the server read a whole object.
pub(crate) const LONG_CALL: Duration = Duration::from_secs(300);

/// Talks to one server under one key. Cloning it is cheap, and clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    base: BaseUrl,
    authorization: Option<HeaderValue>,
    http: reqwest::Client,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.inner.base.as_str()).finish_non_exhaustive()
    }
}

/// What a look at the server's health tells beyond the answer itself.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The answer.
    pub health: HealthResponse,
    /// The server's clock by the answer's `Date` header, to the second.
    pub server_time: Option<SystemTime>,
    /// How long the answer took.
    pub round_trip: Duration,
}

impl Client {
    /// A client of the server at `base`. `product` names the program in the `User-Agent` header, as `name/version`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the key or the product cannot stand in a header, or TLS cannot be set up.
    pub fn new(base: BaseUrl, key: Option<ApiKey>, product: &str) -> Result<Self, Error> {
        // Whoever comes first installs it; that it is there already is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorization = key.map(|key| key.header()).transpose()?;
        let http = reqwest::Client::builder()
            .user_agent(product)
            .connect_timeout(CONNECT)
            // A redirect leads to the object store, which must not see the key.
            .redirect(Policy::none())
            .build()
            .map_err(|error| Error::Invalid {
                reason: format!("HTTP cannot be set up: {}", answer::cause(&error)),
            })?;
        Ok(Self { inner: Arc::new(Inner { base, authorization, http }) })
    }

    /// The server's URL.
    #[must_use]
    pub fn base(&self) -> &BaseUrl {
        &self.inner.base
    }

    /// Asks whether the service is up, and notes its clock and how long the answer took.
    ///
    /// # Errors
    /// As of any call.
    pub async fn probe(&self) -> Result<Probe, Error> {
        let begun = Instant::now();
        let response = self.send(self.call(Method::GET, "/health")?, CALL).await?;
        let round_trip = begun.elapsed();
        let date = response.headers().get(reqwest::header::DATE).and_then(|value| value.to_str().ok());
        let server_time = date.and_then(answer::http_date).map(SystemTime::from);
        let health = answer::json(response, &self.host(), CALL).await?;
        Ok(Probe { health, server_time, round_trip })
    }

    /// A GET, without a lease.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.without_body(self.call(Method::GET, path)?, CALL).await
    }

    /// A GET with the fields of `query` that are there.
    pub(crate) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
        limit: Duration,
    ) -> Result<T, Error> {
        self.without_body(self.call(Method::GET, path)?.query(query), limit).await
    }

    /// A DELETE.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.without_body(self.call(Method::DELETE, path)?, CALL).await
    }

    async fn without_body<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<T, Error> {
        let response = self.send(request, limit).await?;
        answer::json(response, &self.host(), limit).await
    }

    /// A call with a JSON body.
    pub(crate) async fn submit<T: DeserializeOwned>(
        &self,
        call: Call<'_, impl Serialize>,
    ) -> Result<T, Error> {
        let mut request = self.call(call.method, &call.path)?.json(call.body);
        if let Some(lease) = call.lease {
            request = request.header(HeaderName::from_static(api::LEASE_TOKEN), lease.token.header()?);
        }
        if let Some(key) = call.idempotency_key {
            request = request.header(HeaderName::from_static(api::IDEMPOTENCY_KEY), key);
        }
        let response = self.send(request, call.limit).await?;
        answer::json(response, &self.host(), call.limit).await
    }

    /// A call that is answered by a redirect to the object store, which is read and not followed.
    pub(crate) async fn redirect(&self, path: &str, lease: Option<&Lease>) -> Result<PresignedUrl, Error> {
        let mut request = self.call(Method::GET, path)?;
        if let Some(lease) = lease {
            request = request.header(HeaderName::from_static(api::LEASE_TOKEN), lease.token.header()?);
        }
        let response = self.send(request, CALL).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(answer::refused(response, &self.host()).await);
        }
        let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let target = target.filter(|_| status.as_u16() == 307).and_then(|text| self.inner.base.resolve(text));
        target.map(PresignedUrl::from).ok_or_else(|| Error::Unreadable {
            host: self.host(),
            status: status.as_u16(),
            reason: "no redirect to a file".to_owned(),
            retry_after: None,
        })
    }

    /// A request to the API, with the key.
    fn call(&self, method: Method, path: &str) -> Result<RequestBuilder, Error> {
        let mut request = self.inner.http.request(method, self.inner.base.join(path)?);
        if let Some(authorization) = &self.inner.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    /// A request to the object store: without the key, and without a limit on its whole time.
    pub(crate) fn presigned(&self, method: Method, url: Url) -> RequestBuilder {
        self.inner.http.request(method, url)
    }

    async fn send(&self, request: RequestBuilder, limit: Duration) -> Result<Response, Error> {
        request.timeout(limit).send().await.map_err(|error| answer::sending(&error, &self.host(), limit))
    }

    pub(crate) fn host(&self) -> String {
        self.inner.base.host()
    }
}

/// What a call with a body consists of.
pub(crate) struct Call<'a, B> {
    method: Method,
    path: String,
    body: &'a B,
    lease: Option<&'a Lease>,
    idempotency_key: Option<&'a str>,
    limit: Duration,
}

impl<'a, B: Serialize> Call<'a, B> {
    pub(crate) fn post(path: String, body: &'a B) -> Self {
        Self { method: Method::POST, path, body, lease: None, idempotency_key: None, limit: CALL }
    }

    pub(crate) fn put(path: String, body: &'a B) -> Self {
        Self { method: Method::PUT, ..Self::post(path, body) }
    }

    pub(crate) fn lease(self, lease: &'a Lease) -> Self {
        Self { lease: Some(lease), ..self }
    }

    pub(crate) fn idempotent(self, key: Option<&'a str>) -> Self {
        Self { idempotency_key: key, ..self }
    }

    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }
}
