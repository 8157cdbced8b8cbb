//! The vector engine in this process.
//!
//! What the engine does not promise, this does:
//! - Its log is written and never read again, so that an update lives in memory until the segments are flushed. Every
//!   write is flushed, and the folders with it, before it is acknowledged.
//! - Its log is never cut either. Its closed files, which nothing needs, are deleted when the engine is opened, and it
//!   is opened anew when there are many of them. The last one stays: it holds the number of the last operation, and
//!   the engine would pass over updates with lower numbers than what is stored.
//! - Segments are only made better when somebody asks for it. That is done every thousand points.
//! - Its flush panics where a file cannot be written, and nothing may write at the same time. One writer at a time
//!   works here, on a thread that may wait, and a panic becomes an error.

mod files;

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use async_trait::async_trait;
use qdrant_edge::{
    CreateIndex, Distance, EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams,
    FieldIndexOperations, Filter, JsonPath, Modifier, NamedQuery, PayloadFieldSchema, PayloadSchemaType,
    PointId, PointInsertOperations, PointOperations, PointStruct, QueryEnum, QueryRequest, ScoringQuery,
    ScrollRequest, SparseVector, UpdateOperation, VectorInternal, Vectors, WalOptions, WithPayloadInterface,
    WithVector,
};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    Error,
    embedding::{Space, Vector},
    point::{self, Point},
    store::{Found, Store},
};

/// How many points are given to the engine at once.
const AT_ONCE: usize = 128;
/// After how many points the engine is asked to tidy up.
const TIDY_AFTER: usize = 1000;
/// How many closed files of the log there may be before the engine is opened anew.
const CLOSED_LOGS: usize = 16;
/// How large a file of the log is, in bytes.
const LOG_FILE: usize = 2 * 1024 * 1024;

/// A collection's folder, which no other process uses.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is not there, and locks it.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`], where another process uses it; [`Error::File`], where it cannot be made.
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        blocking(move || {
            let lock = files::lock(&path)?;
            Ok(Self { path, _lock: lock })
        })
        .await
    }

    /// The vectors of the collection that is in the folder, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`], where its description cannot be read.
    pub(crate) fn spaces(&self) -> Result<Option<Vec<Space>>, Error> {
        let Some(config) = EdgeConfig::load(&self.shard()) else { return Ok(None) };
        let config = config.map_err(failed)?;
        let sparse = config.sparse_vectors.into_keys().map(|name| Space { name, dimension: None });
        let dense = config.vectors.into_iter();
        let dense = dense.map(|(name, vector)| Space { name, dimension: Some(vector.size) });
        Ok(Some(dense.chain(sparse).collect()))
    }

    fn shard(&self) -> PathBuf {
        self.path.join("shard")
    }
}

/// One collection in one folder. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Embedded(Arc<Engine>);

#[derive(Debug)]
struct Engine {
    folder: Folder,
    space: Space,
    /// None after a failure to open it anew, until that succeeds: whoever needs it next tries.
    shard: RwLock<Option<EdgeShard>>,
    /// Held while writing or opening: how many points were written since the engine tidied up. Those who wait to
    /// write do not hold threads that searches need.
    written: Arc<Mutex<usize>>,
}

impl Embedded {
    /// Opens the collection in `folder`, or makes it with vectors as `space` says.
    ///
    /// # Errors
    ///
    /// [`Error`], where its files cannot be used.
    pub(crate) async fn open(folder: Folder, space: Space) -> Result<Self, Error> {
        blocking(move || {
            let shard = opened(&folder.shard(), &space)?;
            // What an earlier run left undone is seen to with the first write.
            let written = Arc::new(Mutex::new(TIDY_AFTER));
            Ok(Self(Arc::new(Engine { folder, space, shard: RwLock::new(Some(shard)), written })))
        })
        .await
    }
}

#[async_trait]
impl Store for Embedded {
    async fn write(&self, points: Vec<Point>, stale: Value) -> Result<(), Error> {
        let engine = Arc::clone(&self.0);
        let mut written = Arc::clone(&engine.written).lock_owned().await;
        blocking(move || engine.write(&mut written, points, &stale)).await
    }

    async fn query(&self, vector: Vector, limit: usize, filter: Option<Value>) -> Result<Vec<Found>, Error> {
        let engine = Arc::clone(&self.0);
        blocking(move || engine.query(vector, limit, filter.as_ref())).await
    }

    #[cfg(test)]
    async fn count(&self, filter: Value) -> Result<usize, Error> {
        let engine = Arc::clone(&self.0);
        blocking(move || with(&engine.ready()?, |shard| count(shard, &filter))).await
    }
}

