//! Telling webhooks how jobs ended.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use api::{
    PREFIX,
    events::{EventBody, EventData},
    rfc3339,
};
use async_trait::async_trait;
use bytes::Bytes;
use domain::{Delivery, Event, EventId, Status, Tenant, Tried, WebhookUrl};
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use serde::Serialize;
use store::{EVENT_SHARDS, EventHint, EventPage, WebhookSecrets};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};
use url::{Position, Url};

use crate::{Error, Service, progress::cut, webhook_secret::signature};

/// How many tries run at once in one round, how many of those for one tenant, and how many of those to one receiver.
const TRIES: usize = 64;
const TRIES_OF_TENANT: usize = 32;
const TRIES_EACH: usize = 4;
/// After this many failures in a row a receiver is tried no more in a round.
const MOST_FAILURES: u32 = 2;
/// How long an event waits for its receiver, and for its tenant's other receivers, to have done with others.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many events of one shard are in hand at once, about, and how many hints of them are read at once.
const IN_HAND: usize = 250;
const PAGE: u32 = 100;
/// The longest text of what went wrong, in characters.
const LONGEST_ERROR: usize = 300;

/// What carries a message to its receiver.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Sends one message and says how that ended. It takes less than half of [`domain::DELIVERY_CLAIM`]. What it says
    /// went wrong is shown to operators.
    async fn carry(&self, message: &Message) -> Tried;
}

/// One signed HTTP POST.
pub struct Message {
    /// Where it goes.
    pub url: WebhookUrl,
    /// `webhook-id`: the same in every try.
    pub id: EventId,
    /// `webhook-timestamp`: when it was signed, in seconds since 1970.
    pub timestamp: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// The JSON body: the same bytes in every try.
    pub body: Bytes,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What one round of deliveries did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Delivered {
    /// Events that their receivers took.
    pub delivered: u64,
    /// Tries that failed and are repeated later.
    pub failed: u64,
    /// Events given up.
    pub dead: u64,
    /// Events put off without a try, because their receiver failed others or was busy with others.
    pub deferred: u64,
    /// False when the round ended before every due event was seen to.
    pub complete: bool,
}

impl Service {
    /// Delivers every event that is due, and those that are recorded here in the meantime. Takes no input besides,
    /// may run twice at once, and begins no try after `until` or once the server stops; a try in hand takes as long as
    /// the courier does.
    ///
    /// An event is delivered at least once: who claimed it and died leaves it to others. A receiver that fails twice
    /// in a row, or is busy for long, is let alone for the rest of the round, so that others do not wait for it.
    ///
    /// # Errors
    /// The store. What was done stays done.
    pub async fn deliver_events(&self, courier: &dyn Courier, until: Instant) -> Result<Delivered, Error> {
        Round::new(self, courier, until).run().await
    }

    /// As [`Service::deliver_events`], of these events and no others. They are read as they are, so that none is missed
    /// because the index does not show it yet. One that is not due, or not there, is left as it is.
    ///
    /// # Errors
    /// The store, after every event was seen to that could be.
    pub async fn deliver_these(
        &self,
        courier: &dyn Courier,
        events: &[EventId],
        until: Instant,
    ) -> Result<Delivered, Error> {
        Round::new(self, courier, until).run_with(events).await
    }
}

/// One round of deliveries.
struct Round<'a> {
    service: &'a Service,
    courier: &'a dyn Courier,
    until: Instant,
    tries: Semaphore,
    receivers: Mutex<HashMap<ReceiverId, Arc<Receiver>>>,
    /// A tenant whose many receivers are all slow must leave tries to the others.
    tenants: Mutex<HashMap<Tenant, Arc<Places>>>,
    secrets: tokio::sync::Mutex<HashMap<Tenant, Arc<WebhookSecrets>>>,
}

/// A tenant's server. Two tenants may have theirs at one host, where one's may fail and the other's work.
type ReceiverId = (Tenant, String);

