use std::{path::Path, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    Chunk, Error, Settings,
    embedded::{Embedded, Folder},
    embedding::{Embedder, Purpose, Space, Vector},
    http::{Http, Pause},
    point::{self, Point},
    server::Server,
    store::{Store, agreed},
    turns::Turns,
    unwritten::Unwritten,
};

/// The folder of the embedded engine, in the data folder.
const FOLDER: &str = "qdrant";
/// How many chunks a search may ask for.
const MOST: usize = 100;

/// What is stored of a document besides its chunks.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// Whose chunks these are; searches can be limited to it.
    pub id: &'a str,
    /// The ingestion task that stores it. The same task may store the same document any number of times.
    pub task_id: &'a str,
    /// Whether chunks that other tasks stored of this document go.
    pub replace: bool,
    /// What every chunk's payload says besides the library's own keys, which win: `content`, `chunk_index`,
    /// `chunk_size` (characters), `document_id`, `task_id`, `source_type` and `processing_method`.
    pub metadata: &'a Map<String, Value>,
    /// The content type it was converted as.
    pub source_type: &'a str,
    /// `remote` or `local`.
    pub processing_method: &'a str,
}

/// A chunk that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// How well it fits: more is better, comparable within one search only.
    pub score: f32,
    /// The document it is of.
    pub document_id: String,
    /// Its place among the document's chunks, from 0.
    pub chunk_index: usize,
    /// Its text.
    pub text: String,
    /// Its payload without the text.
    pub metadata: Map<String, Value>,
}

/// Stored documents, and the way to find their chunks. Cheap to clone.
///
/// A collection on a server is for one process that writes to it: tasks of one library that replace the same document
/// wait for each other, and those of two processes would delete each other's chunks.
#[derive(Debug, Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    embedder: Embedder,
    /// How many values the collection's vectors have; none for sparse ones.
    dimension: Option<usize>,
    store: Box<dyn Store>,
    /// Held while a document is written.
    turns: Turns,
    unwritten: Unwritten,
}

impl Library {
    /// Opens the library the settings name, and makes it if it is not there. The embedded engine keeps its files under
    /// `data_dir`, locked against other processes; a server is asked for the collection.
    ///
    /// # Errors
    ///
    /// [`Error::OtherEmbedding`], where the collection was made with another provider or model; [`Error::InUse`],
    /// where another process has the folder; otherwise [`Error`], where files, server or model cannot be used.
    pub async fn open(settings: &Settings, data_dir: &Path) -> Result<Self, Error> {
        let pause: Pause = Arc::new(|wait| Box::pin(tokio::time::sleep(wait)));
        Self::open_pausing(settings, data_dir, pause).await
    }

    pub(crate) async fn open_pausing(
        settings: &Settings,
        data_dir: &Path,
        pause: Pause,
    ) -> Result<Self, Error> {
        let http = Http::new(pause)?;
        let embedder = Embedder::new(settings, &http)?;
        let name = &settings.collection;
        let (store, dimension): (Box<dyn Store>, _) = match &settings.server {
            Some(server) => {
                let server = Server::new(server, name, embedder.space_name(), http);
                let space = space(name, server.spaces().await?, &embedder).await?;
                if space.new {
                    server.create(&space.space).await?;
                }
                (Box::new(server), space.space.dimension)
            }
            None => {
                let folder = Folder::open(&data_dir.join(FOLDER).join(name)).await?;
                let space = space(name, folder.spaces()?, &embedder).await?.space;
                let dimension = space.dimension;
                (Box::new(Embedded::open(folder, space).await?), dimension)
            }
        };
        let (turns, unwritten) = Default::default();
        Ok(Self { inner: Arc::new(Inner { embedder, dimension, store, turns, unwritten }) })
    }

