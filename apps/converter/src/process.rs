//! Runs one command in its own process group, under limits, until it ends or has to be ended.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use progress::LineSplitter;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::log_tail::LogTail;

/// How long a group gets between SIGTERM and SIGKILL, and its pipes after its leader ended.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the size of the result file is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// What a command gets of this process's environment. Everything else could be a secret.
const HANDED_ON: [&str; 9] =
    ["PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "USER"];
const HANDED_ON_PREFIXES: [&str; 4] = ["LC_", "CUDA_", "NVIDIA_", "OMP_"];

/// A command and what it may use.
#[derive(Clone, Debug)]
pub struct Task {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// Where it runs; also its `TMPDIR`.
    pub folder: PathBuf,
    /// The environment variables that it gets besides the usual ones.
    pub environment: Vec<String>,
    /// The address space of each of its processes, in bytes.
    pub memory_bytes: Option<u64>,
    /// When it is ended, if it has not ended before.
    pub deadline: Option<Instant>,
    /// Where its result goes, and how many bytes that may have.
    pub result: TaskResult,
}

/// Where a command's result goes.
#[derive(Clone, Debug)]
pub enum TaskResult {
    /// To this file.
    File(PathBuf, u64),
    /// To standard output, which is no log then.
    Stdout(u64),
}

impl TaskResult {
    fn most_bytes(&self) -> u64 {
        match self {
            Self::File(_, most) | Self::Stdout(most) => *most,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that this program did not send.
    Signalled(i32),
    /// Because its deadline came.
    TimedOut,
    /// Because its result grew too large.
    TooLarge,
    /// Because it was told to.
    Stopped,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output, if that is its result.
    pub stdout: Vec<u8>,
    tail: LogTail,
}

impl Finished {
    /// The end of its log, at most this many bytes.
    #[must_use]
    pub fn log_end(&self, most: usize) -> String {
        self.tail.end(most)
    }
}

/// Runs a command. `on_line` sees each line of its log and must not block. When `stop` is cancelled, the command is.
///
/// Whatever way it ends, and also when the returned future is dropped, nothing of its process group is left. A group
/// that has to end is asked first, and killed after two seconds.
///
/// # Errors
/// When the command cannot be started or waited for.
pub async fn run(
    task: &Task,
    stop: &CancellationToken,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> io::Result<Finished> {
    let mut child = spawn(task)?;
    let group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut run = Run {
        task,
        group,
        on_line,
        stdout: Pipe::new(stdout),
        stderr: Pipe::new(stderr),
        captured: Vec::new(),
        tail: LogTail::default(),
        status: None,
        ended: None,
        patience_ends: None,
        look: ticking(),
    };
    run.until_ended(&mut child, stop).await?;
    run.finish()
}

/// Starts the command through a shell that sets the limits and then becomes the command: a limit set from outside
/// would come too late.
fn spawn(task: &Task) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    match task.memory_bytes {
        Some(bytes) => {
            command.args(["-c", r#"ulimit -c 0; ulimit -v "$0" || exit 126; exec "$@""#]);
            command.arg((bytes / 1024).to_string());
        }
        None => {
            command.args(["-c", r#"ulimit -c 0; exec "$@""#, "sh"]);
        }
    }
    command.args(&task.words).current_dir(&task.folder).env_clear();
    for (name, value) in std::env::vars_os() {
        let handed_on = name.to_str().is_some_and(|name| {
            HANDED_ON.contains(&name)
                || HANDED_ON_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || task.environment.iter().any(|wanted| wanted == name)
        });
        if handed_on {
            command.env(name, value);
        }
    }
    command
        .env("TMPDIR", &task.folder)
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// A process group, which is killed when the value goes.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn send(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It fails when nobody is left, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.send(Signal::KILL);
    }
}

/// One of the command's output pipes.
struct Pipe<R> {
    reader: Option<R>,
    buffer: Vec<u8>,
    lines: LineSplitter,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(reader: Option<R>) -> Self {
        Self { reader, buffer: vec![0; 16 * 1024], lines: LineSplitter::default() }
    }

    fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// The next bytes; none at the end, after which the pipe is closed. Dropping the future loses nothing.
    async fn read(&mut self) -> usize {
        let Some(reader) = &mut self.reader else { return 0 };
        let read = reader.read(&mut self.buffer).await.unwrap_or(0);
        if read == 0 {
            self.reader = None;
        }
        read
    }
}

fn ticking() -> Interval {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look
}

struct Run<'a> {
    task: &'a Task,
    group: Group,
    on_line: &'a mut (dyn FnMut(&str) + Send),
    stdout: Pipe<tokio::process::ChildStdout>,
    stderr: Pipe<tokio::process::ChildStderr>,
    captured: Vec<u8>,
    tail: LogTail,
    status: Option<ExitStatus>,
    /// Why it had to be ended, if it had to.
    ended: Option<Ended>,
    /// When patience with what was asked to end, or with pipes that somebody holds open, is over.
    patience_ends: Option<Instant>,
    look: Interval,
}

impl Run<'_> {
    async fn until_ended(&mut self, child: &mut Child, stop: &CancellationToken) -> io::Result<()> {
        while self.status.is_none() || self.stdout.is_open() || self.stderr.is_open() {
            let running = self.status.is_none() && self.ended.is_none();
            tokio::select! {
                read = self.stdout.read(), if self.stdout.is_open() => self.on_stdout(read),
                read = self.stderr.read(), if self.stderr.is_open() => {
                    let lines = self.stderr.lines.push(&self.stderr.buffer[..read]);
                    self.log(&lines);
                }
                status = child.wait(), if self.status.is_none() => {
                    self.status = Some(status?);
                    // Whatever it started goes with it, and only now: the id may soon be somebody else's.
                    self.group.send(Signal::KILL);
                    self.group.0 = None;
                    self.patience_ends = Some(Instant::now() + PATIENCE);
                }
                () = until(self.task.deadline), if running => self.end(Ended::TimedOut),
                () = stop.cancelled(), if running => self.end(Ended::Stopped),
                _ = self.look.tick(), if running => self.look_at_result(),
                () = until(self.patience_ends) => {
                    if self.status.is_some() {
                        // Somebody left the group and holds the pipes open.
                        return Ok(());
                    }
                    self.group.send(Signal::KILL);
                    self.patience_ends = None;
                }
            }
        }
        Ok(())
    }

    fn on_stdout(&mut self, read: usize) {
        let bytes = &self.stdout.buffer[..read];
        let TaskResult::Stdout(most) = self.task.result else {
            let lines = self.stdout.lines.push(bytes);
            return self.log(&lines);
        };
        if self.captured.len() as u64 + read as u64 <= most {
            self.captured.extend_from_slice(bytes);
        } else {
            self.end(Ended::TooLarge);
        }
    }

    fn log(&mut self, lines: &[String]) {
        for line in lines {
            self.tail.push(line);
            (self.on_line)(line);
        }
    }

    fn look_at_result(&mut self) {
        if let TaskResult::File(path, most) = &self.task.result
            && std::fs::symlink_metadata(path).is_ok_and(|found| found.len() > *most)
        {
            self.end(Ended::TooLarge);
        }
    }

    fn end(&mut self, why: Ended) {
        if self.ended.is_none() && self.status.is_none() {
            self.group.send(Signal::TERM);
            self.patience_ends = Some(Instant::now() + PATIENCE);
        }
        self.ended = self.ended.or(Some(why));
    }

    fn finish(mut self) -> io::Result<Finished> {
        let rest: Vec<String> =
            self.stdout.lines.finish().into_iter().chain(self.stderr.lines.finish()).collect();
        self.log(&rest);
        let status = self.status.ok_or_else(|| io::Error::other("the command's end was not seen"))?;
        let by_itself =
            || status.code().map_or(Ended::Signalled(status.signal().unwrap_or(0)), Ended::Exited);
        let ended = self.ended.unwrap_or_else(by_itself);
        Ok(Finished { ended, stdout: self.captured, tail: self.tail })
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Task {
    /// How many bytes its result may have.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        self.result.most_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(folder: &Path, script: &str) -> Task {
        Task {
            words: ["sh", "-c", script].map(OsString::from).to_vec(),
            folder: folder.to_owned(),
            environment: Vec::new(),
            memory_bytes: None,
            deadline: None,
            result: TaskResult::File(folder.join("output"), 1000),
        }
    }

    async fn lines_of(task: &Task) -> (Finished, Vec<String>) {
        let mut lines = Vec::new();
        let finished =
            run(task, &CancellationToken::new(), &mut |line| lines.push(line.to_owned())).await.unwrap();
        (finished, lines)
    }

    /// Whether a process that writes its id to this file runs no more.
    async fn is_gone(file: &Path) -> bool {
        let id = std::fs::read_to_string(file).unwrap();
        for _ in 0..200 {
            // A killed process may stay as a zombie until its new parent has looked at it.
            let status = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
            if status.is_empty() || status.contains(") Z ") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    async fn appeared(file: &Path) {
        while !std::fs::read_to_string(file).is_ok_and(|text| text.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn lines_of_both_pipes_are_seen_and_the_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo out; echo err >&2; printf unfinished; exit 65";
        let (finished, mut lines) = lines_of(&shell(folder.path(), script)).await;
        lines.sort();
        assert_eq!(lines, ["err", "out", "unfinished"]);
        assert_eq!(finished.ended, Ended::Exited(65));
        assert!(finished.log_end(1000).contains("unfinished"));

        let (finished, _) = lines_of(&shell(folder.path(), "kill -9 $$")).await;
        assert_eq!(finished.ended, Ended::Signalled(9));
    }

    #[tokio::test]
    async fn it_runs_in_its_folder_without_input_or_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = shell(folder.path(), "pwd; cat; env");
        task.environment = vec!["CARGO_PKG_NAME".to_owned()];
        let (finished, lines) = lines_of(&task).await;
        assert_eq!(finished.ended, Ended::Exited(0));
        assert_eq!(Path::new(&lines[0]), folder.path().canonicalize().unwrap());
        assert!(lines.iter().any(|line| line.starts_with("PATH=")));
        assert!(lines.contains(&"CARGO_PKG_NAME=remote-converter".to_owned()));
        assert!(
            !lines.iter().any(|line| line.starts_with("CARGO_MANIFEST_DIR=") || line.starts_with("MORAG_"))
        );
    }

    #[tokio::test]
    async fn stopping_kills_grandchildren_that_ignore_being_asked() {
        let folder = tempfile::tempdir().unwrap();
        let script =
            "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >id; while :; do sleep 0.1; done' & wait; sleep 60";
        let task = shell(folder.path(), script);
        let stop = CancellationToken::new();
        let id = folder.path().join("id");
        let stopping = async {
            appeared(&id).await;
            stop.cancel();
        };
        let mut ignore = |_: &str| {};
        let (finished, ()) = tokio::join!(run(&task, &stop, &mut ignore), stopping);
        assert_eq!(finished.unwrap().ended, Ended::Stopped);
        assert!(is_gone(&id).await);
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let script = "sh -c 'echo $$ >id; sleep 60' & while ! [ -s id ]; do sleep 0.01; done";
        let (finished, _) = lines_of(&shell(folder.path(), script)).await;
        assert_eq!(finished.ended, Ended::Exited(0));
        assert!(is_gone(&folder.path().join("id")).await);
    }

    #[tokio::test]
    async fn dropping_the_run_kills_the_group() {
        let folder = tempfile::tempdir().unwrap();
        let task = shell(folder.path(), "sh -c 'echo $$ >id; sleep 60' & wait");
        let id = folder.path().join("id");
        tokio::select! {
            _ = lines_of(&task) => panic!("it ended"),
            () = appeared(&id) => {}
        }
        assert!(is_gone(&id).await);
    }

    #[tokio::test]
    async fn a_command_outside_its_group_cannot_hold_its_end_up() {
        let folder = tempfile::tempdir().unwrap();
        let script = "setsid sh -c 'echo $$ >id; sleep 60' & while ! [ -s id ]; do sleep 0.01; done";
        let (finished, _) = lines_of(&shell(folder.path(), script)).await;
        assert_eq!(finished.ended, Ended::Exited(0));
        let id: i32 = std::fs::read_to_string(folder.path().join("id")).unwrap().trim().parse().unwrap();
        let _ = kill_process_group(Pid::from_raw(id).unwrap(), Signal::KILL);
    }

    #[tokio::test]
    async fn a_deadline_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = shell(folder.path(), "echo begun; sleep 60");
        task.deadline = Some(Instant::now() + Duration::from_millis(200));
        let (finished, _) = lines_of(&task).await;
        assert_eq!(finished.ended, Ended::TimedOut);
    }

    #[tokio::test]
    async fn results_that_grow_too_large_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let task = shell(folder.path(), "head -c 5000 /dev/zero >output; sleep 60");
        assert_eq!(lines_of(&task).await.0.ended, Ended::TooLarge);

        let mut task = shell(folder.path(), "cat /dev/zero");
        task.result = TaskResult::Stdout(5000);
        let (finished, lines) = lines_of(&task).await;
        assert_eq!(finished.ended, Ended::TooLarge);
        assert!(finished.stdout.len() <= 5000 && lines.is_empty());
    }

    #[tokio::test]
    async fn standard_output_can_be_the_result() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = shell(folder.path(), "printf 'a\\nb'; echo log >&2");
        task.result = TaskResult::Stdout(3);
        let (finished, lines) = lines_of(&task).await;
        assert_eq!((finished.ended, finished.stdout.as_slice()), (Ended::Exited(0), b"a\nb".as_slice()));
        assert_eq!(lines, ["log"]);
    }

    #[tokio::test]
    async fn memory_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = shell(folder.path(), "ulimit -v");
        task.memory_bytes = Some(512 << 20);
        assert_eq!(lines_of(&task).await.1, [(512 << 10).to_string()]);
        task.words = ["python3", "-c", "bytearray(1 << 30)"].map(OsString::from).to_vec();
        assert_eq!(lines_of(&task).await.0.ended, Ended::Exited(1));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_failure_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = shell(folder.path(), "");
        task.words = vec![OsString::from("no-such-program")];
        let (finished, lines) = lines_of(&task).await;
        assert_eq!(finished.ended, Ended::Exited(127));
        assert!(lines[0].contains("no-such-program"), "{lines:?}");
    }

    #[tokio::test]
    async fn a_flood_of_output_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let task = shell(folder.path(), "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end");
        let (finished, lines) = lines_of(&task).await;
        assert_eq!(finished.ended, Ended::Exited(0));
        assert!(lines[0].len() <= progress::MOST_LINE_BYTES);
        assert!(finished.log_end(usize::MAX).len() <= 8192 && finished.log_end(10).ends_with("end"));
    }
}
