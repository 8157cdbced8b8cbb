use std::{
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
    time::Duration,
};

use domain::Timestamp;
use rand::Rng;

/// How long a lost race keeps pollers spread over a page.
const REMEMBERED: Duration = Duration::from_secs(10);
/// The page that a lone poller reads.
const SMALLEST_PAGE: u32 = 10;
/// The page that a poller reads after a lost race, when it cannot see how many others there are.
const CROWDED_PAGE: u32 = 64;
/// The largest page.
const LARGEST_PAGE: u32 = 512;

/// How many poll at once, as far as this process sees. Where many do, all would go for the first job of the queue
/// and all but one would lose; so they start at random places of a page that is at least twice their number.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    polling: AtomicU32,
    raced_until: AtomicI64,
}

/// One poll, counted while it lasts.
pub(crate) struct Poller<'a>(&'a Crowd);

impl Crowd {
    pub(crate) fn enter(&self) -> Poller<'_> {
        self.polling.fetch_add(1, Ordering::Relaxed);
        Poller(self)
    }

    pub(crate) fn lost_a_race(&self, now: Timestamp) {
        self.raced_until.fetch_max(now.plus(REMEMBERED).0, Ordering::Relaxed);
    }

    /// How many candidates to read for a poll that takes `wanted` jobs and has read so many full pages in vain.
    pub(crate) fn page(&self, wanted: usize, fruitless: u32, now: Timestamp) -> u32 {
        let wanted = u32::try_from(wanted).unwrap_or(LARGEST_PAGE);
        let others = self.polling.load(Ordering::Relaxed).saturating_mul(2);
        let floor = if self.raced(now) { CROWDED_PAGE } else { SMALLEST_PAGE };
        others.max(floor).saturating_add(wanted).saturating_mul(4_u32.pow(fruitless)).min(LARGEST_PAGE)
    }

    /// Where in a page of `length` to begin.
    pub(crate) fn start(&self, length: usize, now: Timestamp) -> usize {
        if length > 1 && self.raced(now) { rand::rng().random_range(0..length) } else { 0 }
    }

    fn raced(&self, now: Timestamp) -> bool {
        now.0 < self.raced_until.load(Ordering::Relaxed)
    }
}

impl Drop for Poller<'_> {
    fn drop(&mut self) {
        self.0.polling.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_grows_with_the_crowd_and_after_a_race() {
        let crowd = Crowd::default();
        let now = Timestamp(1_000_000);
        assert_eq!(crowd.page(1, 0, now), 11);
        assert_eq!([1, 2, 3, 4].map(|fruitless| crowd.page(1, fruitless, now)), [44, 176, 512, 512]);
        assert_eq!(crowd.start(50, now), 0);
        let pollers: Vec<_> = (0..64).map(|_| crowd.enter()).collect();
        assert_eq!(crowd.page(1, 0, now), 129);
        drop(pollers);
        crowd.lost_a_race(now);
        assert_eq!(crowd.page(1, 0, now), 65);
        let starts: std::collections::HashSet<_> = (0..100).map(|_| crowd.start(50, now)).collect();
        assert!(starts.len() > 5);
        assert_eq!(crowd.page(1, 0, now.plus(REMEMBERED)), 11);
    }
}
