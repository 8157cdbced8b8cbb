//! Reading what comes back, and naming what is wrong with it.

use std::time::Duration;

use api::Problem;
use reqwest::{Response, header::HeaderMap, header::RETRY_AFTER};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// The most bytes of an API answer that are kept in memory. The largest is a poll's with a hundred jobs.
const MOST_JSON: usize = 64 << 20;
/// The most bytes of an error's body that are looked at.
const MOST_ERROR: usize = 64 << 10;
/// How long an error's body may stand still.
const ERROR_STALL: Duration = Duration::from_secs(5);
/// The most characters of a stranger's text that are shown.
const MOST_SHOWN: usize = 120;

/// The answer of an API call as its type, or the error that it is.
pub(crate) async fn json<T: DeserializeOwned>(
    response: Response,
    host: &str,
    limit: Duration,
) -> Result<T, Error> {
    if !response.status().is_success() {
        return Err(refused(response, host).await);
    }
    let status = response.status().as_u16();
    let body = body(response, MOST_JSON, host, limit).await?;
    parse(&body, status, host)
}

/// A JSON body as its type.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8], status: u16, host: &str) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| {
        let reason = if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
            format!("JSON that does not fit ({})", error_without_text(&error))
        } else {
            describe(body)
        };
        Error::Unreadable { host: host.to_owned(), status, reason, retry_after: None }
    })
}

/// What does not fit, without a piece of the body: an answer may hold a secret.
fn error_without_text(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => format!("`{field}` is missing"),
        None => format!("see line {}, column {}", error.line(), error.column()),
    }
}

/// A body of at most `most` bytes, none of which may take longer than `limit`.
pub(crate) async fn body(
    mut response: Response,
    most: usize,
    host: &str,
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    let status = response.status().as_u16();
    let silent = |_| Error::TimedOut { host: host.to_owned(), after: limit };
    let mut body = Vec::new();
    loop {
        let chunk = tokio::time::timeout(limit, response.chunk()).await.map_err(silent)?;
        let Some(chunk) = chunk.map_err(|error| sending(&error, host, limit))? else { break };
        if body.len() + chunk.len() > most {
            let reason = format!("more than {} MiB", most >> 20);
            return Err(Error::Unreadable { host: host.to_owned(), status, reason, retry_after: None });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error that an API call's answer is.
pub(crate) async fn refused(response: Response, host: &str) -> Error {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    if response.status().is_redirection() {
        let reason = format!("a redirect to {}", location_shown(&response));
        return Error::Unreadable { host: host.to_owned(), status, reason, retry_after };
    }
    let body = beginning(response).await;
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Error::Refused { status, problem: Box::new(problem), retry_after },
        Err(_) => Error::Unreadable { host: host.to_owned(), status, reason: describe(&body), retry_after },
    }
}

/// The error that an object store's answer is.
pub(crate) async fn not_transferred(response: Response, host: &str) -> Error {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let body = beginning(response).await;
    let code = xml_element(&body, "Code");
    let reason = match &code {
        Some(code) => format!("it answered {status} {code}{}", advice(code)),
        None => format!("it answered {status} with {}", describe(&body)),
    };
    Error::Transfer { host: host.to_owned(), status: Some(status), code, reason, retry_after }
}

/// What a person can do about an object store's code.
fn advice(code: &str) -> &'static str {
    match code {
        "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "IncompleteBody" => {
            " (the file may have changed while it was sent; send it again)"
        }
        "NoSuchKey" => " (the file is not there any more; submit it again)",
        "RequestTimeTooSkewed" => " (this machine's clock or the server's is wrong)",
        "SignatureDoesNotMatch" => {
            " (a proxy in between may change requests; check that the URL's host is the one that was signed)"
        }
        "AccessDenied" | "ExpiredToken" => {
            " (the URL may have expired; try again, and check the clocks if it stays so)"
        }
        _ => "",
    }
}

