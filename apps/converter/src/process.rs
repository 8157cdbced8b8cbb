//! Runs one command, contained and under its limits, until it ends or has to be ended.

mod family;
mod start;
mod watch;

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use progress::LineSplitter;
use rustix::process::Signal;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Child,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub(crate) use family::kill_left_below;

use crate::{
    contain::{Containment, Walls},
    descriptions::Description,
    egress::Way,
    limits::{Exceeded, Limits},
    log_tail::LogTail,
};
use family::Family;

/// How long a group gets between SIGTERM and SIGKILL, and its pipes after its leader ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// A command and what it may use.
#[derive(Clone, Debug)]
pub struct Task {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// Where it runs; also its `TMPDIR`.
    pub folder: PathBuf,
    /// The environment variables that it gets besides the usual ones.
    pub environment: Vec<String>,
    /// What it may use.
    pub limits: Limits,
    /// What it is kept away from.
    pub containment: Containment,
    /// Its way to the network, if it has one.
    pub way: Option<Way>,
    /// When it is ended, if it has not ended before and its own limits allow as long.
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

impl Task {
    /// A command of this description, which works in this folder and may also read the paths that are named.
    ///
    /// # Errors
    /// When its way to the network cannot be opened.
    pub async fn of(
        description: &Description,
        words: Vec<OsString>,
        folder: &Path,
        readable: Vec<PathBuf>,
        walls: &Walls,
        result: TaskResult,
    ) -> io::Result<Self> {
        let way = walls.way(description.network).await?;
        Ok(Self {
            words,
            folder: folder.to_owned(),
            environment: description.environment.clone(),
            limits: description.limits,
            containment: walls.around(folder, readable, &description.limits, way.as_ref()),
            way,
            deadline: None,
            result,
        })
    }

    /// The same, ended at this moment.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// How many bytes its result may have.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        self.result.most_bytes()
    }

    /// When time is over for it, and which limit says so.
    fn time_over(&self) -> (Option<Instant>, Exceeded) {
        let own = self.limits.timeout_seconds.map(|seconds| (seconds, Duration::from_secs(seconds)));
        let own = own.and_then(|(seconds, time)| Some((Instant::now().checked_add(time)?, seconds)));
        match (own, self.deadline) {
            (Some((own, seconds)), deadline) if deadline.is_none_or(|deadline| own < deadline) => {
                (Some(own), Exceeded::Time(seconds))
            }
            (_, deadline) => (deadline, Exceeded::JobTime),
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
    /// Because it went beyond a limit.
    Over(Exceeded),
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
/// Whatever way it ends, and also when the returned future is dropped, none of its processes is left, wherever they
/// went. A command that has to end is asked first, and killed after two seconds.
///
/// # Errors
/// When the command cannot be contained, started or waited for.
pub async fn run(
    task: &Task,
    stop: &CancellationToken,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> io::Result<Finished> {
    let (mut child, family) = start::start(task).await?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (time_over, time) = task.time_over();
    let mut run = Run {
        task,
        family,
        on_line,
        stdout: Pipe::new(stdout),
        stderr: Pipe::new(stderr),
        captured: Vec::new(),
        tail: LogTail::default(),
        status: None,
        ended: None,
        patience_ends: None,
        time_over,
        time,
        stalls_at: None,
    };
    run.is_alive();
    let until_ended = run.until_ended(&mut child, stop).await;
    let finished = run.finish();
    until_ended?;
    finished.await
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

struct Run<'a> {
    task: &'a Task,
    family: Family,
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
    /// When its time is over, and by which limit.
    time_over: Option<Instant>,
    time: Exceeded,
    /// When it has said nothing for too long.
    stalls_at: Option<Instant>,
}

impl Run<'_> {
    async fn until_ended(&mut self, child: &mut Child, stop: &CancellationToken) -> io::Result<()> {
        let watching = watch::watch(self.task, self.family.kin());
        tokio::pin!(watching);
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
                    self.family.ended();
                    self.patience_ends = Some(Instant::now() + PATIENCE);
                }
                () = until(self.time_over), if running => self.end(Ended::Over(self.time)),
                () = until(self.stalls_at), if running => {
                    let seconds = self.task.limits.stalled_seconds.unwrap_or_default();
                    self.end(Ended::Over(Exceeded::Stalled(seconds)));
                }
                () = stop.cancelled(), if running => self.end(Ended::Stopped),
                exceeded = &mut watching, if running => self.end(Ended::Over(exceeded)),
                () = until(self.patience_ends) => {
                    if self.status.is_some() {
                        // Somebody left the group and holds the pipes open.
                        return Ok(());
                    }
                    self.family.send(Signal::KILL);
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
            self.is_alive();
        } else {
            self.end(Ended::Over(Exceeded::Output(most)));
        }
    }

    fn log(&mut self, lines: &[String]) {
        for line in lines {
            self.tail.push(line);
            (self.on_line)(line);
        }
        if !lines.is_empty() {
            self.is_alive();
        }
    }

    /// It gave a sign of life: its time to say nothing begins again.
    fn is_alive(&mut self) {
        self.stalls_at = self.task.limits.stalled().and_then(|time| Instant::now().checked_add(time));
    }

    fn end(&mut self, why: Ended) {
        if self.ended.is_none() && self.status.is_none() {
            self.family.send(Signal::TERM);
            self.patience_ends = Some(Instant::now() + PATIENCE);
        }
        self.ended = self.ended.or(Some(why));
    }

    /// What is left of it once the last of its processes is gone.
    async fn finish(mut self) -> io::Result<Finished> {
        let rest: Vec<String> =
            self.stdout.lines.finish().into_iter().chain(self.stderr.lines.finish()).collect();
        self.log(&rest);
        let family = self.family;
        // Looking for what is left takes a moment and blocks.
        let killed = tokio::task::spawn_blocking(move || drop(family)).await;
        killed.map_err(io::Error::other)?;
        let status = self.status.ok_or_else(|| io::Error::other("the command's end was not seen"))?;
        let ended = self.ended.unwrap_or_else(|| by_itself(self.task, status));
        Ok(Finished { ended, stdout: self.captured, tail: self.tail })
    }
}

fn by_itself(task: &Task, status: ExitStatus) -> Ended {
    let signal = status.signal().unwrap_or(0);
    match (status.code(), task.limits.cpu_seconds) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(seconds)) if signal == Signal::XCPU.as_raw() => Ended::Over(Exceeded::Cpu(seconds)),
        (None, _) if signal == Signal::XFSZ.as_raw() => Ended::Over(Exceeded::Disk(task.limits.disk_bytes)),
        (None, _) => Ended::Signalled(signal),
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
