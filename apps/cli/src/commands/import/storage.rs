//! The original's folder of job files: `pending/*.json`, `processing/*.json` and so on.

use std::{
    fs::{self, DirEntry, FileType},
    io, iter,
    path::{Path, PathBuf},
};

use domain::Status;

use super::NotTaken;
use crate::failure::Failure;

/// The folders in the order they are read in. When the original was stopped while it moved a job, the job lies in two of
/// them, and the one that comes first here is what became of it.
const FOLDERS: [Status; 6] = [
    Status::Completed,
    Status::Failed,
    Status::Timeout,
    Status::Cancelled,
    Status::Processing,
    Status::Pending,
];

/// A job file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    /// What its folder says.
    pub(super) status: Status,
}

/// What is in one folder, each entry read when it is its turn, so that the storage may be of any size.
pub(super) type Entries = Box<dyn Iterator<Item = Result<Stored, NotTaken>>>;

/// The job files of the storage by folder, and everything there that looks like one and cannot be taken. A folder must be
/// done with before the next is begun.
pub(super) fn folders(storage: &Path) -> Result<Vec<Entries>, Failure> {
    let unreadable = |source| Failure::File { path: storage.to_owned(), source };
    let beside: Vec<Result<Stored, NotTaken>> =
        fs::read_dir(storage).map_err(unreadable)?.filter_map(beside).collect();
    let there: Vec<(Status, PathBuf)> = FOLDERS
        .into_iter()
        .map(|status| (status, storage.join(status.as_str())))
        // A folder that is a link is there, and is not taken.
        .filter(|(_, folder)| folder.symlink_metadata().is_ok())
        .collect();
    if there.is_empty() {
        return Err(Failure::Usage(format!(
            "{} has none of the folders pending, processing, completed, failed, timeout and cancelled; give the folder \
             in which the original system keeps its job files.",
            storage.display()
        )));
    }
    let folders = there.into_iter().map(|(status, folder)| in_folder(status, &folder));
    Ok(folders.chain([Box::new(beside.into_iter()) as Entries]).collect())
}

/// What lies beside the folders and should lie in one.
fn beside(entry: io::Result<DirEntry>) -> Option<Result<Stored, NotTaken>> {
    let entry = entry.ok()?;
    let (path, kind) = (entry.path(), entry.file_type().ok()?);
    let name = entry.file_name();
    let hidden = name.to_string_lossy().starts_with('.');
    let known = FOLDERS.into_iter().any(|status| name == status.as_str());
    if hidden || known {
        return None;
    }
    if kind.is_dir() {
        let why = "Its name is no status, so no job in it is taken; move its job files to the folders of their statuses.";
        return Some(Err(NotTaken::because(&path, why)));
    }
    is_job_file(&path).then(|| {
        Err(NotTaken::because(&path, "It lies in no status's folder; move it to the folder of its status."))
    })
}

fn in_folder(status: Status, folder: &Path) -> Entries {
    let one = |why: NotTaken| -> Entries { Box::new(iter::once(Err(why))) };
    // Not followed: what a link leads to may lie outside the storage.
    match folder.symlink_metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(found) => return one(NotTaken::because(folder, &not_followed(found.file_type(), "folder"))),
        Err(source) => return one(NotTaken::unreadable(folder, source)),
    }
    let owned = folder.to_owned();
    match fs::read_dir(folder) {
        Ok(entries) => Box::new(entries.filter_map(move |entry| job_file(status, &owned, entry))),
        Err(source) => one(NotTaken::unreadable(folder, source)),
    }
}

fn job_file(status: Status, folder: &Path, entry: io::Result<DirEntry>) -> Option<Result<Stored, NotTaken>> {
    let entry = match entry {
        Ok(entry) => entry,
        Err(source) => return Some(Err(NotTaken::unreadable(folder, source))),
    };
    let path = entry.path();
    // Locks and half-written files are none of the original's jobs.
    if !is_job_file(&path) {
        return None;
    }
    Some(match entry.file_type() {
        Ok(kind) if kind.is_file() => Ok(Stored { path, status }),
        Ok(kind) => Err(NotTaken::because(&path, &not_followed(kind, "file"))),
        Err(source) => Err(NotTaken::unreadable(&path, source)),
    })
}

