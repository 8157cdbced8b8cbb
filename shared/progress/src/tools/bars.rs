use std::sync::LazyLock;

use regex::Regex;

use super::{event, single_spaced};
use crate::{ProgressEvent, formats::percentage};

/// A text, a percentage, a bar of anything, and a count: `Reading:  45%|####5     | 45/100 [00:10<00:12]`.
static BAR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(?:(?P<message>[^|%]{1,200}?):)?\s*(?P<percentage>[0-9]{1,3})%\|[^|]*\|\s*[0-9]").ok()
});
static WHISPER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^whisper_print_progress_callback:\s*progress\s*=\s*(?P<percentage>[0-9]{1,3})%").ok()
});

pub(super) fn parse(line: &str) -> Option<ProgressEvent> {
    if !line.contains('%') {
        return None;
    }
    if line.contains("%|") {
        let found = BAR.as_ref()?.captures(line)?;
        let message = found.name("message").map(|found| single_spaced(found.as_str())).unwrap_or_default();
        return Some(event(percentage(&found)?, message, None));
    }
    let found = WHISPER.as_ref()?.captures(line)?;
    Some(event(percentage(&found)?, "Transcribing".to_owned(), Some("Transcribing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(u8, String)> {
        parse(line).map(|event| (event.percentage, event.message))
    }

    #[test]
    fn bars_tell_their_percentage_and_their_text() {
        assert!(BAR.is_some() && WHISPER.is_some());
        for (line, percentage, message) in [
            (" 45%|####5     | 45/100 [00:10<00:12,  4.50it/s]", 45, ""),
            ("45%|████▌     | 45/100 [00:10<00:12,  4.50it/s]", 45, ""),
            ("  0%|          | 0/24000 [00:00<?, ?frames/s]", 0, ""),
            (
                "Downloading  model.bin: 100%|██████████| 1.53G/1.53G [01:02<00:00, 24.5MB/s]",
                100,
                "Downloading model.bin",
            ),
            ("Stage: OCR:   7%|7   | 7/100 [00:10<00:12]", 7, "Stage: OCR"),
            ("whisper_print_progress_callback: progress =  45%", 45, "Transcribing"),
        ] {
            assert_eq!(read(line), Some((percentage, message.to_owned())), "{line}");
        }
    }

    #[test]
    fn what_only_looks_like_a_bar_tells_nothing() {
        for line in [
            "45%",
            "45%|",
            "| a | 45%| b |",
            "45%| of people | like it",
            "145%|####| 1/2",
            "-5%|##| 1/2",
            "progress = 45%",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
