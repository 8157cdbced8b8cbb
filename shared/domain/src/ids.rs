use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::InvalidValue;

/// A job's id: UUIDv7, or UUIDv5 of the tenant and the idempotency key it was created under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

/// The namespace of ids that are derived from an idempotency key, so that they cannot meet anybody else's.
const IDEMPOTENT: Uuid = Uuid::from_u128(0x5b1f_3c0e_8d42_5a67_9f10_7e2d_c4b8_a1f3);

/// The id that an idempotency key stands for within one tenant and one kind of thing (`job`, `upload`).
pub(crate) fn derived(kind: &str, tenant: &Tenant, idempotency_key: &str) -> Uuid {
    Uuid::new_v5(&IDEMPOTENT, format!("{kind}/{tenant}/{idempotency_key}").as_bytes())
}

impl JobId {
    /// The id of the job created under `idempotency_key`.
    #[must_use]
    pub fn of_idempotency_key(tenant: &Tenant, idempotency_key: &str) -> Self {
        Self(derived("job", tenant, idempotency_key))
    }

    /// The id of the upload created under `idempotency_key`.
    #[must_use]
    pub fn upload_of_idempotency_key(tenant: &Tenant, idempotency_key: &str) -> Uuid {
        derived("upload", tenant, idempotency_key)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidValue("is not a UUID".to_owned()))
    }
}

/// The SHA-256 of a lease token. The token itself is known only to the worker it was granted to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $admits:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                let admits: fn(&str) -> bool = $admits;
                if admits(text) { Ok(Self(text.to_owned())) } else { Err(InvalidValue($rule.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidValue;

            fn try_from(text: String) -> Result<Self, InvalidValue> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_newtype!(
    /// Whose jobs, objects and keys these are. Tenants do not see each other.
    Tenant,
    "must be 1 to 64 of a-z, 0-9, - and _",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
);

text_newtype!(
    /// Where a job's end is told. Whether its host may be spoken to is decided when it is.
    WebhookUrl,
    "must be an http:// or https:// URL of at most 1000 printable ASCII characters, without a user name, password or fragment",
    is_webhook_url
);

fn is_webhook_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    text.len() <= 1000
        && !authority.is_empty()
        && !authority.contains('@')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\')
}

text_newtype!(
    /// What a worker calls itself, as the original's clients do; it proves nothing.
    WorkerId,
    "must be 1 to 255 characters without control characters",
    |text| !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control)
);

text_newtype!(
    /// The public half of an API key.
    KeyId,
    "must be 1 to 40 of a-z, 0-9 and -",
    |text| (1..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_of_two_tenants_do_not_meet() {
        let a: Tenant = "a".parse().unwrap();
        let b: Tenant = "b".parse().unwrap();
        assert_eq!(JobId::of_idempotency_key(&a, "k"), JobId::of_idempotency_key(&a, "k"));
        assert_ne!(JobId::of_idempotency_key(&a, "k"), JobId::of_idempotency_key(&b, "k"));
        assert_ne!(JobId::of_idempotency_key(&a, "k").0, JobId::upload_of_idempotency_key(&a, "k"));
    }

    #[test]
    fn names_are_checked() {
        assert!("".parse::<Tenant>().is_err());
        assert!("a/b".parse::<Tenant>().is_err());
        assert!("a#b".parse::<Tenant>().is_err());
        assert!("line\nbreak".parse::<WorkerId>().is_err());
        assert!("x".repeat(256).parse::<WorkerId>().is_err());
        assert_eq!(WorkerId::try_from("gpu 1 ✓".to_owned()).unwrap().to_string(), "gpu 1 ✓");
        assert!("A".parse::<KeyId>().is_err());
        assert_eq!(String::from("k-1".parse::<KeyId>().unwrap()), "k-1");
        assert!("not-a-uuid".parse::<JobId>().is_err());
    }

    #[test]
    fn ids_are_written_as_they_are_read() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(text.parse::<JobId>().unwrap().to_string(), text);
        assert_eq!("t_1".parse::<Tenant>().unwrap().as_str(), "t_1");
    }

    #[test]
    fn a_token_hash_shows_only_its_beginning() {
        assert_eq!(format!("{:?}", TokenHash([7; 32])), "TokenHash(0707…)");
    }
}
