//! What a converter command may use, as its description says it: time, CPU, memory, disk, and the network.

use std::time::Duration;

use serde::Deserialize;

/// Below this not even an interpreter starts.
const LEAST_MEMORY: u64 = 16 << 20;
/// Below this a work folder holds no source worth converting.
const LEAST_DISK: u64 = 1 << 20;

/// What a command may use. Where nothing is said of a limit, there is none but the job's own time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The time it may take, in seconds.
    pub timeout_seconds: Option<u64>,
    /// The CPU time of each of its processes, in seconds.
    pub cpu_seconds: Option<u64>,
    /// On how many CPUs it may run.
    pub cpus: Option<usize>,
    /// The resident memory of all its processes together, in bytes.
    pub memory_bytes: Option<u64>,
    /// The address space of each of its processes, in bytes.
    pub address_space_bytes: Option<u64>,
    /// What its work folder may hold, in bytes, and each file that it writes.
    pub disk_bytes: u64,
    /// The size of its result, in bytes.
    pub max_output_bytes: u64,
    /// After how many seconds without a new line of its log it is ended.
    pub stalled_seconds: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout_seconds: None,
            cpu_seconds: None,
            cpus: None,
            memory_bytes: None,
            address_space_bytes: None,
            disk_bytes: 32 << 30,
            max_output_bytes: 64 << 20,
            stalled_seconds: None,
        }
    }
}

impl Limits {
    /// Refuses limits under which nothing runs.
    ///
    /// # Errors
    /// The first of them, as the end of a sentence that begins with the description's name.
    pub(crate) fn check(&self) -> Result<(), String> {
        let cpus = self.cpus.map(|cpus| cpus as u64);
        let all = [
            ("timeout_seconds", self.timeout_seconds, 1),
            ("cpu_seconds", self.cpu_seconds, 1),
            ("cpus", cpus, 1),
            ("memory_bytes", self.memory_bytes, LEAST_MEMORY),
            ("address_space_bytes", self.address_space_bytes, LEAST_MEMORY),
            ("disk_bytes", Some(self.disk_bytes), LEAST_DISK),
            ("max_output_bytes", Some(self.max_output_bytes), 1),
            ("stalled_seconds", self.stalled_seconds, 1),
        ];
        let low = all.into_iter().find(|(_, value, least)| value.is_some_and(|value| value < *least));
        low.map_or(Ok(()), |(name, value, least)| {
            let value = value.unwrap_or_default();
            Err(format!("has `limits: {name}` of {value}, with which nothing runs; it is at least {least}"))
        })
    }

    /// How long it may say nothing.
    #[must_use]
    pub fn stalled(&self) -> Option<Duration> {
        self.stalled_seconds.map(Duration::from_secs)
    }
}

/// What of the network a command reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing, not even this machine's own addresses.
    #[default]
    None,
    /// What this program's proxy admits.
    Internet(Hosts),
}

/// Which hosts the proxy admits for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Every host at an admitted address.
    All,
    /// Of these only those of the setting `youtube_hosts`.
    Youtube,
}

/// `network` as it is written.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkName {
    #[default]
    None,
    Internet,
}

/// `hosts` as it is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HostsName {
    Youtube,
}

impl Network {
    /// Reads the two fields together.
    ///
    /// # Errors
    /// When hosts are named for a command that reaches none, as the end of a sentence that begins with the
    /// description's name.
    pub(crate) fn new(network: NetworkName, hosts: Option<HostsName>) -> Result<Self, String> {
        match (network, hosts) {
            (NetworkName::None, None) => Ok(Self::None),
            (NetworkName::None, Some(_)) => {
                Err("names `hosts` without `network: internet`, so that it would reach none of them"
                    .to_owned())
            }
            (NetworkName::Internet, None) => Ok(Self::Internet(Hosts::All)),
            (NetworkName::Internet, Some(HostsName::Youtube)) => Ok(Self::Internet(Hosts::Youtube)),
        }
    }
}

/// A limit that a command went beyond, and so was ended. What is displayed ends a sentence that begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// The time of the job, which the server set.
    #[error("did not end within the job's time limit")]
    JobTime,
    /// `timeout_seconds`.
    #[error("did not end within its time limit of {0} s (`timeout_seconds`)")]
    Time(u64),
    /// `stalled_seconds`.
    #[error("made no progress for {0} s (`stalled_seconds`)")]
    Stalled(u64),
    /// `cpu_seconds`.
    #[error("used more than its {0} s of CPU time (`cpu_seconds`)")]
    Cpu(u64),
    /// `memory_bytes`.
    #[error("used more memory than its {0} bytes (`memory_bytes`)")]
    Memory(u64),
    /// `disk_bytes`.
    #[error("wrote more to its work folder than its {0} bytes (`disk_bytes`)")]
    Disk(u64),
    /// `max_output_bytes`.
    #[error("made a result of more than the {0} bytes that its description allows (`max_output_bytes`)")]
    Output(u64),
    /// How many processes any command may have at the same time.
    #[error("had more than {0} processes at the same time")]
    Processes(usize),
}

impl Exceeded {
    /// Whether another attempt may stay within it. All but the size of the result also depend on the machine, and
    /// another worker may allow more.
    #[must_use]
    pub fn is_passing(self) -> bool {
        !matches!(self, Self::Output(_))
    }
}
