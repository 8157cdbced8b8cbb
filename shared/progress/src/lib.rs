//! Reads progress out of the lines that a converter writes.
//!
//! The formats are the original system's. Each may stand plainly on its line or in the `event` of a JSON log line:
//!
//! | line | percentage | message | stage |
//! |---|---|---|---|
//! | `Processing progress: Audio processing: Initializing (52%)` | 52 | `Audio processing: Initializing` | `Audio processing` |
//! | `Processing... 75%` | 75 | `Processing` | |
//! | `Progress: 45% - Converting video` | 45 | `Converting video` | |
//! | `Stage: transcription (67%)` | 67 | `transcription` | `transcription` |
//! | `Audio processing: 80% complete` | 80 | `Audio processing` | `Audio processing` |
//! | `[75%] Processing audio content` | 75 | `Processing audio content` | |
//!
//! Anything else is not progress, and neither is a percentage outside 0 to 100 or JSON that does not parse: a
//! converter's lines are also its log, so what is not understood is passed over.
//!
//! [`parse_line`] reads one line. [`LineSplitter`] cuts lines out of bytes as they come from a pipe, in bounded
//! memory. [`ProgressStream`] is both together.

mod lines;
mod parse;

pub use lines::{LineSplitter, MOST_LINE_BYTES};
pub use parse::{ProgressEvent, parse_line};

/// Reads progress out of a pipe's bytes as they come.
#[derive(Debug, Default)]
pub struct ProgressStream {
    lines: LineSplitter,
}

impl ProgressStream {
    /// The progress in the lines that these bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<ProgressEvent> {
        self.lines.push(bytes).iter().filter_map(|line| parse_line(line)).collect()
    }

    /// The progress in a last line that has no end.
    pub fn finish(&mut self) -> Option<ProgressEvent> {
        parse_line(&self.lines.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_lines_that_are_parsed() {
        let mut stream = ProgressStream::default();
        assert!(stream.push(b"Processing... 1").is_empty());
        let events = stream.push(b"0%\nnoise\n{\"event\":\"[20%] more\"}\r\nProgress: 30%");
        let seen: Vec<u8> = events.iter().map(|event| event.percentage).collect();
        assert_eq!(seen, [10, 20]);
        assert_eq!(stream.finish().unwrap().percentage, 30);
        assert_eq!(stream.finish(), None);
    }
}
