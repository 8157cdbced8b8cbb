//! Notices that the machine slept.
//!
//! Timers stand still while it does, so a job's lease may have ended and connections may be dead when it wakes,
//! though nothing here is due yet.

use std::time::Duration;

use tokio::sync::watch;

/// How often to look.
const EVERY: Duration = Duration::from_secs(5);
/// Shorter naps are lost in how exactly the clocks are read.
const LEAST: Duration = Duration::from_secs(2);

/// Tells for how long the machine has slept since it started.
pub trait Clock: Send + 'static {
    /// Never less than it was before.
    fn asleep(&self) -> Duration;
}

/// The clocks of Linux. Elsewhere it never slept.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn asleep(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};

        // Read in this order, what passes between the two readings does not look like sleep.
        let (whole, awake) = (clock_gettime(ClockId::Boottime), clock_gettime(ClockId::Monotonic));
        let duration = |time: rustix::time::Timespec| Duration::try_from(time).unwrap_or_default();
        duration(whole).saturating_sub(duration(awake))
    }

    #[cfg(not(target_os = "linux"))]
    fn asleep(&self) -> Duration {
        Duration::ZERO
    }
}

/// Tells that the machine woke. Each clone is told of every time since it was made.
#[derive(Clone, Debug)]
pub struct Wakes(watch::Receiver<u32>);

impl Wakes {
    /// Watches this machine until all clones are gone.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::by(SystemClock, EVERY)
    }

    /// Watches by another clock, which is looked at this often.
    #[must_use]
    pub fn by(clock: impl Clock, every: Duration) -> Self {
        let (tell, wakes) = watch::channel(0_u32);
        tokio::spawn(async move {
            let mut before = clock.asleep();
            while tokio::time::timeout(every, tell.closed()).await.is_err() {
                let slept = clock.asleep().saturating_sub(before);
                if slept >= LEAST {
                    before += slept;
                    tracing::warn!(
                        slept_seconds = slept.as_secs(),
                        "the machine was asleep; the server is asked whether the running jobs are still this worker's"
                    );
                    tell.send_modify(|wakes| *wakes = wakes.wrapping_add(1));
                }
            }
        });
        Self(wakes)
    }

    /// Waits until the machine wakes once more.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    struct Fake(Arc<AtomicU64>);

    impl Clock for Fake {
        fn asleep(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[tokio::test]
    async fn a_jump_of_the_clocks_is_told_once_to_each() {
        let asleep = Arc::new(AtomicU64::new(7_000));
        let mut wakes = Wakes::by(Fake(Arc::clone(&asleep)), Duration::from_millis(1));
        let mut other = wakes.clone();
        let quiet = tokio::time::timeout(Duration::from_millis(20), wakes.next()).await;
        assert!(quiet.is_err(), "it slept before this program began");
        asleep.fetch_add(3_600_000, Ordering::Relaxed);
        wakes.next().await;
        other.next().await;
        let again = tokio::time::timeout(Duration::from_millis(20), wakes.next()).await;
        assert!(again.is_err(), "one sleep is told once");
    }

    #[test]
    fn this_machines_clocks_agree_as_long_as_it_is_awake() {
        let before = SystemClock.asleep();
        let passed = SystemClock.asleep().abs_diff(before);
        assert!(passed < Duration::from_millis(500), "{passed:?}");
    }
}
