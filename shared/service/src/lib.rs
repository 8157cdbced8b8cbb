//! One use case per file. A use case reads a job, asks the domain what may happen, and writes on the condition that
//! the job is still as it was read.

mod caller;
mod cancel;
mod create;
mod crowd;
mod dead_events;
mod delete;
mod download;
mod error;
mod events;
mod hints;
mod import;
mod keys;
mod list;
mod networks;
mod poll;
mod progress;
mod queues;
mod release;
mod result;
mod retry;
mod sources;
mod statistics;
mod status;
mod sweep;
mod transition;
mod uploads;
mod webhook_secret;
mod workers;
mod world;

pub use caller::Caller;
pub use error::Error;
pub use events::{Courier, Delivered, Message};
pub use keys::{Keys, NewKey};
pub use networks::WebhookNetworks;
pub use sources::{RootError, SourceRoots};
pub use sweep::{QueueDepth, Swept};
pub use uploads::UploadTarget;
pub use world::{SystemWorld, World};

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::{ContentType, JobId, Timestamp};
use store::{HintQueues, Store};
use tokio::sync::{Notify, broadcast};

/// The target of the log lines that metrics are made of, so that they are logged when others are not.
pub const METRIC: &str = "metric";

/// What an operator decides about jobs.
#[derive(Debug)]
pub struct Rules {
    /// How long one attempt may run, by content type.
    pub run_timeouts: BTreeMap<ContentType, Duration>,
    /// How long one attempt of any other type may run.
    pub other_run_timeout: Duration,
    /// The longest that a call is held open while there is nothing to say. Zero where waiting costs money.
    pub longest_wait: Duration,
    /// When a worker that found nothing, and was not held, is told to ask again, unless it has been idle for long or can
    /// wait for a hint.
    pub poll_again: Duration,
    /// How often it is noted that a worker was seen that polls.
    pub seen_every: Duration,
    /// The folders whose files may be named by path when a job is created.
    pub source_roots: SourceRoots,
    /// The networks whose webhooks are told besides those at globally routable addresses.
    pub webhook_networks: WebhookNetworks,
}

impl Rules {
    /// How long one attempt of this type may run unless its creation says otherwise.
    #[must_use]
    pub fn run_timeout(&self, content_type: &ContentType) -> Duration {
        self.run_timeouts.get(content_type).copied().unwrap_or(self.other_run_timeout)
    }
}

/// Every use case, over one store.
#[derive(Clone)]
pub struct Service {
    store: Store,
    rules: Arc<Rules>,
    world: Arc<dyn World>,
    /// Told whenever a job may have become due, so that polls held open look again.
    due: Arc<Notify>,
    /// Set once the server stops: no poll is held open any more.
    draining: Arc<AtomicBool>,
    crowd: Arc<crowd::Crowd>,
    keys: Keys,
    history: Arc<statistics::History>,
    roster: Arc<workers::Roster>,
    /// Where idle workers wait whose calls are not held open.
    hint_queues: Option<HintQueues>,
    /// Told the id of every job that ends here, so that calls which wait for it answer at once.
    ended: broadcast::Sender<JobId>,
    /// Told whenever an event was recorded, so that it is delivered at once.
    events: Arc<Notify>,
    /// Since when workers can reach this server again; each lease has one more term from then on.
    reachable_since: Arc<AtomicI64>,
}

impl Service {
    /// Wires the use cases.
    #[must_use]
    pub fn new(store: Store, rules: Rules, world: Arc<dyn World>) -> Self {
        Self {
            keys: Keys::new(store.keys.clone(), Arc::clone(&world)),
            store,
            rules: Arc::new(rules),
            world,
            due: Arc::new(Notify::new()),
            draining: Arc::new(AtomicBool::new(false)),
            crowd: Arc::new(crowd::Crowd::default()),
            history: Arc::new(statistics::History::default()),
            roster: Arc::new(workers::Roster::default()),
            hint_queues: None,
            // Who lags behind this many ends looks again instead.
            ended: broadcast::Sender::new(1024),
            events: Arc::new(Notify::new()),
            reachable_since: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }

    /// The same, with queues on which idle workers can wait for work.
    #[must_use]
    pub fn with_hints(self, queues: HintQueues) -> Self {
        Self { hint_queues: Some(queues), ..self }
    }

    /// The store, for what is not a use case: making the table, reading the meter.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The API keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The time on this server's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Takes no lapsed lease over before another of its terms has passed, as after a start or a jump of the clock: the
    /// workers that hold those leases had no chance to renew them.
    pub fn spare_leases(&self) {
        self.reachable_since.store(self.now().0, Ordering::Relaxed);
    }

    /// Waits until an event may have been recorded.
    pub async fn event_recorded(&self) {
        self.events.notified().await;
    }

    /// Lets go of every call that is held open, and holds none from now on, because the server is stopping.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.due.notify_waiters();
        // No job has this id; whoever waits for one looks up and sees that the server is stopping.
        let _ = self.ended.send(JobId(uuid::Uuid::nil()));
    }
}
