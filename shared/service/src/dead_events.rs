use api::{
    Kind,
    events::{EventView, ListEventsRequest, ListEventsResponse},
    rfc3339,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{Delivery, Event, EventId, Timestamp};
use store::EventHint;
use tracing::{Span, field::display};

use crate::{Caller, Error, Service};

/// The most events in one answer, and how many are in it by default.
const MOST: u64 = 100;
const BY_DEFAULT: u64 = 50;
/// How often a write is tried whose event others keep changing.
const MOST_ROUNDS: usize = 4;

impl Service {
    /// A page of the caller's dead events, the one that died last first.
    ///
    /// # Errors
    /// A field that does not fit, or the store.
    pub async fn list_events(
        &self,
        caller: &Caller,
        request: &ListEventsRequest,
    ) -> Result<ListEventsResponse, Error> {
        let most = request.limit.unwrap_or(BY_DEFAULT);
        if !(1..=MOST).contains(&most) {
            return Err(Error::field("limit", format!("must be 1 to {MOST}")));
        }
        let after = request.cursor.as_deref().map(position).transpose()?;
        let most = u32::try_from(most).unwrap_or(1);
        let page = self.store.events.dead(&caller.tenant, most, after).await?;
        let mut events = Vec::new();
        for hint in page.hints {
            match self.store.events.get(hint.id).await.map_err(Error::from) {
                // The index is a hint: what was redriven since is not dead any more.
                Ok(Some(event)) if matches!(event.delivery, Delivery::Dead(_)) => events.push(view(&event)),
                Ok(_) => {}
                // One event that cannot be read must not hide the others.
                Err(error) if !error.retryable() => {
                    tracing::error!(event_id = %hint.id, job_id = %hint.id.job, cause = %error, "passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ListEventsResponse { events, cursor: page.next.map(cursor) })
    }

    /// Sends a dead event out again, with all its tries.
    ///
    /// # Errors
    /// No such event of the caller's tenant, one that is not dead, or the store.
    pub async fn redrive_event(&self, caller: &Caller, id: &str) -> Result<EventView, Error> {
        let no_event = || {
            Error::rejected(
                Kind::NotFound,
                format!("Event {id} not found; GET /api/v1/events lists the dead ones."),
            )
        };
        let parsed: EventId = id.parse().map_err(|_| no_event())?;
        for _ in 0..MOST_ROUNDS {
            let read = self.store.events.get(parsed).await?.ok_or_else(no_event)?;
            if read.tenant != caller.tenant {
                return Err(no_event());
            }
            Span::current().record("job_id", display(parsed.job));
            let redriven = read.redrive(self.now()).ok_or_else(|| not_dead(&read))?;
            if self.store.events.replace(&read, &redriven).await? {
                tracing::info!(event_id = %parsed, job_id = %parsed.job, "redriven");
                self.events.notify_one();
                return Ok(view(&redriven));
            }
        }
        Err(Error::Contended(parsed.job))
    }
}

fn not_dead(event: &Event) -> Error {
    let why = match event.delivery {
        Delivery::Due(at) => {
            format!("is on its way: its next try is due at {}, and nothing is left to do", rfc3339(at))
        }
        Delivery::Delivered(at) => format!(
            "was delivered at {}; its receiver reads how the job stands by GET {}/{}/status",
            rfc3339(at),
            api::PREFIX,
            event.id.job
        ),
        Delivery::Dead(_) => "is dead".to_owned(),
    };
    Error::rejected(Kind::Refused, format!("Event {} {why}.", event.id))
}

fn view(event: &Event) -> EventView {
    let (delivery, at) = match event.delivery {
        Delivery::Due(at) => ("due", at),
        Delivery::Delivered(at) => ("delivered", at),
        Delivery::Dead(at) => ("dead", at),
    };
    EventView {
        event_id: event.id.to_string(),
        job_id: event.id.job.to_string(),
        status: event.facts.status.to_string(),
        url: event.url.as_str().split('?').next().unwrap_or_default().to_owned(),
        delivery: delivery.to_owned(),
        tries: event.tries,
        last_error: event.last_error.clone(),
        ended_at: rfc3339(event.id.ended_at),
        at: rfc3339(at),
    }
}

fn cursor(EventHint { at, id }: EventHint) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {id}", at.0))
}

fn position(cursor: &str) -> Result<EventHint, Error> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let (at, id) = text.split_once(' ')?;
        Some(EventHint { at: Timestamp(at.parse().ok()?), id: id.parse().ok()? })
    };
    read().ok_or_else(|| Error::field("cursor", "is not the cursor of an earlier answer"))
}
