//! How long conversions took, in buckets small enough to count in one row a day.

use std::{collections::BTreeMap, time::Duration};

use crate::{Job, Timestamp};

/// The largest bucket of either kind, so that each is one digit of base 36.
const LAST: u8 = 35;

/// One bucket: sizes within a factor of 4, times within a factor of the square root of 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// The size in bytes is at least 4 to the power of this and less than four times as much. 0 holds 0 too.
    pub size: u8,
    /// The time is at most 2 to the power of half of this in seconds, and more than the bucket before it holds. 0 is up to
    /// a second, 34 more than a day.
    pub time: u8,
}

impl Bucket {
    /// The bucket of a conversion.
    #[must_use]
    pub fn of(size_bytes: u64, run: Duration) -> Self {
        let time = (0..LAST).find(|time| run <= end_of(*time)).unwrap_or(LAST);
        Self { size: size_bucket(size_bytes), time }
    }
}

fn size_bucket(size_bytes: u64) -> u8 {
    u8::try_from(size_bytes.checked_ilog2().unwrap_or(0) / 2).unwrap_or(LAST).min(LAST)
}

/// The longest time in a bucket.
fn end_of(time: u8) -> Duration {
    Duration::from_secs_f64((f64::from(time) / 2.0).exp2())
}

/// The longest time that is in the bucket before.
fn begin_of(time: u8) -> Duration {
    time.checked_sub(1).map_or(Duration::ZERO, end_of)
}

/// How many conversions there were in each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunTimes(BTreeMap<Bucket, u64>);

impl RunTimes {
    /// Adds conversions to a bucket.
    pub fn add(&mut self, bucket: Bucket, conversions: u64) {
        *self.0.entry(bucket).or_default() += conversions;
    }

    /// Adds all of another count.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(bucket, conversions)| self.add(*bucket, *conversions));
    }

    /// How many conversions there were.
    #[must_use]
    pub fn conversions(&self) -> u64 {
        self.0.values().sum()
    }

    /// So many percent of the conversions took at most this long: the end of a bucket, so never too short, and too long by
    /// a factor of 1.42 at most. Absent when there were none.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let of_time = self.by_time(|_| true);
        let wanted = (self.conversions() * percent).div_ceil(100);
        let mut seen = 0;
        of_time.into_iter().find_map(|(time, conversions)| {
            seen += conversions;
            (seen >= wanted).then(|| end_of(time))
        })
    }

    /// When a running job will probably be done. Absent for a job that does not run, and when nothing tells.
    ///
    /// Two things tell: the job's own progress, at the rate it went so far, and half of those conversions of its size
    /// that took longer than it has run already. The further the job says that it is, the more its own word counts.
    #[must_use]
    pub fn estimated_completion(&self, job: &Job, now: Timestamp) -> Option<Timestamp> {
        let running = job.running()?;
        let own = job.estimated_completion().map(|at| at.since(running.started_at));
        let elapsed = now.since(running.started_at);
        let others = self.median_beyond(job.spec.source.size_bytes, elapsed);
        let share = job.progress.as_ref().map_or(0.0, |progress| f64::from(progress.percentage) / 100.0);
        let run = match (own, others) {
            (Some(own), Some(others)) => own.mul_f64(share) + others.mul_f64(1.0 - share),
            (own, others) => own.or(others)?,
        };
        // A worker that is past its own estimate is not done yet.
        Some(running.started_at.plus(run.max(elapsed)))
    }

    /// The median of those times of this size that are longer than `elapsed`.
    fn median_beyond(&self, size_bytes: u64, elapsed: Duration) -> Option<Duration> {
        let beyond: Vec<(Span, f64)> = self
            .of_size(size_bucket(size_bytes))
            .into_iter()
            .filter_map(|(time, conversions)| Span::beyond(time, conversions, elapsed))
            .collect();
        let mut left = beyond.iter().map(|(_, conversions)| conversions).sum::<f64>() / 2.0;
        beyond.iter().find_map(|(span, conversions)| {
            if left <= *conversions {
                return Some(span.from + (span.to - span.from).mul_f64(left / conversions));
            }
            left -= conversions;
            None
        })
    }

    /// The conversions of one size. Where there were none, those of the sizes on both sides, if there were any on both: then
    /// this size's own median lies between theirs, while those of one side alone would all be too short or too long.
    fn of_size(&self, size: u8) -> BTreeMap<u8, u64> {
        let own = self.by_time(|other| other == size);
        if !own.is_empty() {
            return own;
        }
        let (smaller, larger) = (size.checked_sub(1), size + 1);
        let has = |wanted: Option<u8>| self.0.keys().any(|bucket| Some(bucket.size) == wanted);
        if !has(smaller) || !has(Some(larger)) {
            return own;
        }
        self.by_time(|other| Some(other) == smaller || other == larger)
    }

    fn by_time(&self, of: impl Fn(u8) -> bool) -> BTreeMap<u8, u64> {
        let mut of_time = BTreeMap::new();
        for (bucket, conversions) in self.0.iter().filter(|(bucket, _)| of(bucket.size)) {
            *of_time.entry(bucket.time).or_default() += conversions;
        }
        of_time
    }
}

