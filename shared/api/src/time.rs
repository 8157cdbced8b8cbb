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

/// Reads a moment: RFC 3339, or what Python's `isoformat` makes of a UTC time without an offset.
#[must_use]
pub fn moment(text: &str) -> Option<Timestamp> {
    let with_offset = text.parse::<jiff::Timestamp>().ok();
    let read = with_offset.or_else(|| {
        let plain: jiff::civil::DateTime = text.parse().ok()?;
        // A date alone is no moment.
        plain.to_zoned(jiff::tz::TimeZone::UTC).ok().filter(|_| text.contains([':'])).map(|at| at.timestamp())
    });
    read.map(|at| Timestamp(at.as_millisecond()))
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

    #[test]
    fn moments_are_read_as_rfc_3339_or_as_python_writes_them() {
        for text in [
            "2026-06-09T10:13:20.123Z",
            "2026-06-09T12:13:20.123+02:00",
            "2026-06-09T10:13:20.123456+00:00",
            "2026-06-09T10:13:20.123456",
            "2026-06-09 10:13:20.123",
        ] {
            assert_eq!(moment(text), Some(Timestamp(1_781_000_000_123)), "{text}");
        }
        assert_eq!(moment("2026-06-09T10:13:20"), Some(Timestamp(1_781_000_000_000)));
        for text in ["", "today", "2026-06-09", "1781000000", "2026-13-09T10:13:20", "10:13:20"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
