//! What a service that ingests documents needs of the remote conversion service: whether to convert remotely, doing so,
//! and falling back to a local conversion.
//!
//! [`Ingestion::convert`] is the whole of it for one document: it decides, uploads, creates the job, waits for its end
//! and fetches the result, and when that comes to nothing it converts locally, once the remote job is cancelled. Of the
//! two exactly one continues.
//!
//! [`webhook`] believes or refuses what the control plane tells of a job's end, and [`detect`] says what a file or a URL
//! is.

mod convert;
mod decision;
mod events;
mod fallback;
mod local;
mod outcome;
mod questions;
mod settings;
mod task;

pub mod detect;
pub mod webhook;

pub use convert::{Ingestion, idempotency_key};
pub use decision::{Decision, Figures, Method, Reason};
pub use events::{Event, Events};
pub use fallback::{FallbackReason, Takeover};
pub use local::{Converted, LocalConversion};
pub use outcome::{ConversionError, Outcome};
pub use settings::{RemoteSettings, SettingsError};
pub use task::{ConversionTask, Pace, Source};

#[cfg(test)]
mod tests;
