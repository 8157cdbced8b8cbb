//! What the environment says of AWS, for programs that a person starts and that must say what is wrong with it.

use std::{env, fmt, sync::Arc};

use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError};
use aws_sdk_dynamodb::error::DisplayErrorContext;
use thiserror::Error;

use crate::{Endpoint, KeyTable, Store, StoreError, connect::sdk_config, dynamodb::Table};

/// A region and credentials that the environment has, as every program on AWS finds them.
#[derive(Clone, Debug)]
pub struct Environment {
    config: SdkConfig,
}

/// Something that a program uses, as its errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The DynamoDB table of this name.
    Table(String),
    /// The S3 bucket of this name.
    Bucket(String),
}

/// Why a program cannot work with a table or a bucket of its environment. The text says what to do.
#[derive(Debug, Error)]
pub enum EnvironmentError {
    /// No region.
    #[error("no AWS region is set; set AWS_REGION to the region that the table is in")]
    NoRegion,
    /// No credentials.
    #[error("no AWS credentials were found: {0}")]
    NoCredentials(String),
    /// The credentials are not known there, or have ended.
    #[error(
        "these AWS credentials are refused {place}: {cause}; get new ones, and check that they are of this account"
    )]
    WrongCredentials {
        /// Where.
        place: String,
        /// What it says.
        cause: String,
    },
    /// The credentials lack a right.
    #[error(
        "these AWS credentials may not use {resource} {place}: {cause}; ask for the rights that the operations guide lists"
    )]
    Denied {
        /// What they may not use.
        resource: Resource,
        /// Where it is.
        place: String,
        /// What AWS says.
        cause: String,
    },
    /// There is nothing of this name.
    #[error(
        "there is no {resource} {place}; check the name, AWS_REGION and the account that the credentials are of"
    )]
    Missing {
        /// What was looked for.
        resource: Resource,
        /// Where.
        place: String,
    },
    /// Nothing answers, or only that it has no time.
    #[error(
        "{resource} {place} cannot be used now: {cause}; check the network and AWS_ENDPOINT_URL, and try again"
    )]
    Unavailable {
        /// What was to be used.
        resource: Resource,
        /// Where it is.
        place: String,
        /// What went wrong.
        cause: String,
    },
    /// Anything else.
    #[error("{resource} {place} cannot be used: {cause}")]
    Other {
        /// What was to be used.
        resource: Resource,
        /// Where it is.
        place: String,
        /// What went wrong.
        cause: String,
    },
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(name) => write!(f, "table {name}"),
            Self::Bucket(name) => write!(f, "bucket {name}"),
        }
    }
}

impl Environment {
    /// Finds the region and the credentials. Only what the credentials come from is asked, never the service.
    ///
    /// # Errors
    /// [`EnvironmentError::NoRegion`] and [`EnvironmentError::NoCredentials`].
    pub async fn load() -> Result<Self, EnvironmentError> {
        let config = sdk_config(&Endpoint::Environment).await;
        // An empty variable is how some shells and service managers unset one.
        if config.region().is_none_or(|region| region.as_ref().is_empty()) {
            return Err(EnvironmentError::NoRegion);
        }
        let found = match config.credentials_provider() {
            Some(provider) => provider.provide_credentials().await,
            None => Err(CredentialsError::not_loaded_no_source()),
        };
        match found {
            Ok(_) => Ok(Self { config }),
            Err(error) => {
                let profile = env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
                Err(EnvironmentError::NoCredentials(no_credentials(profile.as_deref(), error)))
            }
        }
    }

    /// The API keys in a table.
    #[must_use]
    pub fn keys(&self, table: &str) -> KeyTable {
        let client = aws_sdk_dynamodb::Client::new(&self.config);
        KeyTable { table: Table { client, name: table.to_owned(), meter: Arc::default() } }
    }

    /// Makes the table and the bucket of a store if they are not there. A bucket gets the lifecycle that this system needs.
    ///
    /// # Errors
    /// What is in the way, and what to do.
    pub async fn ensure(&self, store: &Store) -> Result<(), EnvironmentError> {
        let (table, bucket) = resources(store);
        store.jobs.table.ensure().await.map_err(|error| self.explain(table, error))?;
        store.handoff.ensure().await.map_err(|error| self.explain(bucket, error))
    }

    /// Whether the table and the bucket of a store are there and may be used, found out by reading from both.
    ///
    /// # Errors
    /// What is in the way, and what to do.
    pub async fn check(&self, store: &Store) -> Result<(), EnvironmentError> {
        let (table, bucket) = resources(store);
        store.jobs.check().await.map_err(|error| self.explain(table, error))?;
        store.handoff.check().await.map_err(|error| self.explain(bucket, error))
    }

