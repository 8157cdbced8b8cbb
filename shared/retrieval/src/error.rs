use std::{io, path::PathBuf};

/// Why a document could not be stored, found or deleted. What is displayed is a sentence that says what to do, and
/// has neither keys nor passwords in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the caller gave cannot be used.
    #[error("{reason}.")]
    Invalid {
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The collection was made with another embedding than the settings ask for.
    #[error(
        "The collection {collection} was made with the embedding {stored}, and the settings ask for {asked}; set \
         MORAG_EMBEDDING_PROVIDER and its model back, or choose another QDRANT_COLLECTION_NAME and ingest anew."
    )]
    OtherEmbedding {
        /// The collection.
        collection: String,
        /// The embedding that it has.
        stored: String,
        /// The embedding that was asked for.
        asked: String,
    },
    /// Another process uses the folder.
    #[error("The folder {} is in use by another process; stop that one, or choose another folder.", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder cannot be read or written.
    #[error("Cannot use {}: {source}; check its permissions and the disk's space.", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The embedded engine failed.
    #[error("The vector engine failed: {reason}; check the disk's space, and try again.")]
    Engine {
        /// What it says.
        reason: String,
    },
    /// A server cannot be reached, or broke off.
    #[error("Cannot reach {url}: {reason}; check the address, the network and that the server runs.")]
    Unreachable {
        /// Where the request went.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// A server answered that it does not do it.
    #[error("{url} answered {status}: {reason}.")]
    Refused {
        /// Where the request went.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the server says about it.
        reason: String,
    },
    /// A server's answer is not what it should be.
    #[error(
        "{url} gave an answer that cannot be used: {reason}; check that the address and the model are the right ones."
    )]
    Unusable {
        /// Where the request went.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may succeed later, without anybody changing the settings or the request.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused { status, .. } => passing(*status),
            Self::Engine { .. } | Self::Unreachable { .. } | Self::File { .. } => true,
            Self::Invalid { .. }
            | Self::OtherEmbedding { .. }
            | Self::InUse { .. }
            | Self::Unusable { .. } => false,
        }
    }
}

/// Statuses that say "not now" rather than "no".
fn passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 529)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        let refused = |status| Error::Refused { url: "http://h/".into(), status, reason: "no".into() };
        assert!([429, 500, 503].into_iter().all(|status| refused(status).retryable()));
        assert!(![400, 401, 403, 404, 501].into_iter().any(|status| refused(status).retryable()));
        assert!(Error::Unreachable { url: "http://h/".into(), reason: "refused".into() }.retryable());
        assert!(!Error::Invalid { reason: "The query is empty".into() }.retryable());
    }
}