    /// Stores all chunks of a document and says how many. They are durable when this returns. With `replace`, chunks
    /// of the document's other tasks are deleted once the new ones can be found. Storing the same again, after a crash
    /// at any moment, ends in the same state.
    ///
    /// # Errors
    ///
    /// [`Error`], where they could not be stored; some of them may be, until they are stored again. Vectors that were
    /// made are kept in memory for that, up to 64 MiB of them.
    pub async fn store(&self, document: &Document<'_>, chunks: &[Chunk]) -> Result<usize, Error> {
        if document.id.is_empty() || document.task_id.is_empty() {
            return Err(Error::Invalid { reason: "A document needs an id and a task; give both".to_owned() });
        }
        let texts: Vec<&str> = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
        let mut vectors = self.inner.unwritten.take(document, &texts);
        let stored = self.inner.store(document, chunks, &texts, &mut vectors).await;
        if stored.is_err() && !vectors.is_empty() {
            self.inner.unwritten.keep(document, &texts, vectors);
        }
        stored.map(|()| chunks.len())
    }

    /// The chunks that fit `query` best, best first: at most `limit`, which is 1 to 100, and of one document if one is
    /// named. By words, only chunks are found that have at least one of them; by a model, the nearest are found,
    /// however far they are.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an empty query or another limit; [`Error`], where the search failed.
    pub async fn search(
        &self,
        query: &str,
        limit: usize,
        document_id: Option<&str>,
    ) -> Result<Vec<Hit>, Error> {
        if query.trim().is_empty() {
            return Err(Error::Invalid { reason: "The query is empty; give words to search for".to_owned() });
        }
        if !(1..=MOST).contains(&limit) {
            return Err(Error::Invalid { reason: format!("The limit is {limit}; give 1 to {MOST}") });
        }
        let Inner { embedder, dimension, store, .. } = &*self.inner;
        let mut vectors = Vec::new();
        embedder.embed(&[query], Purpose::Query, *dimension, &mut vectors).await?;
        let Some(vector) = vectors.into_iter().next().filter(|vector| !vector.is_empty()) else {
            return Ok(Vec::new());
        };
        let by_words = matches!(vector, Vector::Sparse(_));
        let found = store.query(vector, limit, document_id.map(point::of_document)).await?;
        let found = found.into_iter().filter(|found| !by_words || found.score > 0.0);
        Ok(found.map(|found| point::hit(found.score, found.payload)).collect())
    }

    /// Deletes all chunks of a document, whichever task stored them.
    ///
    /// # Errors
    ///
    /// [`Error`], where they could not be deleted.
    pub async fn delete(&self, document_id: &str) -> Result<(), Error> {
        let _turn = self.inner.turns.of(document_id).await;
        self.inner.store.write(Vec::new(), point::of_document(document_id)).await
    }

    /// How many chunks are stored of a document.
    #[cfg(test)]
    pub(crate) async fn count(&self, document_id: &str) -> Result<usize, Error> {
        self.inner.store.count(point::of_document(document_id)).await
    }
}

impl Inner {
    /// Makes the vectors that are not there yet, and writes the chunks.
    async fn store(
        &self,
        document: &Document<'_>,
        chunks: &[Chunk],
        texts: &[&str],
        vectors: &mut Vec<Vector>,
    ) -> Result<(), Error> {
        self.embedder.embed(texts, Purpose::Document, self.dimension, vectors).await?;
        let points = chunks.iter().zip(&*vectors);
        let points = points.map(|(chunk, vector)| Point::new(document, chunk, vector.clone())).collect();
        let _turn = self.turns.of(document.id).await;
        self.store.write(points, point::stale(document, chunks.len())).await
    }
}

/// What kind of vectors a collection has, or is to be made with.
struct Agreed {
    space: Space,
    new: bool,
}

async fn space(collection: &str, stored: Option<Vec<Space>>, embedder: &Embedder) -> Result<Agreed, Error> {
    let name = embedder.space_name();
    match stored {
        Some(stored) => Ok(Agreed { space: agreed(collection, &stored, &name)?, new: false }),
        None => {
            let dimension = embedder.dimension().await?;
            Ok(Agreed { space: Space { name, dimension }, new: true })
        }
    }
}