/// How a receiver does in a round.
struct Receiver {
    /// Closed once it is to be let alone.
    places: Places,
    failures_in_a_row: AtomicU32,
}

/// Places for tries at the same time.
struct Places {
    free: Semaphore,
    /// Set once an event has waited for a place in vain.
    congested: AtomicBool,
}

/// What became of a due event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Failed,
    Dead,
    Deferred,
    /// Time ran out before its turn.
    Left,
    /// It is not due any more, or somebody else has it.
    Elsewhere,
}

/// What a round waits for.
enum Done {
    Page { shard: usize, page: Result<EventPage, Error> },
    Event { shard: usize, id: EventId, outcome: Result<Outcome, Error> },
}

/// How far a round has come with one shard.
#[derive(Default)]
struct Shard {
    in_hand: usize,
    /// A page is being read.
    reading: bool,
    /// Every due event was seen.
    at_end: bool,
    /// Events were recorded meanwhile, so that the shard is to be seen once more.
    again: bool,
    after: Option<EventHint>,
}

impl Shard {
    fn turn(&mut self, page: &EventPage) {
        self.reading = false;
        self.after = page.next;
        if page.next.is_none() {
            self.at_end = !std::mem::take(&mut self.again);
        }
    }

    fn see_again(&mut self) {
        self.again = !std::mem::take(&mut self.at_end);
    }
}

impl<'a> Round<'a> {
    fn new(service: &'a Service, courier: &'a dyn Courier, until: Instant) -> Self {
        Self {
            service,
            courier,
            until,
            tries: Semaphore::new(TRIES),
            receivers: Mutex::default(),
            tenants: Mutex::default(),
            secrets: tokio::sync::Mutex::default(),
        }
    }

    async fn run_with(&self, events: &[EventId]) -> Result<Delivered, Error> {
        let mut delivered = Delivered { complete: true, ..Delivered::default() };
        let mut failure = None;
        let deliveries: Vec<_> = events.iter().map(|id| self.deliver_one(*id).boxed()).collect();
        let mut deliveries = stream::iter(deliveries).buffer_unordered(IN_HAND);
        while let Some((id, outcome)) = deliveries.next().await {
            match outcome {
                Ok(outcome) => delivered.count(outcome),
                Err(error) => failure = passed_over(id, error).or(failure),
            }
        }
        failure.map_or(Ok(delivered), Err)
    }

    async fn run(&'a self) -> Result<Delivered, Error> {
        let mut delivered = Delivered { complete: true, ..Delivered::default() };
        let mut shards: [Shard; EVENT_SHARDS as usize] = Default::default();
        let mut seen = HashSet::new();
        let mut failure = None;
        let mut at_work: FuturesUnordered<BoxFuture<'a, Done>> = FuturesUnordered::new();
        loop {
            let over = failure.is_some() || self.is_over();
            for (number, shard) in shards.iter_mut().enumerate().filter(|_| !over) {
                if !shard.at_end && !shard.reading && shard.in_hand < IN_HAND {
                    shard.reading = true;
                    at_work.push(self.read(number, shard.after).boxed());
                }
            }
            let done = tokio::select! {
                done = at_work.next() => done,
                () = self.service.event_recorded(), if !over => {
                    shards.iter_mut().for_each(Shard::see_again);
                    continue;
                }
            };
            match done {
                None => break,
                Some(Done::Page { page: Err(error), .. }) => failure = Some(error),
                Some(Done::Page { shard, page: Ok(page) }) => {
                    shards[shard].turn(&page);
                    for hint in page.hints.into_iter().filter(|hint| seen.insert(*hint)) {
                        shards[shard].in_hand += 1;
                        at_work.push(self.see_to(shard, hint.id).boxed());
                    }
                }
                Some(Done::Event { shard, id, outcome }) => {
                    shards[shard].in_hand -= 1;
                    match outcome {
                        Ok(outcome) => delivered.count(outcome),
                        Err(error) => failure = passed_over(id, error).or(failure),
                    }
                }
            }
        }
        delivered.complete &= shards.iter().all(|shard| shard.at_end);
        failure.map_or(Ok(delivered), Err)
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until || self.service.draining.load(Ordering::Relaxed)
    }

