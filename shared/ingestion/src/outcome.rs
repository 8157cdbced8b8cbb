use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{Converted, Decision, FallbackReason, Method, Takeover};

/// What a conversion came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The document.
    pub converted: Converted,
    /// Who made it.
    pub method: Method,
    /// What was decided at first.
    pub decision: Decision,
    /// The remote job, if there is one.
    pub remote_job_id: Option<String>,
    /// Why the remote conversion came to nothing, if it was tried and the document is a local one.
    pub fallback: Option<FallbackReason>,
    /// What became of the remote job, if the document is a local one.
    pub takeover: Option<Takeover>,
}

/// Why a conversion came to nothing at all.
#[derive(Debug, Error)]
pub enum ConversionError {
    /// The file cannot be read. Nothing was asked of anybody.
    #[error("Cannot read the file {}: {source}; check that it exists and its permissions.", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// There is nothing in the file. Nothing was asked of anybody.
    #[error("The file {} is empty; there is nothing to convert.", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The task cannot be one. Nothing was asked of anybody.
    #[error("{0}")]
    Invalid(String),
    /// The remote conversion came to nothing, and a local one is not allowed.
    #[error("{reason}")]
    Remote {
        /// What was decided at first.
        decision: Box<Decision>,
        /// Why.
        reason: FallbackReason,
        /// The remote job, if there is one.
        job_id: Option<String>,
    },
    /// The local conversion failed.
    #[error("The local conversion failed: {message}")]
    Local {
        /// What it said.
        message: String,
        /// What was decided at first.
        decision: Box<Decision>,
        /// Why the remote conversion came to nothing before, if it was tried.
        fallback: Option<FallbackReason>,
        /// The remote job, if there is one.
        job_id: Option<String>,
    },
    /// The caller cancelled the task.
    #[error("The conversion was cancelled.")]
    Cancelled {
        /// The remote job, if there is one. It was cancelled too, if the control plane could be reached.
        job_id: Option<String>,
    },
}