impl Engine {
    fn write(&self, written: &mut usize, points: Vec<Point>, stale: &Value) -> Result<(), Error> {
        self.open_if_closed()?;
        let put = points.len();
        let deleted = with(&self.shard(), |shard| {
            if !points.is_empty() {
                self.put(shard, points)?;
            }
            self.delete(shard, stale)
        })?;
        *written += put + deleted;
        if *written >= TIDY_AFTER || files::closed_logs(&self.folder.shard()) >= CLOSED_LOGS {
            *written = 0;
            self.tidy();
        }
        Ok(())
    }

    fn put(&self, shard: &EdgeShard, points: Vec<Point>) -> Result<(), Error> {
        let mut points = points.into_iter().map(|point| persisted(point, &self.space.name));
        loop {
            let batch: Vec<_> = points.by_ref().take(AT_ONCE).collect::<Result<_, _>>()?;
            if batch.is_empty() {
                return self.flush(shard);
            }
            let batch = PointInsertOperations::PointsList(batch.into_iter().map(Into::into).collect());
            let upsert = UpdateOperation::PointOperation(PointOperations::UpsertPoints(batch));
            shard.update(upsert).map_err(failed)?;
        }
    }

    fn delete(&self, shard: &EdgeShard, stale: &Value) -> Result<usize, Error> {
        let found = count(shard, stale)?;
        if found > 0 {
            let delete = PointOperations::DeletePointsByFilter(filter(stale)?);
            shard.update(UpdateOperation::PointOperation(delete)).map_err(failed)?;
            self.flush(shard)?;
        }
        Ok(found)
    }

    fn flush(&self, shard: &EdgeShard) -> Result<(), Error> {
        shard.flush();
        files::sync_folders(&self.folder.path)
    }

    /// Joins, indexes and cleans segments where that is due, and cuts the log. What was written is safe already: a
    /// failure is only told in the log.
    fn tidy(&self) {
        let tidied = catch_unwind(AssertUnwindSafe(|| {
            with(&self.shard(), |shard| {
                if shard.optimize().map_err(failed)? {
                    self.flush(shard)?;
                }
                Ok(())
            })?;
            if files::closed_logs(&self.folder.shard()) >= CLOSED_LOGS { self.reopen() } else { Ok(()) }
        }));
        match tidied {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the vector engine could not tidy up"),
            Err(_) => tracing::warn!("the vector engine gave up tidying"),
        }
    }

    fn reopen(&self) -> Result<(), Error> {
        let mut shard = self.shard_mut();
        drop(shard.take());
        *shard = Some(opened(&self.folder.shard(), &self.space)?);
        Ok(())
    }

    fn query(&self, vector: Vector, limit: usize, within: Option<&Value>) -> Result<Vec<Found>, Error> {
        let query = NamedQuery { query: internal(vector)?, using: Some(self.space.name.clone()) };
        let request = QueryRequest {
            prefetches: Vec::new(),
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(query))),
            filter: within.map(filter).transpose()?,
            score_threshold: None,
            limit,
            offset: 0,
            params: None,
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(true),
        };
        let found = with(&self.ready()?, |shard| shard.query(request).map_err(failed))?;
        let found = found.into_iter();
        Ok(found
            .map(|point| Found {
                score: point.score,
                payload: point.payload.map(|payload| payload.0).unwrap_or_default(),
            })
            .collect())
    }

    /// The engine, for those who do not write. It is opened anew where that failed before.
    fn ready(&self) -> Result<RwLockReadGuard<'_, Option<EdgeShard>>, Error> {
        if self.shard().is_none() {
            let _written = self.written.blocking_lock();
            self.open_if_closed()?;
        }
        Ok(self.shard())
    }

    /// To be called by who holds `written`: two engines in one folder would spoil it.
    fn open_if_closed(&self) -> Result<(), Error> {
        if self.shard().is_none() {
            let shard = opened(&self.folder.shard(), &self.space)?;
            *self.shard_mut() = Some(shard);
        }
        Ok(())
    }

    fn shard(&self) -> RwLockReadGuard<'_, Option<EdgeShard>> {
        self.shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_mut(&self) -> RwLockWriteGuard<'_, Option<EdgeShard>> {
        self.shard.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let shard = self.shard_mut().take();
        // It flushes once more, and panics where it cannot. What was acknowledged is safe.
        if catch_unwind(AssertUnwindSafe(|| drop(shard))).is_err() {
            tracing::warn!("the vector engine could not be closed in order");
        }
    }
}

