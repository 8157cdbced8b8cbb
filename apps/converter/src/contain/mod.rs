//! What a converter command is kept away from, by the kernel.
//!
//! Linux keeps these restrictions with a thread and hands them on to the children that it forks. So a command is
//! started by a thread of its own, which first takes away from itself what the command must not have, and ends after
//! the start. That needs neither privileges nor a program in between.
//!
//! What is taken away:
//!
//! - system calls, by seccomp: sockets of the internet, and ways into other processes ([`Reach`]);
//! - files and TCP ports, by Landlock: a command writes in its work folder only, does not read what this program keeps
//!   to itself, and connects to nothing but this program's proxy. Older kernels know less of that; [`Kernel`] tells;
//! - what only root may do, when this program runs as root;
//! - CPUs, by its affinity.

#[cfg(target_os = "linux")]
mod landlocked;
#[cfg(target_os = "linux")]
mod syscalls;
mod walls;

use std::{io, path::PathBuf};

#[cfg(target_os = "linux")]
use landlocked::unlisted;
pub use walls::Walls;

/// How a command reaches the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not at all.
    Nothing,
    /// By TCP to this port, where this program's proxy is.
    Proxy(u16),
}

/// What one command is kept away from.
#[derive(Clone, Debug)]
pub struct Containment {
    /// How it reaches the network.
    pub reach: Reach,
    /// The one folder that it may write in.
    pub writable: PathBuf,
    /// What it may read although it is closed.
    pub readable: Vec<PathBuf>,
    /// The files and folders that it may not read, whoever else may.
    pub closed: Vec<PathBuf>,
    /// On how many CPUs it may run.
    pub cpus: Option<usize>,
}

/// What this kernel can take away from a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Why system calls cannot be filtered, if they cannot. No converter runs then.
    pub unfiltered: Option<String>,
    /// The version of Landlock's interface; 0 when there is none.
    pub landlock: u32,
}

/// From this version on Landlock knows TCP ports.
const KNOWS_PORTS: u32 = 4;
/// From this version on Landlock keeps signals and abstract sockets to the command's own processes.
const KNOWS_SCOPES: u32 = 6;
/// From this version on Landlock knows local sockets with a path.
const KNOWS_UNIX: u32 = 9;

/// What a version of Landlock lacks that is older than the one named.
const LACKS: [(u32, &str); 3] = [
    (
        KNOWS_PORTS,
        "Landlock does not know TCP ports here (Linux 6.7 does): converters with `network: internet` could connect past \
         the proxy.",
    ),
    (
        KNOWS_SCOPES,
        "Landlock does not keep signals and abstract sockets to a converter's own processes here (Linux 6.12 does): a \
         hostile one could end this user's other programs.",
    ),
    (
        KNOWS_UNIX,
        "Landlock does not know local sockets with a path here (Linux 7.1 does): converters could speak to this user's \
         D-Bus session, and to a container runtime or another service that this user may speak to. Run this program as \
         a user of its own.",
    ),
];

impl Containment {
    /// Takes all of it away from the calling thread and the children that it forks from now on, for good.
    ///
    /// # Errors
    /// When the kernel cannot filter system calls or refuses a rule. The thread must not start anything then.
    #[cfg(target_os = "linux")]
    pub fn apply(&self) -> io::Result<()> {
        if let Some(cpus) = self.cpus {
            cpus::keep_to(cpus)?;
        }
        landlocked::apply(self)?;
        syscalls::apply(self.reach)?;
        drop_capabilities()
    }

    /// Only Linux can do this.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn apply(&self) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux can contain a converter"))
    }
}

impl Kernel {
    /// Tries it out, on a thread that then ends.
    #[must_use]
    pub fn tried() -> Self {
        let trying = std::thread::Builder::new().name("kernel".to_owned()).spawn(Self::try_here);
        let tried = trying.and_then(|thread| {
            thread.join().map_err(|_| io::Error::other("the thread that tried it out did not end well"))
        });
        tried.unwrap_or_else(|error| Self { unfiltered: Some(error.to_string()), landlock: 0 })
    }

    #[cfg(target_os = "linux")]
    fn try_here() -> Self {
        let landlock = landlocked::version();
        let filtered = syscalls::apply(Reach::Nothing).and_then(|()| {
            match std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                Ok(_) | Err(_) => Err(io::Error::other("a filter was accepted but does not filter")),
            }
        });
        Self { unfiltered: filtered.err().map(|error| error.to_string()), landlock }
    }

    #[cfg(not(target_os = "linux"))]
    fn try_here() -> Self {
        Self { unfiltered: Some("only Linux can contain a converter".to_owned()), landlock: 0 }
    }

    /// What it cannot take away, as sentences for an operator; none when it can do all of it.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        if let Some(reason) = &self.unfiltered {
            return vec![format!(
                "System calls cannot be filtered here ({reason}), so no converter runs: it needs Linux with \
                 CONFIG_SECCOMP_FILTER, and a container runtime that allows seccomp."
            )];
        }
        if self.landlock == 0 {
            return vec![
                "This kernel has no Landlock (Linux 5.13 or later with `landlock` in its `lsm=`): converters are \
                 without network where their description says so, but they may read and write every file that this \
                 user may, speak to its local sockets, such as D-Bus, and end its programs. Those with \
                 `network: internet` could connect past the proxy by TCP. Run this program as a user of its own."
                    .to_owned(),
            ];
        }
        let lacks = LACKS.iter().filter(|(since, _)| self.landlock < *since);
        lacks.map(|(_, text)| (*text).to_owned()).collect()
    }
}

/// Only on Linux is anything closed.
#[cfg(not(target_os = "linux"))]
fn unlisted(_: &[PathBuf]) -> Vec<PathBuf> {
    Vec::new()
}

/// Takes what only root may do away from the calling thread. A program that it starts does not get it back, as it may
/// gain no privileges since its system calls are filtered.
#[cfg(target_os = "linux")]
fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Keeps this process's memory and environment, which hold the API key, from other programs of the same user; a
/// converter is one. It leaves no core dumps either.
///
/// # Errors
/// When the kernel refuses.
pub fn guard_this_process() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Which CPUs a command gets.
#[cfg(target_os = "linux")]
mod cpus {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Where the next command's CPUs begin, so that commands that run at the same time do not share the first ones.
    static NEXT: AtomicUsize = AtomicUsize::new(0);

    /// Keeps this thread to so many of the CPUs that it has; to all of them when it has fewer.
    pub(super) fn keep_to(most: usize) -> io::Result<()> {
        let had = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| had.is_set(*cpu)).collect();
        let count = most.min(all.len());
        let first = NEXT.fetch_add(count, Ordering::Relaxed);
        let mut kept = CpuSet::new();
        for cpu in all.iter().cycle().skip(first % all.len().max(1)).take(count) {
            kept.set(*cpu);
        }
        Ok(sched_setaffinity(None, &kept)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_landlock_lacks_all_that_came_later() {
        let named = |landlock| {
            let text = Kernel { unfiltered: None, landlock }.lacks().join(" ");
            ["past the proxy", "programs", "D-Bus"].map(|word| text.contains(word))
        };
        assert_eq!(named(0), [true, true, true]);
        assert_eq!(named(3), [true, true, true]);
        assert_eq!(named(4), [false, true, true]);
        assert_eq!(named(6), [false, false, true]);
        assert_eq!(named(9), [false, false, false]);
    }
}
