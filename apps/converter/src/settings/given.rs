//! The value of each setting that was given, and what they amount to.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use client::{ApiKey, BaseUrl};
use domain::ContentType;
use ipnet::IpNet;
use reqwest::Url;

use super::{
    DEFAULT_FILE, DOTENV_FILE, Settings, SettingsError, SpotNotice,
    environment::Environment,
    file::{File, List},
    names::{self, Name},
};
use crate::{args::Flags, local::LocalSettings};

/// Whom `hosts: youtube` may ask when nothing else is said.
const YOUTUBE_HOSTS: [&str; 5] =
    ["youtube.com", "youtu.be", "youtube-nocookie.com", "googlevideo.com", "ytimg.com"];

/// What a program may set that converts outside of any job.
const LOCAL: [&Name; 6] = [
    &names::LOCAL_CONTENT_TYPES,
    &names::CONVERTERS,
    &names::PYTHON,
    &names::TEMP_DIR,
    &names::NETWORKS,
    &names::YOUTUBE_HOSTS,
];

/// The value of each setting that was given, and where it comes from.
#[derive(Default)]
pub(super) struct Given {
    values: HashMap<&'static str, (String, List)>,
    warnings: Vec<String>,
}

impl Given {
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        for (name, value) in File::read(path)?.0 {
            if name.key == names::API_KEY.key && !value.is_empty() {
                self.warn_if_shared(path);
            }
            self.put(name, format!("`{}` in {}", name.key, path.display()), Some(value));
        }
        Ok(())
    }

    pub(super) fn read_environment(&mut self, environment: &Environment) {
        self.warnings.extend_from_slice(environment.warnings());
        if let Some(path) = environment.file_with(names::API_KEY.variable) {
            self.warn_if_shared(path);
        }
        for name in &names::NAMES {
            if let Some((origin, value)) = environment.get(name.variable) {
                self.put(name, origin, Some(List::one(value)));
            }
        }
    }

    /// Reads what a program may set that converts outside of any job.
    pub(super) fn read_local(&mut self, get: impl Fn(&str) -> Option<String>) {
        for name in LOCAL {
            let origin = format!("The environment variable `{}`", name.variable);
            self.put(name, origin, get(name.variable).map(List::one));
        }
    }

    pub(super) fn read_flags(&mut self, flags: &Flags) {
        let flags = [
            (&names::WORKER_ID, &flags.worker_id),
            (&names::API_BASE_URL, &flags.api_url),
            (&names::API_KEY, &flags.api_key),
            (&names::CONTENT_TYPES, &flags.content_types),
            (&names::POLL_INTERVAL, &flags.poll_interval),
            (&names::INSTANT_WAKEUP, &flags.instant_wakeup),
            (&names::MAX_JOBS, &flags.max_jobs),
            (&names::LOG_LEVEL, &flags.log_level),
            (&names::LOG_FILE, &flags.log_file),
            (&names::TEMP_DIR, &flags.temp_dir),
            (&names::CONVERTERS, &flags.converters),
            (&names::PYTHON, &flags.python),
            (&names::NETWORKS, &flags.networks),
            (&names::YOUTUBE_HOSTS, &flags.youtube_hosts),
            (&names::LEASE, &flags.lease_seconds),
            (&names::STALL, &flags.stall_seconds),
            (&names::GRACE, &flags.shutdown_grace_seconds),
            (&names::SPOT_NOTICE, &flags.spot_notice),
        ];
        for (name, value) in flags {
            self.put(name, format!("The flag `{}`", name.flag), value.clone().map(List::one));
        }
    }

    /// Null and empty mean absent, as everywhere.
    fn put(&mut self, name: &Name, origin: String, value: Option<List>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.values.insert(name.key, (origin, value));
        }
    }

    fn warn_if_shared(&mut self, path: &Path) {
        if std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o044 != 0) {
            let path = path.display();
            self.warnings.push(format!(
                "Other users of this machine can read the API key in {path}; `chmod 600 {path}` keeps it from them."
            ));
        }
    }

    pub(super) fn settings(self) -> Result<Settings, SettingsError> {
        let default_worker = format!("remote-worker-{}", std::process::id());
        Ok(Settings {
            worker_id: self.parsed(&names::WORKER_ID, &default_worker)?,
            api_base_url: self.api_base_url()?,
            api_key: self.text(&names::API_KEY).map(ApiKey::from),
            content_types: self.content_types()?,
            poll_interval: self.seconds(&names::POLL_INTERVAL, 1..=3600, 10)?,
            instant_wakeup: self.switch(&names::INSTANT_WAKEUP, true)?,
            max_concurrent_jobs: usize::try_from(self.number(&names::MAX_JOBS, 1..=100, 2)?).unwrap_or(1),
            log_level: self.parsed(&names::LOG_LEVEL, "INFO")?,
            log_file: self.optional_path(&names::LOG_FILE)?,
            temp_dir: self
                .path(&names::TEMP_DIR, self.text(&names::TEMP_DIR).unwrap_or("/tmp/morag_remote"))?,
            converters: self.paths(&names::CONVERTERS)?,
            python: self.python()?,
            networks: self.networks()?,
            youtube_hosts: self.youtube_hosts()?,
            lease_seconds: self.number(&names::LEASE, 20..=3600, 60)?,
            stall_after: self.seconds(&names::STALL, 10..=86_400, 900)?,
            shutdown_grace: self.seconds(&names::GRACE, 0..=86_400, 30)?,
            spot_notice: self.spot_notice()?,
            files: Vec::new(),
            warnings: self.warnings,
        })
    }

    pub(super) fn local_settings(self) -> Result<LocalSettings, SettingsError> {
        let default_folder = format!("/tmp/morag_local_{}", rustix::process::geteuid().as_raw());
        let temp_dir = self.text(&names::TEMP_DIR).unwrap_or(&default_folder);
        let settings_files = [DEFAULT_FILE, DOTENV_FILE].map(Path::new);
        Ok(LocalSettings {
            content_types: self.types(&names::LOCAL_CONTENT_TYPES)?,
            converters: self.paths(&names::CONVERTERS)?,
            python: self.python()?,
            temp_dir: self.path(&names::TEMP_DIR, temp_dir)?,
            networks: self.networks()?,
            youtube_hosts: self.youtube_hosts()?,
            closed: settings_files.iter().filter_map(|path| std::path::absolute(path).ok()).collect(),
        })
    }

    fn text(&self, name: &Name) -> Option<&str> {
        self.values.get(name.key).and_then(|(_, value)| value.0.first()).map(|text| text.trim())
    }

    /// The items of a list, which may also be one text with commas between them.
    fn items(&self, name: &Name) -> impl Iterator<Item = &str> {
        let texts = self.values.get(name.key).map(|(_, value)| value.0.as_slice()).unwrap_or_default();
        texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|item| !item.is_empty())
    }

    fn wrong(&self, name: &Name, problem: impl fmt::Display) -> SettingsError {
        let origin =
            self.values.get(name.key).map_or_else(|| format!("`{}`", name.key), |(origin, _)| origin.clone());
        SettingsError::Value { origin, problem: problem.to_string() }
    }

    fn parsed<T>(&self, name: &Name, default: &str) -> Result<T, SettingsError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let text = self.text(name).unwrap_or(default);
        text.parse().map_err(|error| self.wrong(name, format!("is {text:?}, which {error}")))
    }

    fn switch(&self, name: &Name, default: bool) -> Result<bool, SettingsError> {
        match self.text(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(text) => Err(self.wrong(name, format!("is {text:?}, which must be true or false"))),
        }
    }

    fn number(&self, name: &Name, range: RangeInclusive<u64>, default: u64) -> Result<u64, SettingsError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.wrong(name, format!("is {text:?}, which must be a whole number from {least} to {most}"))
        })
    }

    fn seconds(
        &self,
        name: &Name,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<Duration, SettingsError> {
        self.number(name, range, default).map(Duration::from_secs)
    }

    fn api_base_url(&self) -> Result<BaseUrl, SettingsError> {
        let text = self.text(&names::API_BASE_URL).unwrap_or("http://localhost:8000");
        text.parse().map_err(|error| self.wrong(&names::API_BASE_URL, format!("is wrong: {error}")))
    }

    fn content_types(&self) -> Result<Vec<ContentType>, SettingsError> {
        let types = self.types(&names::CONTENT_TYPES)?;
        Ok(if types.is_empty() { vec![ContentType::Audio, ContentType::Video] } else { types })
    }

    /// The content types that a list names, each once.
    fn types(&self, name: &Name) -> Result<Vec<ContentType>, SettingsError> {
        let mut types = Vec::new();
        for item in self.items(name) {
            let parsed =
                item.parse().map_err(|error| self.wrong(name, format!("names {item:?}, which {error}")))?;
            if !types.contains(&parsed) {
                types.push(parsed);
            }
        }
        Ok(types)
    }

    fn networks(&self) -> Result<Vec<IpNet>, SettingsError> {
        let parse = |item: &str| {
            let network = item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| {
                let problem =
                    format!("names {item:?}, which is neither an address nor a network like 10.0.0.0/8");
                self.wrong(&names::NETWORKS, problem)
            })
        };
        self.items(&names::NETWORKS).map(parse).collect()
    }

    fn youtube_hosts(&self) -> Result<Vec<String>, SettingsError> {
        let parse = |item: &str| {
            let host = item.trim_matches('.').to_ascii_lowercase();
            let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            if host.is_empty() || !host.chars().all(is_host) || host.contains("..") {
                let problem = format!(
                    "names {item:?}, which is not a host name; give one without scheme, port and path"
                );
                return Err(self.wrong(&names::YOUTUBE_HOSTS, problem));
            }
            Ok(host)
        };
        let hosts: Vec<String> = self.items(&names::YOUTUBE_HOSTS).map(parse).collect::<Result<_, _>>()?;
        Ok(if hosts.is_empty() { YOUTUBE_HOSTS.map(str::to_owned).into() } else { hosts })
    }

    fn spot_notice(&self) -> Result<Option<SpotNotice>, SettingsError> {
        let Some(text) = self.text(&names::SPOT_NOTICE) else { return Ok(None) };
        Ok(match text {
            "none" => None,
            "aws" => Some(SpotNotice::Aws),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                let wrong = |error| self.wrong(&names::SPOT_NOTICE, format!("is no URL: {error}"));
                Some(SpotNotice::Url(Url::parse(url).map_err(wrong)?.into()))
            }
            path if path.contains('/') => Some(SpotNotice::File(self.path(&names::SPOT_NOTICE, path)?)),
            _ => {
                let problem = format!(
                    "is {text:?}, which must be none, aws, an http URL, or a file's path with a slash in it"
                );
                return Err(self.wrong(&names::SPOT_NOTICE, problem));
            }
        })
    }

    fn optional_path(&self, name: &Name) -> Result<Option<PathBuf>, SettingsError> {
        self.text(name).map(|text| self.path(name, text)).transpose()
    }

    fn paths(&self, name: &Name) -> Result<Vec<PathBuf>, SettingsError> {
        self.items(name).map(|item| self.path(name, item)).collect()
    }

    /// Converters run in folders of their own, so every path is made absolute here.
    fn path(&self, name: &Name, text: &str) -> Result<PathBuf, SettingsError> {
        std::path::absolute(text).map_err(|error| self.wrong(name, format!("is {text:?}: {error}")))
    }

    fn python(&self) -> Result<PathBuf, SettingsError> {
        let text = self.text(&names::PYTHON).unwrap_or("python3");
        if text.contains('/') { self.path(&names::PYTHON, text) } else { Ok(PathBuf::from(text)) }
    }
}
