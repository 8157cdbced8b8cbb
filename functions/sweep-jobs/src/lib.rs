//! Ends or returns jobs whose time has run out and that nobody polls for.

use std::time::Duration;

use runtime::{App, Error, METRIC};
use service::{QueueDepth, Swept};
use tokio::time::Instant;

/// How long the function has.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// How long one sweep may begin anything. What is in hand then is one job's read and write, or a page of the index.
pub const LONGEST_SWEEP: Duration = Duration::from_secs(50);

/// Sweeps once, until `until` at most.
///
/// # Errors
/// The store. What was done stays done.
pub async fn handle(app: App, until: Instant) -> Result<Swept, Error> {
    let swept = app.service.sweep(until).await?;
    tracing::info!(
        target: METRIC,
        live = swept.live,
        timed_out = swept.timed_out,
        returned = swept.returned,
        moved = swept.moved,
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
        tracing::info!(target: METRIC, queue, waiting, oldest_seconds, backing_off, running, "queue");
    }
    Ok(swept)
}
