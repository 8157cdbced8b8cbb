//! Ends or returns jobs whose time has run out and that nobody polls for.

use std::time::Duration;

use runtime::{App, Error};
use service::{QueueDepth, Swept};
use tokio::time::Instant;

/// How long one sweep may take, so that it ends before the function's own time of a minute.
pub const LONGEST_SWEEP: Duration = Duration::from_secs(50);

/// Sweeps once.
///
/// # Errors
/// The store. What was done stays done.
pub async fn handle(app: App) -> Result<Swept, Error> {
    let swept = app.service.sweep(Instant::now() + LONGEST_SWEEP).await?;
    tracing::info!(
        live = swept.live,
        timed_out = swept.timed_out,
        returned = swept.returned,
        left = swept.left,
        undelivered_events = swept.undelivered_events,
        dead_events = swept.dead_events,
        oldest_seconds = swept.oldest_seconds,
        read_units = swept.read_units,
        write_units = swept.write_units,
        complete = swept.complete,
        "sweep"
    );
    for (queue, QueueDepth { waiting, oldest_seconds, backing_off, running }) in &swept.queues {
        tracing::info!(queue, waiting, oldest_seconds, backing_off, running, "queue");
    }
    Ok(swept)
}
