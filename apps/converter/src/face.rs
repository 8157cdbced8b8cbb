//! What a person at the terminal sees: the log, and below it one line with a bar for each job that runs.

mod terminal;

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::terminal::Terminal;
use crate::{
    background::Background,
    jobs::{Jobs, RunningJob, spelled},
};

/// How often the lines are drawn again while jobs run.
const REDRAW: Duration = Duration::from_millis(500);
/// How often the lines are drawn at most, in a second.
const MOST_DRAWS: u8 = 20;
/// How a job's line looks, and how that of a stalled one. `NO_COLOR` leaves the colour out.
const LINE: &str = "{prefix:32!}  {bar:20}  {pos:>3} %  {wide_msg}";
const STALLED_LINE: &str = "{prefix:32!}  {bar:20}  {pos:>3} %  {wide_msg:.yellow}";
/// How many characters of a job's id tell it from the others that run.
const ID: usize = 8;

/// The lines of the jobs, on standard error. Without a terminal there are none.
#[derive(Clone, Debug)]
pub(crate) struct Face {
    bars: MultiProgress,
}

impl Face {
    pub(crate) fn new() -> Self {
        let target = Terminal::of_standard_error().map_or_else(ProgressDrawTarget::hidden, |terminal| {
            ProgressDrawTarget::term_like_with_hz(Box::new(terminal), MOST_DRAWS)
        });
        Self { bars: MultiProgress::with_draw_target(target) }
    }

    /// Standard error above the lines.
    pub(crate) fn above(&self) -> Above {
        Above(self.bars.clone(), Background::standard_error())
    }

    /// Shows these jobs for as long as the future lives. Nothing wakes it while none runs.
    pub(crate) async fn show(self, jobs: Arc<Jobs>) {
        if self.bars.is_hidden() {
            return;
        }
        let mut lines = Lines { bars: self.bars, of_jobs: HashMap::new() };
        let mut changes = jobs.changes();
        loop {
            changes.borrow_and_update();
            lines.draw(&jobs.all());
            if !lines.of_jobs.is_empty() {
                tokio::time::sleep(REDRAW).await;
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Writes to standard error while no line is in the way.
#[derive(Clone, Debug)]
pub(crate) struct Above(MultiProgress, Background);

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(bars, standard_error) = self;
        bars.suspend(|| standard_error.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Lines {
    bars: MultiProgress,
    of_jobs: HashMap<(String, u64), Line>,
}

struct Line {
    bar: ProgressBar,
    stalled: bool,
}

impl Lines {
    fn draw(&mut self, jobs: &[RunningJob]) {
        let is_running = |(id, attempt): &(String, u64)| {
            jobs.iter().any(|job| (&job.job_id, &job.attempt) == (id, attempt))
        };
        self.of_jobs.retain(|job, line| {
            let stays = is_running(job);
            if !stays {
                line.bar.finish_and_clear();
                self.bars.remove(&line.bar);
            }
            stays
        });
        for job in jobs {
            let line = self.of_jobs.entry((job.job_id.clone(), job.attempt)).or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::hidden())
                    .with_style(style(job.stalled))
                    .with_prefix(name(job));
                Line { bar: self.bars.add(bar), stalled: job.stalled }
            });
            if line.stalled != job.stalled {
                line.stalled = job.stalled;
                line.bar.set_style(style(job.stalled));
            }
            line.bar.set_position(u64::from(job.percentage));
            line.bar.set_message(message(job));
            line.bar.tick();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // What cannot be cleared any more is on no terminal any more.
        let _ = self.bars.clear();
    }
}

fn style(stalled: bool) -> ProgressStyle {
    let template = if stalled { STALLED_LINE } else { LINE };
    // The default style is only plainer.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// The end of the id, because ids of one time begin alike, and the source's name.
fn name(job: &RunningJob) -> String {
    let cut = job.job_id.char_indices().rev().nth(ID - 1).map_or(0, |(at, _)| at);
    format!("…{} {}", &job.job_id[cut..], job.source)
}

fn message(job: &RunningJob) -> String {
    let said = &job.message;
    match job.stalled {
        true => format!("no progress for {}; last: {said}", seconds(job.seconds_since_progress)),
        false => format!("{}  {said}", seconds(job.seconds)),
    }
}

fn seconds(seconds: u64) -> String {
    spelled(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_looks_are_understood() {
        for template in [LINE, STALLED_LINE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
