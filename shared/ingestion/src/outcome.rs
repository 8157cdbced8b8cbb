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
    /// The remote job, as far as one is known: also one that was only found when it was to be ended.
    pub remote_job_id: Option<String>,
    /// Why the remote conversion came to nothing, if it was tried and the document is a local one.
    pub fallback: Option<FallbackReason>,
    /// What became of the remote job, if the document is a local one and somebody was asked for a remote one. After
    /// [`Takeover::Unconfirmed`] the job may still run: whoever knows its id goes on cancelling it.
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
        /// What became of the remote job, unless nobody was asked for one.
        takeover: Option<Takeover>,
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
        /// What became of the remote job, unless nobody was asked for one.
        takeover: Option<Takeover>,
    },
    /// The caller cancelled the task.
    #[error("The conversion was cancelled.")]
    Cancelled {
        /// The remote job, if there is one.
        job_id: Option<String>,
        /// What became of the remote job, which was cancelled too if the control plane could be reached.
        takeover: Option<Takeover>,
    },
}

impl ConversionError {
    /// The remote job, as far as one is known.
    #[must_use]
    pub fn remote_job_id(&self) -> Option<&str> {
        match self {
            Self::Remote { job_id, .. } | Self::Local { job_id, .. } | Self::Cancelled { job_id, .. } => {
                job_id.as_deref()
            }
            Self::File { .. } | Self::Empty { .. } | Self::Invalid(_) => None,
        }
    }

    /// What became of the remote job, unless nobody was asked for one. After [`Takeover::Unconfirmed`] it may still run:
    /// whoever knows its id goes on cancelling it.
    #[must_use]
    pub fn takeover(&self) -> Option<Takeover> {
        match self {
            Self::Remote { takeover, .. }
            | Self::Local { takeover, .. }
            | Self::Cancelled { takeover, .. } => *takeover,
            Self::File { .. } | Self::Empty { .. } | Self::Invalid(_) => None,
        }
    }
}
