//! A log file that stays bounded: when it is full it is renamed, and the oldest of its forerunners goes.
//!
//! The libraries for this bring a calendar and a compressor along, and panic or lose the file when renaming fails.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// How large a log file gets.
pub(crate) const LARGEST: u64 = 10 << 20;
/// How many earlier ones are kept, named with `.1` for the youngest to `.5`.
const KEPT: u32 = 5;

/// A log file and what it is renamed to, whether these are there or not.
pub(crate) fn all(path: &Path) -> Vec<PathBuf> {
    (1..=KEPT).map(|number| numbered(path, number)).chain([path.to_owned()]).collect()
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The log file. What cannot be written is left out, because nobody could be told and the work is more important.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    largest: u64,
}

impl LogFile {
    /// Opens it, to write on where it ends.
    pub(crate) fn open(path: &Path, largest: u64) -> io::Result<Self> {
        let mut log = Self { path: path.to_owned(), file: None, size: 0, largest };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.rename_all().is_err()
            && let Some(file) = &self.file
        {
            // A folder that takes no new names must not end the log, nor let it grow.
            file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        self.reopen()
    }

    fn rename_all(&self) -> io::Result<()> {
        for number in (1..KEPT).rev() {
            rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
        }
        rename_if_there(&self.path, &self.numbered(1))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        numbered(&self.path, number)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.file.is_none() {
            self.reopen()?;
        }
        if self.size > 0 && self.size + length > self.largest {
            self.rotate()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(line)?;
            self.size += length;
        }
        Ok(())
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.append(line).is_err() {
            // The disk may have room again, or the folder be back, by the next line.
            self.file = None;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &mut LogFile, numbers: std::ops::Range<u32>) {
        for number in numbers {
            log.write_all(format!("line {number:04}\n").as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_full_log_is_renamed_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path, 100).unwrap();
        lines(&mut log, 0..101);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("log"), "line 0100\n");
        assert!(read("log.1").starts_with("line 0090\n") && read("log.1").ends_with("line 0099\n"));
        assert!(read("log.5").starts_with("line 0050\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
    }

    #[test]
    fn a_restart_writes_on_and_counts_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        lines(&mut LogFile::open(&path, 100).unwrap(), 0..9);
        lines(&mut LogFile::open(&path, 100).unwrap(), 9..11);
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 0010\n");
        assert!(fs::read_to_string(folder.path().join("log.1")).unwrap().ends_with("line 0009\n"));
    }

    #[test]
    fn a_folder_that_goes_and_comes_back_loses_only_what_was_logged_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut log = LogFile::open(&inner.join("log"), 20).unwrap();
        lines(&mut log, 0..2);
        fs::remove_dir_all(&inner).unwrap();
        lines(&mut log, 2..5);
        fs::create_dir(&inner).unwrap();
        lines(&mut log, 5..6);
        assert_eq!(fs::read_to_string(inner.join("log")).unwrap(), "line 0005\n");
    }

    #[test]
    fn a_log_that_cannot_be_renamed_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::create_dir_all(folder.path().join("log.1/in")).unwrap();
        let mut log = LogFile::open(&path, 100).unwrap();
        fs::create_dir_all(folder.path().join("log.2/in")).unwrap();
        lines(&mut log, 0..25);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("line 0020\n") && text.ends_with("line 0024\n"), "{text}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_no_fault_of_who_logs() {
        let mut log = LogFile::open(Path::new("/dev/full"), 100).unwrap();
        lines(&mut log, 0..3);
        assert!(log.file.is_none());
    }
}
