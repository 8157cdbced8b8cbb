use serde_json::{Map, Value};

use crate::ConversionTask;

/// A converted document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Converted {
    /// The Markdown.
    pub content: String,
    /// What is known about the source and its conversion.
    pub metadata: Map<String, Value>,
    /// How long the conversion took, in seconds. 0 when nobody says.
    pub processing_time: f64,
}

/// What the ingestion service converts with when it does so itself.
///
/// The future may be dropped at any moment, because the remote result has come after all or because the task is
/// cancelled: whatever it started must end then. A program that runs elsewhere is stopped by a guard that lives in the
/// future, such as `tokio_util::sync::DropGuard` or `kill_on_drop`.
pub trait LocalConversion: Sync {
    /// Converts the task's source. `progress` is told how far it is, 0 to 100, and what it does.
    ///
    /// # Errors
    /// A sentence that says why it does not work.
    fn convert(
        &self,
        task: &ConversionTask,
        progress: &(dyn Fn(u8, &str) + Sync),
    ) -> impl Future<Output = Result<Converted, String>> + Send;
}
