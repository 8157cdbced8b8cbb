//! How long ago something was, and how long something takes, as a person says it.

use std::time::Duration;

use jiff::Timestamp;

/// How long ago a moment of the wire was, by this machine's clock. What is no moment is shown as it is.
pub(crate) fn of(moment: &str, now: Timestamp) -> String {
    match moment.parse::<Timestamp>() {
        // The server's clock may be ahead of this one, and then it was just now.
        Ok(then) => words(Duration::try_from(now.duration_since(then)).unwrap_or_default().as_secs()),
        Err(_) => moment.to_owned(),
    }
}

/// A length of time in its largest unit that says enough.
pub(crate) fn words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        // Up to two days hours tell more.
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_one_unit() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (172_799, "47 h"),
            (172_800, "2 d"),
            (8_640_000, "100 d"),
        ] {
            assert_eq!(words(seconds), text);
        }
    }

    #[test]
    fn a_moment_has_an_age() {
        let now: Timestamp = "2026-06-09T10:13:20.123Z".parse().unwrap();
        assert_eq!(of("2026-06-09T10:10:00.000Z", now), "3 min");
        assert_eq!(of("2026-06-09T10:14:00.000Z", now), "0 s", "a clock that is ahead");
        assert_eq!(of("soon", now), "soon");
    }
}
