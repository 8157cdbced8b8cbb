//! Cuts a conversion into chunks and stores them.

use std::time::Duration;

use retrieval::{Chunk, ChunkRules, Document};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Pipeline;
use crate::{
    seams::ShelfError,
    store::{Left, StoreError},
    task::{Content, Phase, Spec, Task},
};

/// How long a library that may work later is tried, by each run of the service: what an hour of work has made is not given
/// up because of an outage that somebody mends within a day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The waits between the tries: each is twice the one before it, up to the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

impl Pipeline {
    /// Stores the conversion that was taken, and ends the task.
    pub(super) async fn shelve(&self, task: &Task) -> Result<(), StoreError> {
        let parts = &self.parts;
        match self.stored(task).await? {
            Ok(result) => {
                parts.store.succeed(task.id, result, parts.clock.now()).await?;
            }
            Err(error) => {
                self.leave_nothing(task).await;
                let error = format!("The document could not be stored: {error}");
                parts.store.fail(task.id, Phase::Storing, error, Left::Nothing, parts.clock.now()).await?;
            }
        }
        Ok(())
    }

    /// Tries until the document is stored, or cannot be. Returns the task's result, or why there is none.
    async fn stored(&self, task: &Task) -> Result<Result<Value, String>, StoreError> {
        let (begun, mut wait, mut told) = (Instant::now(), WAITS.0, false);
        loop {
            let error = match self.try_to_store(task).await? {
                Ok(result) => return Ok(Ok(result)),
                Err(error) => error,
            };
            if !error.retryable || begun.elapsed() >= LONGEST {
                return Ok(Err(error.message));
            }
            tracing::warn!(task = %task.id, error = error.message, "chunks cannot be stored; trying again");
            if !told {
                let what = format!("The library cannot store it now, and is tried again: {}", error.message);
                self.parts.store.remember(task.id, "storing_failed", what, self.parts.clock.now()).await?;
                told = true;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// Stores the document, a few at once: their texts and chunks are in memory only that long.
    async fn try_to_store(&self, task: &Task) -> Result<Result<Value, ShelfError>, StoreError> {
        let _permit = self.shelving.acquire().await.map_err(|_| StoreError::Ending)?;
        let Some(content) = self.parts.store.content(task.id).await? else {
            return Ok(Err(for_good("the conversion that was taken is not there any more")));
        };
        let chunks = match chunks(&task.spec, content.text.clone()).await {
            Ok(chunks) => chunks,
            Err(error) => return Ok(Err(for_good(error))),
        };
        let stored = self.store_chunks(task, &content, &chunks).await;
        Ok(stored.map(|stored| result(task, &content, stored)))
    }

    async fn store_chunks(
        &self,
        task: &Task,
        content: &Content,
        chunks: &[Chunk],
    ) -> Result<usize, ShelfError> {
        let (id, metadata) = (task.id.to_string(), metadata(task, content));
        let document = Document {
            id: &task.spec.document_id,
            task_id: &id,
            replace: task.spec.replace_existing,
            metadata: &metadata,
            source_type: task.spec.content_type.as_str(),
            processing_method: method(task),
        };
        self.parts.shelf.store(document, chunks).await
    }

    /// Removes what was stored of a document that is this task's own. One that has a name of its own may have been there
    /// before, and another try of the caller's replaces what was stored of it.
    async fn leave_nothing(&self, task: &Task) {
        if task.spec.document_id == task.id.to_string()
            && let Err(error) = self.parts.shelf.delete(&task.spec.document_id).await
        {
            tracing::warn!(task = %task.id, error = error.message, "chunks of a failed task are left");
        }
    }
}

fn for_good(message: impl Into<String>) -> ShelfError {
    ShelfError { message: message.into(), retryable: false }
}

/// Cuts a text, away from the threads that serve connections.
async fn chunks(spec: &Spec, text: String) -> Result<Vec<Chunk>, String> {
    let rules = ChunkRules::new(spec.chunk_size, spec.chunk_overlap, spec.chunking_strategy.as_deref())
        .map_err(|error| error.to_string())?;
    let cutting = tokio::task::spawn_blocking(move || retrieval::chunks(&text, &rules));
    cutting.await.map_err(|_| "it could not be cut into chunks".to_owned())
}

/// What the converter knows of the source, and what the caller wants to be said besides, which counts more.
fn metadata(task: &Task, content: &Content) -> Map<String, Value> {
    let mut metadata = content.metadata.clone();
    metadata.extend(task.spec.metadata.clone());
    metadata
}

fn method(task: &Task) -> &str {
    task.processing_method.as_deref().unwrap_or("local")
}

/// The result that the original's tasks end with.
fn result(task: &Task, content: &Content, stored: usize) -> Value {
    json!({
        "success": true,
        "chunks_stored": stored,
        "processing_time": content.processing_time,
        "metadata": metadata(task, content),
        "processing_method": method(task),
    })
}
