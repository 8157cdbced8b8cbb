use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use domain::ContentType;
use service::{RootError, Rules, SourceRoots, WebhookNetworks};
use store::{Connection, Endpoint};
use thiserror::Error;

use crate::EnvVar;

/// A setting that cannot be used. The text names the variable and what it takes.
#[derive(Debug, Error)]
pub enum SettingError {
    /// The value is not one that the setting takes.
    #[error("{variable}: {value:?} {expected}")]
    Value {
        /// The variable.
        variable: EnvVar,
        /// What it is set to.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// It is not set, and nothing stands for it.
    #[error("{0} is not set; the template sets it to the stack's own")]
    Missing(EnvVar),
    /// A source root cannot be opened.
    #[error("MORAG_SOURCE_ROOTS: {0}")]
    Root(#[from] RootError),
}

/// Where jobs and files are kept.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The table's name.
    pub table: String,
    /// The bucket's name.
    pub bucket: String,
    /// How many partitions each queue is spread over.
    pub shards: u32,
    /// How long a job's row stays after its end.
    pub retention: Duration,
}

/// What an operator decides about jobs.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// How long one attempt may run, by content type.
    pub run_timeouts: BTreeMap<ContentType, Duration>,
    /// When a worker that found nothing, and was not held, is told to ask again.
    pub poll_again: Duration,
    /// What the names of the queues begin with on which idle workers wait for hints, if they do.
    pub hint_queues: Option<String>,
    /// The folders whose files may be named by path.
    pub source_roots: Vec<PathBuf>,
    /// The networks whose webhooks are told besides those at globally routable addresses.
    pub webhook_networks: WebhookNetworks,
}

/// How long one attempt of a type without a setting may run, as in the original system.
const OTHER_RUN_TIMEOUT: Duration = Duration::from_secs(1800);
/// How often it is noted that a worker was seen.
const SEEN_EVERY: Duration = Duration::from_secs(60);
/// The same where each write is paid for.
pub const SEEN_EVERY_ON_AWS: Duration = Duration::from_secs(600);
/// The longest run timeout, a day.
const LONGEST_RUN: u64 = 24 * 3600;

impl StoreSettings {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`SettingError`] names the variable.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from(EnvVar::read)
    }

    fn from(read: impl Fn(EnvVar) -> Option<String>) -> Result<Self, SettingError> {
        let shards = number(&read, EnvVar::QueueShards, 1..=64, 1)?;
        let days = number(&read, EnvVar::RetentionDays, 1..=40, 30)?;
        Ok(Self {
            table: name(&read, EnvVar::Table, is_table, "a table: 3 to 255 of A-Z, a-z, 0-9, _, . and -")?,
            bucket: name(&read, EnvVar::Bucket, is_bucket, "a bucket: 3 to 63 of a-z, 0-9, . and -")?,
            shards: u32::try_from(shards).unwrap_or(1),
            retention: Duration::from_secs(days * 24 * 3600),
        })
    }

    /// A connection to these at `dynamodb` and `s3`.
    #[must_use]
    pub fn connection(&self, dynamodb: Endpoint, s3: Endpoint) -> Connection {
        Connection {
            table: self.table.clone(),
            bucket: self.bucket.clone(),
            shards: self.shards,
            retention: self.retention,
            dynamodb,
            s3,
        }
    }
}

impl JobSettings {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`SettingError`] names the variable.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from(EnvVar::read)
    }

    fn from(read: impl Fn(EnvVar) -> Option<String>) -> Result<Self, SettingError> {
        let defaults = [
            (ContentType::Audio, EnvVar::TimeoutAudio, 3600),
            (ContentType::Video, EnvVar::TimeoutVideo, 3600),
            (ContentType::Document, EnvVar::TimeoutDocument, 600),
            (ContentType::Image, EnvVar::TimeoutImage, 300),
            (ContentType::Web, EnvVar::TimeoutWeb, 600),
            (ContentType::Youtube, EnvVar::TimeoutYoutube, 1800),
        ];
        let run_timeouts = defaults
            .into_iter()
            .map(|(content_type, variable, default)| {
                let seconds = number(&read, variable, 1..=LONGEST_RUN, default)?;
                Ok((content_type, Duration::from_secs(seconds)))
            })
            .collect::<Result<_, SettingError>>()?;
        Ok(Self {
            run_timeouts,
            poll_again: Duration::from_secs(number(&read, EnvVar::PollAgainSeconds, 1..=3600, 10)?),
            hint_queues: hint_queues(read(EnvVar::HintQueues))?,
            source_roots: source_roots(read(EnvVar::SourceRoots).as_deref())?,
            webhook_networks: webhook_networks(read(EnvVar::WebhookNetworks))?,
        })
    }

    /// The rules that use cases follow. `longest_wait` is how long a poll may be held open.
    ///
    /// # Errors
    /// [`SettingError::Root`] names a source root that cannot be opened.
    pub fn rules(&self, longest_wait: Duration) -> Result<Rules, SettingError> {
        Ok(Rules {
            run_timeouts: self.run_timeouts.clone(),
            other_run_timeout: OTHER_RUN_TIMEOUT,
            longest_wait,
            poll_again: self.poll_again,
            seen_every: if longest_wait.is_zero() { SEEN_EVERY_ON_AWS } else { SEEN_EVERY },
            source_roots: SourceRoots::open(&self.source_roots)?,
            webhook_networks: self.webhook_networks.clone(),
        })
    }
}

