//! Settings: a YAML file, then `MORAG_*` environment variables, then flags, each counting before the one before it.

use std::{
    collections::HashMap,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use client::{ApiKey, BaseUrl};
use domain::{ContentType, WorkerId};
use serde::{Deserialize, Deserializer, de};

use crate::args::Args;

/// The settings file that is read when none is named.
pub const DEFAULT_FILE: &str = "remote_converter_config.yaml";

/// The file that `--create-config` writes.
pub const EXAMPLE_FILE: &str = "remote_converter_config.yaml.example";

/// What `--create-config` writes to it.
pub const EXAMPLE: &str = include_str!("../remote_converter_config.yaml.example");

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What this worker calls itself.
    pub worker_id: WorkerId,
    /// Where the server is.
    pub api_base_url: BaseUrl,
    /// The key that polls.
    pub api_key: Option<ApiKey>,
    /// What to convert; at least one type, each once.
    pub content_types: Vec<ContentType>,
    /// How long to wait between two polls when the server does not say.
    pub poll_interval: Duration,
    /// How many jobs run at the same time, 1 to 100.
    pub max_concurrent_jobs: usize,
    /// The least important log lines to write.
    pub log_level: LogLevel,
    /// The folder for sources, results on their way and work in progress; absolute.
    pub temp_dir: PathBuf,
    /// Description files and folders of them, besides the built-in ones; absolute.
    pub converters: Vec<PathBuf>,
    /// The Python of the built-in converters: a name to look for in `PATH`, or an absolute path.
    pub python: PathBuf,
    /// How long a lease lasts without a heartbeat, 20 to 3600 seconds.
    pub lease_seconds: u64,
    /// How long running jobs may go on after the first signal to stop.
    pub shutdown_grace: Duration,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The phases of each job.
    Info,
    /// What may need somebody's attention.
    Warning,
    /// What failed.
    Error,
}

