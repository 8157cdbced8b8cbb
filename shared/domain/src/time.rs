use std::time::Duration;

use serde::{Deserialize, Serialize};

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

    /// The time from `earlier` to this moment; zero when `earlier` is later, which a clock set back can cause.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
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
    fn jitter_stays_inside_its_span() {
        let span = Duration::from_secs(10);
        assert_eq!(Jitter::new(0.0).of(span), Duration::ZERO);
        assert_eq!(Jitter::new(0.5).of(span), Duration::from_secs(5));
        assert!(Jitter::new(7.0).of(span) < span);
        assert_eq!(Jitter::new(-1.0).of(span), Duration::ZERO);
        assert_eq!(Jitter::new(f64::NAN).of(span), Duration::ZERO);
    }
}
