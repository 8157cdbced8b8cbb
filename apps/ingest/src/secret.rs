//! What the service's own webhooks are signed with, by the rules of Standard Webhooks.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::InvalidValue;
use ingestion::webhook::Secret;
use rand::Rng;

const PREFIX: &str = "whsec_";
/// The longest secret that Standard Webhooks allows: 64 bytes, in characters of base64 without what fills it up.
const LONGEST: usize = 86;

/// A secret of 24 to 64 bytes, spelled `whsec_` and base64. It is never shown.
#[derive(Clone)]
pub struct SigningSecret {
    text: String,
    secret: Secret,
}

impl SigningSecret {
    /// How a new one is spelled.
    #[must_use]
    pub fn random() -> String {
        format!("{PREFIX}{}", STANDARD.encode(rand::rng().random::<[u8; 32]>()))
    }

    /// How it is spelled.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The value of `webhook-signature`. `timestamp` is in Unix seconds.
    #[must_use]
    pub fn signature(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        self.secret.sign(id, timestamp, body)
    }
}

impl FromStr for SigningSecret {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let text = text.trim();
        let spelled =
            text.strip_prefix(PREFIX).is_some_and(|base64| base64.trim_end_matches('=').len() <= LONGEST);
        text.parse()
            .ok()
            .filter(|_| spelled)
            .map(|secret| Self { text: text.to_owned(), secret })
            .ok_or_else(|| InvalidValue("is not whsec_ and the base64 of 24 to 64 bytes".to_owned()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_spelled_as_it_is_read_and_never_shown() {
        let text = SigningSecret::random();
        let secret: SigningSecret = text.parse().unwrap();
        assert_eq!(secret.reveal(), text);
        assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
        assert_ne!(text, SigningSecret::random());
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        let wrong = ["", "whsec_", "whsec_c2hvcnQ=", "whsec_???", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &long];
        assert!(wrong.iter().all(|text| text.parse::<SigningSecret>().is_err()));
    }
}
