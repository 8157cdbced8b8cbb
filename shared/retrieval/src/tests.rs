//! Libraries as their callers see them: over the engine in this process and over a server that answers as Qdrant.

mod conformance;
mod crash;
mod engine;
mod models;
mod qdrant;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{Chunk, ChunkRules, Document, Error, Library, Settings, chunks, http::Pause};

/// Waits that were asked for. Nobody really waits.
#[derive(Clone, Default)]
struct Waits(Arc<Mutex<Vec<Duration>>>);

impl Waits {
    fn pause(&self) -> Pause {
        let waits = self.clone();
        Arc::new(move |wait| {
            waits.0.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
            Box::pin(std::future::ready(()))
        })
    }

    fn all(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn settings(variables: &[(&str, &str)]) -> Settings {
    Settings::from_environment(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
    .unwrap()
}

async fn open(variables: &[(&str, &str)], folder: &Path) -> Result<Library, Error> {
    Library::open_pausing(&settings(variables), folder, Waits::default().pause()).await
}

/// A document with metadata of its own, some of which would hide the library's.
struct Given {
    id: String,
    task_id: String,
    replace: bool,
    metadata: Map<String, Value>,
}

impl Given {
    fn new(id: &str, task_id: &str) -> Self {
        let metadata =
            serde_json::json!({ "title": format!("About {id}"), "content": "hidden", "chunk_index": 99 });
        let metadata = metadata.as_object().unwrap().clone();
        Self { id: id.to_owned(), task_id: task_id.to_owned(), replace: true, metadata }
    }

    fn beside(self) -> Self {
        Self { replace: false, ..self }
    }

    fn document(&self) -> Document<'_> {
        Document {
            id: &self.id,
            task_id: &self.task_id,
            replace: self.replace,
            metadata: &self.metadata,
            source_type: "document",
            processing_method: "remote",
        }
    }

    async fn store(&self, library: &Library, text: &str) -> Result<usize, Error> {
        library.store(&self.document(), &cut(text)).await
    }
}

fn cut(text: &str) -> Vec<Chunk> {
    chunks(text, &ChunkRules::new(Some(50), Some(0), Some("sentence")).unwrap())
}

async fn texts(library: &Library, query: &str) -> Vec<String> {
    library.search(query, 100, None).await.unwrap().into_iter().map(|hit| hit.text).collect()
}
