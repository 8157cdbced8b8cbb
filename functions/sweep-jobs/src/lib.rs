//! Ends or returns jobs whose time has run out and that nobody polls for.

use std::time::Duration;

use runtime::{App, Error};
use service::Swept;
use tokio::time::Instant;

/// How long one sweep may take, so that it ends before the function's own time of a minute.
pub const LONGEST_SWEEP: Duration = Duration::from_secs(50);

/// Sweeps once.
///
/// # Errors
/// The store. What was done stays done.
pub async fn handle(app: App) -> Result<Swept, Error> {
    let swept = app.service.sweep(Instant::now() + LONGEST_SWEEP).await?;
    let (live, timed_out, returned, complete) = (swept.live, swept.timed_out, swept.returned, swept.complete);
    tracing::info!(live, timed_out, returned, complete, "sweep");
    for (queue, waiting) in &swept.queues {
        tracing::info!(queue, depth = waiting.depth, oldest_seconds = waiting.oldest_seconds, "queue");
    }
    Ok(swept)
}
