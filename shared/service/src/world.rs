use std::time::{SystemTime, UNIX_EPOCH};

use domain::{Jitter, Timestamp};
use rand::Rng;

/// What the use cases need of the world besides the store. Tests bring their own.
pub trait World: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// A random fraction for a backoff.
    fn jitter(&self) -> Jitter;
}

/// The machine's clock and random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemWorld;

impl World for SystemWorld {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn jitter(&self) -> Jitter {
        Jitter::new(rand::rng().random())
    }
}
