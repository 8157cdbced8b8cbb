//! Converters that misbehave, as real processes: what the job is told, and that nothing of them is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod contained;
mod misbehaving;
mod proxy;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use remote_converter::{
    contain::{Kernel, Walls},
    convert::{ConvertError, Converted, Source, convert},
    descriptions::Description,
    egress::Egress,
    folders::{Folders, WorkFolder},
};
use serde_json::Map;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A folder of a worker, with one job's work folder in it, and what its converter is kept away from.
struct Bench {
    parent: tempfile::TempDir,
    folders: Folders,
    walls: Walls,
    /// How long the job may take.
    time: Duration,
}

/// How a conversion went.
struct Outcome {
    result: Result<Converted, ConvertError>,
    lines: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(Egress::default())
    }

    fn with(egress: Egress) -> Self {
        let kernel = Kernel::tried();
        let contains = kernel.unfiltered.is_none() && kernel.landlock >= 6;
        assert!(contains, "these tests need Linux 6.12 or later with Landlock: {kernel:?}");
        let parent = tempfile::tempdir().unwrap();
        let folders = Folders::open(&parent.path().join("temp")).unwrap();
        fs::write(parent.path().join("settings.yaml"), "api_key: secret").unwrap();
        let closed = vec![folders.root().to_owned(), parent.path().join("settings.yaml")];
        Self { parent, folders, walls: Walls::new(closed, egress), time: Duration::from_secs(120) }
    }

    /// Runs a script of the shell, whose `$1` is the source and `$2` the result, with these further lines of its
    /// description. Afterwards nothing of it is left.
    async fn shell(&self, script: &str, rest: &str) -> Outcome {
        self.run("sh", script, rest).await
    }

    /// The same with Python, whose `sys.argv` is numbered alike.
    async fn python(&self, script: &str, rest: &str) -> Outcome {
        self.run(&python(), script, rest).await
    }

    async fn run(&self, program: &str, script: &str, rest: &str) -> Outcome {
        let work = self.folders.work("job-1").unwrap();
        let outcome = self.convert(&work, program, script, rest).await;
        assert_eq!(left_behind(work.path()), Vec::<String>::new(), "processes are left");
        let path = work.path().to_owned();
        drop(work);
        assert!(!path.exists(), "the work folder is left");
        outcome
    }

    async fn convert(&self, work: &WorkFolder, program: &str, script: &str, rest: &str) -> Outcome {
        let here = self.parent.path().join("here");
        fs::create_dir_all(&here).unwrap();
        fs::write(here.join("script"), script).unwrap();
        let text = format!(
            "name: hostile\ncontent_types: [audio]\ncommand: ['{program}', '{{here}}/script', '{{input}}', '{{output}}']\n\
             result: {{format: markdown, from: file}}\n{rest}\n"
        );
        let description = Description::parse(&text, &here).unwrap();
        let scratch = work.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let input = work.path().join("source.txt");
        fs::write(&input, "the source").unwrap();
        let source = Source {
            path: &input,
            options: &Map::new(),
            folder: &scratch,
            python: Path::new("python3"),
            deadline: Instant::now() + self.time,
            walls: &self.walls,
        };
        let mut lines = 0;
        let mut on_line = |_: &str| lines += 1;
        let result = convert(&description, source, &CancellationToken::new(), &mut on_line).await;
        Outcome { result, lines }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.parent.path().join(name)
    }
}

impl Outcome {
    fn content(self) -> String {
        self.result.unwrap().content
    }

    /// Why it failed, which another attempt may get over.
    fn failure(self) -> String {
        match self.result {
            Err(ConvertError::Failed { message, retryable: true }) => message,
            other => panic!("{other:?}"),
        }
    }
}

/// The interpreter of the tests' scripts, which needs no package.
fn python() -> String {
    std::env::var("MORAG_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// What the processes are called that work below a folder or were started for it.
fn left_behind(folder: &Path) -> Vec<String> {
    let mark = format!("MORAG_WORK_FOLDER={}", folder.display());
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let works_there = || fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        let environment =
            || String::from_utf8_lossy(&fs::read(path.join("environ")).unwrap_or_default()).into_owned();
        if works_there() || environment().contains(&mark) {
            left.push(fs::read_to_string(path.join("cmdline")).unwrap_or_default());
        }
    }
    left
}

/// Whether a process runs no more.
fn is_gone(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    status.is_empty() || status.contains(") Z ")
}
