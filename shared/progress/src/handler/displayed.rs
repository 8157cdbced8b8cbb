use std::fmt;

use jiff::Timestamp;

/// What a job displays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayedProgress {
    /// 0 to 100.
    pub percentage: u8,
    /// What follows from the percentage, or from the completion.
    pub status: DisplayedStatus,
    /// What was said last.
    pub summary: String,
    /// The stage that was named last.
    pub stage: Option<String>,
    /// When this was so: the timestamp that came with it, else when it came.
    pub updated_at: Timestamp,
    /// Whether the job has ended, which only a completion makes it.
    pub completed: bool,
}

/// How a job's state displays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayedStatus {
    /// At 0 %.
    Pending,
    /// At 1 to 99 %.
    Processing,
    /// At 100 %.
    Finished,
    /// Completed without success.
    Failed,
}

impl DisplayedStatus {
    /// The state of a job that is not completed.
    #[must_use]
    pub fn of(percentage: u8) -> Self {
        match percentage {
            0 => Self::Pending,
            1..=99 => Self::Processing,
            100.. => Self::Finished,
        }
    }

    /// The name, as the original spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Processing => "PROCESSING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
        }
    }
}

impl fmt::Display for DisplayedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
