//! What an operator decides. Flags come before the environment.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use client::{ApiKey, BaseUrl};
use domain::WebhookUrl;
use ingestion::{RemoteSettings, webhook::Secret};
use remote_converter::local::LocalSettings;
use thiserror::Error;

use crate::{networks::Networks, secret::SigningSecret};

/// The variables that only this service reads, and those of the control plane's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvVar {
    /// Where to listen. Default 127.0.0.1:8080.
    Listen,
    /// The folder that everything is kept in. Default `./morag-ingest`.
    DataDir,
    /// Where the control plane is. Default `http://localhost:8000`.
    ApiBaseUrl,
    /// The key for the control plane, with scope `ingest`.
    ApiKey,
    /// Where the control plane reaches `POST /api/v1/webhooks/remote-jobs` of this service. Without it the control plane
    /// is asked.
    HookUrl,
    /// What the control plane signs its webhooks with, `whsec_…`, several with commas between them. Without it the control
    /// plane is asked for it.
    HookSecret,
    /// The bearer token that callers of this service need. Default none, which is for loopback only.
    OwnKey,
    /// What this service signs its own webhooks with, `whsec_…`. Without it one is made and kept in the data folder.
    SigningSecret,
    /// Networks whose webhooks are told besides those at globally routable addresses, also over `http://`. Default
    /// loopback while the service listens on loopback without a key of its own, else none: a key is for callers who are
    /// not on this machine, and who must not reach it through webhooks.
    WebhookNetworks,
    /// The largest file that is taken, in bytes. Default 2 GiB.
    MaxUploadBytes,
    /// How many tasks are run at once, waiting for remote jobs among them. Default 256, because waiting costs little.
    MaxConcurrentTasks,
    /// How many documents are converted here at once. Default 2.
    MaxLocalConversions,
    /// How many seconds a conversion here may take, besides its converter's own limit. Default 7200.
    LocalTimeout,
    /// How many days tasks are kept after their end. Default 7.
    RetentionDays,
    /// `DEBUG`, `INFO`, `WARNING` or `ERROR`, or a filter as `tracing` spells it. Default `INFO`.
    LogLevel,
}

impl EnvVar {
    /// The variable's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Listen => "MORAG_INGEST_LISTEN",
            Self::DataDir => "MORAG_INGEST_DATA_DIR",
            Self::ApiBaseUrl => "MORAG_API_BASE_URL",
            Self::ApiKey => "MORAG_API_KEY",
            Self::HookUrl => "MORAG_INGEST_WEBHOOK_URL",
            Self::HookSecret => "MORAG_WEBHOOK_SECRET",
            Self::OwnKey => "MORAG_INGEST_API_KEY",
            Self::SigningSecret => "MORAG_INGEST_WEBHOOK_SECRET",
            Self::WebhookNetworks => "MORAG_INGEST_WEBHOOK_NETWORKS",
            Self::MaxUploadBytes => "MORAG_INGEST_MAX_UPLOAD_BYTES",
            Self::MaxConcurrentTasks => "MORAG_INGEST_MAX_CONCURRENT_TASKS",
            Self::MaxLocalConversions => "MORAG_INGEST_MAX_LOCAL_CONVERSIONS",
            Self::LocalTimeout => "MORAG_INGEST_LOCAL_TIMEOUT",
            Self::RetentionDays => "MORAG_INGEST_RETENTION_DAYS",
            Self::LogLevel => "MORAG_LOG_LEVEL",
        }
    }
}

