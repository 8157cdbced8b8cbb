//! Webhooks are told of every end of a job, at least once, whatever happens to the job, to the one who delivers, or to
//! other receivers.

mod dead;
mod once;
mod receivers;
mod secret;
mod told;

use std::{sync::Mutex, time::Duration};

use api::{
    events::{EventBody, ListEventsRequest},
    manage::CancelRequest,
    result::ResultResponse,
};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use domain::{Event, EventId, Tried};
use futures::{FutureExt, future::BoxFuture};
use hmac::{Hmac, Mac};
use service::{Courier, Delivered, Message, Service};
use sha2::Sha256;
use store::EVENT_SHARDS;
use tokio::time::Instant;

use crate::support::{Held, Place, caller, caller_of, request};

const URL: &str = "https://hooks.example/ends?token=5a5a";

type Answer = dyn Fn(&Message) -> BoxFuture<'static, Tried> + Send + Sync;

/// Answers as it is told to, and remembers what it carried.
struct Script {
    answer: Box<Answer>,
    carried: Mutex<Vec<Carried>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Carried {
    url: String,
    id: EventId,
    timestamp: i64,
    signature: String,
    body: Bytes,
}

#[async_trait]
impl Courier for Script {
    async fn carry(&self, message: &Message) -> Tried {
        self.carried.lock().unwrap().push(Carried {
            url: message.url.to_string(),
            id: message.id,
            timestamp: message.timestamp,
            signature: message.signature.clone(),
            body: message.body.clone(),
        });
        (self.answer)(message).await
    }
}

impl Script {
    fn new(answer: impl Fn(&Message) -> BoxFuture<'static, Tried> + Send + Sync + 'static) -> Self {
        Self { answer: Box::new(answer), carried: Mutex::default() }
    }

    fn always(tried: Tried) -> Self {
        Self::new(move |_| std::future::ready(tried.clone()).boxed())
    }

    fn taking() -> Self {
        Self::always(Tried::Taken)
    }

    fn failing() -> Self {
        Self::always(failed())
    }

    fn carried(&self) -> Vec<Carried> {
        self.carried.lock().unwrap().clone()
    }

    /// The one message that was carried.
    fn one(&self) -> Carried {
        let carried = self.carried();
        assert_eq!(carried.len(), 1, "{carried:?}");
        carried.into_iter().next().unwrap()
    }
}

fn failed() -> Tried {
    Tried::Failed("the receiver answered 500 Internal Server Error".to_owned())
}

/// A round with all the time there is.
async fn round(service: &Service, courier: &Script) -> Delivered {
    let until = Instant::now() + Duration::from_secs(3600);
    let done = service.deliver_events(courier, until).await.unwrap();
    assert!(done.complete);
    done
}

fn delivered(count: u64) -> Delivered {
    Delivered { delivered: count, complete: true, ..Delivered::default() }
}

fn nothing() -> Delivered {
    delivered(0)
}

/// A document job whose end is told.
async fn watched(place: &Place) -> String {
    watched_at(place, "t", URL).await
}

async fn watched_at(place: &Place, tenant: &str, url: &str) -> String {
    let mut request = request(&place.uploaded_by(tenant, "report.pdf").await);
    request.webhook_url = Some(url.parse().unwrap());
    place.create(&caller_of(tenant, "k"), &request, None).await.unwrap().job_id
}

/// A job whose end is told, and that a worker holds.
async fn held(place: &Place) -> Held {
    let id = watched(place).await;
    let held = place.claim().await;
    assert_eq!(held.id, id);
    held
}

async fn submit(place: &Place, held: &Held, result: &api::result::ResultRequest) -> ResultResponse {
    place.submit_result(&caller(), &held.id, held.token(), result).await.unwrap()
}

async fn cancel(place: &Place, tenant: &str, id: &str) {
    place.cancel(&caller_of(tenant, "k"), id, &CancelRequest::default()).await.unwrap();
}

/// A job that has ended and whose webhook is to be told.
async fn ended(place: &Place) -> String {
    let id = watched(place).await;
    cancel(place, "t", &id).await;
    id
}

/// Every event that waits, whenever it is due.
async fn waiting(place: &Place) -> Vec<Event> {
    let mut events = Vec::new();
    let forever = place.now().plus(Duration::from_secs(3600 * 24 * 365));
    for shard in 0..EVENT_SHARDS {
        let page = place.store().events.due(shard, forever, 1000, None).await.unwrap();
        assert_eq!(page.next, None);
        for hint in page.hints {
            events.push(place.store().events.get(hint.id).await.unwrap().unwrap());
        }
    }
    events
}

/// The one event that waits.
async fn only(place: &Place) -> Event {
    let events = waiting(place).await;
    assert_eq!(events.len(), 1, "{events:?}");
    events.into_iter().next().unwrap()
}

async fn dead(place: &Place) -> Vec<String> {
    let listed = place.list_events(&caller(), &ListEventsRequest::default()).await.unwrap();
    assert_eq!(listed.cursor, None);
    listed.events.into_iter().map(|event| event.event_id).collect()
}

fn body(carried: &Carried) -> EventBody {
    serde_json::from_slice(&carried.body).unwrap()
}

/// A signature as a receiver computes it.
fn signed(secret: &str, carried: &Carried) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    assert_eq!(key.len(), 32);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.", carried.id, carried.timestamp).as_bytes());
    mac.update(&carried.body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Ends this many jobs whose webhook is at `url`.
async fn crowd(place: &Place, tenant: &str, url: &str, count: usize) {
    for _ in 0..count {
        let id = watched_at(place, tenant, url).await;
        cancel(place, tenant, &id).await;
    }
}
