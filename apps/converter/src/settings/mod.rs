//! Settings: a YAML file, then `MORAG_*` environment variables, then flags, each counting before the one before it.
//! What a `.env` file in the current folder says counts as the environment where that says nothing.

mod dotenv;
mod environment;
mod file;
mod given;
pub mod names;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use client::{ApiKey, BaseUrl};
use domain::{ContentType, WorkerId};
use ipnet::IpNet;

use crate::{args::Flags, local::LocalSettings};
pub use environment::{DOTENV_FILE, Environment};
use given::Given;

/// The settings file that is read when none is named.
pub const DEFAULT_FILE: &str = "remote_converter_config.yaml";

/// The file that `--create-config` writes.
pub const EXAMPLE_FILE: &str = "remote_converter_config.yaml.example";

/// What `--create-config` writes to it.
pub const EXAMPLE: &str = include_str!("../../remote_converter_config.yaml.example");

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
    /// Whether to wait for hints of work where the server gives some.
    pub instant_wakeup: bool,
    /// How many jobs run at the same time, 1 to 100.
    pub max_concurrent_jobs: usize,
    /// The least important log lines to write.
    pub log_level: LogLevel,
    /// The file to log to instead of standard error; absolute.
    pub log_file: Option<PathBuf>,
    /// The folder for sources, results on their way and work in progress; absolute.
    pub temp_dir: PathBuf,
    /// Description files and folders of them, besides the built-in ones; absolute.
    pub converters: Vec<PathBuf>,
    /// The Python of the built-in converters: a name to look for in `PATH`, or an absolute path.
    pub python: PathBuf,
    /// Where converters with `network: internet` may go besides globally routable addresses.
    pub networks: Vec<IpNet>,
    /// The only hosts, each with its subdomains, for converters with `hosts: youtube`; lower case.
    pub youtube_hosts: Vec<String>,
    /// How long a lease lasts without a heartbeat, 20 to 3600 seconds.
    pub lease_seconds: u64,
    /// After how long without progress a run is reported as stalled, 10 seconds to a day.
    pub stall_after: Duration,
    /// How long running jobs may go on after the first signal to stop.
    pub shutdown_grace: Duration,
    /// How it is known that this machine goes away soon, if it may.
    pub spot_notice: Option<SpotNotice>,
    /// The files that they may have been read from, which may hold the key.
    pub files: Vec<PathBuf>,
    /// What deserves the operator's attention in where the settings were given; sentences without secrets.
    pub warnings: Vec<String>,
}

/// How it is known that this machine goes away soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpotNotice {
    /// The metadata service of EC2 tells.
    Aws,
    /// A file appears there; absolute.
    File(PathBuf),
    /// This URL begins to answer with success.
    Url(String),
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
    /// Reads the settings.
    ///
    /// # Errors
    /// [`SettingsError`], for the first thing that is wrong.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Self, SettingsError> {
        let mut given = Given::default();
        let default_file = Path::new(DEFAULT_FILE);
        match &flags.config {
            Some(path) => given.read_file(path)?,
            None if default_file.exists() => given.read_file(default_file)?,
            None => {}
        }
        given.read_environment(environment);
        given.read_flags(flags);
        let mut settings = given.settings()?;
        let file = flags.config.as_deref().unwrap_or(default_file);
        settings.files = [file, Path::new(DOTENV_FILE)].map(Path::to_owned).to_vec();
        Ok(settings)
    }
}

/// Reads what a program may set that converts outside of any job.
pub(crate) fn local(get: impl Fn(&str) -> Option<String>) -> Result<LocalSettings, SettingsError> {
    let mut given = Given::default();
    given.read_local(get);
    given.local_settings()
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
