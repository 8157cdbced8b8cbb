//! What runs where, as Linux tells in `/proc`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// Its current folder.
    pub folder: PathBuf,
    /// Its command line.
    pub command: String,
}

/// The processes whose current folder is this one or lies in it, also when that is removed already.
#[must_use]
pub fn processes_in(folder: &Path) -> Vec<Process> {
    let Ok(folder) = folder.canonicalize() else { return Vec::new() };
    let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    entries
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            // One that has ended, and waits to be looked at, has no folder any more.
            let current = fs::read_link(entry.path().join("cwd")).ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            current.starts_with(&folder).then_some(Process { id, folder: current, command })
        })
        .collect()
}

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Its memory that is resident, in bytes, with the parts of its program that are.
    pub resident: u64,
    /// What of that is its own and not a file's, in bytes.
    pub anonymous: u64,
    /// The CPU time that it has used since its start, in ticks of a hundredth of a second.
    pub ticks: u64,
    /// How often its threads that still run have gone to sleep, and so how often they were woken.
    pub sleeps: u64,
}

impl Usage {
    /// That of the process with this id, if it runs.
    #[must_use]
    pub fn of(id: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let kib = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Behind the name, which may hold anything: the state is the first field, and user and system time come later.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
        Some(Self {
            resident: kib("VmRSS:")? << 10,
            anonymous: kib("RssAnon:")? << 10,
            ticks: ticks(11)? + ticks(12)?,
            sleeps: sleeps(id)?,
        })
    }
}

fn sleeps(id: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).ok()?;
    let of = |thread: fs::DirEntry| -> Option<u64> {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    Some(threads.filter_map(Result::ok).filter_map(of).sum())
}

/// Sends a signal, by its name, to a process, or to a group by its negated id. It may be gone already.
pub fn send_signal(name: &str, process: i64) {
    let _ = Command::new("kill").args(["-s", name, "--", &process.to_string()]).status();
}

/// Kills every process in this folder.
pub fn kill_processes_in(folder: &Path) {
    for process in processes_in(folder) {
        send_signal("KILL", i64::from(process.id));
    }
}
