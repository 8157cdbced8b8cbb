use jiff::Timestamp;

use super::{DisplayedProgress, DisplayedStatus, Handled};
use crate::{Origin, ProgressEvent, ProgressParser, printable, stream::Order};

/// The most that a tool's own progress displays as: its end is not yet the conversion's.
const MOST_OF_TOOLS: u8 = 99;

/// How far a job is.
#[derive(Debug, Default)]
pub(super) struct Job {
    parser: ProgressParser,
    order: Order,
    percentage: u8,
    summary: String,
    stage: Option<String>,
    /// Whether the converter itself has told how far it is.
    has_spoken: bool,
}

impl Job {
    /// Reads a line of its log.
    pub(super) fn read(
        &mut self,
        line: &str,
        clock: fn() -> Timestamp,
    ) -> Result<DisplayedProgress, Handled> {
        let event = self.parser.parse(line).ok_or(Handled::NoProgress)?;
        if !self.order.admits(event.timestamp) {
            return Err(Handled::Older);
        }
        let moment = event.timestamp.unwrap_or_else(clock);
        self.take(event);
        Ok(self.displayed(moment))
    }

    /// Takes what a worker or a task says, at this moment.
    pub(super) fn said(
        &mut self,
        percentage: u8,
        message: &str,
        moment: Timestamp,
    ) -> Result<DisplayedProgress, Handled> {
        let message = printable(message).trim().to_owned();
        self.take(ProgressEvent {
            percentage,
            message,
            stage: None,
            timestamp: None,
            origin: Origin::Converter,
        });
        Ok(self.displayed(moment))
    }

    pub(super) fn completed(&mut self, success: bool, summary: &str, moment: Timestamp) -> DisplayedProgress {
        DisplayedProgress {
            percentage: if success { 100 } else { self.percentage },
            status: if success { DisplayedStatus::Finished } else { DisplayedStatus::Failed },
            summary: printable(summary).trim().to_owned(),
            stage: self.stage.clone(),
            updated_at: moment,
            completed: true,
        }
    }

    fn take(&mut self, event: ProgressEvent) {
        match event.origin {
            Origin::Converter => {
                self.has_spoken = true;
                self.percentage = event.percentage;
            }
            Origin::Tool if self.has_spoken => {}
            Origin::Tool => self.percentage = event.percentage.min(MOST_OF_TOOLS),
        }
        // Some formats tell only a percentage; what was said before still holds then.
        if !event.message.is_empty() {
            self.summary = event.message;
        }
        self.stage = event.stage.or(self.stage.take());
    }

    fn displayed(&self, moment: Timestamp) -> DisplayedProgress {
        DisplayedProgress {
            percentage: self.percentage,
            status: DisplayedStatus::of(self.percentage),
            summary: self.summary.clone(),
            stage: self.stage.clone(),
            updated_at: moment,
            completed: false,
        }
    }
}
