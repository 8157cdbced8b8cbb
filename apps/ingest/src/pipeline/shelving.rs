//! Cuts a conversion into chunks and stores them.

use std::time::Duration;

use retrieval::{Chunk, ChunkRules, Document};
use serde_json::{Map, Value, json};

use super::Pipeline;
use crate::{
    store::StoreError,
    task::{Content, Phase, Spec, Task},
};

/// How often a library that may work later is tried, which is about half an hour.
const MOST_TRIES: u32 = 12;
/// The waits between the tries: each is twice the one before it, up to the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

impl Pipeline {
    /// Stores the conversion that was taken, and ends the task.
    pub(super) async fn shelve(&self, task: &Task) -> Result<(), StoreError> {
        let parts = &self.parts;
        let Some(content) = parts.store.content(task.id).await? else {
            let error = "The conversion that was taken is not there any more.".to_owned();
            parts.store.fail(task.id, Phase::Storing, error, parts.clock.now()).await?;
            return Ok(());
        };
        let stored = match chunks(&task.spec, content.text.clone()).await {
            Ok(chunks) => self.store_chunks(task, &content, &chunks).await?,
            Err(error) => Err(error),
        };
        let now = parts.clock.now();
        match stored {
            Ok(stored) => {
                parts.store.succeed(task.id, result(task, &content, stored), now).await?;
            }
            Err(error) => {
                self.leave_nothing(task).await;
                let error = format!("The document could not be stored: {error}");
                parts.store.fail(task.id, Phase::Storing, error, now).await?;
            }
        }
        Ok(())
    }

    /// How many chunks were stored, or why they cannot be.
    async fn store_chunks(
        &self,
        task: &Task,
        content: &Content,
        chunks: &[Chunk],
    ) -> Result<Result<usize, String>, StoreError> {
        let (id, metadata) = (task.id.to_string(), metadata(task, content));
        let document = Document {
            id: &task.spec.document_id,
            task_id: &id,
            replace: task.spec.replace_existing,
            metadata: &metadata,
            source_type: task.spec.content_type.as_str(),
            processing_method: method(task),
        };
        let mut wait = WAITS.0;
        for tries in 1.. {
            match self.parts.shelf.store(document, chunks).await {
                Ok(stored) => return Ok(Ok(stored)),
                Err(error) if !error.retryable || tries == MOST_TRIES => return Ok(Err(error.message)),
                Err(error) => {
                    tracing::warn!(task = %task.id, error = error.message, "chunks cannot be stored; trying again");
                    if tries == 1 {
                        let what =
                            format!("The library cannot store it now, and is tried again: {}", error.message);
                        let now = self.parts.clock.now();
                        self.parts.store.remember(task.id, "storing_failed", what, now).await?;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAITS.1);
                }
            }
        }
        Ok(Err("it was tried too often".to_owned()))
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
