use std::{io, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two steps of stopping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    /// No new work.
    pub(crate) drain: CancellationToken,
    /// Running work is given back.
    pub(crate) kill: CancellationToken,
}

/// Stops at the first SIGTERM or SIGINT with this much grace, and at the second at once.
pub(crate) fn listen(grace: Duration) -> io::Result<Shutdown> {
    let shutdown = Shutdown::default();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let steps = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
        tracing::info!(
            grace_seconds = grace.as_secs(),
            "stopping; a second signal gives running jobs back at once"
        );
        steps.drain.cancel();
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            () = tokio::time::sleep(grace) => {}
        }
        steps.kill.cancel();
    });
    Ok(shutdown)
}
