use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::{Origin, ProgressEvent, printable};

/// The progress that a plain line tells in one of the original's formats, or none.
#[must_use]
pub fn parse_plain_line(line: &str) -> Option<ProgressEvent> {
    parse(printable(line).trim())
}

fn parse(line: &str) -> Option<ProgressEvent> {
    // Nearly every line of a log ends here, before any expression is tried.
    if !line.contains('%') {
        return None;
    }
    let (format, found) = FORMATS.iter().find_map(|format| Some((format, format.pattern.captures(line)?)))?;
    let text = |name: &str| found.name(name).map(|found| found.as_str().trim()).unwrap_or_default();
    let message = match format.kind {
        Kind::Bare => "Processing",
        Kind::Staged | Kind::Message => text("message"),
    };
    let stage = match format.kind {
        Kind::Bare | Kind::Message => None,
        Kind::Staged => Some(message.split_once(": ").map_or(message, |(stage, _)| stage).trim()),
    };
    Some(ProgressEvent {
        percentage: percentage(&found)?,
        message: message.to_owned(),
        stage: stage.filter(|stage| !stage.is_empty()).map(str::to_owned),
        timestamp: None,
        origin: Origin::Converter,
    })
}

/// A percentage of 0 to 100, without its fraction.
pub(crate) fn percentage(found: &Captures<'_>) -> Option<u8> {
    whole_percent(found.name("percentage")?.as_str().parse().ok()?)
}

/// A percentage of 0 to 100, without its fraction.
pub(crate) fn whole_percent(value: f64) -> Option<u8> {
    if !(0.0..=100.0).contains(&value) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is in range, and cutting the fraction is what is wanted"
    )]
    Some(value as u8)
}

struct Format {
    kind: Kind,
    pattern: Regex,
}

/// What a format tells besides the percentage.
#[derive(Clone, Copy)]
enum Kind {
    /// Nothing.
    Bare,
    /// A message.
    Message,
    /// A message that begins with the stage, up to a colon.
    Staged,
}