/// Why there are no settings. What is displayed names the setting and where it was given.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The settings file cannot be read or is not one.
    #[error("The settings file {} {problem}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting has a value that it cannot have.
    #[error("{origin} {problem}")]
    Value {
        /// The setting, and where its value comes from.
        origin: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Settings {
    /// Reads the settings. `variable` gives the environment's variables by name.
    ///
    /// # Errors
    /// [`SettingsError`], for the first thing that is wrong.
    pub fn load(args: &Args, variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut given = Given::default();
        let default_file = Path::new(DEFAULT_FILE);
        match &args.config {
            Some(path) => given.read_file(path)?,
            None if default_file.exists() => given.read_file(default_file)?,
            None => {}
        }
        given.read_environment(variable);
        given.read_flags(args);
        given.settings()
    }
}

/// A setting's name in the file, in the environment, and as a flag.
struct Name {
    key: &'static str,
    variable: &'static str,
    flag: &'static str,
}

const fn name(key: &'static str, variable: &'static str, flag: &'static str) -> Name {
    Name { key, variable, flag }
}

const WORKER_ID: Name = name("worker_id", "MORAG_WORKER_ID", "--worker-id");
const API_BASE_URL: Name = name("api_base_url", "MORAG_API_BASE_URL", "--api-url");
const API_KEY: Name = name("api_key", "MORAG_API_KEY", "--api-key");
const CONTENT_TYPES: Name = name("content_types", "MORAG_WORKER_CONTENT_TYPES", "--content-types");
const POLL_INTERVAL: Name = name("poll_interval", "MORAG_WORKER_POLL_INTERVAL", "--poll-interval");
const MAX_JOBS: Name = name("max_concurrent_jobs", "MORAG_WORKER_MAX_CONCURRENT_JOBS", "--max-jobs");
const LOG_LEVEL: Name = name("log_level", "MORAG_LOG_LEVEL", "--log-level");
const TEMP_DIR: Name = name("temp_dir", "MORAG_TEMP_DIR", "--temp-dir");
const CONVERTERS: Name = name("converters", "MORAG_CONVERTERS", "--converters");
const PYTHON: Name = name("python", "MORAG_CONVERTER_PYTHON", "--python");
const LEASE: Name = name("lease_seconds", "MORAG_WORKER_LEASE_SECONDS", "--lease-seconds");
const GRACE: Name =
    name("shutdown_grace_seconds", "MORAG_WORKER_SHUTDOWN_GRACE_SECONDS", "--shutdown-grace-seconds");

const NAMES: [Name; 12] = [
    WORKER_ID,
    API_BASE_URL,
    API_KEY,
    CONTENT_TYPES,
    POLL_INTERVAL,
    MAX_JOBS,
    LOG_LEVEL,
    TEMP_DIR,
    CONVERTERS,
    PYTHON,
    LEASE,
    GRACE,
];

/// The value of each setting that was given, and where it comes from.
#[derive(Default)]
struct Given(HashMap<&'static str, (String, List)>);

impl Given {
    fn read_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let problem = |problem: String| SettingsError::File { path: path.to_owned(), problem };
        let text =
            std::fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
        // A snippet of the file in the message could show the key.
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| problem(format!("is not right: {error}")))?;
        for (name, value) in file.values() {
            self.put(name, format!("`{}` in {}", name.key, path.display()), value);
        }
        Ok(())
    }

    fn read_environment(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for name in &NAMES {
            let value = variable(name.variable).map(List::one);
            self.put(name, format!("The environment variable `{}`", name.variable), value);
        }
    }

    fn read_flags(&mut self, args: &Args) {
        let flags = [
            (&WORKER_ID, &args.worker_id),
            (&API_BASE_URL, &args.api_url),
            (&API_KEY, &args.api_key),
            (&CONTENT_TYPES, &args.content_types),
            (&POLL_INTERVAL, &args.poll_interval),
            (&MAX_JOBS, &args.max_jobs),
            (&LOG_LEVEL, &args.log_level),
            (&TEMP_DIR, &args.temp_dir),
            (&CONVERTERS, &args.converters),
            (&PYTHON, &args.python),
            (&LEASE, &args.lease_seconds),
            (&GRACE, &args.shutdown_grace_seconds),
        ];
        for (name, value) in flags {
            self.put(name, format!("The flag `{}`", name.flag), value.clone().map(List::one));
        }
    }

    /// Null and empty mean absent, as everywhere.
    fn put(&mut self, name: &Name, origin: String, value: Option<List>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.0.insert(name.key, (origin, value));
        }
    }

    fn settings(&self) -> Result<Settings, SettingsError> {
        let default_worker = format!("remote-worker-{}", std::process::id());
        Ok(Settings {
            worker_id: self.parsed(&WORKER_ID, &default_worker)?,
            api_base_url: self.api_base_url()?,
            api_key: self.text(&API_KEY).map(ApiKey::from),
            content_types: self.content_types()?,
            poll_interval: Duration::from_secs(self.number(&POLL_INTERVAL, 1..=3600, 10)?),
            max_concurrent_jobs: usize::try_from(self.number(&MAX_JOBS, 1..=100, 2)?).unwrap_or(1),
            log_level: self.parsed(&LOG_LEVEL, "INFO")?,
            temp_dir: self.path(&TEMP_DIR, self.text(&TEMP_DIR).unwrap_or("/tmp/morag_remote"))?,
            converters: self
                .items(&CONVERTERS)
                .map(|item| self.path(&CONVERTERS, item))
                .collect::<Result<_, _>>()?,
            python: self.python()?,
            lease_seconds: self.number(&LEASE, 20..=3600, 60)?,
            shutdown_grace: Duration::from_secs(self.number(&GRACE, 0..=86_400, 30)?),
        })
    }

    fn text(&self, name: &Name) -> Option<&str> {
        self.0.get(name.key).and_then(|(_, value)| value.0.first()).map(|text| text.trim())
    }

    /// The items of a list, which may also be one text with commas between them.
    fn items(&self, name: &Name) -> impl Iterator<Item = &str> {
        let texts = self.0.get(name.key).map(|(_, value)| value.0.as_slice()).unwrap_or_default();
        texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|item| !item.is_empty())
    }

    fn wrong(&self, name: &Name, problem: impl fmt::Display) -> SettingsError {
        let origin =
            self.0.get(name.key).map_or_else(|| format!("`{}`", name.key), |(origin, _)| origin.clone());
        SettingsError::Value { origin, problem: problem.to_string() }
    }

    fn parsed<T>(&self, name: &Name, default: &str) -> Result<T, SettingsError>
    where
        T: std::str::FromStr<Err: fmt::Display>,
    {
        let text = self.text(name).unwrap_or(default);
        text.parse().map_err(|error| self.wrong(name, format!("is {text:?}, which {error}")))
    }

    fn number(&self, name: &Name, range: RangeInclusive<u64>, default: u64) -> Result<u64, SettingsError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.wrong(name, format!("is {text:?}, which must be a whole number from {least} to {most}"))
        })
    }

    fn api_base_url(&self) -> Result<BaseUrl, SettingsError> {
        let text = self.text(&API_BASE_URL).unwrap_or("http://localhost:8000");
        text.parse().map_err(|error| self.wrong(&API_BASE_URL, format!("is wrong: {error}")))
    }

    fn content_types(&self) -> Result<Vec<ContentType>, SettingsError> {
        let mut types = Vec::new();
        let mut items: Vec<&str> = self.items(&CONTENT_TYPES).collect();
        if items.is_empty() {
            items = vec!["audio", "video"];
        }
        for item in items {
            let parsed = item
                .parse()
                .map_err(|error| self.wrong(&CONTENT_TYPES, format!("names {item:?}, which {error}")))?;
            if !types.contains(&parsed) {
                types.push(parsed);
            }
        }
        Ok(types)
    }

    /// Converters run in folders of their own, so every path is made absolute here.
    fn path(&self, name: &Name, text: &str) -> Result<PathBuf, SettingsError> {
        std::path::absolute(text).map_err(|error| self.wrong(name, format!("is {text:?}: {error}")))
    }

    fn python(&self) -> Result<PathBuf, SettingsError> {
        let text = self.text(&PYTHON).unwrap_or("python3");
        if text.contains('/') { self.path(&PYTHON, text) } else { Ok(PathBuf::from(text)) }
    }
}