fn is_job_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn not_followed(kind: FileType, wanted: &str) -> String {
    let what = if kind.is_symlink() { "a symbolic link, which is not followed" } else { "something else" };
    format!("It should be a {wanted} and is {what}; put the {wanted} itself there.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that are found, with their folders' statuses, and the reasons of those that are not taken.
    fn found(storage: &Path) -> (Vec<(String, Status)>, Vec<String>) {
        let name = |path: &Path| path.strip_prefix(storage).unwrap().display().to_string();
        let (mut files, mut odd) = (Vec::new(), Vec::new());
        for entry in folders(storage).unwrap().into_iter().flatten() {
            match entry {
                Ok(stored) => files.push((name(&stored.path), stored.status)),
                Err(not_taken) => odd.push(format!("{}: {}", name(&not_taken.path), not_taken.failure)),
            }
        }
        odd.sort();
        (files, odd)
    }

    #[test]
    fn job_files_have_their_folders_status_and_ended_ones_come_first() {
        let storage = tempfile::TempDir::new().unwrap();
        for status in Status::ALL {
            let folder = storage.path().join(status.as_str());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("a.json"), "{}").unwrap();
            fs::write(folder.join("a.json.tmp"), "{").unwrap();
            fs::write(folder.join(".lock"), "").unwrap();
        }
        fs::write(storage.path().join("README"), "").unwrap();
        fs::create_dir(storage.path().join(".git")).unwrap();
        let (files, odd) = found(storage.path());
        let expected: Vec<(String, Status)> =
            FOLDERS.into_iter().map(|status| (format!("{status}/a.json"), status)).collect();
        assert_eq!((files, odd), (expected, vec![]));
    }

    #[cfg(unix)]
    #[test]
    fn what_leads_out_of_the_storage_is_not_followed() {
        use std::os::unix::fs::symlink;
        let (storage, elsewhere) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        fs::write(elsewhere.path().join("secret.json"), "{}").unwrap();
        fs::create_dir(storage.path().join("pending")).unwrap();
        symlink(elsewhere.path().join("secret.json"), storage.path().join("pending/link.json")).unwrap();
        symlink(elsewhere.path(), storage.path().join("failed")).unwrap();
        fs::create_dir(storage.path().join("pending/folder.json")).unwrap();
        fs::write(storage.path().join("timeout"), "").unwrap();
        let (files, odd) = found(storage.path());
        assert_eq!(files, []);
        assert_eq!(
            odd,
            [
                "failed: It should be a folder and is a symbolic link, which is not followed; put the folder itself there.",
                "pending/folder.json: It should be a file and is something else; put the file itself there.",
                "pending/link.json: It should be a file and is a symbolic link, which is not followed; put the file itself there.",
                "timeout: It should be a folder and is something else; put the folder itself there.",
            ]
        );
    }

    #[test]
    fn what_lies_beside_the_folders_is_told() {
        let storage = tempfile::TempDir::new().unwrap();
        for folder in ["pending", "archived"] {
            fs::create_dir(storage.path().join(folder)).unwrap();
        }
        fs::write(storage.path().join("job.json"), "{}").unwrap();
        let (files, odd) = found(storage.path());
        assert_eq!(files, []);
        assert!(odd[0].starts_with("archived: Its name is no status"), "{odd:?}");
        assert!(odd[1].starts_with("job.json: It lies in no status's folder"), "{odd:?}");
    }

    #[test]
    fn another_folder_is_a_usage_error() {
        let folder = tempfile::TempDir::new().unwrap();
        let code = |path: &Path| folders(path).map(drop).unwrap_err().code();
        assert_eq!(code(folder.path()), 2);
        assert_eq!(code(&folder.path().join("missing")), 7);
    }
}
