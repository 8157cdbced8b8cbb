//! Tells webhooks how jobs ended.

mod courier;
mod resolver;

pub use courier::HttpCourier;

use std::time::Duration;

use domain::EventId;
use runtime::{App, Error, METRIC};
use serde_json::Value;
use service::{Courier, Delivered};
use tokio::time::Instant;

/// How long the function has.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// How long one round may begin tries. The last one begun then still ends within the function's time: a courier takes
/// less than half of the rest, and what an event is read and written with a second, unless the table is slow. A try that
/// is cut off because of that is repeated when its claim has run out.
pub const LONGEST_ROUND: Duration = Duration::from_secs(40);

/// What a round is to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything that is due.
    Due,
    /// These events, which were recorded just now.
    These(Vec<EventId>),
}

impl Wanted {
    /// What an invocation asks for: the table's stream names the rows that came into being, and a schedule has nothing to
    /// say.
    #[must_use]
    pub fn of(event: &Value) -> Self {
        let Some(records) = event["Records"].as_array() else { return Self::Due };
        let keys = records.iter().filter_map(|record| record["dynamodb"]["Keys"]["pk"]["S"].as_str());
        Self::These(keys.filter_map(event_of).collect())
    }
}

/// The event whose row has this key. A stream without its filter tells of all rows.
fn event_of(pk: &str) -> Option<EventId> {
    pk.strip_prefix("event#")?.parse().ok()
}

/// Delivers what is wanted, and begins no try after `until`.
///
/// # Errors
/// The store. What was done stays done.
pub async fn handle(
    app: App,
    courier: &dyn Courier,
    wanted: Wanted,
    until: Instant,
) -> Result<Delivered, Error> {
    let done = match wanted {
        Wanted::Due => app.service.deliver_events(courier, until).await?,
        Wanted::These(events) => app.service.deliver_these(courier, &events, until).await?,
    };
    // Most rounds find nothing, and have nothing to say.
    if done != (Delivered { complete: true, ..Delivered::default() }) {
        let Delivered { delivered, failed, dead, deferred, complete } = done;
        tracing::info!(target: METRIC, delivered, failed, dead, deferred, complete, "deliveries");
    }
    Ok(done)
}