/// What went wrong below HTTP.
pub(crate) fn sending(error: &reqwest::Error, host: &str, limit: Duration) -> Error {
    // Connecting has a limit of its own, and then nothing was reached.
    if error.is_timeout() && !error.is_connect() {
        return Error::TimedOut { host: host.to_owned(), after: limit };
    }
    if error.is_builder() {
        return Error::Invalid { reason: format!("The request to {host} cannot be made: {}", cause(error)) };
    }
    let (host, reason) = (host.to_owned(), cause(error));
    // The cause is wrapped too often to be taken for what it is.
    match reason.strip_prefix("invalid peer certificate: ") {
        Some(reason) => Error::Untrusted { host, reason: reason.to_owned() },
        None => Error::Unreachable { host, reason },
    }
}

/// The innermost cause, which is the one that says something, and which never holds the URL.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    // The outermost error is the one that would show the URL.
    if std::ptr::addr_eq(cause, error) { "the connection was closed".to_owned() } else { cause.to_string() }
}

/// `Retry-After`, as seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let wait = http_date(text)?.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

/// A date as HTTP spells it.
pub(crate) fn http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()
}

async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    // An error whose body breaks off or stalls is still that error.
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout(ERROR_STALL, response.chunk()).await {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_ERROR {
            break;
        }
    }
    body
}

/// The target of a redirect, without its query.
fn location_shown(response: &Response) -> String {
    let location = response.headers().get(reqwest::header::LOCATION).and_then(|value| value.to_str().ok());
    shown(location.and_then(|text| text.split(['?', '#']).next()).unwrap_or("nowhere"))
}

/// What a body is, in a few words.
fn describe(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return "an empty body".to_owned();
    }
    if let Some(code) = xml_element(body, "Code") {
        return format!("an object store's error, {code}");
    }
    let lower = text.get(..text.floor_char_boundary(512)).unwrap_or_default().to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.contains("<html") {
        let title = xml_element(body, "title").map(|title| format!(" titled {title:?}"));
        return format!("an HTML page{}", title.unwrap_or_default());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(fields)) => match fields.get("message").and_then(Value::as_str) {
            Some(message) => format!("the message {:?}", shown(message)),
            None => "JSON of another form".to_owned(),
        },
        Ok(_) => "JSON of another form".to_owned(),
        Err(_) => "something that is not JSON".to_owned(),
    }
}

/// The text of the first element of that name, if it is short and plain.
fn xml_element(body: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once("</")?;
    Some(shown(inner.trim())).filter(|inner| !inner.is_empty())
}

/// A stranger's text, cut and without what could move a terminal's cursor.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_described_without_being_quoted_at_length() {
        for (body, words) in [
            ("", "an empty body"),
            ("<html><head><title>502 Bad\nGateway</title>", "an HTML page titled \"502 Bad Gateway\""),
            ("<!DOCTYPE html><p>hello", "an HTML page"),
            (
                "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
                "an object store's error, AccessDenied",
            ),
            (r#"{"message":"Forbidden"}"#, "the message \"Forbidden\""),
            (r#"{"secret":"s"}"#, "JSON of another form"),
            ("[1]", "JSON of another form"),
            ("plain secret", "something that is not JSON"),
        ] {
            assert_eq!(describe(body.as_bytes()), words);
        }
        assert_eq!(describe(&[0xff, 0xfe]), "something that is not JSON");
        assert!(shown(&"x".repeat(500)).len() == MOST_SHOWN && shown("a\x1b[2Jb") == "a [2Jb");
    }

    #[test]
    fn an_answer_that_does_not_fit_is_never_quoted() {
        #[derive(Debug, serde::Deserialize)]
        struct Sample {
            #[expect(dead_code, reason = "only read from JSON")]
            number: u64,
        }
        let why = |body: &str| parse::<Sample>(body.as_bytes(), 200, "h").unwrap_err().to_string();
        assert!(why("{}").contains("`number` is missing"));
        assert!(!why(r#"{"number":"secret"}"#).contains("secret"));
        assert!(why("<html>").contains("h answered 200 with an HTML page"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(of("Fri, 01 Jan 2100 00:00:00 GMT").unwrap() > Duration::from_secs(3600));
        assert_eq!(of("soon"), None);
    }
}