    /// What an error in the use of `resource` means for whoever set the environment.
    #[must_use]
    pub fn explain(&self, resource: Resource, error: StoreError) -> EnvironmentError {
        let place = self.place(&resource);
        let (code, cause) = match error {
            StoreError::Unavailable { cause, .. } => {
                return EnvironmentError::Unavailable { resource, place, cause: for_people(&cause) };
            }
            StoreError::Rejected { code, message, cause, .. } => {
                let said = message.filter(|message| !message.is_empty());
                let cause =
                    said.map_or_else(|| for_people(&cause), |said| said.trim_end_matches('.').to_owned());
                (code.unwrap_or_default(), cause)
            }
            error @ StoreError::Unreadable { .. } => (String::new(), error.to_string()),
        };
        match code.as_str() {
            "ResourceNotFoundException" | "NoSuchBucket" | "NotFound" => {
                EnvironmentError::Missing { resource, place }
            }
            "AccessDenied" | "AccessDeniedException" => EnvironmentError::Denied { resource, place, cause },
            "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "InvalidToken"
            | "MissingAuthenticationTokenException"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException" => EnvironmentError::WrongCredentials { place, cause },
            _ => EnvironmentError::Other { resource, place, cause },
        }
    }

    /// Where the environment says that a service is.
    fn place(&self, resource: &Resource) -> String {
        let own = match resource {
            Resource::Table(_) => "AWS_ENDPOINT_URL_DYNAMODB",
            Resource::Bucket(_) => "AWS_ENDPOINT_URL_S3",
        };
        let url = env::var(own).ok().or_else(|| self.config.endpoint_url().map(str::to_owned));
        let region = self.config.region().map(ToString::to_string).unwrap_or_default();
        match url {
            Some(url) => format!("at {url} (region {region})"),
            None => format!("in region {region}"),
        }
    }
}

fn resources(store: &Store) -> (Resource, Resource) {
    (Resource::Table(store.jobs.table.name.clone()), Resource::Bucket(store.handoff.bucket().to_owned()))
}

/// Why there are no credentials, and what to do.
fn no_credentials(profile: Option<&str>, error: CredentialsError) -> String {
    const EXPORT: &str = "eval \"$(aws configure export-credentials --format env)\"";
    const SET: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";
    let not_loaded = matches!(error, CredentialsError::CredentialsNotLoaded(_));
    let cause = DisplayErrorContext(error).to_string();
    match profile {
        // What the SDK says when a profile needs a part of it that these programs are built without.
        _ if cause.contains("cargo feature") => {
            format!("the profile signs in through a browser or a program; run: {EXPORT}")
        }
        Some(name) if not_loaded => format!(
            "the profile {name}, which AWS_PROFILE names, has no credentials or is not in ~/.aws; set AWS_PROFILE to \
             another, or run: {EXPORT}"
        ),
        _ => {
            let why = if not_loaded {
                "nothing in the environment names any".to_owned()
            } else {
                for_people(&cause)
            };
            format!(
                "{why}; {SET} (for a profile that signs in through a browser or a program, run: {EXPORT})"
            )
        }
    }
}

/// Without the SDK's own view of an error, which follows its sentences in parentheses and is for a log.
fn for_people(cause: &str) -> String {
    let begins_value = |text: &str| {
        let name = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        text.starts_with(|c: char| c.is_ascii_uppercase()) && text[name..].starts_with('(')
    };
    let end = cause.match_indices(" (").map(|(at, _)| at).find(|at| begins_value(&cause[at + 2..]));
    let sentences = &cause[..end.unwrap_or(cause.len())];
    // An answer that has no text is shown by its fields.
    sentences.split(": Error {").next().unwrap_or(sentences).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::error::CredentialsError;

    use super::{for_people, no_credentials};

    #[test]
    fn people_are_told_sentences_and_no_values() {
        for (cause, told) in [
            (
                "io error: refused (os error 111) (DispatchFailure(DispatchFailure { source",
                "io error: refused (os error 111)",
            ),
            (
                "unhandled error (AccessDeniedException): not authorized (ServiceError(",
                "unhandled error (AccessDeniedException): not authorized",
            ),
            ("IMDS is disabled. (ProviderError(ProviderError {", "IMDS is disabled"),
            (
                "service error: unhandled error (403): Error { code: \"403\" } (ServiceError(",
                "service error: unhandled error (403)",
            ),
            ("timed out", "timed out"),
        ] {
            assert_eq!(for_people(cause), told);
        }
    }

    #[test]
    fn a_profile_without_credentials_is_told_from_one_that_signs_in_elsewhere() {
        let missing = no_credentials(Some("work"), CredentialsError::not_loaded_no_source());
        assert!(
            missing.starts_with("the profile work, which AWS_PROFILE names, has no credentials"),
            "{missing}"
        );
        let text = "This behavior requires following cargo feature(s) enabled: sso";
        let sso = no_credentials(Some("work"), CredentialsError::invalid_configuration(text));
        assert!(sso.ends_with("run: eval \"$(aws configure export-credentials --format env)\""), "{sso}");
    }
}