/// The settings file, with every value as it is written there.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    worker_id: Option<String>,
    api_base_url: Option<String>,
    api_key: Option<String>,
    content_types: Option<List>,
    poll_interval: Option<String>,
    max_concurrent_jobs: Option<String>,
    log_level: Option<String>,
    temp_dir: Option<String>,
    converters: Option<List>,
    python: Option<String>,
    lease_seconds: Option<String>,
    shutdown_grace_seconds: Option<String>,
}

impl File {
    fn values(self) -> [(&'static Name, Option<List>); 12] {
        [
            (&WORKER_ID, self.worker_id.map(List::one)),
            (&API_BASE_URL, self.api_base_url.map(List::one)),
            (&API_KEY, self.api_key.map(List::one)),
            (&CONTENT_TYPES, self.content_types),
            (&POLL_INTERVAL, self.poll_interval.map(List::one)),
            (&MAX_JOBS, self.max_concurrent_jobs.map(List::one)),
            (&LOG_LEVEL, self.log_level.map(List::one)),
            (&TEMP_DIR, self.temp_dir.map(List::one)),
            (&CONVERTERS, self.converters),
            (&PYTHON, self.python.map(List::one)),
            (&LEASE, self.lease_seconds.map(List::one)),
            (&GRACE, self.shutdown_grace_seconds.map(List::one)),
        ]
    }
}

/// A list in the file, or one text with commas between its items.
struct List(Vec<String>);

impl List {
    fn one(text: String) -> Self {
        Self(vec![text])
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|text| text.trim().is_empty())
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or one text with commas between its items")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
                Ok(List::one(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(List(texts))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl LogLevel {
    /// The level as the logging library spells it.
    #[must_use]
    pub fn filter(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warn",
            Self::Error => "error",
        }
    }
}

impl std::str::FromStr for LogLevel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_uppercase().as_str() {
            "DEBUG" => Ok(Self::Debug),
            "INFO" => Ok(Self::Info),
            "WARNING" => Ok(Self::Warning),
            "ERROR" => Ok(Self::Error),
            _ => Err("must be DEBUG, INFO, WARNING or ERROR"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], args: Args) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        std::fs::write(&path, file).unwrap();
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::load(&Args { config: Some(path), ..args }, variable).map_err(|error| error.to_string())
    }

    fn problem(file: &str, environment: &[(&str, &str)], args: Args) -> String {
        load(file, environment, args).unwrap_err()
    }

    #[test]
    fn the_defaults_are_the_originals() {
        let settings = load("", &[], Args::default()).unwrap();
        assert_eq!(settings.worker_id.as_str(), format!("remote-worker-{}", std::process::id()));
        assert_eq!(settings.api_base_url.as_str(), "http://localhost:8000");
        assert!(settings.api_key.is_none());
        assert_eq!(settings.content_types, [ContentType::Audio, ContentType::Video]);
        assert_eq!(settings.poll_interval, Duration::from_secs(10));
        assert_eq!(settings.max_concurrent_jobs, 2);
        assert_eq!(settings.log_level, LogLevel::Info);
        assert_eq!(settings.temp_dir, Path::new("/tmp/morag_remote"));
        assert_eq!(settings.python, Path::new("python3"));
        assert_eq!((settings.lease_seconds, settings.shutdown_grace), (60, Duration::from_secs(30)));
    }

