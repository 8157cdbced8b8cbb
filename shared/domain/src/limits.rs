use std::time::Duration;

/// The most retries a request can ask for.
pub const MAX_RETRIES: u32 = 20;

/// How often a job may come back without a retry being spent (released, or claimed by a worker that never spoke).
/// After that each such return counts, so that a worker which always dies on a job cannot hold it for ever.
pub const MAX_FREE_RETURNS: u32 = 20;

/// The most attempts one job can ever have. It bounds the record, which must stay far below DynamoDB's 400 KB.
pub const MAX_ATTEMPTS: usize = 100;

/// What bounds one job's life. A limit that runs out ends the job or the attempt with status `timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the job may wait for a worker, from its creation or its last return to the queue.
    pub queue: Duration,
    /// How long one attempt may run.
    pub run: Duration,
    /// How long the whole job may take, from its creation or its last retry by hand.
    pub total: Option<Duration>,
    /// How many failed, timed-out or lapsed attempts are followed by another.
    pub max_retries: u32,
}

/// How long a lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseTerms {
    /// A worker that knows leases renews this one by heartbeats. Its first term is short until a sign of life.
    Renewed(Duration),
    /// A client of the original system sends no heartbeat it could be held to, so the lease is the whole run.
    WholeRun,
}

impl LeaseTerms {
    /// The lease a worker gets that names none.
    pub const DEFAULT: Self = Self::Renewed(Duration::from_secs(60));
    /// How long a claim stands whose worker has not spoken yet. A claim whose answer was lost costs this much.
    pub const FIRST_TERM: Duration = Duration::from_secs(20);
    /// The shortest and the longest lease a worker may ask for, in seconds.
    pub const BOUNDS_SECONDS: std::ops::RangeInclusive<u64> = 20..=3600;
}

/// The longest wait after the `retries`-th retry: 30 s, doubled each time, at most an hour.
pub(crate) fn longest_backoff(retries: u32) -> Duration {
    const BASE_SECONDS: u64 = 30;
    const CAP_SECONDS: u64 = 3600;
    let doublings = retries.saturating_sub(1).min(16);
    Duration::from_secs((BASE_SECONDS << doublings).min(CAP_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_an_hour() {
        let seconds: Vec<u64> = [0, 1, 2, 3, 7, 8, 9, 1000].map(|n| longest_backoff(n).as_secs()).to_vec();
        assert_eq!(seconds, [30, 30, 60, 120, 1920, 3600, 3600, 3600]);
    }
}