impl fmt::Display for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A setting that cannot be used. The text names the variable and what it takes.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The value is not one that the setting takes. What a secret is set to is not shown.
    #[error("{variable}: {problem}")]
    Value {
        /// The variable.
        variable: EnvVar,
        /// What is wrong with it.
        problem: String,
    },
    /// One of the settings of remote conversion.
    #[error(transparent)]
    Remote(#[from] ingestion::SettingsError),
    /// One of the settings of the library of chunks.
    #[error(transparent)]
    Retrieval(#[from] retrieval::SettingsError),
    /// One of the settings of conversion here.
    #[error(transparent)]
    Local(#[from] remote_converter::local::SettingsError),
}

/// What an operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The folder that everything is kept in.
    pub data_dir: PathBuf,
    /// Where the control plane is.
    pub api_base_url: BaseUrl,
    /// The key for the control plane.
    pub api_key: Option<ApiKey>,
    /// Where the control plane reaches this service.
    pub hook_url: Option<WebhookUrl>,
    /// What the control plane signs its webhooks with; it is asked when there are none.
    pub hook_secrets: Vec<Secret>,
    /// What callers of this service need.
    pub own_key: Option<Bearer>,
    /// What this service signs its own webhooks with.
    pub signing_secret: Option<SigningSecret>,
    /// The networks whose webhooks are told besides those at globally routable addresses.
    pub webhook_networks: Networks,
    /// The largest file that is taken, in bytes.
    pub max_upload_bytes: u64,
    /// How many tasks are run at once.
    pub max_concurrent_tasks: usize,
    /// How many documents are converted here at once.
    pub max_local_conversions: usize,
    /// How long a conversion here may take.
    pub local_timeout: Duration,
    /// How long tasks are kept after their end.
    pub retention: Duration,
    /// Whether and how documents are converted remotely.
    pub remote: RemoteSettings,
    /// Where chunks are kept.
    pub retrieval: retrieval::Settings,
    /// How documents are converted here.
    pub local: LocalSettings,
}

/// A bearer token. It is never shown.
#[derive(Clone)]
pub struct Bearer(String);

impl Bearer {
    /// Whether this is it, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        use sha2::{Digest, Sha256};
        use subtle::ConstantTimeEq;
        Sha256::digest(&self.0).ct_eq(&Sha256::digest(given)).into()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

/// The path of the call that takes the control plane's webhooks.
pub(crate) const HOOK_PATH: &str = "/api/v1/webhooks/remote-jobs";
/// The shortest token, in characters: it must not be guessed.
const SHORTEST_KEY: usize = 16;

impl Settings {
    /// Reads the settings by `get`, which gives the values of variables. An empty one counts as unset.
    ///
    /// # Errors
    /// [`SettingsError`] names the variable.
    pub fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let given = Given { get: &get };
        let listen: SocketAddr = given
            .parsed(EnvVar::Listen, "is not an address and a port, such as 127.0.0.1:8080")?
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        let own_key = given.own_key(listen)?;
        let (data_dir, named_temp_dir) = (
            given.text(EnvVar::DataDir).map_or_else(|| PathBuf::from("morag-ingest"), PathBuf::from),
            get("MORAG_TEMP_DIR").is_some(),
        );
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|error| wrong(EnvVar::DataDir, format!("{}: {error}", data_dir.display())))?;
        let mut local = LocalSettings::from_environment(get)?;
        if !named_temp_dir {
            local.temp_dir = data_dir.join("work");
        }
        // Its keys, its tasks, and everybody's sources.
        local.closed.push(data_dir.clone());
        Ok(Self {
            listen,
            api_base_url: given.parse_or(EnvVar::ApiBaseUrl, "http://localhost:8000")?,
            api_key: given.text(EnvVar::ApiKey).map(ApiKey::from),
            hook_url: given.hook_url()?,
            hook_secrets: given.hook_secrets()?,
            webhook_networks: given.networks(listen, own_key.is_some())?,
            own_key,
            signing_secret: given.signing_secret()?,
            max_upload_bytes: given.number(EnvVar::MaxUploadBytes, 1..=1 << 50, 2 << 30)?,
            max_concurrent_tasks: given.count(EnvVar::MaxConcurrentTasks, 1..=1000, 256)?,
            max_local_conversions: given.count(EnvVar::MaxLocalConversions, 1..=1000, 2)?,
            local_timeout: Duration::from_secs(given.number(EnvVar::LocalTimeout, 1..=7 * 86_400, 7200)?),
            retention: Duration::from_secs(86_400 * given.number(EnvVar::RetentionDays, 1..=3650, 7)?),
            remote: RemoteSettings::from_environment(get)?,
            retrieval: retrieval::Settings::from_environment(get)?,
            local,
            data_dir,
        })
    }
}

struct Given<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl Given<'_> {
    fn text(&self, variable: EnvVar) -> Option<String> {
        (self.get)(variable.name()).map(|value| value.trim().to_owned())
    }

    fn parsed<T: FromStr>(&self, variable: EnvVar, expected: &str) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.text(variable) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| wrong(variable, format!("{value:?} {expected}")))
    }

    fn parse_or<T>(&self, variable: EnvVar, default: &str) -> Result<T, SettingsError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let value = self.text(variable).unwrap_or_else(|| default.to_owned());
        value.parse().map_err(|error| wrong(variable, format!("{error}")))
    }

    fn number(
        &self,
        variable: EnvVar,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, SettingsError> {
        let Some(value) = self.text(variable) else { return Ok(default) };
        value.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
            let expected = format!("is not a whole number of {} to {}", bounds.start(), bounds.end());
            wrong(variable, format!("{value:?} {expected}"))
        })
    }

    fn count(
        &self,
        variable: EnvVar,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Result<usize, SettingsError> {
        Ok(usize::try_from(self.number(variable, bounds, default)?).unwrap_or(usize::MAX))
    }

    /// A URL without a path is this service's, whose path is known.
    fn hook_url(&self) -> Result<Option<WebhookUrl>, SettingsError> {
        let Some(value) = self.text(EnvVar::HookUrl) else { return Ok(None) };
        let url: WebhookUrl =
            value.parse().map_err(|domain::InvalidValue(rule)| wrong(EnvVar::HookUrl, rule))?;
        let bare = value.trim_end_matches('/');
        if bare.matches('/').count() > 2 || bare.contains('?') {
            return Ok(Some(url));
        }
        let whole = format!("{bare}{HOOK_PATH}").parse();
        whole.map(Some).map_err(|domain::InvalidValue(rule)| wrong(EnvVar::HookUrl, rule))
    }

    fn hook_secrets(&self) -> Result<Vec<Secret>, SettingsError> {
        let value = self.text(EnvVar::HookSecret).unwrap_or_default();
        let texts = value.split(',').map(str::trim).filter(|text| !text.is_empty());
        texts
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(EnvVar::HookSecret, format!("{error}")))
    }

    fn signing_secret(&self) -> Result<Option<SigningSecret>, SettingsError> {
        let Some(value) = self.text(EnvVar::SigningSecret) else { return Ok(None) };
        value.parse().map(Some).map_err(|domain::InvalidValue(rule)| wrong(EnvVar::SigningSecret, rule))
    }

    /// Whoever can reach a service that listens on more than loopback must have a key.
    fn own_key(&self, listen: SocketAddr) -> Result<Option<Bearer>, SettingsError> {
        match self.text(EnvVar::OwnKey) {
            Some(key) if key.len() < SHORTEST_KEY => {
                let rule = format!("must have at least {SHORTEST_KEY} characters");
                Err(wrong(EnvVar::OwnKey, rule))
            }
            None if !listen.ip().to_canonical().is_loopback() => Err(wrong(
                EnvVar::OwnKey,
                format!("must be set, because {listen} can be reached from other machines"),
            )),
            key => Ok(key.map(Bearer)),
        }
    }

    fn networks(&self, listen: SocketAddr, has_key: bool) -> Result<Networks, SettingsError> {
        match self.text(EnvVar::WebhookNetworks) {
            None if !has_key && listen.ip().to_canonical().is_loopback() => Ok(Networks::loopback()),
            None => Ok(Networks::default()),
            Some(value) => value.parse().map_err(|domain::InvalidValue(rule)| {
                wrong(EnvVar::WebhookNetworks, format!("{value:?} {rule}"))
            }),
        }
    }
}

