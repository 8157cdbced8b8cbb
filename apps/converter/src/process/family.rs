//! The processes of a command, wherever they went: into other process groups and sessions, and away from parents that
//! ended.
//!
//! This program adopts its orphaned descendants, so every process of a command stays below this one: below the command
//! itself, or below an orphan. Orphans are told apart by an environment variable that names their work folder. One
//! that took it away is nobody's and is killed; that it is a command's at all shows by its system calls being
//! filtered, which no process can undo.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, waitpid};
use tokio::process::{Child, Command};

/// The environment variable that names a command's work folder.
pub(crate) const MARK: &str = "MORAG_WORK_FOLDER";

/// How often what is left of a command is looked for before that is given up, and how long to wait in between: an end
/// that the kernel has been asked for takes a moment.
const ROUNDS: u32 = 500;
const ROUND: Duration = Duration::from_millis(10);

/// All families of this program.
static FAMILIES: Mutex<Families> =
    Mutex::new(Families { commands: BTreeSet::new(), folders: BTreeSet::new() });

#[derive(Debug)]
struct Families {
    /// The commands that have not been waited for.
    commands: BTreeSet<i32>,
    /// The work folders of all whose processes are not all gone.
    folders: BTreeSet<PathBuf>,
}

/// A command's processes. Dropping it kills those that are left.
#[derive(Debug)]
pub(crate) struct Family {
    /// The command's own process, as long as it has not been waited for. Afterwards the id may be somebody else's.
    command: Option<Pid>,
    folder: PathBuf,
}

/// What a command's processes are found by while it runs.
#[derive(Clone, Debug)]
pub(super) struct Kin {
    command: Option<Pid>,
    folder: PathBuf,
}

/// What can be seen of a process.
#[derive(Clone, Copy, Debug)]
struct Process {
    id: Pid,
    parent: i32,
    is_zombie: bool,
}

impl Family {
    /// Starts a command whose work folder is this one.
    pub(super) fn start(command: &mut Command, folder: &Path) -> io::Result<(Child, Self)> {
        static ADOPT: Once = Once::new();
        ADOPT.call_once(adopt_orphans);
        // Nobody may look at this program's children before the new one is known to be a command.
        let mut families = families();
        let child = command.env(MARK, folder).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        families.commands.extend(id.map(raw));
        families.folders.insert(folder.to_owned());
        Ok((child, Self { command: id, folder: folder.to_owned() }))
    }

    /// Sends a signal to the command's own process group.
    pub(super) fn send(&self, signal: Signal) {
        if let Some(group) = self.command {
            // It fails when nobody is left, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    /// The command has ended and was just waited for. The rest of its group is killed.
    pub(super) fn ended(&mut self) {
        self.send(Signal::KILL);
        if let Some(id) = self.command.take() {
            families().commands.remove(&raw(id));
        }
    }

    /// What its processes are found by.
    pub(super) fn kin(&self) -> Kin {
        Kin { command: self.command, folder: self.folder.clone() }
    }

    /// Kills what is left, however fast it multiplies: what is stopped starts nothing any more.
    pub(super) fn kill(&self) {
        self.send(Signal::KILL);
        for round in 0..ROUNDS {
            let mut left = self.kin().processes(true);
            for _ in 0..ROUNDS {
                let seen = left.len();
                left.iter().for_each(|id| signal(*id, Signal::STOP));
                left = self.kin().processes(true);
                if left.len() <= seen {
                    break;
                }
            }
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|id| signal(*id, Signal::KILL));
            if round > 0 {
                std::thread::sleep(ROUND);
            }
        }
        tracing::error!(folder = %self.folder.display(), "processes of a converter are left that cannot be killed");
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.ended();
        self.kill();
        families().folders.remove(&self.folder);
    }
}

/// Has descendants whose parents ended become children of this program.
#[cfg(target_os = "linux")]
fn adopt_orphans() {
    if let Err(error) = rustix::process::set_child_subreaper(Some(getpid())) {
        tracing::warn!(%error, "orphans of converters cannot be adopted, so some may be left behind");
    }
}

#[cfg(not(target_os = "linux"))]
fn adopt_orphans() {}

fn families() -> MutexGuard<'static, Families> {
    FAMILIES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn raw(id: Pid) -> i32 {
    id.as_raw_nonzero().get()
}

fn signal(id: Pid, signal: Signal) {
    let _ = kill_process(id, signal);
}

impl Kin {
    /// The processes of the command that run now.
    pub(super) fn members(&self) -> Vec<Pid> {
        self.processes(false)
    }

