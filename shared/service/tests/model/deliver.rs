//! Deliveries by a courier that does what a script says.

use std::sync::{Mutex, PoisonError};

use api::events::EventBody;
use async_trait::async_trait;
use domain::Tried;
use service::{Courier, Error, Message, Service};
use tokio::time::{Duration, Instant};

use crate::{
    events::{FAILED, REFUSED, Try},
    system::caller,
};

/// How the tries of one round end, one after another; the last one over and over.
pub(crate) type Script = Vec<Try>;

/// What was carried: the event, what its body tells, and how it ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Carried {
    pub(crate) event: String,
    pub(crate) url: String,
    /// The body, in words.
    pub(crate) tells: String,
    pub(crate) how: Try,
}

struct Scripted<'a> {
    script: &'a Script,
    carried: Mutex<Vec<Carried>>,
}

#[async_trait]
impl Courier for Scripted<'_> {
    async fn carry(&self, message: &Message) -> Tried {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.script.get(carried.len()).or(self.script.last());
        let how = next.copied().unwrap_or(Try::Taken);
        let tells = match serde_json::from_slice::<EventBody>(&message.body) {
            Ok(EventBody { kind, timestamp, data }) => format!(
                "{kind} at {timestamp}: job {} is {} after {} attempts, continued by {:?}, result {}",
                data.job_id,
                data.status,
                data.attempts,
                data.continued_by,
                data.result_path.is_some()
            ),
            Err(error) => error.to_string(),
        };
        carried.push(Carried { event: message.id.to_string(), url: message.url.to_string(), tells, how });
        match how {
            Try::Taken => Tried::Taken,
            Try::Failed => Tried::Failed(FAILED.to_owned()),
            Try::Refused => Tried::Refused(REFUSED.to_owned()),
        }
    }
}

/// One round of deliveries: what it says it did, and what was carried.
pub(crate) async fn deliver(service: &Service, script: &Script) -> (Result<String, Error>, Vec<Carried>) {
    let courier = Scripted { script, carried: Mutex::default() };
    let done = service.deliver_events(&courier, Instant::now() + Duration::from_secs(3600)).await;
    let text = done.map(|done| {
        let (taken, failed, dead) = (done.delivered, done.failed, done.dead);
        format!("{taken} delivered, {failed} failed, {dead} dead, {} deferred", done.deferred)
    });
    (text, courier.carried.into_inner().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) async fn redrive(service: &Service, tenant: &str, event: &str) -> Result<String, Error> {
    let redriven = service.redrive_event(&caller(tenant, "operator"), event).await?;
    Ok(format!("{} since {}", redriven.delivery, redriven.at))
}