/// The formats that begin with a word of their own may have a logger's prefix before it, such as a date and a level.
/// The others must begin the line, because what they look like is common elsewhere.
static FORMATS: LazyLock<Vec<Format>> = LazyLock::new(|| {
    const NUMBER: &str = r"(?P<percentage>[+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?)";
    [
        (Kind::Staged, r"(?:^|[^\w])(?i-u:processing progress):(?P<message>.*?)\(NUMBER\s*%\)"),
        (Kind::Staged, r"(?:^|[^\w])(?i-u:stage):(?P<message>.+?)\(NUMBER\s*%\)"),
        (Kind::Message, r"(?:^|[^\w])(?i-u:progress):\s*NUMBER\s*%(?:\s*[-–—:]\s*(?P<message>.*))?"),
        (Kind::Bare, r"(?:^|[^\w])(?i-u:processing)(?:\.{2,3}|…)\s*NUMBER\s*%"),
        (Kind::Message, r"^\[\s*NUMBER\s*%\s*\](?P<message>.*)$"),
        (Kind::Staged, r"^(?P<message>[^%]{1,200}?):\s*NUMBER\s*%\s*(?i-u:complete)"),
    ]
    .into_iter()
    .filter_map(|(kind, pattern)| {
        // Each is valid, which the tests show by an example of each.
        let pattern = Regex::new(&pattern.replace("NUMBER", NUMBER)).ok()?;
        Some(Format { kind, pattern })
    })
    .collect()
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The percentage, the message and the stage.
    fn read(line: &str) -> Option<(u8, String, Option<String>)> {
        parse_plain_line(line).map(|event| (event.percentage, event.message, event.stage))
    }

    fn expect(line: &str, percentage: u8, message: &str, stage: Option<&str>) {
        assert_eq!(read(line), Some((percentage, message.to_owned(), stage.map(str::to_owned))), "{line}");
    }

    #[test]
    fn the_formats_of_the_original() {
        let audio = Some("Audio processing");
        expect(
            "Processing progress: Audio processing: Initializing (52%)",
            52,
            "Audio processing: Initializing",
            audio,
        );
        expect("Processing... 75%", 75, "Processing", None);
        expect("Progress: 45% - Converting video", 45, "Converting video", None);
        expect("Stage: transcription (67%)", 67, "transcription", Some("transcription"));
        expect("Audio processing: 80% complete", 80, "Audio processing", audio);
        expect("[75%] Processing audio content", 75, "Processing audio content", None);
    }

    #[test]
    fn every_format_compiles() {
        assert_eq!(FORMATS.len(), 6);
    }

    #[test]
    fn spelling_and_space_may_vary() {
        expect("  [ 7 % ]  x  ", 7, "x", None);
        expect("[100%]", 100, "", None);
        expect("PROGRESS: 0%", 0, "", None);
        expect("progress: 12.9% – é", 12, "é", None);
        expect("Processing… 3%", 3, "Processing", None);
        expect("Processing progress: (5%)", 5, "", None);
        expect("Processing progress: Video (30%) done", 30, "Video", Some("Video"));
        expect("Stage: a: b (1%)", 1, "a: b", Some("a"));
        expect("a: b: 2% complete", 2, "a: b", Some("a"));
    }

    #[test]
    fn a_loggers_prefix_may_stand_before_the_formats_with_a_word_of_their_own() {
        expect("2025-06-11 11:26:50 [info] Processing progress: Audio (75%)", 75, "Audio", Some("Audio"));
        expect("INFO:root:Progress: 45% - Converting video", 45, "Converting video", None);
        expect("INFO Stage: ocr (9%)", 9, "ocr", Some("ocr"));
        assert_eq!(read("INFO [75%] not at the beginning"), None);
        assert_eq!(read("unprocessing... 3%"), None);
        assert_eq!(read("backstage: x (3%)"), None);
    }

    #[test]
    fn what_is_out_of_range_is_no_progress() {
        for line in [
            "Processing... 101%",
            "Processing... -1%",
            "Progress: 100.1%",
            "[999999999999999999999%] x",
            "Stage: x (1e2%)",
            "Processing progress: x (150%)",
            "x: 300% complete",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn other_lines_are_no_progress() {
        for line in [
            "",
            "%",
            "Loading model",
            "50%",
            "about 50% of it",
            "Processing...",
            "Progress: %",
            "[%] x",
            "[5] x",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn colours_do_not_hide_progress_and_do_not_get_into_its_message() {
        expect(
            "\x1b[2m2025-06-11 11:26:50\x1b[0m [\x1b[32m\x1b[1minfo\x1b[0m] \x1b[1mProgress: 45% - Con\x1b[31mverting\x1b[0m",
            45,
            "Converting",
            None,
        );
        expect("\x1b[2K[7%] a\u{202e}b\x07", 7, "ab", None);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC*") {
            let _ = parse_plain_line(&line);
        }

        #[test]
        fn nothing_that_looks_like_a_format_panics(
            line in r#"(Processing progress: |Stage: |Progress: |Processing\.\.\.|\[|é: )?[-+]?[0-9.]{0,30}( ?%)?\)?\]?( complete)?.{0,8}"#
        ) {
            if let Some(event) = parse_plain_line(&line) {
                prop_assert!(event.percentage <= 100);
                prop_assert!(event.message.len() <= line.len().max("Processing".len()));
            }
        }

        #[test]
        fn every_percentage_is_read_in_every_format(percentage in 0u8..=100, message in "[a-z]{1,20}") {
            for line in [
                format!("Processing progress: {message} ({percentage}%)"),
                format!("Processing... {percentage}%"),
                format!("Progress: {percentage}% - {message}"),
                format!("Stage: {message} ({percentage}%)"),
                format!("{message}: {percentage}% complete"),
                format!("[{percentage}%] {message}"),
            ] {
                prop_assert_eq!(parse_plain_line(&line).map(|event| event.percentage), Some(percentage));
            }
        }
    }
}