    /// The processes of the command that run now, and with `also_strangers` those of no command that runs.
    fn processes(&self, also_strangers: bool) -> Vec<Pid> {
        let families = families();
        let all = processes();
        let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
        for process in &all {
            children.entry(process.parent).or_default().push(*process);
        }
        let orphans = children.get(&raw(getpid())).into_iter().flatten();
        let orphans = orphans.filter(|orphan| !families.commands.contains(&raw(orphan.id)));
        let orphans = orphans.filter(|orphan| is_contained(orphan.id));
        let is_wanted = |orphan: &&Process| {
            is_of(orphan, &self.folder) || (also_strangers && is_stranger(orphan, &families.folders))
        };
        let mut found: Vec<Process> = orphans.filter(is_wanted).copied().collect();
        found.extend(all.iter().filter(|process| Some(process.id) == self.command));
        let mut next = 0;
        while let Some(process) = found.get(next) {
            let below = children.get(&raw(process.id)).cloned().unwrap_or_default();
            found.extend(below);
            next += 1;
        }
        found.iter().filter(|process| !process.is_zombie).map(|process| process.id).collect()
    }
}

/// Whether an orphan is of the command with this folder. One that has ended is only buried.
fn is_of(orphan: &Process, folder: &Path) -> bool {
    if orphan.is_zombie {
        let _ = waitpid(Some(orphan.id), WaitOptions::NOHANG);
        return false;
    }
    is_marked(orphan.id, |mark| mark == folder)
}

/// Whether an orphan is of none of the commands with these folders.
fn is_stranger(orphan: &Process, folders: &BTreeSet<PathBuf>) -> bool {
    let is_known = || is_marked(orphan.id, |mark| folders.contains(mark));
    // While a process becomes another program it has no environment for a moment.
    let is_known_soon = || {
        std::thread::sleep(ROUND);
        is_known()
    };
    !orphan.is_zombie && !is_known() && !is_known_soon()
}

/// Whether the process has a work folder in its environment for which this holds.
fn is_marked(id: Pid, holds: impl Fn(&Path) -> bool) -> bool {
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        value.is_some_and(|value| holds(Path::new(std::ffi::OsStr::from_bytes(value))))
    })
}

/// Whether more system calls are taken away from a process than from this one, as from every command.
fn is_contained(id: Pid) -> bool {
    let filters = |id: &str| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse::<u32>().ok())
        };
        // Before Linux 5.9 the filters were not counted, only told.
        value("Seccomp_filters").or_else(|| value("Seccomp")).unwrap_or(0)
    };
    filters(&id.to_string()) > filters("self")
}

/// All processes of this machine.
fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn process(id: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{id}/stat")).ok()?;
    // The name is in parentheses and may hold anything, parentheses too.
    let rest = &stat[stat.iter().rposition(|byte| *byte == b')')? + 1..];
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Process { id: Pid::from_raw(id)?, parent, is_zombie: matches!(state, "Z" | "X") })
}

/// Kills this user's processes that work below this folder or whose environment names a folder below it: what a
/// killed predecessor of this program left running. None of them is a child of this one. Processes that find another
/// folder at this path, as those in containers do, are none of them.
///
/// # Errors
/// When the folder cannot be looked at, or some of them cannot be killed.
pub(crate) fn kill_left_below(folder: &Path) -> io::Result<()> {
    let real = folder.canonicalize()?;
    let place = place(&real)?;
    let is_below = |path: &Path| path.starts_with(&real) || path.starts_with(folder);
    for round in 0..ROUNDS {
        let processes = processes();
        let mut left = processes.iter().filter(|process| {
            let works_there =
                || fs::read_link(format!("/proc/{}/cwd", process.id)).is_ok_and(|path| is_below(&path));
            let is_meant = || works_there() || is_marked(process.id, is_below);
            let root = PathBuf::from(format!("/proc/{}/root", process.id));
            !process.is_zombie && process.id != getpid() && is_meant() && finds(&root, &real, place)
        });
        let mut any = false;
        for process in left.by_ref() {
            any = true;
            if round == 0 {
                let process = raw(process.id);
                tracing::warn!(process, "a command of an earlier process still ran; it is killed");
            }
            signal(process.id, Signal::KILL);
        }
        if !any {
            return Ok(());
        }
        std::thread::sleep(ROUND);
    }
    Err(io::Error::other("processes of an earlier remote-converter work there and cannot be killed"))
}

/// What tells a file or folder from all others: its device and number there.
fn place(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Whether a process with this root finds at a path what is at this place.
fn finds(root: &Path, path: &Path, expected: (u64, u64)) -> bool {
    let below = path.strip_prefix("/").unwrap_or(path);
    place(&root.join(below)).is_ok_and(|found| found == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_another_folder_at_the_same_path_is_not_killed() {
        let (folder, container) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let real = folder.path().canonicalize().unwrap();
        let place = place(&real).unwrap();
        assert!(finds(Path::new("/proc/self/root"), &real, place));
        fs::create_dir_all(container.path().join(real.strip_prefix("/").unwrap())).unwrap();
        assert!(!finds(container.path(), &real, place));
        assert!(!finds(&container.path().join("none"), &real, place));
    }
}
