use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde::Serialize;
use tokio::{process::Command, time::timeout};

use crate::{
    contain::{Kernel, Walls},
    settings::Settings,
};

/// How long a program may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the converters find on this machine.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) python: Python,
    pub(super) gpus: Vec<String>,
    pub(super) temp_dir: PathBuf,
    /// What the disk of `temp_dir` has free, in bytes; none when it cannot be told.
    pub(super) free_bytes: Option<u64>,
    /// What the kernel cannot keep converters away from, and what it keeps them away from although it should not.
    pub(super) kernel_lacks: Vec<String>,
}

/// The interpreter of the setting `python`.
#[derive(Debug, Serialize)]
pub(super) struct Python {
    pub(super) program: PathBuf,
    /// Which one that is, if it runs.
    pub(super) found: Option<String>,
    pub(super) problem: Option<String>,
}

impl Machine {
    pub(super) async fn look(settings: &Settings) -> Self {
        let walls = Walls::of(settings);
        let kernel = tokio::task::spawn_blocking(move || [Kernel::tried().lacks(), walls.lacks()].concat());
        let (python, gpus, kernel) = tokio::join!(Python::look(&settings.python), gpus(), kernel);
        Self {
            python,
            gpus,
            temp_dir: settings.temp_dir.clone(),
            free_bytes: free(&settings.temp_dir),
            kernel_lacks: kernel.unwrap_or_default(),
        }
    }
}

impl Python {
    async fn look(program: &Path) -> Self {
        let script = "import sys; print(sys.version.split()[0], sys.executable)";
        let asked = output(Command::new(program).args(["-c", script])).await;
        let (found, problem) = match asked {
            Ok(output) if output.status.success() => {
                let said = String::from_utf8_lossy(&output.stdout);
                (Some(said.trim().replacen(' ', " at ", 1)), None)
            }
            Ok(output) => (None, Some(format!("it ends with {}", output.status))),
            Err(problem) => (None, Some(problem)),
        };
        Self { program: program.to_owned(), found, problem }
    }
}

/// The GPUs, as their driver names them.
async fn gpus() -> Vec<String> {
    let query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"];
    match output(Command::new("nvidia-smi").args(query)).await {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::trim).map(str::to_owned).collect()
        }
        _ if Path::new("/dev/nvidia0").exists() => {
            vec!["NVIDIA, but nvidia-smi does not run: is the driver whole?".to_owned()]
        }
        _ if Path::new("/dev/kfd").exists() => vec!["AMD (ROCm)".to_owned()],
        _ => Vec::new(),
    }
}

async fn output(command: &mut Command) -> Result<Output, String> {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    match timeout(PATIENCE, running).await {
        Ok(ended) => ended.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it does not answer within {} s", PATIENCE.as_secs())),
    }
}

/// What is free where a folder is, or will be.
fn free(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|folder| folder.exists())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
