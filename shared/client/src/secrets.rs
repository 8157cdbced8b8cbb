use std::fmt;

use reqwest::{Url, header::HeaderValue};

use crate::Error;

/// An API key, `<id>.<secret>`. It is never shown.
#[derive(Clone)]
pub struct ApiKey(String);

impl From<String> for ApiKey {
    fn from(text: String) -> Self {
        Self(text.trim().to_owned())
    }
}

impl From<&str> for ApiKey {
    fn from(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl ApiKey {
    /// The public half, which may be shown. Empty when the key does not have the form `<id>.<secret>`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.split_once('.').map_or("", |(id, _)| id)
    }

    /// Whether there is nothing in it, as in an empty variable or file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the header `Authorization`.
    pub(crate) fn header(&self) -> Result<HeaderValue, Error> {
        sensitive(&format!("Bearer {}", self.0)).ok_or_else(|| Error::Invalid {
            reason: "The API key has a character that no key has; copy it again, without a line break"
                .to_owned(),
        })
    }
}

/// A lease's token. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseToken(String);

impl From<String> for LeaseToken {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for LeaseToken {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl LeaseToken {
    /// The token itself, for a worker that stores it to go on after a restart. It must not be logged.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> Result<HeaderValue, Error> {
        sensitive(&self.0).ok_or_else(|| Error::Invalid {
            reason: "The lease token has a character that no token has; poll for the job again".to_owned(),
        })
    }
}

/// The right to work on a job, as a poll's answer grants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job's id.
    pub job_id: String,
    /// What proves the lease.
    pub token: LeaseToken,
}

/// A URL that needs no API key, because its query is one. Only what comes before the query is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedUrl(Url);

impl PresignedUrl {
    /// The whole URL, query included. It must not be logged.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.as_str()
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> String {
        host_of(&self.0)
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

impl From<Url> for PresignedUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl std::str::FromStr for PresignedUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.map(Self).ok_or_else(|| Error::Unreadable {
            host: "The server".to_owned(),
            status: 200,
            reason: "a transfer URL that is not an http or https URL (its public URL setting may be wrong)"
                .to_owned(),
            retry_after: None,
        })
    }
}

impl fmt::Display for PresignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.0.scheme(), self.host(), self.0.path())?;
        if self.0.query().is_some() { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresignedUrl({self})")
    }
}

macro_rules! masked {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("…")
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

masked!(ApiKey);
masked!(LeaseToken);

/// A header value that HTTP libraries neither print nor index.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Host and port of a URL, for messages.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
