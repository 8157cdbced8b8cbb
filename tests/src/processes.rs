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
