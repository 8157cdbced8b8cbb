use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use crate::{Error, secrets::host_of};

/// Where the API is: an `http` or `https` URL, which may carry a path prefix such as a deployment's stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Without a trailing slash, query, fragment or credentials.
    text: String,
    url: Url,
}

/// What an id may be spelled with in a path without being escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl BaseUrl {
    /// The URL, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port, as far as a port is given.
    #[must_use]
    pub fn host(&self) -> String {
        host_of(&self.url)
    }

    /// Host name and port to connect to; the scheme's port unless another one is given.
    #[must_use]
    pub fn address(&self) -> (String, u16) {
        // Brackets belong to the URL, not to the address inside them.
        let host = self.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        (host.to_owned(), self.url.port_or_known_default().unwrap_or(80))
    }

    /// Whether what is sent there is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL of a path that begins with a slash.
    pub(crate) fn join(&self, path: &str) -> Result<Url, Error> {
        Url::parse(&format!("{}{path}", self.text)).map_err(|error| invalid(&self.text, &error.to_string()))
    }

    /// The URL that a `Location` header means in the answer to a call.
    pub(crate) fn resolve(&self, location: &str) -> Option<Url> {
        self.url.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
    }
}

/// An id as one segment of a path, whatever characters it has.
pub(crate) fn segment(id: &str) -> String {
    match id {
        // A URL parser takes these for steps through the path, escaped or not. No id is one, so neither is this.
        "." | ".." => "%252E".to_owned(),
        id => utf8_percent_encode(id, ESCAPED).to_string(),
    }
}

fn invalid(text: &str, why: &str) -> Error {
    Error::Invalid {
        reason: format!("{text:?} is not an API URL: {why}; use one like http://localhost:8000"),
    }
}

impl FromStr for BaseUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let url = Url::parse(text).map_err(|error| invalid(text, &error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(text, "it must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Not shown: what stands there is a password.
            return Err(invalid("the given URL", "it must not carry a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(text, "it must not have a query or a fragment"));
        }
        Ok(Self { text: url.as_str().trim_end_matches('/').to_owned(), url })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_end_are_cut_and_a_prefix_stays() {
        for (given, kept) in [
            ("http://localhost:8000", "http://localhost:8000"),
            (" http://localhost:8000// ", "http://localhost:8000"),
            ("https://x.example/prod/", "https://x.example/prod"),
            ("HTTPS://X.example", "https://x.example"),
        ] {
            let base: BaseUrl = given.parse().unwrap();
            assert_eq!(base.to_string(), kept);
            assert_eq!(base.join("/health").unwrap().as_str(), format!("{kept}/health"));
        }
    }

    #[test]
    fn what_is_no_api_url_is_refused_with_a_reason() {
        for (given, why) in [
            ("localhost:8000", "http://"),
            ("ftp://x", "http://"),
            ("", "relative URL"),
            ("http://", "empty host"),
            ("http://x/?a=b", "query"),
            ("http://x/#a", "fragment"),
        ] {
            let error = given.parse::<BaseUrl>().unwrap_err().to_string();
            assert!(error.contains(why), "{given}: {error}");
        }
        let error = "http://me:hunter2@x".parse::<BaseUrl>().unwrap_err().to_string();
        assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn addresses_have_a_port() {
        let address = |text: &str| text.parse::<BaseUrl>().unwrap().address();
        assert_eq!(address("https://x.example/prod"), ("x.example".to_owned(), 443));
        assert_eq!(address("http://[::1]:81"), ("::1".to_owned(), 81));
    }

    #[test]
    fn an_id_stays_one_segment() {
        let base: BaseUrl = "http://h/prod".parse().unwrap();
        for (id, path) in [("a/b", "/prod/a%2Fb/x"), ("..", "/prod/%252E/x"), ("a?b#c", "/prod/a%3Fb%23c/x")]
        {
            let url = base.join(&format!("/{}/x", segment(id))).unwrap();
            assert!(url.path().starts_with(path) && url.query().is_none(), "{id}: {url}");
        }
    }
}
