//! What the settings are called in the file, in the environment and on the command line.

/// A setting's name in the file, in the environment, and as a flag.
#[derive(Debug)]
pub struct Name {
    /// The key in the settings file.
    pub key: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// Whether the file may give a list.
    pub(super) is_list: bool,
}

const fn one(key: &'static str, variable: &'static str, flag: &'static str) -> Name {
    Name { key, variable, flag, is_list: false }
}

const fn list(key: &'static str, variable: &'static str, flag: &'static str) -> Name {
    Name { key, variable, flag, is_list: true }
}

pub(super) const WORKER_ID: Name = one("worker_id", "MORAG_WORKER_ID", "--worker-id");
pub(super) const API_BASE_URL: Name = one("api_base_url", "MORAG_API_BASE_URL", "--api-url");
pub(super) const API_KEY: Name = one("api_key", "MORAG_API_KEY", "--api-key");
pub(super) const CONTENT_TYPES: Name = list("content_types", "MORAG_WORKER_CONTENT_TYPES", "--content-types");
pub(super) const POLL_INTERVAL: Name = one("poll_interval", "MORAG_WORKER_POLL_INTERVAL", "--poll-interval");
pub(super) const MAX_JOBS: Name =
    one("max_concurrent_jobs", "MORAG_WORKER_MAX_CONCURRENT_JOBS", "--max-jobs");
pub(super) const LOG_LEVEL: Name = one("log_level", "MORAG_LOG_LEVEL", "--log-level");
pub(super) const LOG_FILE: Name = one("log_file", "MORAG_LOG_FILE", "--log-file");
pub(super) const TEMP_DIR: Name = one("temp_dir", "MORAG_TEMP_DIR", "--temp-dir");
pub(super) const CONVERTERS: Name = list("converters", "MORAG_CONVERTERS", "--converters");
pub(super) const PYTHON: Name = one("python", "MORAG_CONVERTER_PYTHON", "--python");
pub(super) const NETWORKS: Name = list("networks", "MORAG_WORKER_NETWORKS", "--networks");
pub(super) const YOUTUBE_HOSTS: Name = list("youtube_hosts", "MORAG_WORKER_YOUTUBE_HOSTS", "--youtube-hosts");
pub(super) const LEASE: Name = one("lease_seconds", "MORAG_WORKER_LEASE_SECONDS", "--lease-seconds");
pub(super) const STALL: Name = one("stall_seconds", "MORAG_WORKER_STALL_SECONDS", "--stall-seconds");
pub(super) const GRACE: Name =
    one("shutdown_grace_seconds", "MORAG_WORKER_SHUTDOWN_GRACE_SECONDS", "--shutdown-grace-seconds");
pub(super) const INSTANT_WAKEUP: Name =
    one("instant_wakeup", "MORAG_WORKER_INSTANT_WAKEUP", "--instant-wakeup");
pub(super) const SPOT_NOTICE: Name = one("spot_notice", "MORAG_WORKER_SPOT_NOTICE", "--spot-notice");

/// What programs convert that do so outside of any job; no setting of the remote converter.
pub(super) const LOCAL_CONTENT_TYPES: Name = list("content_types", "MORAG_LOCAL_CONTENT_TYPES", "");

/// Every setting.
pub const NAMES: [Name; 18] = [
    WORKER_ID,
    API_BASE_URL,
    API_KEY,
    CONTENT_TYPES,
    POLL_INTERVAL,
    INSTANT_WAKEUP,
    MAX_JOBS,
    LOG_LEVEL,
    LOG_FILE,
    TEMP_DIR,
    CONVERTERS,
    PYTHON,
    NETWORKS,
    YOUTUBE_HOSTS,
    LEASE,
    STALL,
    GRACE,
    SPOT_NOTICE,
];

/// How alike two names must be for one to be taken for a slip of the other; 1 is the same.
const ALIKE: f64 = 0.8;

/// The setting that somebody may have meant who wrote this, whether as in the file, the environment or a flag.
pub(super) fn nearest(written: &str) -> Option<&'static Name> {
    let written = bare(written);
    let likeness = |name: &Name| {
        let spelled =
            [name.key, name.variable, name.flag].map(|spelled| strsim::jaro(&bare(spelled), &written));
        spelled.into_iter().fold(0.0, f64::max)
    };
    let nearest = NAMES.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(nearest) >= ALIKE).then_some(nearest)
}

/// A name without what tells a flag or a variable from a key.
fn bare(name: &str) -> String {
    let name = name.trim_start_matches('-').to_ascii_lowercase().replace('-', "_");
    name.strip_prefix("morag_").unwrap_or(&name).to_owned()
}
