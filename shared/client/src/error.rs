use std::{io, path::PathBuf, time::Duration};

use api::{Kind, Problem};

/// Why a call or a transfer came to nothing. What is displayed is a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server understood the request and refused it, or failed and said so.
    #[error("{detail} ({status} {name})", detail = .problem.detail, name = short_kind(.problem))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server says about it.
        problem: Box<Problem>,
        /// How long the server asks to wait before another try.
        retry_after: Option<Duration>,
    },
    /// No connection, or one that broke before there was an answer.
    #[error("Cannot reach {host}: {reason}; check the address, the network and that the server runs.")]
    Unreachable {
        /// Host and port that were to be reached.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// The server's certificate is not one that this machine trusts.
    #[error(
        "The certificate of {host} is not trusted ({reason}); check the address, and if the server's certificate is of \
         its own making, name it or its issuer's file in SSL_CERT_FILE."
    )]
    Untrusted {
        /// Host and port that were to be reached.
        host: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The server was reached and then stayed silent for too long.
    #[error("{host} was silent for {} s; try again, and check the server if it stays so.", .after.as_secs())]
    TimedOut {
        /// Host and port that stayed silent.
        host: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Something answered that does not speak this API: a proxy, a login page, another program.
    #[error(
        "{host} answered {status} with {reason}; check that the API URL leads to the remote-jobs server, and that it runs."
    )]
    Unreadable {
        /// Host and port that answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the answer is instead.
        reason: String,
        /// How long the answer asks to wait before another try.
        retry_after: Option<Duration>,
    },
    /// The object store did not take or give a file.
    #[error("The transfer with {host} failed: {reason}.")]
    Transfer {
        /// Host and port of the object store.
        host: String,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
        /// The object store's own error code, such as `AccessDenied`.
        code: Option<String>,
        /// What went wrong.
        reason: String,
        /// How long the object store asks to wait before another try.
        retry_after: Option<Duration>,
    },
    /// A local file cannot be read or written.
    #[error("Cannot use the file {}: {source}; check that it exists, its permissions and the disk's space.", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The bytes are not the ones that were announced.
    #[error("{what} is not what was announced: {reason}.")]
    Corrupt {
        /// Which bytes.
        what: String,
        /// How they differ and what to do.
        reason: String,
    },
    /// What the caller gave cannot be used.
    #[error("{reason}.")]
    Invalid {
        /// What is wrong with it and what to do.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused { status, .. } | Self::Unreadable { status, .. } => passing(*status),
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::TimedOut { .. } => true,
            Self::Transfer { status: None, .. } => true,
            Self::Transfer { status: Some(status), code, .. } => {
                passing(*status) || code.as_deref().is_some_and(passing_code)
            }
            Self::File { .. } | Self::Corrupt { .. } | Self::Invalid { .. } => false,
        }
    }

    /// How long the server asks to wait before another try.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. }
            | Self::Unreadable { retry_after, .. }
            | Self::Transfer { retry_after, .. } => *retry_after,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::TimedOut { .. }
            | Self::File { .. }
            | Self::Corrupt { .. }
            | Self::Invalid { .. } => None,
        }
    }

    /// The kind of problem, where the server named one that this version knows.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Refused { problem, .. } => problem.known_kind(),
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::TimedOut { .. }
            | Self::Unreadable { .. }
            | Self::Transfer { .. }
            | Self::File { .. }
            | Self::Corrupt { .. }
            | Self::Invalid { .. } => None,
        }
    }

    /// The HTTP status, where there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Unreadable { status, .. } => Some(*status),
            Self::Transfer { status, .. } => *status,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::TimedOut { .. }
            | Self::File { .. }
            | Self::Corrupt { .. }
            | Self::Invalid { .. } => None,
        }
    }
}

/// Statuses that say "not now" rather than "no".
fn passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504)
}

/// Codes by which an S3 server says "not now" under a status that means "no" elsewhere.
fn passing_code(code: &str) -> bool {
    matches!(code, "RequestTimeout" | "ConditionalRequestConflict" | "OperationAborted" | "SlowDown")
}

fn short_kind(problem: &Problem) -> &str {
    problem.known_kind().map_or(problem.title.as_str(), |kind| kind.name())
}