    async fn read(&self, shard: usize, after: Option<EventHint>) -> Done {
        let number = u32::try_from(shard).unwrap_or(0);
        let page = self.service.store.events.due(number, self.service.now(), PAGE, after).await;
        Done::Page { shard, page: page.map_err(Error::from) }
    }

    async fn see_to(&self, shard: usize, id: EventId) -> Done {
        let (id, outcome) = self.deliver_one(id).await;
        Done::Event { shard, id, outcome }
    }

    async fn deliver_one(&self, id: EventId) -> (EventId, Result<Outcome, Error>) {
        (id, self.deliver(id).await)
    }

    async fn deliver(&self, id: EventId) -> Result<Outcome, Error> {
        let Some(event) = self.service.store.events.get(id).await? else { return Ok(Outcome::Elsewhere) };
        let (receiver, tenant) = (self.receiver(&event), self.tenant(&event));
        let place = match receiver.places.take(self.until).await {
            Some(place) => tenant.take(self.until).await.map(|share| (place, share)),
            None => None,
        };
        let turn = timeout_at(self.until, self.tries.acquire()).await;
        if turn.is_err() || self.is_over() {
            return Ok(Outcome::Left);
        }
        match place {
            Some(_place) => self.attempt(&event, &receiver).await,
            None => self.put_off(&event).await,
        }
    }

    fn receiver(&self, event: &Event) -> Arc<Receiver> {
        let id = (event.tenant.clone(), host(&event.url));
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(receivers.entry(id).or_insert_with(|| {
            Arc::new(Receiver { places: Places::new(TRIES_EACH), failures_in_a_row: AtomicU32::new(0) })
        }))
    }

    fn tenant(&self, event: &Event) -> Arc<Places> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let places = tenants.entry(event.tenant.clone());
        Arc::clone(places.or_insert_with(|| Arc::new(Places::new(TRIES_OF_TENANT))))
    }

    async fn put_off(&self, event: &Event) -> Result<Outcome, Error> {
        let later = event.put_off(self.service.now(), self.service.world.jitter());
        Ok(match later {
            Some(later) if self.service.store.events.replace(event, &later).await? => Outcome::Deferred,
            Some(_) | None => Outcome::Elsewhere,
        })
    }

    async fn attempt(&self, event: &Event, receiver: &Receiver) -> Result<Outcome, Error> {
        // Everything that can fail comes before the claim, so that no try is used up by it.
        let message = self.message(event).await?;
        let Some(claimed) = event.claim(self.service.now()) else { return Ok(Outcome::Elsewhere) };
        if !self.service.store.events.replace(event, &claimed).await? {
            return Ok(Outcome::Elsewhere);
        }
        let tried = shortened(self.courier.carry(&message).await);
        receiver.note(&tried);
        let after = claimed.tried(tried, self.service.now(), self.service.world.jitter());
        log(&after);
        // Lost when the claim had lapsed: then it is somebody else's, and may be delivered twice.
        self.service.store.events.replace(&claimed, &after).await?;
        Ok(match after.delivery {
            Delivery::Delivered(_) => Outcome::Delivered,
            Delivery::Due(_) => Outcome::Failed,
            Delivery::Dead(_) => Outcome::Dead,
        })
    }

    async fn message(&self, event: &Event) -> Result<Message, Error> {
        let secrets = self.secrets(&event.tenant).await?;
        let body = body(event)?;
        let now = self.service.now();
        let timestamp = now.0 / 1000;
        Ok(Message {
            url: event.url.clone(),
            id: event.id,
            timestamp,
            signature: signature(&secrets, event.id, timestamp, &body, now)?,
            body,
        })
    }

    async fn secrets(&self, tenant: &Tenant) -> Result<Arc<WebhookSecrets>, Error> {
        let mut known = self.secrets.lock().await;
        if let Some(secrets) = known.get(tenant) {
            return Ok(Arc::clone(secrets));
        }
        let secrets = Arc::new(self.service.webhook_secrets(tenant).await?);
        known.insert(tenant.clone(), Arc::clone(&secrets));
        Ok(secrets)
    }
}

