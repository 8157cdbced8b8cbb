//! Whether to believe a webhook of the control plane, by the rules of
//! [Standard Webhooks](https://www.standardwebhooks.com).
//!
//! A message that is believed may still come again: whoever acts upon messages remembers their ids for twice the
//! tolerance, and everything older is stale.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::events::{EventBody, WebhookSecretResponse};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// How far the time of a message may be from this machine's, into the past and into the future.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// The headers of a message.
pub const ID: &str = "webhook-id";
/// When it was signed, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// `v1,` and base64, several of them with spaces between while a secret is being replaced.
pub const SIGNATURE: &str = "webhook-signature";

/// What a signature's text begins with.
const VERSION: &str = "v1,";
/// What a secret's text begins with.
const SECRET_PREFIX: &str = "whsec_";
/// The shortest secret that Standard Webhooks allows, in bytes. A shorter one could be guessed.
const SHORTEST_SECRET: usize = 24;
/// The most signatures of one message that are looked at. There is one for each secret in use.
const MOST_SIGNATURES: usize = 16;

/// A message that is what the control plane sent.
#[derive(Clone, Debug)]
pub struct WebhookMessage {
    /// The same however often the message comes.
    pub id: String,
    /// When it was signed, to the second.
    pub timestamp: SystemTime,
    /// What happened.
    pub event: EventBody,
}

/// Why a message is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WebhookError {
    /// A header is missing or is no such header, or the body is no event.
    #[error("The webhook cannot be read: {0}.")]
    Malformed(String),
    /// It was signed too long ago, or in the future.
    #[error("The webhook was signed {0}: it is sent again by somebody, or a clock is wrong.")]
    Stale(String),
    /// No signature is by a secret that is known here.
    #[error("The webhook is signed by none of the known secrets; compare them with the control plane's.")]
    Forged,
}

/// What messages are signed with, spelled `whsec_` and base64. It is never shown.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// A secret that is none. What it is is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("This is no webhook secret: it is whsec_ and at least 24 bytes in base64.")]
pub struct InvalidSecret;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let text = text.trim();
        let bytes = STANDARD.decode(text.strip_prefix(SECRET_PREFIX).unwrap_or(text));
        bytes.ok().filter(|bytes| bytes.len() >= SHORTEST_SECRET).map(Self).ok_or(InvalidSecret)
    }
}

impl Secret {
    /// The value of the header [`SIGNATURE`], for whoever sends messages: `v1,` and base64. `timestamp` is in seconds
    /// since 1970, and `id` and `timestamp` go into the headers [`ID`] and [`TIMESTAMP`] as they are given here.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signature = self.signature(id, &timestamp.to_string(), body);
        format!("{VERSION}{}", STANDARD.encode(signature.unwrap_or_default()))
    }

    /// Of the timestamp as it is spelled, because a receiver has nothing but the text. HMAC takes keys of any length.
    fn signature(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        Some(mac.finalize().into_bytes().into())
    }
}

/// The secrets that messages are signed with at present: one, or two for a day after it was replaced.
///
/// # Errors
/// [`InvalidSecret`] when the control plane answered something else.
pub fn secrets(answer: &WebhookSecretResponse) -> Result<Vec<Secret>, InvalidSecret> {
    std::iter::once(&answer.secret).chain(&answer.previous).map(|text| text.parse()).collect()
}

/// Believes a message that is signed by one of `secrets`, within `tolerance` of `now`, and reads it.
///
/// `header` gives the value of a header by its name in small letters. `body` is what came, byte for byte. The signature
/// is compared in a time that does not depend on it, and before anything of the body is read.
///
/// # Errors
/// [`WebhookError`] says which of it does not hold.
pub fn verify<'h>(
    header: impl Fn(&'static str) -> Option<&'h str>,
    body: &[u8],
    secrets: &[Secret],
    tolerance: Duration,
    now: SystemTime,
) -> Result<WebhookMessage, WebhookError> {
    let value = |name| header(name).filter(|value| !value.is_empty()).ok_or_else(|| missing(name));
    let (id, timestamp, signatures) = (value(ID)?, value(TIMESTAMP)?, value(SIGNATURE)?);
    let signed_at = moment(timestamp)?;
    let expected = secrets.iter().filter_map(|secret| secret.signature(id, timestamp, body));
    if !is_one_of(signatures, expected) {
        return Err(WebhookError::Forged);
    }
    fresh(signed_at, tolerance, now)?;
    let event = serde_json::from_slice(body)
        .map_err(|error| WebhookError::Malformed(format!("the body is no event (line {})", error.line())))?;
    Ok(WebhookMessage { id: id.to_owned(), timestamp: signed_at, event })
}

fn missing(name: &str) -> WebhookError {
    WebhookError::Malformed(format!("the header {name} is missing"))
}

/// Only digits, because what is signed is the text: a number that can be spelled in two ways would be two messages.
fn moment(timestamp: &str) -> Result<SystemTime, WebhookError> {
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = timestamp.parse().ok().filter(|_| digits).map(Duration::from_secs);
    seconds
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .ok_or_else(|| WebhookError::Malformed(format!("the header {TIMESTAMP} is no time")))
}

/// Whether a signature that is given is one that is expected.
fn is_one_of(signatures: &str, expected: impl Iterator<Item = [u8; 32]>) -> bool {
    let given = signatures.split(' ').take(MOST_SIGNATURES).filter_map(|text| text.strip_prefix(VERSION));
    let given: Vec<Vec<u8>> = given.filter_map(|text| STANDARD.decode(text).ok()).collect();
    let matches =
        expected.flat_map(|expected| given.iter().map(move |given| expected.ct_eq(given.as_slice())));
    matches.fold(Choice::from(0), |any, one| any | one).into()
}

fn fresh(signed_at: SystemTime, tolerance: Duration, now: SystemTime) -> Result<(), WebhookError> {
    match now.duration_since(signed_at) {
        Ok(age) if age > tolerance => Err(WebhookError::Stale(format!("{} s ago", age.as_secs()))),
        Err(ahead) if ahead.duration() > tolerance => {
            Err(WebhookError::Stale(format!("{} s in the future", ahead.duration().as_secs())))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