fn with<T>(
    shard: &RwLockReadGuard<'_, Option<EdgeShard>>,
    work: impl FnOnce(&EdgeShard) -> Result<T, Error>,
) -> Result<T, Error> {
    shard
        .as_ref()
        .map_or_else(|| Err(Error::Engine { reason: "it could not be opened anew".to_owned() }), work)
}

fn opened(path: &Path, space: &Space) -> Result<EdgeShard, Error> {
    files::prepare(path)?;
    let shard = match EdgeConfig::load(path) {
        Some(_) => EdgeShard::load(path, None),
        None => EdgeShard::new(path, config(space)),
    };
    let shard = shard.map_err(failed)?;
    let indexed = shard.info().payload_schema;
    for field in [point::DOCUMENT, point::TASK] {
        let field_name: JsonPath = field.parse().map_err(|()| failed("a field's name is not one"))?;
        if !indexed.contains_key(&field_name) {
            let field_schema = Some(PayloadFieldSchema::FieldType(PayloadSchemaType::Keyword));
            let create = FieldIndexOperations::CreateIndex(CreateIndex { field_name, field_schema });
            shard.update(UpdateOperation::FieldIndexOperation(create)).map_err(failed)?;
        }
    }
    shard.flush();
    files::sync_folders(path)?;
    Ok(shard)
}

fn config(space: &Space) -> EdgeConfig {
    let log = WalOptions { segment_capacity: LOG_FILE, ..WalOptions::default() };
    let config = EdgeConfig::builder().wal_options(log);
    match space.dimension {
        Some(size) => config.vector(&space.name, EdgeVectorParams::builder(size, Distance::Cosine).build()),
        None => {
            let rare_words_weigh_more = EdgeSparseVectorParams::builder().modifier(Modifier::Idf).build();
            config.sparse_vector(&space.name, rare_words_weigh_more)
        }
    }
    .build()
}

fn persisted(point: Point, space: &str) -> Result<PointStruct, Error> {
    let named = if point.vector.is_empty() { Vec::new() } else { vec![(space, internal(point.vector)?)] };
    Ok(PointStruct::new(PointId::Uuid(point.id), Vectors::new_named(named), Value::Object(point.payload)))
}

fn internal(vector: Vector) -> Result<VectorInternal, Error> {
    match vector {
        Vector::Dense(values) => Ok(VectorInternal::Dense(values)),
        Vector::Sparse(sparse) => {
            SparseVector::new(sparse.indices, sparse.values).map(VectorInternal::Sparse).map_err(failed)
        }
    }
}

/// Counts each point once, even where a crash left it in two segments.
fn count(shard: &EdgeShard, within: &Value) -> Result<usize, Error> {
    let request = ScrollRequest {
        limit: Some(usize::MAX),
        filter: Some(filter(within)?),
        with_payload: Some(WithPayloadInterface::Bool(false)),
        ..ScrollRequest::default()
    };
    shard.scroll(request).map(|(points, _)| points.len()).map_err(failed)
}

fn filter(json: &Value) -> Result<Filter, Error> {
    serde_json::from_value(json.clone()).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives its error away")]
fn failed(reason: impl ToString) -> Error {
    Error::Engine { reason: reason.to_string() }
}

/// Does what blocks where it may. A panic is a failure of the engine.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(failed(error)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Map, json};
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;

    async fn with_a_point(folder: &TempDir) -> Embedded {
        let space = Space { name: "nearness".to_owned(), dimension: Some(2) };
        let engine = Embedded::open(Folder::open(folder.path()).await.unwrap(), space).await.unwrap();
        let point = Point { id: Uuid::nil(), vector: Vector::Dense(vec![1.0, 0.0]), payload: Map::new() };
        engine.write(vec![point], point::of_document("other")).await.unwrap();
        engine
    }

    #[tokio::test]
    async fn an_engine_that_could_not_be_opened_anew_is_opened_by_the_next_search() {
        let folder = TempDir::new().unwrap();
        let engine = with_a_point(&folder).await;
        let unfinished = folder.path().join("shard/temp_segments");
        let _ = fs::remove_dir_all(&unfinished);
        fs::write(&unfinished, "a file where a folder should be").unwrap();
        assert!(engine.0.reopen().is_err());
        let search = || engine.query(Vector::Dense(vec![1.0, 0.0]), 1, None);
        assert!(matches!(search().await, Err(Error::File { .. })));
        assert!(engine.count(json!({})).await.is_err());

        fs::remove_file(&unfinished).unwrap();
        assert_eq!(search().await.unwrap().len(), 1);
        assert_eq!(engine.count(json!({})).await.unwrap(), 1);
    }
}