fn wrong(variable: EnvVar, problem: String) -> SettingsError {
    SettingsError::Value { variable, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(EnvVar, &str)]) -> Result<Settings, SettingsError> {
        Settings::from(|name| {
            set.iter().find(|(variable, _)| variable.name() == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults_are_for_one_machine() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.api_base_url.as_str(), "http://localhost:8000");
        assert_eq!(settings.webhook_networks, Networks::loopback());
        assert!(settings.own_key.is_none() && !settings.remote.enabled);
        assert_eq!(settings.retention, Duration::from_secs(7 * 86_400));
        assert_eq!((settings.max_concurrent_tasks, settings.max_local_conversions), (256, 2));
        assert!(settings.local.temp_dir.ends_with("morag-ingest/work"));
        assert!(settings.local.closed.contains(&settings.data_dir));
    }

    #[test]
    fn a_service_that_others_can_reach_needs_a_key() {
        let error = read(&[(EnvVar::Listen, "0.0.0.0:8080")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "MORAG_INGEST_API_KEY: must be set, because 0.0.0.0:8080 can be reached from other machines"
        );
        let key = "0123456789abcdef";
        let settings = read(&[(EnvVar::Listen, "0.0.0.0:8080"), (EnvVar::OwnKey, key)]).unwrap();
        assert!(settings.own_key.is_some_and(|own| own.is(key) && !own.is("0123456789abcdeF")));
        assert_eq!(settings.webhook_networks, Networks::default());
        let behind_a_proxy = read(&[(EnvVar::OwnKey, key)]).unwrap();
        assert_eq!(behind_a_proxy.webhook_networks, Networks::default());
    }

    #[test]
    fn a_webhook_url_without_a_path_is_given_its_path() {
        let read = |url| read(&[(EnvVar::HookUrl, url)]).unwrap().hook_url.unwrap().to_string();
        assert_eq!(read("http://ingest:8080"), "http://ingest:8080/api/v1/webhooks/remote-jobs");
        assert_eq!(read("http://ingest:8080/"), "http://ingest:8080/api/v1/webhooks/remote-jobs");
        assert_eq!(read("https://proxy.example/hooks"), "https://proxy.example/hooks");
    }

    #[test]
    fn a_wrong_value_names_its_variable_and_no_secret() {
        for (variable, value, rest) in [
            (EnvVar::Listen, "8080", "\"8080\" is not an address and a port, such as 127.0.0.1:8080"),
            (EnvVar::MaxUploadBytes, "2 GB", "\"2 GB\" is not a whole number of 1 to 1125899906842624"),
            (EnvVar::MaxConcurrentTasks, "0", "\"0\" is not a whole number of 1 to 1000"),
            (EnvVar::OwnKey, "hunter2", "must have at least 16 characters"),
            (EnvVar::SigningSecret, "hunter2", "is not whsec_ and the base64 of 24 to 64 bytes"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err().to_string();
            assert_eq!(error, format!("{variable}: {rest}"));
        }
        for variable in [EnvVar::HookSecret, EnvVar::HookUrl, EnvVar::ApiBaseUrl, EnvVar::WebhookNetworks] {
            let error = read(&[(variable, "hunter2")]).unwrap_err().to_string();
            assert!(error.starts_with(variable.name()), "{error}");
        }
        let error = read(&[(EnvVar::HookSecret, "hunter2")]).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