impl FromIterator<(Bucket, u64)> for RunTimes {
    fn from_iter<T: IntoIterator<Item = (Bucket, u64)>>(counts: T) -> Self {
        let mut run_times = Self::default();
        counts.into_iter().for_each(|(bucket, conversions)| run_times.add(bucket, conversions));
        run_times
    }
}

/// A stretch of time over which conversions are taken to be spread evenly.
struct Span {
    from: Duration,
    to: Duration,
}

impl Span {
    /// The part of a bucket that is longer than `elapsed`, with its share of the bucket's conversions.
    #[expect(clippy::cast_precision_loss, reason = "a count of conversions stays far below 2^52")]
    fn beyond(time: u8, conversions: u64, elapsed: Duration) -> Option<(Self, f64)> {
        let (begin, to) = (begin_of(time), end_of(time));
        let from = begin.max(elapsed);
        if from >= to {
            return None;
        }
        let share = (to - from).as_secs_f64() / (to - begin).as_secs_f64();
        Some((Self { from, to }, conversions as f64 * share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn of(times: &[(u64, u64)]) -> RunTimes {
        times.iter().map(|(size, time)| (Bucket::of(*size, seconds(*time)), 1)).collect()
    }

    #[test]
    fn buckets_are_as_wide_as_they_say() {
        for (size, bucket) in
            [(0, 0), (1, 0), (3, 0), (4, 1), (15, 1), (16, 2), (1 << 20, 10), (5 << 40, 21), (u64::MAX, 31)]
        {
            assert_eq!(Bucket::of(size, seconds(1)).size, bucket, "{size} bytes");
        }
        for (time, bucket) in
            [(0, 0), (1, 0), (2, 2), (3, 4), (4, 4), (60, 12), (3600, 24), (86_400, 33), (999_999, 35)]
        {
            assert_eq!(Bucket::of(1, seconds(time)).time, bucket, "{time} s");
        }
    }

    #[test]
    fn percentiles_are_never_too_short_and_hardly_too_long() {
        let times: Vec<(u64, u64)> = (1..=100).map(|at| (at, at * 10)).collect();
        let run_times = of(&times);
        assert_eq!(run_times.conversions(), 100);
        for (percent, exact) in [(50, 500), (90, 900), (100, 1000), (1, 10)] {
            let told = run_times.percentile(percent).unwrap();
            assert!(told >= seconds(exact) && told <= seconds(exact).mul_f64(1.42), "{percent} %: {told:?}");
        }
        assert_eq!(RunTimes::default().percentile(50), None);
    }

    #[test]
    fn what_took_less_than_the_job_has_run_tells_nothing_of_it() {
        let run_times = of(&[(100, 10), (100, 10), (100, 10), (100, 100), (100, 1000)]);
        let beyond = |elapsed| run_times.median_beyond(100, seconds(elapsed));
        assert!(beyond(0).unwrap() <= seconds(12), "{:?}", beyond(0));
        let of_the_longer = beyond(20).unwrap();
        assert!(of_the_longer > seconds(90) && of_the_longer < seconds(1025), "{of_the_longer:?}");
        assert!(beyond(200).unwrap() > seconds(700));
        assert_eq!(beyond(2000), None, "longer than any");
    }

    #[test]
    fn a_size_without_conversions_is_told_by_its_neighbours_when_there_are_both() {
        assert_eq!(of(&[(4, 10)]).median_beyond(16, seconds(0)), None, "one side alone");
        assert_eq!(of(&[(4, 10), (1 << 20, 1000)]).median_beyond(16, seconds(0)), None, "too far off");
        let between = of(&[(4, 10), (64, 1000)]).median_beyond(16, seconds(0)).unwrap();
        assert!(between >= seconds(8) && between <= seconds(1025), "{between:?}");
        let own = of(&[(4, 10), (64, 1000), (16, 60)]).median_beyond(16, seconds(0)).unwrap();
        assert!(own > seconds(45) && own <= seconds(64), "{own:?}");
    }

    proptest! {
        #[test]
        fn every_time_lies_in_its_bucket(size in any::<u64>(), millis in 0..90_000_000_u64) {
            let run = Duration::from_millis(millis);
            let bucket = Bucket::of(size, run);
            prop_assert!(bucket.size <= LAST && bucket.time < LAST);
            prop_assert!(run <= end_of(bucket.time));
            prop_assert!(run > begin_of(bucket.time) || bucket.time == 0);
        }

        #[test]
        fn a_median_is_longer_than_what_has_passed(
            times in prop::collection::vec((0..4_u64, 1..5000_u64), 1..40),
            elapsed in 0..6000_u64,
        ) {
            let run_times = of(&times);
            if let Some(median) = run_times.median_beyond(1, seconds(elapsed)) {
                prop_assert!(median > seconds(elapsed));
            }
        }
    }
}
