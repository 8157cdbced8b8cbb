//! What tools write about their own progress, of their own accord.

mod bars;
mod ffmpeg;
mod yt_dlp;

use crate::{Origin, ProgressEvent};

/// Reads the lines of one run of a tool, or of several after each other.
#[derive(Debug, Default)]
pub(crate) struct ToolParser {
    ffmpeg: ffmpeg::Ffmpeg,
}

impl ToolParser {
    /// The progress that the next line tells, or none. Its origin is [`Origin::Tool`].
    pub(crate) fn parse(&mut self, line: &str) -> Option<ProgressEvent> {
        self.ffmpeg.parse(line).or_else(|| yt_dlp::parse(line)).or_else(|| bars::parse(line))
    }
}

/// A tool's percentage and message.
fn event(percentage: u8, message: String, stage: Option<&str>) -> ProgressEvent {
    ProgressEvent {
        percentage,
        message,
        stage: stage.map(str::to_owned),
        timestamp: None,
        origin: Origin::Tool,
    }
}

/// What lies between the words of a line, as one space each.
fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
