//! A disk that is full while the test wants it to be.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use system_tests::ConverterProgram;

/// How it is made. `MORAG_TEST_FULL_DISK=limit` chooses the way that needs no root.
#[derive(Debug)]
pub(crate) enum Disk {
    /// A small file system of its own, which a large file fills. Only root can mount one.
    Mounted(PathBuf),
    /// No file of the converter, and of what it starts from then on, may grow.
    Limited,
}

impl Disk {
    /// Makes `folder` a disk that can be filled.
    pub(crate) fn make(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let reason = match std::env::var("MORAG_TEST_FULL_DISK").as_deref() {
            Ok("limit") => "MORAG_TEST_FULL_DISK says so".to_owned(),
            _ => {
                let mount = Command::new("mount")
                    .args(["-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs"])
                    .arg(folder)
                    .output();
                match mount {
                    Ok(mount) if mount.status.success() => {
                        println!("FULL DISK: a tmpfs of 32 MiB, filled by a file");
                        return Self::Mounted(folder.to_owned());
                    }
                    Ok(mount) => String::from_utf8_lossy(&mount.stderr).trim().to_owned(),
                    Err(error) => error.to_string(),
                }
            }
        };
        println!("FULL DISK: played by RLIMIT_FSIZE, under which no file may grow, because: {reason}");
        Self::Limited
    }

    /// Nothing can be written by this converter, whose home lies on the disk. What it removes makes room again, so
    /// this is to be repeated.
    pub(crate) fn fill(&self, converter: &ConverterProgram) {
        match self {
            Self::Mounted(folder) => {
                fill(&folder.join("filler"), 0);
                // Its log has the rest of a page to itself, which empty lines fill.
                fill(&converter.log_file(), b'\n');
            }
            Self::Limited => limit(converter, Some(0)),
        }
    }

    /// There is room again.
    pub(crate) fn empty(&self, converter: &ConverterProgram) {
        match self {
            Self::Mounted(folder) => std::fs::remove_file(folder.join("filler")).unwrap(),
            Self::Limited => limit(converter, None),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Mounted(folder) = self {
            // At once from everybody's view, and for good when the last one who has a file open there is gone.
            let _ = Command::new("umount").arg("--lazy").arg(folder).status();
        }
    }
}

fn fill(path: &Path, with: u8) {
    let mut filler = OpenOptions::new().create(true).append(true).open(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        let piece = vec![with; size];
        let full = loop {
            if let Err(error) = filler.write_all(&piece) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }
}

fn limit(converter: &ConverterProgram, bytes: Option<u64>) {
    let process = Pid::from_raw(i32::try_from(converter.id()).unwrap());
    // The hard limit stays what it is: only root may raise one.
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(process, Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}
