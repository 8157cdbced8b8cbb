use api::{Kind, Rejected, Verb};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use service::Caller;

use crate::{Error, Request};

/// A request that has a route and a caller who may make it. Only [`crate::App::answer`] makes one.
pub struct Call {
    /// Which call it is.
    pub verb: Verb,
    /// The path's one parameter; empty where the path has none.
    pub id: String,
    pub(crate) caller: Option<Caller>,
    pub(crate) request: Request,
}

impl Call {
    /// Who makes it.
    ///
    /// # Errors
    /// 401 for a call that needs no key and came without.
    pub fn caller(&self) -> Result<&Caller, Error> {
        self.caller.as_ref().ok_or_else(no_key)
    }

    /// The body.
    ///
    /// # Errors
    /// 400, 415 or 422.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let body = self.request.body();
        // Besides being what the API takes, this keeps a web page from making calls with a form.
        if !body.is_empty() && !is_json(self.request.headers()) {
            return Err(Error::rejected(
                Kind::UnsupportedMediaType,
                "Send the body as JSON, with the header Content-Type: application/json.",
            ));
        }
        api::json(body).map_err(Error::from)
    }

    /// The query string.
    ///
    /// # Errors
    /// 422.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Error> {
        api::query(self.request.uri().query().unwrap_or_default())
            .map_err(|Rejected(problem)| Error::Rejected(problem))
    }

    /// Whether the call came by this method.
    #[must_use]
    pub fn is(&self, method: &http::Method) -> bool {
        self.request.method() == method
    }

    /// The `Lease-Token` header.
    #[must_use]
    pub fn lease_token(&self) -> Option<&str> {
        text(self.request.headers(), api::LEASE_TOKEN)
    }

    /// The `User-Agent` header.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        text(self.request.headers(), header::USER_AGENT.as_str())
    }

    /// The `Idempotency-Key` header.
    ///
    /// # Errors
    /// 422 when it is there and cannot be read. Taking it for absent would create things twice.
    pub fn idempotency_key(&self) -> Result<Option<&str>, Error> {
        let Some(value) = self.request.headers().get(api::IDEMPOTENCY_KEY) else { return Ok(None) };
        let unreadable = |_| Error::field("Idempotency-Key", "must be 1 to 255 printable ASCII characters");
        value.to_str().map(|key| Some(key).filter(|key| !key.is_empty())).map_err(unreadable)
    }
}

pub(crate) fn no_key() -> Error {
    Error::rejected(
        Kind::Unauthorized,
        "This call needs an API key, in the header Authorization: Bearer <key>.",
    )
}

/// A header's text; empty means absent.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}
