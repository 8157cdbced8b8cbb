//! What the service needs of others: a conversion, a library of chunks, and somebody who carries webhooks.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use domain::Tried;
use retrieval::{Chunk, Document, Hit, Library};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    store::{Left, Note},
    task::{Content, Task},
};

/// A task that is to be converted.
pub struct Work {
    /// The task, begun.
    pub task: Task,
    /// Where its source is, if it is a file.
    pub source: PathBuf,
    /// When a remote conversion must be over.
    pub deadline: SystemTime,
    /// Told when the control plane tells of the remote job's end.
    pub wake: Arc<Notify>,
    /// Cancelled when the task is. Then the remote job is to be cancelled too.
    pub cancel: CancellationToken,
    /// Who hears what happens.
    pub notes: Notes,
}

/// A conversion that came to something.
#[derive(Clone, Debug)]
pub struct Made {
    /// What.
    pub content: Content,
    /// `remote` or `local`.
    pub method: &'static str,
    /// What may still run of the remote job.
    pub left: Left,
}

/// A conversion that came to nothing, for good.
#[derive(Clone, Debug)]
pub struct Unmade {
    /// A sentence that says why.
    pub message: String,
    /// What may still run of the remote job.
    pub left: Left,
}

/// Something that is heard of a conversion.
#[derive(Clone, Debug)]
pub enum Heard {
    /// It is remembered for good.
    Note(Note),
    /// How far it is, which is forgotten with the process.
    Local {
        /// 0 to 100.
        percentage: u8,
        /// What it does.
        message: String,
    },
    /// How far the remote job is, which is forgotten with the process.
    Remote {
        /// 0 to 100.
        percentage: u8,
        /// What it does.
        message: String,
    },
}

/// Where a conversion says what happens.
#[derive(Clone, Debug)]
pub struct Notes(pub mpsc::UnboundedSender<Heard>);

impl Notes {
    /// Says it.
    pub fn say(&self, heard: Heard) {
        // Whoever does not listen any more has no use for it.
        let _ = self.0.send(heard);
    }

    /// Says something to remember.
    pub fn note(&self, note: Note) {
        self.say(Heard::Note(note));
    }
}

/// Converts documents, remotely or here.
#[async_trait]
pub trait Conversion: Send + Sync {
    /// Converts a document. It may be dropped at any moment, and then leaves nothing running here. It may be run again
    /// for the same task after that.
    ///
    /// # Errors
    /// [`Unmade`] says why nothing came of it.
    async fn convert(&self, work: Work) -> Result<Made, Unmade>;

    /// Cancels a remote job that nobody waits for any more. Returns a sentence that says what became of it.
    ///
    /// # Errors
    /// A sentence that says why it is not known, and is to be tried again.
    async fn abandon(&self, job_id: &str) -> Result<String, String>;
}

/// Why chunks are not stored or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelfError {
    /// A sentence.
    pub message: String,
    /// Whether the same call may succeed later, by itself or once an operator has set a key right.
    pub retryable: bool,
}

impl From<retrieval::Error> for ShelfError {
    fn from(error: retrieval::Error) -> Self {
        // A key that is not taken is one that an operator mends; no document is to be given up for it.
        let denied = matches!(error, retrieval::Error::Refused { status: 401 | 403, .. });
        Self { message: error.to_string(), retryable: denied || error.retryable() }
    }
}

/// Keeps and finds chunks.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// Stores the chunks of a document for good. The same task may do so any number of times.
    async fn store(&self, document: Document<'_>, chunks: &[Chunk]) -> Result<usize, ShelfError>;

    /// The chunks that fit best, the best first.
    async fn search(
        &self,
        query: &str,
        limit: usize,
        document_id: Option<&str>,
    ) -> Result<Vec<Hit>, ShelfError>;

    /// Removes all chunks of a document.
    async fn delete(&self, document_id: &str) -> Result<(), ShelfError>;
}

#[async_trait]
impl Shelf for Library {
    async fn store(&self, document: Document<'_>, chunks: &[Chunk]) -> Result<usize, ShelfError> {
        Ok(Library::store(self, &document, chunks).await?)
    }

    async fn search(
        &self,
        query: &str,
        limit: usize,
        document_id: Option<&str>,
    ) -> Result<Vec<Hit>, ShelfError> {
        Ok(Library::search(self, query, limit, document_id).await?)
    }

    async fn delete(&self, document_id: &str) -> Result<(), ShelfError> {
        Ok(Library::delete(self, document_id).await?)
    }
}

/// A signed message to a task's webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `webhook-id`, the same in every try.
    pub id: String,
    /// `webhook-timestamp`, in Unix seconds.
    pub timestamp: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// Where it goes.
    pub url: String,
    /// The JSON body, the same bytes in every try.
    pub body: Vec<u8>,
}

/// Carries messages to webhooks.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Tries once.
    async fn carry(&self, message: &Message) -> Tried;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_taken_is_waited_for_and_a_wrong_request_is_not() {
        let refused = |status| {
            let error = retrieval::Error::Refused { url: "http://h/".into(), status, reason: "no".into() };
            ShelfError::from(error).retryable
        };
        assert!([401, 403, 429, 503].into_iter().all(refused));
        assert!(![400, 404, 422].into_iter().any(refused));
    }
}