impl Places {
    fn new(count: usize) -> Self {
        Self { free: Semaphore::new(count), congested: AtomicBool::new(false) }
    }

    /// A place for one try. `None` when they are closed or taken for long.
    async fn take(&self, until: Instant) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.free.try_acquire() {
            return Some(place);
        }
        // Who comes later does not wait where others did in vain: a crowd before one receiver would hold up the rest.
        if self.congested.load(Ordering::Relaxed) {
            return None;
        }
        match timeout_at(until.min(Instant::now() + PATIENCE), self.free.acquire()).await {
            Ok(place) => place.ok(),
            Err(_) => {
                self.congested.store(true, Ordering::Relaxed);
                None
            }
        }
    }
}

impl Receiver {
    fn note(&self, tried: &Tried) {
        match tried {
            Tried::Taken => self.failures_in_a_row.store(0, Ordering::Relaxed),
            Tried::Failed(_) => {
                if self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_FAILURES {
                    self.places.free.close();
                }
            }
            // It was said of one event, at once.
            Tried::Refused(_) => {}
        }
    }
}

impl Delivered {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Delivered => self.delivered += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Dead => self.dead += 1,
            Outcome::Deferred => self.deferred += 1,
            Outcome::Left => self.complete = false,
            Outcome::Elsewhere => {}
        }
    }
}

/// The error unless it is the event's own: one that cannot be read must not keep the others from being delivered.
fn passed_over(id: EventId, error: Error) -> Option<Error> {
    if error.retryable() {
        return Some(error);
    }
    tracing::error!(event_id = %id, job_id = %id.job, cause = %error, "passed over");
    None
}

/// A URL's host, and its port unless that is the scheme's own. The rest of it may be a secret.
fn host(url: &WebhookUrl) -> String {
    let text = |url: Url| url[Position::BeforeHost..Position::BeforePath].to_owned();
    url.as_str().parse().map_or_else(|_| String::new(), text)
}

fn shortened(tried: Tried) -> Tried {
    match tried {
        Tried::Taken => Tried::Taken,
        Tried::Failed(error) => Tried::Failed(cut(&error, LONGEST_ERROR)),
        Tried::Refused(error) => Tried::Refused(cut(&error, LONGEST_ERROR)),
    }
}

fn log(event: &Event) {
    let outcome = match event.delivery {
        Delivery::Delivered(_) => "delivered",
        Delivery::Due(_) => "failed",
        Delivery::Dead(_) => "dead",
    };
    tracing::info!(
        event_id = %event.id, job_id = %event.id.job, status = %event.facts.status, host = host(&event.url),
        tries = event.tries, outcome, error = event.last_error, "delivery"
    );
}

/// The body that tells of an event. It depends on nothing but the event, so it is the same in every try.
fn body(event: &Event) -> Result<Bytes, Error> {
    let (job, facts) = (event.id.job, &event.facts);
    let ended_at = rfc3339(facts.ended_at);
    let body = EventBody {
        kind: format!("remote_job.{}", facts.status),
        timestamp: ended_at.clone(),
        data: EventData {
            job_id: job.to_string(),
            status: facts.status.to_string(),
            ingestion_task_id: facts.ingestion_task_id.clone(),
            content_type: facts.content_type.to_string(),
            created_at: rfc3339(facts.created_at),
            completed_at: ended_at,
            error_message: facts.error.clone(),
            attempts: facts.attempts,
            continued_by: facts.continued_locally.then(|| "local".to_owned()),
            result_path: (facts.status == Status::Completed).then(|| format!("{PREFIX}/{job}/result")),
        },
    };
    serde_json::to_vec(&body).map(Bytes::from).map_err(|error| Error::Internal(error.to_string()))
}
