use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// The progress bars of one command, on standard error. Without a terminal there are none.
pub(crate) struct Bars {
    all: MultiProgress,
    shown: bool,
}

/// How often a bar without news is drawn again.
const TICK: Duration = Duration::from_millis(250);

const TRANSFER: &str =
    "{prefix:24!}  {wide_bar}  {bytes:>10} of {total_bytes:<10}  {bytes_per_sec:>12}  {eta:>4}";
const JOB: &str = "{prefix:24!}  {bar:20}  {pos:>3} %  {elapsed:>4}  {wide_msg}";

impl Bars {
    pub(crate) fn new(output: &Output) -> Self {
        let shown = output.has_bars();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { all: MultiProgress::with_draw_target(target), shown }
    }

    /// Whether a person sees them.
    pub(crate) fn shown(&self) -> bool {
        self.shown
    }

    /// Writes something while no bar is in its way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.all.suspend(write)
    }

    /// A bar for bytes, which is gone when it is dropped.
    pub(crate) fn transfer(&self, name: &str) -> Bar {
        self.bar(name, TRANSFER, 0)
    }

    /// A bar for a job's percentage, which is gone when it is dropped.
    pub(crate) fn job(&self, name: &str) -> Bar {
        self.bar(name, JOB, 100)
    }

    fn bar(&self, name: &str, template: &str, length: u64) -> Bar {
        let bar = self.all.add(ProgressBar::new(length));
        // The default style is only plainer.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(name.to_owned());
        if self.shown {
            bar.enable_steady_tick(TICK);
        }
        Bar(bar)
    }
}

/// One bar.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// So many of so many bytes.
    pub(crate) fn bytes(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// How far a job is, and what is said about it.
    pub(crate) fn percent(&self, percentage: u8, message: String) {
        self.0.set_position(u64::from(percentage));
        self.0.set_message(message);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
