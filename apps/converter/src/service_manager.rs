//! What systemd is told, where it started this program and asked to be told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Says that the program works, from now on that it still runs, as often as it is asked to, and at last that it stops.
pub(crate) fn ready(stop: CancellationToken) {
    tell(NotifyState::Ready);
    tokio::spawn(async move {
        stop.cancelled().await;
        tell(NotifyState::Stopping);
    });
    if let Some(every) = sd_notify::watchdog_enabled().map(|limit| limit / 3).filter(|every| !every.is_zero())
    {
        tokio::spawn(still_running(every));
    }
}

async fn still_running(every: Duration) {
    loop {
        tell(NotifyState::Watchdog);
        tokio::time::sleep(every).await;
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told about this program");
    }
}
