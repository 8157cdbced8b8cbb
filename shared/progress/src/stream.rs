use jiff::Timestamp;

use crate::{
    LineSplitter, ProgressEvent, formats::parse_plain_line, json, json::parse_json_line, printable,
    tools::ToolParser,
};

/// The progress that a line tells in one of the original's formats, plainly or as a JSON log line, or none.
#[must_use]
pub fn parse_line(line: &str) -> Option<ProgressEvent> {
    let line = line.trim();
    if line.starts_with('{') { parse_json_line(line) } else { parse_plain_line(line) }
}

/// Reads the lines of one run of a converter, in their order: the original's formats, and what tools write.
#[derive(Debug, Default)]
pub struct ProgressParser {
    tools: ToolParser,
}

impl ProgressParser {
    /// The progress that the next line tells, or none.
    pub fn parse(&mut self, line: &str) -> Option<ProgressEvent> {
        let line = line.trim();
        if !may_matter(line) {
            return None;
        }
        if line.starts_with('{') {
            let (text, timestamp) = json::event(line)?;
            return Some(ProgressEvent { timestamp, ..self.parse_text(&text)? });
        }
        self.parse_text(&printable(line))
    }

    fn parse_text(&mut self, text: &str) -> Option<ProgressEvent> {
        let text = text.trim();
        self.tools.parse(text).or_else(|| parse_plain_line(text))
    }
}

/// Nearly every line of a log is told apart here, before any expression is tried.
pub(crate) fn may_matter(line: &str) -> bool {
    line.bytes().any(|byte| matches!(byte, b'%' | b'=')) || line.contains("Duration:")
}

/// The progress in these lines of one run, one event for each line that tells some, read as they are asked for.
pub fn parse_stream<L: AsRef<str>>(
    lines: impl IntoIterator<Item = L>,
) -> impl Iterator<Item = ProgressEvent> {
    let mut parser = ProgressParser::default();
    lines.into_iter().filter_map(move |line| parser.parse(line.as_ref()))
}

/// The event that counts: the last one, unless its timestamp is older than that of one before it. So of events with
/// timestamps the latest counts, and of those of one moment, and of those without, the last.
#[must_use]
pub fn latest(events: impl IntoIterator<Item = ProgressEvent>) -> Option<ProgressEvent> {
    let mut order = Order::default();
    events.into_iter().filter(|event| order.admits(event.timestamp)).last()
}

/// Decides which events are overtaken by ones before them.
#[derive(Debug, Default)]
pub(crate) struct Order {
    newest: Option<Timestamp>,
}

impl Order {
    /// Whether an event of this moment is not older than all before it.
    pub(crate) fn admits(&mut self, moment: Option<Timestamp>) -> bool {
        let Some(moment) = moment else { return true };
        let admitted = self.newest.is_none_or(|newest| newest <= moment);
        self.newest = self.newest.max(Some(moment));
        admitted
    }
}

/// Reads progress out of a pipe's bytes as they come.
#[derive(Debug, Default)]
pub struct ProgressStream {
    lines: LineSplitter,
    parser: ProgressParser,
}

