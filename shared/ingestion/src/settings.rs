use std::{collections::BTreeMap, time::Duration};

use domain::ContentType;
use thiserror::Error;

const ENABLED: &str = "MORAG_REMOTE_CONVERSION_ENABLED";
const CONTENT_TYPES: &str = "MORAG_REMOTE_CONTENT_TYPES";

/// How long one attempt of each type may run, in seconds, and the variable that says otherwise. The control plane reads
/// the same ones.
const TIMEOUTS: [(ContentType, &str, u64); 6] = [
    (ContentType::Audio, "MORAG_REMOTE_TIMEOUT_AUDIO", 3600),
    (ContentType::Video, "MORAG_REMOTE_TIMEOUT_VIDEO", 3600),
    (ContentType::Document, "MORAG_REMOTE_TIMEOUT_DOCUMENT", 600),
    (ContentType::Image, "MORAG_REMOTE_TIMEOUT_IMAGE", 300),
    (ContentType::Web, "MORAG_REMOTE_TIMEOUT_WEB", 600),
    (ContentType::Youtube, "MORAG_REMOTE_TIMEOUT_YOUTUBE", 1800),
];
const OTHER_TIMEOUT: Duration = Duration::from_secs(1800);
/// The longest run timeout that the control plane takes, a day.
const LONGEST_TIMEOUT: u64 = 24 * 3600;

/// A setting that cannot be used. The text names the variable and what it takes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{variable}: {value:?} {expected}")]
pub struct SettingsError {
    /// The variable.
    pub variable: &'static str,
    /// What it is set to.
    pub value: String,
    /// What is wrong with that.
    pub expected: String,
}

/// When documents are converted remotely, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// Whether remote conversions are made at all. By default false.
    pub enabled: bool,
    /// The types that are converted remotely. By default audio, video and youtube.
    pub content_types: Vec<ContentType>,
    /// How long one attempt of a type may run. A type that is not in it has half an hour.
    pub timeouts: BTreeMap<ContentType, Duration>,
    /// How often a job is asked for where the control plane holds no call open.
    pub poll_interval: Duration,
    /// How long a control plane that cannot be reached any more is waited for, once it has the job.
    pub patience: Duration,
    /// How long the questions before a decision may take altogether.
    pub longest_question: Duration,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            content_types: vec![ContentType::Audio, ContentType::Video, ContentType::Youtube],
            timeouts: TIMEOUTS.map(|(of, _, seconds)| (of, Duration::from_secs(seconds))).into(),
            poll_interval: Duration::from_secs(10),
            patience: Duration::from_secs(300),
            longest_question: Duration::from_secs(5),
        }
    }
}

impl RemoteSettings {
    /// Reads `MORAG_REMOTE_CONVERSION_ENABLED`, `MORAG_REMOTE_CONTENT_TYPES` and `MORAG_REMOTE_TIMEOUT_AUDIO`, `_VIDEO`,
    /// `_DOCUMENT`, `_IMAGE`, `_WEB` and `_YOUTUBE`, in seconds. A variable that is empty counts as unset.
    ///
    /// # Errors
    /// A value that cannot be used, which is named with its variable.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |variable: &str| get(variable).filter(|value| !value.trim().is_empty());
        let mut settings = Self::default();
        if let Some(value) = get(ENABLED) {
            settings.enabled = switch(ENABLED, value)?;
        }
        if let Some(value) = get(CONTENT_TYPES) {
            settings.content_types = content_types(&value)?;
        }
        for (content_type, variable, _) in TIMEOUTS {
            if let Some(value) = get(variable) {
                settings.timeouts.insert(content_type, timeout(variable, value)?);
            }
        }
        Ok(settings)
    }

    /// How long one attempt at a document of this type may run.
    #[must_use]
    pub fn timeout(&self, content_type: &ContentType) -> Duration {
        self.timeouts.get(content_type).copied().unwrap_or(OTHER_TIMEOUT)
    }
}

/// A switch as people and Python programs write them.
fn switch(variable: &'static str, value: String) -> Result<bool, SettingsError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(SettingsError { variable, value, expected: "is neither true nor false".to_owned() }),
    }
}

fn content_types(value: &str) -> Result<Vec<ContentType>, SettingsError> {
    let mut types = Vec::new();
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let parsed: ContentType =
            name.to_ascii_lowercase().parse().map_err(|domain::InvalidValue(expected)| SettingsError {
                variable: CONTENT_TYPES,
                value: name.to_owned(),
                expected,
            })?;
        if !types.contains(&parsed) {
            types.push(parsed);
        }
    }
    Ok(types)
}

fn timeout(variable: &'static str, value: String) -> Result<Duration, SettingsError> {
    let seconds = value.trim().parse().ok().filter(|seconds| (1..=LONGEST_TIMEOUT).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| SettingsError {
        variable,
        value,
        expected: format!("is not a whole number of 1 to {LONGEST_TIMEOUT} seconds"),
    })
}
