use std::{fmt, str::FromStr};

use domain::{FileName, InvalidValue, JobId, Tenant};
use uuid::Uuid;

/// Every object key there is. A key that a client names is only accepted when it parses and lies under its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageKey {
    /// `sources/<tenant>/<upload id>/<name>`: what is to be converted.
    Source {
        /// Whose it is.
        tenant: Tenant,
        /// The upload it came by.
        upload: Uuid,
        /// The name it is downloaded under.
        name: FileName,
    },
    /// `options/<tenant>/<job id>.json`: task options too large for the job's row.
    Options {
        /// Whose they are.
        tenant: Tenant,
        /// The job's id.
        job: JobId,
    },
    /// `results/<tenant>/<job id>/<attempt>-<sha256>.json`: what one attempt came to. The job's row names the one
    /// that counts, so late bytes replace nothing.
    Result {
        /// Whose it is.
        tenant: Tenant,
        /// The job.
        job: JobId,
        /// The attempt's number, from 1.
        attempt: usize,
        /// The SHA-256 of the object.
        sha256: [u8; 32],
    },
}

impl StorageKey {
    /// The prefix of all sources, for the bucket's lifecycle.
    pub const SOURCES: &str = "sources/";
    /// The prefix of all task options, for the bucket's lifecycle.
    pub const OPTIONS: &str = "options/";
    /// The prefix of all results, for the bucket's lifecycle.
    pub const RESULTS: &str = "results/";

    /// What the keys of all results of a job begin with, those of no other.
    #[must_use]
    pub fn results_of(tenant: &Tenant, job: JobId) -> String {
        format!("{}{tenant}/{job}/", Self::RESULTS)
    }

    /// Whose object it is.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        match self {
            Self::Source { tenant, .. } | Self::Options { tenant, .. } | Self::Result { tenant, .. } => {
                tenant
            }
        }
    }
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { tenant, upload, name } => write!(f, "{}{tenant}/{upload}/{name}", Self::SOURCES),
            Self::Options { tenant, job } => write!(f, "{}{tenant}/{job}.json", Self::OPTIONS),
            Self::Result { tenant, job, attempt, sha256 } => {
                write!(f, "{}{tenant}/{job}/{attempt}-{}.json", Self::RESULTS, hex::encode(sha256))
            }
        }
    }
}

impl FromStr for StorageKey {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parsed = parse(text).filter(|key| key.to_string() == text);
        parsed.ok_or_else(|| InvalidValue("is not a key that this service has answered".to_owned()))
    }
}

fn parse(text: &str) -> Option<StorageKey> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        ["sources", tenant, upload, name] => Some(StorageKey::Source {
            tenant: tenant.parse().ok()?,
            upload: upload.parse().ok()?,
            name: FileName::from_client(name),
        }),
        ["options", tenant, file] => Some(StorageKey::Options {
            tenant: tenant.parse().ok()?,
            job: file.strip_suffix(".json")?.parse().ok()?,
        }),
        ["results", tenant, job, file] => {
            let (attempt, digest) = file.strip_suffix(".json")?.split_once('-')?;
            let mut sha256 = [0; 32];
            hex::decode_to_slice(digest, &mut sha256).ok()?;
            Some(StorageKey::Result {
                tenant: tenant.parse().ok()?,
                job: job.parse().ok()?,
                attempt: attempt.parse().ok()?,
                sha256,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelled_in_one_way_and_read_back() {
        let id = Uuid::from_u128(7);
        let tenant: Tenant = "t1".parse().unwrap();
        let keys = [
            StorageKey::Source { tenant: tenant.clone(), upload: id, name: FileName::from_client("a b.mp3") },
            StorageKey::Options { tenant: tenant.clone(), job: JobId(id) },
            StorageKey::Result { tenant, job: JobId(id), attempt: 3, sha256: [0xab; 32] },
        ];
        let spelled: Vec<String> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(spelled[0], "sources/t1/00000000-0000-0000-0000-000000000007/a_b.mp3");
        assert_eq!(spelled[1], "options/t1/00000000-0000-0000-0000-000000000007.json");
        assert!(spelled[2].starts_with("results/t1/00000000-0000-0000-0000-000000000007/3-abab"));
        assert!(spelled[2].starts_with(&StorageKey::results_of(keys[2].tenant(), JobId(id))));
        for (key, text) in keys.iter().zip(&spelled) {
            assert_eq!(text.parse::<StorageKey>().as_ref(), Ok(key));
            assert_eq!(key.tenant().as_str(), "t1");
        }
    }

    #[test]
    fn what_was_never_minted_does_not_parse() {
        for text in [
            "",
            "/etc/passwd",
            "sources/t1/x/a.mp3",
            "sources/t1/00000000-0000-0000-0000-000000000007/../a.mp3",
            "sources/t1/00000000-0000-0000-0000-000000000007/.a",
            "sources/t1/00000000000000000000000000000007/a",
            "sources/T1/00000000-0000-0000-0000-000000000007/a",
            "results/t1/00000000-0000-0000-0000-000000000007/01-ab.json",
            "options/t1/7.json",
        ] {
            assert!(text.parse::<StorageKey>().is_err(), "{text:?}");
        }
    }
}