/// SQS takes names of 80 characters, of which a queue's own part takes 24.
fn hint_queues(value: Option<String>) -> Result<Option<String>, SettingError> {
    let Some(value) = value else { return Ok(None) };
    let fits = |name: &str| {
        name.len() <= 56 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    if fits(&value) {
        return Ok(Some(value));
    }
    let expected =
        "is not what names of queues can begin with: at most 56 of A-Z, a-z, 0-9, _ and -".to_owned();
    Err(SettingError::Value { variable: EnvVar::HintQueues, value, expected })
}

fn source_roots(value: Option<&str>) -> Result<Vec<PathBuf>, SettingError> {
    let roots: Vec<PathBuf> = value.map(std::env::split_paths).into_iter().flatten().collect();
    match roots.iter().find(|root| !root.is_absolute()) {
        None => Ok(roots),
        Some(relative) => Err(SettingError::Value {
            variable: EnvVar::SourceRoots,
            value: relative.display().to_string(),
            expected: "is not an absolute path".to_owned(),
        }),
    }
}

fn webhook_networks(value: Option<String>) -> Result<WebhookNetworks, SettingError> {
    let value = value.unwrap_or_default();
    value.parse().map_err(|domain::InvalidValue(expected)| SettingError::Value {
        variable: EnvVar::WebhookNetworks,
        value,
        expected,
    })
}

fn is_table(name: &str) -> bool {
    (3..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_bucket(name: &str) -> bool {
    let ends = |edge: Option<char>| edge.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
        && ends(name.chars().next())
        && ends(name.chars().last())
}

fn name(
    read: impl Fn(EnvVar) -> Option<String>,
    variable: EnvVar,
    fits: impl Fn(&str) -> bool,
    of: &str,
) -> Result<String, SettingError> {
    let value = read(variable).unwrap_or_else(|| "remote-jobs".to_owned());
    if fits(&value) {
        return Ok(value);
    }
    Err(SettingError::Value { variable, value, expected: format!("is not a name of {of}") })
}

fn number(
    read: impl Fn(EnvVar) -> Option<String>,
    variable: EnvVar,
    bounds: std::ops::RangeInclusive<u64>,
    default: u64,
) -> Result<u64, SettingError> {
    let Some(value) = read(variable) else { return Ok(default) };
    value.trim().parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| SettingError::Value {
        variable,
        value,
        expected: format!("is not a whole number of {} to {}", bounds.start(), bounds.end()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(EnvVar, &str)]) -> impl Fn(EnvVar) -> Option<String> {
        move |variable| set.iter().find(|(name, _)| *name == variable).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn defaults_are_the_originals() {
        let jobs = JobSettings::from(with(&[])).unwrap();
        let seconds: Vec<u64> = jobs.run_timeouts.values().map(Duration::as_secs).collect();
        assert_eq!(seconds, [3600, 3600, 600, 300, 600, 1800]);
        let rules = jobs.rules(Duration::ZERO).unwrap();
        assert_eq!(rules.run_timeout(&"x-own".parse().unwrap()), OTHER_RUN_TIMEOUT);
        let store = StoreSettings::from(with(&[])).unwrap();
        assert_eq!(
            (store.table.as_str(), store.shards, store.retention.as_secs()),
            ("remote-jobs", 1, 2_592_000)
        );
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        let error = JobSettings::from(with(&[(EnvVar::TimeoutImage, "soon")])).unwrap_err().to_string();
        assert_eq!(error, "MORAG_REMOTE_TIMEOUT_IMAGE: \"soon\" is not a whole number of 1 to 86400");
        let error = StoreSettings::from(with(&[(EnvVar::QueueShards, "0")])).unwrap_err().to_string();
        assert_eq!(error, "MORAG_QUEUE_SHARDS: \"0\" is not a whole number of 1 to 64");
        let error = StoreSettings::from(with(&[(EnvVar::Bucket, "-jobs")])).unwrap_err().to_string();
        assert_eq!(error, "MORAG_BUCKET: \"-jobs\" is not a name of a bucket: 3 to 63 of a-z, 0-9, . and -");
        let error = StoreSettings::from(with(&[(EnvVar::Table, "my table")])).unwrap_err().to_string();
        assert!(error.starts_with("MORAG_TABLE: \"my table\" is not a name of a table: 3 to 255"), "{error}");
        let error =
            JobSettings::from(with(&[(EnvVar::HintQueues, "my.stack-hints-")])).unwrap_err().to_string();
        assert!(error.starts_with("MORAG_HINT_QUEUES: \"my.stack-hints-\" is not what names"), "{error}");
        let error = JobSettings::from(with(&[(EnvVar::SourceRoots, "/tmp:here")])).unwrap_err().to_string();
        assert_eq!(error, "MORAG_SOURCE_ROOTS: \"here\" is not an absolute path");
        let error =
            JobSettings::from(with(&[(EnvVar::WebhookNetworks, "localhost")])).unwrap_err().to_string();
        assert_eq!(
            error,
            "MORAG_WEBHOOK_NETWORKS: \"localhost\" is not a list of networks, spelled 127.0.0.0/8,192.168.1.0/24"
        );
        let missing = JobSettings::from(with(&[(EnvVar::SourceRoots, "/does/not/exist")])).unwrap();
        let error = missing.rules(Duration::ZERO).unwrap_err().to_string();
        assert!(
            error.starts_with("MORAG_SOURCE_ROOTS: source root /does/not/exist cannot be opened"),
            "{error}"
        );
    }
}
