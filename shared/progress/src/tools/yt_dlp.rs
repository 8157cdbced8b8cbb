use std::sync::LazyLock;

use regex::Regex;

use super::{event, single_spaced};
use crate::{ProgressEvent, formats::percentage};

static LINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^\[download\]\s+(?P<percentage>[0-9]{1,3}(?:\.[0-9]{1,3})?)%\s+of\s+(?P<rest>.+)$").ok()
});

pub(super) fn parse(line: &str) -> Option<ProgressEvent> {
    if !line.starts_with("[download]") {
        return None;
    }
    let found = LINE.as_ref()?.captures(line)?;
    let message = format!("Downloading {}", single_spaced(&found["rest"]));
    Some(event(percentage(&found)?, message, Some("Downloading")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(u8, String)> {
        parse(line).map(|event| (event.percentage, event.message))
    }

    #[test]
    fn its_lines_tell_how_much_is_downloaded() {
        assert!(LINE.is_some());
        for (line, percentage, message) in [
            (
                "[download]  12.3% of ~ 10.00MiB at 1MiB/s ETA 00:10",
                12,
                "Downloading ~ 10.00MiB at 1MiB/s ETA 00:10",
            ),
            (
                "[download]   0.0% of  102.41MiB at  Unknown B/s ETA Unknown",
                0,
                "Downloading 102.41MiB at Unknown B/s ETA Unknown",
            ),
            (
                "[download]  45.1% of ~ 312.30MiB at    4.33MiB/s ETA 00:39 (frag 12/55)",
                45,
                "Downloading ~ 312.30MiB at 4.33MiB/s ETA 00:39 (frag 12/55)",
            ),
            (
                "[download] 100% of  102.41MiB in 00:00:21 at 4.70MiB/s",
                100,
                "Downloading 102.41MiB in 00:00:21 at 4.70MiB/s",
            ),
        ] {
            assert_eq!(read(line), Some((percentage, message.to_owned())));
        }
    }

    #[test]
    fn its_other_lines_tell_nothing() {
        for line in [
            "[download] Destination: 50% of everything.m4a",
            "[download] Unknown % of 10.00MiB",
            "[download] 101% of 10.00MiB",
            "[download] Got error: timed out. Retrying (1/10)...",
            "[youtube] abc: Downloading webpage",
            "x [download]  12.3% of ~ 10.00MiB",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
