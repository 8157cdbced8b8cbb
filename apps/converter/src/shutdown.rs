use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// The two steps of stopping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    /// No new work.
    pub(crate) drain: CancellationToken,
    /// Running work is given back.
    pub(crate) kill: CancellationToken,
    /// How long running work may go on when nothing else is said.
    pub(crate) grace: Duration,
}

impl Shutdown {
    /// Takes no new work, and gives back what still runs after this time.
    pub(crate) async fn within(&self, grace: Duration) {
        self.drain.cancel();
        sleep(grace).await;
        self.kill.cancel();
    }
}

/// Stops at the first SIGTERM, SIGINT or SIGHUP with this much grace, and at the second at once.
pub(crate) fn listen(grace: Duration) -> io::Result<Shutdown> {
    let shutdown = Shutdown { grace, ..Shutdown::default() };
    let mut signals = Signals::new()?;
    let steps = shutdown.clone();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!(
            grace_seconds = grace.as_secs(),
            "stopping; a second signal gives running jobs back at once"
        );
        tokio::select! { () = steps.within(grace) => {} () = signals.next() => {} }
        steps.kill.cancel();
    });
    Ok(shutdown)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        // Who started it by nohup wants it to outlive the terminal.
        let hang_up = if ignores_hang_ups() { None } else { Some(signal(SignalKind::hangup())?) };
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hang_up })
    }

    async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { _ = self.terminate.recv() => {} _ = self.interrupt.recv() => {} _ = hang_up => {} }
    }
}

/// Whether this process was started deaf to SIGHUP, which is the lowest bit of what the kernel says is ignored.
#[must_use]
pub fn ignores_hang_ups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
