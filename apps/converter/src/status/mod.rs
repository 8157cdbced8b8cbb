//! `remote-converter status`: asks the converter that runs with the same `temp_dir` what it does.
//!
//! A running one answers on a Unix socket in that folder, which only its user can reach. Unlike a file, a socket tells
//! one that runs from one that was killed.

mod serve;
mod show;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    activity::{Activity, LastAnswer},
    jobs::{Completed, RunningJob},
    settings::Settings,
    start::{Failed, MACHINE, NO_ANSWER},
};

pub(crate) use serve::{Serving, Standing};

/// The socket's name in `temp_dir`.
const SOCKET: &str = "status.sock";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const LONGEST: u64 = 16 << 20;

/// What a running converter does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// What it calls itself.
    pub(crate) worker_id: String,
    /// Its version.
    pub(crate) version: String,
    /// Its process id.
    pub(crate) pid: u32,
    /// Where it gets its work.
    pub(crate) server: String,
    /// How many seconds it has run.
    pub(crate) seconds: u64,
    /// What it does.
    pub(crate) activity: Activity,
    /// Why, where that needs to be said.
    pub(crate) reason: Option<String>,
    /// What the server answered to the last poll.
    pub(crate) last_answer: Option<LastAnswer>,
    /// How many jobs it may run at the same time.
    pub(crate) max_concurrent_jobs: usize,
    /// The jobs that it runs, the one that runs longest first.
    pub(crate) jobs: Vec<RunningJob>,
    /// How many jobs have ended since its start.
    pub(crate) completed: Completed,
    /// How many results wait in the spool for the server to take them.
    pub(crate) spooled: u64,
    /// How many results were put aside because the server refused them.
    pub(crate) rejected: u64,
}

/// Prints what the converter does that runs with these settings, for a person or as JSON.
///
/// # Errors
/// When none runs, or it does not answer.
pub(crate) fn run(settings: &Settings, json: bool) -> Result<(), Failed> {
    let answer = ask(&settings.temp_dir).map_err(|error| unanswered(&settings.temp_dir, &error))?;
    let text = if json { answer } else { show::text(&read(&answer)?, show::width()) };
    // Who closed the pipe does not want to read it.
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
    Ok(())
}

fn read(answer: &str) -> Result<Status, Failed> {
    serde_json::from_str(answer).map_err(|_| Failed {
        code: MACHINE,
        message:
            "The converter that runs is of another version than this command: restart it, or see what it \
                  says with `status --json`."
                .to_owned(),
    })
}

fn ask(temp_dir: &Path) -> io::Result<String> {
    let (_folder, short) = short(temp_dir)?;
    let stream = UnixStream::connect(short.join(SOCKET))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    Ok(answer)
}

fn unanswered(temp_dir: &Path, error: &io::Error) -> Failed {
    let folder = temp_dir.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failed {
            code: NO_ANSWER,
            message: format!(
                "No converter runs with the folder {folder}. If one runs with another `temp_dir`, run this with \
                 the same settings."
            ),
        },
        _ => Failed {
            code: MACHINE,
            message: format!("The converter that runs with the folder {folder} cannot be asked: {error}."),
        },
    }
}

/// A path to a folder that is short enough to name a socket in it, whatever its own length. It is valid as long as the
/// file lives.
fn short(folder: &Path) -> io::Result<(File, PathBuf)> {
    let open = File::open(folder)?;
    #[cfg(target_os = "linux")]
    let path = {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
    };
    #[cfg(not(target_os = "linux"))]
    let path = folder.to_owned();
    Ok((open, path))
}