    #[test]
    fn the_file_then_the_environment_then_flags() {
        let file = "worker_id: file\napi_base_url: http://file\npoll_interval: 11\nmax_concurrent_jobs: 3\n";
        let environment = [("MORAG_API_BASE_URL", "http://env"), ("MORAG_WORKER_POLL_INTERVAL", "12")];
        let args = Args { poll_interval: Some("13".to_owned()), ..Args::default() };
        let settings = load(file, &environment, args).unwrap();
        assert_eq!(settings.worker_id.as_str(), "file");
        assert_eq!(settings.api_base_url.as_str(), "http://env");
        assert_eq!(settings.poll_interval, Duration::from_secs(13));
        assert_eq!(settings.max_concurrent_jobs, 3);
    }

    #[test]
    fn null_and_empty_mean_absent() {
        let file = "worker_id: ''\npython: null\npoll_interval: 5\ncontent_types: []\n";
        let settings = load(file, &[("MORAG_WORKER_POLL_INTERVAL", "")], Args::default()).unwrap();
        assert!(settings.worker_id.as_str().starts_with("remote-worker-"));
        assert_eq!(settings.python, Path::new("python3"));
        assert_eq!(settings.poll_interval, Duration::from_secs(5));
        assert_eq!(settings.content_types.len(), 2);
    }

    #[test]
    fn lists_are_lists_or_have_commas() {
        for file in [
            "content_types: [audio, x-mine, audio]",
            "content_types: ' audio,x-mine '",
            "content_types: 'audio,,x-mine'",
        ] {
            let settings = load(file, &[], Args::default()).unwrap();
            let types: Vec<&str> = settings.content_types.iter().map(ContentType::as_str).collect();
            assert_eq!(types, ["audio", "x-mine"], "{file}");
        }
        let args = Args { converters: Some("a.yaml, /b".to_owned()), ..Args::default() };
        let settings = load("", &[], args).unwrap();
        assert!(settings.converters[0].is_absolute() && settings.converters[0].ends_with("a.yaml"));
        assert_eq!(settings.converters[1], Path::new("/b"));
    }

    #[test]
    fn errors_name_the_setting_and_its_source() {
        let text = problem("poll_interval: soon", &[], Args::default());
        assert!(
            text.starts_with("`poll_interval` in /") && text.contains("soon") && text.contains("1 to 3600"),
            "{text}"
        );
        let text = problem("", &[("MORAG_WORKER_MAX_CONCURRENT_JOBS", "0")], Args::default());
        assert!(
            text.contains("variable `MORAG_WORKER_MAX_CONCURRENT_JOBS`") && text.contains("1 to 100"),
            "{text}"
        );
        let text = problem("", &[], Args { api_url: Some("localhost".to_owned()), ..Args::default() });
        assert!(text.contains("flag `--api-url`"), "{text}");
        let text =
            problem("", &[], Args { content_types: Some("audio,music".to_owned()), ..Args::default() });
        assert!(text.contains("`--content-types`") && text.contains("\"music\""), "{text}");
        let text = problem("log_level: LOUD", &[], Args::default());
        assert!(text.contains("`log_level` in") && text.contains("WARNING"), "{text}");
        let text = problem("worker_id: \"a\\nb\"", &[], Args::default());
        assert!(text.contains("`worker_id` in") && text.contains("control characters"), "{text}");
    }

    #[test]
    fn unknown_keys_are_named() {
        let text = problem("pol_interval: 5", &[], Args::default());
        assert!(text.contains("pol_interval") && text.contains("settings.yaml"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_yaml_or_not_there_is_named() {
        assert!(problem("a: [", &[], Args::default()).contains("settings.yaml"));
        let args = Args { config: Some("/nowhere/x.yaml".into()), ..Args::default() };
        let text = Settings::load(&args, |_| None).unwrap_err().to_string();
        assert!(text.contains("/nowhere/x.yaml") && text.contains("cannot be read"), "{text}");
    }

    #[test]
    fn the_key_is_never_shown() {
        let settings = load("api_key: id.hunter2", &[], Args::default()).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        for file in [
            "api_key: hunter2\nfoo: 1",
            "api_key: [hunter2]",
            "api_key: {hunter2: 1}",
            "api_key: hunter2\n  x: [",
        ] {
            let text = problem(file, &[], Args::default());
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn the_example_is_a_settings_file() {
        let settings = load(EXAMPLE, &[], Args::default()).unwrap();
        assert_eq!(settings.worker_id.as_str(), "gpu-worker-01");
        assert!(settings.api_key.is_none());
        for name in &NAMES {
            assert!(EXAMPLE.contains(&format!("\n{}:", name.key)), "{} is missing", name.key);
            assert!(EXAMPLE.contains(&format!("[{}]", name.variable)), "{} is missing", name.variable);
        }
    }
}
