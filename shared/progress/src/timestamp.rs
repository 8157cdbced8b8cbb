use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// A moment as Python writes it: with `Z`, with an offset, or with neither, which is taken for UTC; with `T` or a space
/// between date and time; with or without a fraction.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        // What has a time zone and does not parse is no moment, though its beginning might be read as one without.
        let naive: DateTime = text.parse().ok()?;
        Some(naive.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_however_python_writes_it() {
        for text in [
            "2025-06-11T11:26:50.780725Z",
            "2025-06-11T11:26:50.780725+00:00",
            "2025-06-11T11:26:50.780725+0000",
            "2025-06-11T13:26:50.780725+02:00",
            "2025-06-11T06:26:50.780725-05:00",
            "2025-06-11T11:26:50.780725",
            "2025-06-11 11:26:50.780725",
            "2025-06-11 11:26:50,780725",
            "2025-06-11 11:26:50.780725Z",
            " 2025-06-11 11:26:50.780725+00:00 ",
        ] {
            assert_eq!(parse(text).unwrap().as_microsecond(), 1_749_641_210_780_725, "{text}");
        }
        assert_eq!(parse("2025-06-11T11:26:50Z").unwrap().as_second(), 1_749_641_210);
        assert_eq!(parse("2025-06-11T11:26").unwrap().as_second(), 1_749_641_160);
        assert_eq!(parse("2025-06-11 11:26:50,780").unwrap().as_millisecond(), 1_749_641_210_780);
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "yesterday",
            "12",
            "1749641210.78",
            "2025-13-01T00:00:00Z",
            "2025-06-11T25:00:00",
            "11:26:50",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in ["9999-12-31T23:59:59.999999", "-009999-01-01T00:00:00", "0001-01-01T00:00:00"] {
            let _ = parse(text);
        }
    }
}
