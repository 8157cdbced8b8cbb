use std::{fmt, str::FromStr, time::Duration};

use jiff::{civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::InvalidValue;

/// A moment on the server's clock, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment and `span` more. Saturates instead of overflowing.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This moment less `span`. Saturates instead of overflowing.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// The day it is in. What is beyond the year 9999 counts as 1970.
    #[must_use]
    pub fn day(self) -> Day {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        Day(moment.to_zoned(TimeZone::UTC).date())
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later, which a clock set back can cause.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A day in UTC. Spelled `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(Date);

impl TryFrom<String> for Day {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

impl Day {
    /// The day before.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.yesterday().unwrap_or(self.0))
    }

    /// The day's first moment.
    #[must_use]
    pub fn begin(self) -> Timestamp {
        Timestamp(self.0.to_zoned(TimeZone::UTC).map_or(0, |midnight| midnight.timestamp().as_millisecond()))
    }

    /// The day's last millisecond.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.begin().plus(Duration::from_millis(86_399_999))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Day {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parsed = text.parse().map(Self).ok();
        // Other spellings of ISO 8601, times among them, do not come back as they were.
        parsed
            .filter(|day| day.to_string() == text)
            .ok_or_else(|| InvalidValue("is not a day, spelled YYYY-MM-DD".to_owned()))
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A random fraction in `[0, 1)`, drawn by the caller so that transitions stay reproducible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// Takes any number; what lies outside `[0, 1)` is brought to the nearer end.
    #[must_use]
    pub fn new(fraction: f64) -> Self {
        Self(if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 0.999_999) })
    }

    /// A delay between nothing and `most` ("full jitter").
    #[must_use]
    pub fn of(self, most: Duration) -> Duration {
        most.mul_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp(i64::MAX).plus(Duration::MAX), Timestamp(i64::MAX));
        assert_eq!(Timestamp(i64::MIN).minus(Duration::MAX), Timestamp(i64::MIN));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(9).since(Timestamp(5)), Duration::from_millis(4));
    }

    #[test]
    fn days_are_spelled_as_iso_8601_does() {
        for (millis, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_400_000, "2000-02-29"),
            (4_107_542_400_000, "2100-03-01"),
            (1_795_305_600_000, "2026-11-22"),
        ] {
            let day = Timestamp(millis).day();
            assert_eq!(day.to_string(), text);
            assert_eq!(text.parse::<Day>().unwrap(), day);
            assert!(day.begin() <= Timestamp(millis) && day.begin().day() == day);
            assert!(day.end() >= Timestamp(millis) && day.end().day() == day);
            assert_eq!(Timestamp(day.end().0 + 1).day().before(), day);
        }
        let mut day: Day = "2028-03-01".parse().unwrap();
        for _ in 0..4000 {
            assert_eq!(day.to_string().parse::<Day>().unwrap(), day);
            assert_eq!(day.before().begin().since(day.begin()), Duration::ZERO);
            day = day.before();
        }
        for wrong in ["2026-02-30", "2026-2-3", "20260203", "2026-13-01", "today", "", "2026-01-01T00"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn jitter_stays_inside_its_span() {
        let span = Duration::from_secs(10);
        assert_eq!(Jitter::new(0.0).of(span), Duration::ZERO);
        assert_eq!(Jitter::new(0.5).of(span), Duration::from_secs(5));
        assert!(Jitter::new(7.0).of(span) < span);
        assert_eq!(Jitter::new(-1.0).of(span), Duration::ZERO);
        assert_eq!(Jitter::new(f64::NAN).of(span), Duration::ZERO);
    }
}
