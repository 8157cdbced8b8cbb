use domain::Timestamp;

/// A moment as RFC 3339 in UTC with milliseconds, as every time on the wire is.
#[must_use]
pub fn rfc3339(moment: Timestamp) -> String {
    let nearest = jiff::Timestamp::from_millisecond(moment.0).unwrap_or(if moment.0 < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    format!("{nearest:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_utc_with_milliseconds() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(1_781_000_000_123)), "2026-06-09T10:13:20.123Z");
        assert!(rfc3339(Timestamp(i64::MAX)).starts_with("9999-"));
        assert!(rfc3339(Timestamp(i64::MIN)).starts_with('-'));
    }
}
