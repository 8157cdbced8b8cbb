//! One use case per file. A use case reads a job, asks the domain what may happen, and writes on the condition that
//! the job is still as it was read.

mod caller;
mod cancel;
mod create;
mod crowd;
mod download;
mod error;
mod keys;
mod poll;
mod progress;
mod release;
mod result;
mod retry;
mod sources;
mod status;
mod sweep;
mod transition;
mod uploads;
mod world;

pub use caller::Caller;
pub use error::Error;
pub use keys::NewKey;
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

use domain::{ContentType, Timestamp};
use store::Store;
use tokio::sync::Notify;

/// What an operator decides about jobs.
#[derive(Debug)]
pub struct Rules {
    /// How long one attempt may run, by content type.
    pub run_timeouts: BTreeMap<ContentType, Duration>,
    /// How long one attempt of any other type may run.
    pub other_run_timeout: Duration,
    /// The longest that a poll is held open while there is nothing to do. Zero where waiting costs money.
    pub longest_wait: Duration,
    /// When a worker that found nothing, and was not held, is told to ask again.
    pub poll_again: Duration,
    /// The folders whose files may be named by path when a job is created.
    pub source_roots: SourceRoots,
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
    keys: Arc<keys::KeyCache>,
    /// Until then no lapsed lease is taken over: workers could not renew while this server was down.
    takeovers_from: Arc<AtomicI64>,
}

impl Service {
    /// Wires the use cases.
    #[must_use]
    pub fn new(store: Store, rules: Rules, world: Arc<dyn World>) -> Self {
        Self {
            store,
            rules: Arc::new(rules),
            world,
            due: Arc::new(Notify::new()),
            draining: Arc::new(AtomicBool::new(false)),
            crowd: Arc::new(crowd::Crowd::default()),
            keys: Arc::new(keys::KeyCache::default()),
            takeovers_from: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }

    /// The store, for what is not a use case: making the table, reading the meter.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The time on this server's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Takes no lapsed lease over for one lease from now, as after a start or a jump of the clock: the workers that
    /// hold those leases had no chance to renew them.
    pub fn spare_leases(&self) {
        let until = self.now().plus(transition::GRACE);
        self.takeovers_from.store(until.0, Ordering::Relaxed);
    }

    /// Lets go of every poll that is held open, and holds none from now on, because the server is stopping.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.due.notify_waiters();
    }
}
