use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use domain::{Jitter, Timestamp};
use service::{SystemWorld, World};

/// A clock that only the test moves. It starts at the real time, because presigned URLs are signed by the real one.
/// Backoffs are as long as they can be.
#[derive(Debug)]
pub struct TestWorld(AtomicI64);

impl TestWorld {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Default for TestWorld {
    fn default() -> Self {
        Self(AtomicI64::new(SystemWorld.now().0))
    }
}

impl World for TestWorld {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn jitter(&self) -> Jitter {
        Jitter::new(1.0)
    }
}
