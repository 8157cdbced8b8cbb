//! The folders under the setting `temp_dir`, which one converter at a time may use.

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::{process, space::Space};

/// How often leftovers that somebody still writes to are removed again, and how long to wait before.
const REMOVALS: u32 = 20;
const REMOVAL_WAIT: Duration = Duration::from_millis(50);
/// How many bytes a disk must take to be thought of as not full.
const PROBE: usize = 1 << 20;

/// A file that stays locked as long as the value lives. Closing it would not do: a command that starts at that moment
/// has it open too until it is another program.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Locks this file, creating it if need be, and waits for whoever has it locked.
    ///
    /// # Errors
    /// When it cannot be created or locked.
    pub(crate) fn wait(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What was never locked cannot be unlocked.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// The folders, which stay this process's own as long as the value lives.
#[derive(Debug)]
pub struct Folders {
    root: PathBuf,
    space: Space,
    _locks: [Lock; 2],
}

/// Why the folder cannot be used. What is displayed names the setting.
#[derive(Debug, thiserror::Error)]
#[error("The setting `temp_dir` names {}, which {problem}", .path.display())]
pub struct FoldersError {
    path: PathBuf,
    problem: String,
    may_pass: bool,
}

impl FoldersError {
    /// Whether another try may succeed: a disk that is not there yet or full, or another converter that still ends.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.may_pass
    }
}

impl Folders {
    /// Takes the folder, creating it if need be, and removes the work that an earlier process left there.
    ///
    /// # Errors
    /// [`FoldersError`] when it is somebody else's, in use by another converter, or cannot be written.
    pub fn open(root: &Path) -> Result<Self, FoldersError> {
        take(root)?;
        let problem = |problem: String| FoldersError { path: root.to_owned(), problem, may_pass: true };
        let unusable = |error: io::Error| problem(format!("cannot be used: {error}"));
        let in_use =
            |_| problem("another remote-converter is using; give each one a folder of its own".to_owned());
        let lock = File::create(root.join("lock")).map_err(unusable)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(in_use)?;
        // Those who clean /tmp by age leave a folder alone that is locked itself.
        let folder = File::open(root).map_err(unusable)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Err(in_use(error)),
            // Network file systems lock no folders, and nobody cleans them by age.
            Ok(()) | Err(_) => {}
        }
        let folders =
            Self { root: root.to_owned(), space: Space::of(root), _locks: [Lock(lock), Lock(folder)] };
        folders.clean().map_err(unusable)?;
        Ok(folders)
    }

    fn clean(&self) -> io::Result<()> {
        let work = self.in_progress();
        if work.exists() {
            remove_leftovers(&work)?;
        }
        [work, self.spool(), self.rejected()].iter().try_for_each(|folder| create(folder))
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The room on their disk.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Whether the folders are in memory, where nothing survives a reboot. Only Linux tells.
    #[must_use]
    pub fn are_in_memory(&self) -> bool {
        is_in_memory(&self.root)
    }

    /// Results on their way.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Work in progress.
    #[must_use]
    pub fn in_progress(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Results that the server refused.
    #[must_use]
    pub fn rejected(&self) -> PathBuf {
        self.root.join("rejected")
    }

    /// A fresh work folder of this name, which goes with the value.
    ///
    /// # Errors
    /// When it exists already or cannot be created.
    pub fn work(&self, name: &str) -> io::Result<WorkFolder> {
        let path = self.in_progress().join(name);
        // Somebody who cleans up may have removed an empty one.
        create(&self.in_progress())?;
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(WorkFolder(path))
    }

    /// Finds out whether work can be done, for which there must be a disk that takes something.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn try_working(&self) -> io::Result<()> {
        create(&self.in_progress())?;
        try_writing(&self.in_progress())
    }
}

/// Creates the folder if need be, and makes sure that nobody else may read or change what is put there.
///
/// # Errors
/// [`FoldersError`] when it is somebody else's or cannot be created.
pub(crate) fn take(root: &Path) -> Result<(), FoldersError> {
    let problem = |may_pass, problem: String| FoldersError { path: root.to_owned(), problem, may_pass };
    let unusable = |error: io::Error| problem(true, format!("cannot be used: {error}"));
    create(root).map_err(unusable)?;
    let (folder, link) = (fs::metadata(root), fs::symlink_metadata(root));
    check_owner(&folder.map_err(unusable)?, &link.map_err(unusable)?).map_err(|text| problem(false, text))
}

/// Writes a little into a folder and removes it again, to find out whether its disk takes anything.
///
/// # Errors
/// Why it does not.
pub fn try_writing(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[0; PROBE])?;
        file.sync_all()
    });
    // One that could not even be created is not there.
    let _ = fs::remove_file(&path);
    written
}

/// A folder for one attempt at one job. Dropping it removes it.
#[derive(Debug)]
pub struct WorkFolder(PathBuf);

impl WorkFolder {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it away from the threads that keep other things going: one of many or large files takes its time to go.
    pub(crate) async fn remove(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a work folder could not be removed");
        }
    }
}

/// Removes what a process left that was killed, once the commands are gone that it could not end.
fn remove_leftovers(work: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        process::kill_left_below(work)?;
        match remove_all(work) {
            // Somebody who is just being killed wrote once more.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries < REMOVALS => tries += 1,
            removed => return removed,
        }
        std::thread::sleep(REMOVAL_WAIT);
    }
}

/// Removes a folder and all below it, also what a command took its own permissions away from.
pub(crate) fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder)?;
            fs::remove_dir_all(folder)
        }
        removed => removed,
    }
}

