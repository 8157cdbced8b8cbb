//! Tells webhooks how jobs ended.

mod courier;
mod resolver;

pub use courier::HttpCourier;

use std::time::Duration;

use runtime::{App, Error};
use service::{Courier, Delivered};
use tokio::time::Instant;

/// How long one round may begin tries, so that the last one ends before the function's own time of a minute.
pub const LONGEST_ROUND: Duration = Duration::from_secs(40);

/// Delivers what is due.
///
/// # Errors
/// The store. What was done stays done.
pub async fn handle(app: App, courier: &dyn Courier) -> Result<Delivered, Error> {
    let done = app.service.deliver_events(courier, Instant::now() + LONGEST_ROUND).await?;
    // Most rounds find nothing, and have nothing to say.
    if done != (Delivered { complete: true, ..Delivered::default() }) {
        let Delivered { delivered, failed, dead, deferred, complete } = done;
        tracing::info!(delivered, failed, dead, deferred, complete, "deliveries");
    }
    Ok(done)
}
