//! Looks at what a command uses of memory and disk while it runs.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{Task, TaskResult, family::Kin};
use crate::limits::{Exceeded, Limits};

/// How often it is looked, unless a look takes long.
const LOOK: Duration = Duration::from_millis(500);
/// How many times as long as a look takes there is none.
const PAUSE: u32 = 10;
/// How many processes a command may have: more are no tools at work but a flood.
const MOST_PROCESSES: usize = 1000;
/// What a file takes even when it is empty.
const LEAST_FILE: u64 = 4096;
/// What disk use is counted in.
const BLOCK: u64 = 512;

/// Looks until the command goes beyond a limit.
pub(super) async fn watch(task: &Task, kin: Kin) -> Exceeded {
    let watched = Watched {
        kin,
        folder: task.folder.clone(),
        limits: task.limits,
        result: match &task.result {
            TaskResult::File(path, _) => Some(path.clone()),
            TaskResult::Stdout(_) => None,
        },
        most_output: task.most_bytes(),
        shared_before: shared_memory(),
    };
    let mut pause = LOOK;
    loop {
        tokio::time::sleep(pause).await;
        let (began, looking) = (Instant::now(), watched.clone());
        let looked = tokio::task::spawn_blocking(move || looking.look()).await;
        if let Ok(Some(exceeded)) = looked {
            return exceeded;
        }
        pause = LOOK.max(began.elapsed() * PAUSE);
    }
}

#[derive(Clone, Debug)]
struct Watched {
    kin: Kin,
    folder: PathBuf,
    limits: Limits,
    result: Option<PathBuf>,
    most_output: u64,
    /// What this user's files in shared memory took when it began.
    shared_before: u64,
}

impl Watched {
    fn look(&self) -> Option<Exceeded> {
        let output = self.result.as_ref().and_then(|path| fs::symlink_metadata(path).ok());
        if output.is_some_and(|found| found.len() > self.most_output) {
            return Some(Exceeded::Output(self.most_output));
        }
        let members = self.kin.members();
        if members.len() > MOST_PROCESSES {
            return Some(Exceeded::Processes(MOST_PROCESSES));
        }
        let most_memory = self.limits.memory_bytes;
        if let Some(most) = most_memory.filter(|most| uses_more_memory(&members, *most)) {
            return Some(Exceeded::Memory(most));
        }
        // What a command leaves there is nobody's, so all that came meanwhile counts: but only if it alone is too much.
        let most = most_memory.unwrap_or(self.limits.disk_bytes);
        if shared_memory().saturating_sub(self.shared_before) > most {
            return Some(Exceeded::Memory(most));
        }
        let disk = disk_use(&self.folder) + use_of_removed_files(&members, &self.folder);
        (disk > self.limits.disk_bytes).then_some(Exceeded::Disk(self.limits.disk_bytes))
    }
}

/// Whether the processes use more memory together. What they share counts once; to find that out takes a while for
/// large ones, so it is only looked at when counting it for each would be too much.
fn uses_more_memory(members: &[Pid], most: u64) -> bool {
    let resident = |id: &Pid| {
        let statm = fs::read_to_string(format!("/proc/{id}/statm")).unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        pages * rustix::param::page_size() as u64
    };
    let share = |id: &Pid| {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    members.iter().map(resident).sum::<u64>() > most
        && members.iter().map(|id| share(id).unwrap_or_else(|| resident(id))).sum::<u64>() > most
}

/// What this user's files in shared memory take.
fn shared_memory() -> u64 {
    let own = rustix::process::geteuid().as_raw();
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(|found| found.uid() == own);
    files.map(|found| found.blocks() * BLOCK).sum()
}

/// What a folder takes on its disk. What a command does there meanwhile does not lead out of it.
fn disk_use(folder: &Path) -> u64 {
    let mut sum = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder).into_iter().flatten().flatten() {
            // This does not follow links.
            let Ok(found) = entry.metadata() else { continue };
            sum += (found.blocks() * BLOCK).max(LEAST_FILE);
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    sum
}

/// The entries of a folder, also of one that a command closed to hide them.
fn entries(folder: &Path) -> io::Result<fs::ReadDir> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let found = fs::symlink_metadata(folder)?;
            if found.is_dir() {
                fs::set_permissions(folder, fs::Permissions::from_mode(found.mode() | 0o700))?;
            }
            fs::read_dir(folder)
        }
        read => read,
    }
}

/// What files take that have no name any more but are still open.
fn use_of_removed_files(members: &[Pid], folder: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut sum = 0;
    for id in members {
        for entry in fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten() {
            let path = fs::read_link(entry.path()).unwrap_or_default();
            if !(path.starts_with(folder) && path.to_string_lossy().ends_with(" (deleted)")) {
                continue;
            }
            let Ok(found) = fs::metadata(entry.path()) else { continue };
            if seen.insert((found.dev(), found.ino())) {
                sum += found.blocks() * BLOCK;
            }
        }
    }
    sum
}