/// Gives the owner every permission for a folder and those below it. Links are not followed.
fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn is_in_memory(folder: &Path) -> bool {
    /// What Linux calls the file system tmpfs.
    const TMPFS: u32 = 0x0102_1994;
    rustix::fs::statfs(folder).is_ok_and(|found| u32::try_from(found.f_type) == Ok(TMPFS))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_folder: &Path) -> bool {
    false
}

fn create(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The default lies in a folder where everybody may create things, so whose it is matters: somebody else could have
/// been there first, to read sources or to plant scripts.
fn check_owner(folder: &Metadata, link: &Metadata) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    if folder.uid() != own || (link.uid() != own && link.uid() != 0) {
        return Err("belongs to another user; name a folder of your own".to_owned());
    }
    if folder.mode() & 0o022 != 0 {
        return Err("others may write to; name a folder that only you may write to".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_converter_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("a/b");
        let first = Folders::open(&root).unwrap();
        let text = Folders::open(&root).unwrap_err().to_string();
        assert!(text.contains("`temp_dir`") && text.contains("another remote-converter"), "{text}");
        // As tmpfiles.d(5) says, what ages files skips a folder that it cannot lock.
        let folder = File::open(&root).unwrap();
        assert!(flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(first);
        Folders::open(&root).unwrap();
    }

    #[test]
    fn leftover_work_goes_and_results_stay() {
        let parent = tempfile::tempdir().unwrap();
        let folders = Folders::open(parent.path()).unwrap();
        let left = folders.root().join("work/left");
        fs::create_dir(&left).unwrap();
        fs::write(folders.spool().join("x.json"), "{}").unwrap();
        drop(folders);
        let folders = Folders::open(parent.path()).unwrap();
        assert!(!left.exists() && folders.spool().join("x.json").exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_killed_converter_left_running_is_killed() {
        let parent = tempfile::tempdir().unwrap();
        let work = parent.path().join("work/left");
        fs::create_dir_all(&work).unwrap();
        let start = |folder: &Path| {
            let script = "while :; do echo >$(date +%N); done";
            std::process::Command::new("sh").args(["-c", script]).current_dir(folder).spawn().unwrap()
        };
        let (mut left, mut other) = (start(&work), start(parent.path()));
        Folders::open(parent.path()).unwrap();
        assert!(!left.wait().unwrap().success() && !work.exists());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_killed_converter_left_running_elsewhere_is_killed_by_its_mark() {
        let parent = tempfile::tempdir().unwrap();
        let work = parent.path().join("work/left");
        fs::create_dir_all(&work).unwrap();
        let start = |mark: &Path| {
            let mut command = std::process::Command::new("sleep");
            command.arg("300").current_dir("/").env("MORAG_WORK_FOLDER", mark).spawn().unwrap()
        };
        let (mut left, mut other) = (start(&work.join("scratch")), start(&parent.path().join("elsewhere")));
        Folders::open(parent.path()).unwrap();
        assert!(!left.wait().unwrap().success() && !work.exists());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn closed_folders_are_opened_for_their_removal_and_links_are_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let (inner, beside) = (parent.path().join("a/b"), parent.path().join("beside"));
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir(&beside).unwrap();
        std::os::unix::fs::symlink(&beside, inner.join("link")).unwrap();
        for (folder, mode) in [(&beside, 0o500), (&inner, 0o000), (&parent.path().join("a"), 0o000)] {
            fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        }
        open_up(&parent.path().join("a")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&parent.path().join("a")), mode(&inner), mode(&beside)), (0o700, 0o700, 0o500));
        remove_all(&parent.path().join("a")).unwrap();
        assert!(!inner.exists() && beside.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn folders_in_memory_are_told() {
        assert!(!is_in_memory(Path::new("/proc")));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        if mounts.lines().any(|line| line.contains(" /dev/shm tmpfs ")) {
            assert!(is_in_memory(Path::new("/dev/shm")));
        }
    }

    #[test]
    fn work_folders_are_private_and_go_with_their_value() {
        let parent = tempfile::tempdir().unwrap();
        let folders = Folders::open(parent.path()).unwrap();
        let work = folders.work("job-1").unwrap();
        assert_eq!(fs::metadata(work.path()).unwrap().mode() & 0o777, 0o700);
        fs::write(work.path().join("x"), "x").unwrap();
        assert!(folders.work("job-1").is_err());
        let path = work.path().to_owned();
        drop(work);
        assert!(!path.exists());
    }

    #[test]
    fn a_work_folder_is_made_also_after_somebody_cleaned_up() {
        let parent = tempfile::tempdir().unwrap();
        let folders = Folders::open(parent.path()).unwrap();
        fs::remove_dir(folders.in_progress()).unwrap();
        drop(folders.work("job-1").unwrap());
        fs::remove_dir(folders.in_progress()).unwrap();
        folders.try_working().unwrap();
        fs::remove_dir(folders.in_progress()).unwrap();
        fs::write(folders.in_progress(), "").unwrap();
        assert!(folders.work("job-1").is_err() && folders.try_working().is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_made_or_is_in_use_may_be_usable_later() {
        let parent = tempfile::tempdir().unwrap();
        let _first = Folders::open(parent.path()).unwrap();
        for root in [parent.path(), "/proc/nowhere".as_ref()] {
            assert!(Folders::open(root).unwrap_err().may_pass());
        }
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused_and_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Folders::open(parent.path()).unwrap_err();
        assert!(error.to_string().contains("others may write") && !error.may_pass(), "{error}");
        assert_eq!(fs::metadata(parent.path()).unwrap().mode() & 0o777, 0o777);
    }
}