impl ProgressStream {
    /// The progress in the lines that these bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<ProgressEvent> {
        let lines = self.lines.push(bytes);
        lines.iter().filter_map(|line| self.parser.parse(line)).collect()
    }

    /// The progress in a last line that has no end.
    pub fn finish(&mut self) -> Option<ProgressEvent> {
        self.parser.parse(&self.lines.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Origin;

    fn percentages<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
        parse_stream(lines).map(|event| event.percentage).collect()
    }

    #[test]
    fn a_line_is_read_plainly_or_as_json() {
        assert_eq!(parse_line("Processing... 75%").unwrap().percentage, 75);
        assert_eq!(parse_line(r#" {"event":"Processing... 75%"}"#).unwrap().percentage, 75);
        assert_eq!(parse_line("[download]  12.3% of 10MiB at 1MiB/s ETA 00:10"), None);
    }

    #[test]
    fn a_stream_of_lines_has_progress_of_converters_and_of_tools() {
        let lines = [
            "Loading",
            "Processing... 10%",
            r#"{"event":"[20%] more"}"#,
            "{ broken 30% }",
            "Processing... 400%",
            "Duration: 00:01:40.00, start: 0",
            "size=1kB time=00:00:50.00 bitrate=1",
            "[download]  12.3% of ~ 10.00MiB at 1MiB/s ETA 00:10",
            r#"{"event":" 45%|####5     | 45/100 [00:10<00:12,  4.50it/s]","timestamp":"2025-06-11T11:26:50Z"}"#,
        ];
        assert_eq!(percentages(lines), [10, 20, 50, 12, 45]);
        let origins: Vec<bool> = parse_stream(lines).map(|event| event.origin == Origin::Tool).collect();
        assert_eq!(origins, [false, false, true, true, true]);
        assert!(parse_stream(lines).last().unwrap().timestamp.is_some());
    }

    #[test]
    fn bytes_are_cut_at_carriage_returns_too() {
        let mut stream = ProgressStream::default();
        assert!(stream.push(b"Processing... 1").is_empty());
        let events = stream.push(
            b"0%\nnoise\n{\"event\":\"[20%] more\"}\r\n\r[download]  30.0% of 1MiB at 1MiB/s\r[download]  31.9% of 1MiB at 1MiB/s\rProgress: 32%",
        );
        let seen: Vec<u8> = events.iter().map(|event| event.percentage).collect();
        assert_eq!(seen, [10, 20, 30, 31]);
        assert_eq!(stream.finish().unwrap().percentage, 32);
        assert_eq!(stream.finish(), None);
    }

    #[test]
    fn the_documents_log_ends_with_its_latest() {
        let log = [
            r#"{"event": "Processing progress: Video processing (30%)", "timestamp": "2025-06-11T11:26:51.780725Z"}"#,
            r#"{"event": "Processing progress: Video processing (100%)", "timestamp": "2025-06-11T11:26:54.780725Z"}"#,
            r#"{"event": "Processing progress: Video processing (60%)", "timestamp": "2025-06-11T11:26:52.780725Z"}"#,
        ];
        assert_eq!(latest(parse_stream(log)).unwrap().percentage, 100);
        assert_eq!(latest(parse_stream([""; 0])), None);
    }

    /// The percentage that counts of events at these moments, which have the percentages 0, 1, 2 and so on.
    fn counts(moments: &[Option<i64>]) -> u8 {
        let events = moments.iter().zip(0..).map(|(moment, percentage)| ProgressEvent {
            percentage,
            message: String::new(),
            stage: None,
            timestamp: moment.map(|second| Timestamp::from_second(second).unwrap()),
            origin: Origin::Converter,
        });
        latest(events).unwrap().percentage
    }

    #[test]
    fn the_latest_is_the_last_that_is_not_older_than_one_before() {
        assert_eq!(counts(&[Some(1), Some(3), Some(2)]), 1);
        assert_eq!(counts(&[Some(3), Some(3)]), 1, "of one moment the last");
        assert_eq!(counts(&[None, None]), 1, "of none the last");
        assert_eq!(counts(&[Some(3), None]), 1);
        assert_eq!(counts(&[Some(3), None, Some(2)]), 1, "what has no moment hides no moment before it");
        assert_eq!(counts(&[None, Some(3), Some(2)]), 1);
    }

    proptest! {
        #[test]
        fn no_line_panics(lines in proptest::collection::vec("\\PC{0,60}", 0..8)) {
            for event in parse_stream(&lines) {
                prop_assert!(event.percentage <= 100);
            }
        }

        #[test]
        fn nothing_that_looks_like_progress_panics(
            lines in proptest::collection::vec(
                r#"(\{"event": ?")?(Duration: |frame=|size= time=|out_time=|out_time_us=|progress=|\[download\] |Progress: |x: )?[-+]?[0-9:.]{0,20}( ?%)?(\|#* *\| 1/2| of 1MiB|end|continue)?.{0,8}("\})?"#,
                0..12,
            ),
        ) {
            for event in parse_stream(&lines) {
                prop_assert!(event.percentage <= 100);
                prop_assert!(!event.message.chars().any(char::is_control));
            }
        }

        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("Duration: 00:01:40.00, start: 0"), Just("size=1kB time=00:00:50.00 bitrate=1"),
                    Just("out_time_us=1000000"), Just("progress=continue"), Just("[5%] é"), Just("noise"),
                    Just(r#"{"event":"[20%] more","timestamp":"2025-06-11T11:26:50Z"}"#),
                ],
                0..12,
            ),
            cuts in proptest::collection::vec(0usize..600, 0..8),
            end in prop_oneof![Just("\n"), Just("\r"), Just("\r\n")],
        ) {
            let bytes = lines.join(end).into_bytes();
            let whole: Vec<ProgressEvent> = parse_stream(&lines).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut stream = ProgressStream::default();
            let mut seen: Vec<ProgressEvent> =
                cuts.windows(2).flat_map(|cut| stream.push(&bytes[cut[0]..cut[1]])).collect();
            seen.extend(stream.finish());
            prop_assert_eq!(seen, whole);
        }

        #[test]
        fn the_latest_of_moments_is_the_greatest_and_of_equals_the_last(
            moments in proptest::collection::vec(0i64..10, 1..30),
        ) {
            let greatest = moments.iter().max().unwrap();
            let last = moments.iter().rposition(|moment| moment == greatest).unwrap();
            let all: Vec<Option<i64>> = moments.iter().copied().map(Some).collect();
            prop_assert_eq!(usize::from(counts(&all)), last);
        }
    }
}
