//! What a library needs of whatever keeps its points.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::{
    Error,
    embedding::{Space, Vector},
    point::Point,
};

/// A point that a search found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// How well it fits; more is better.
    pub(crate) score: f32,
    /// What is stored with it.
    pub(crate) payload: Map<String, Value>,
}

/// Keeps the points of one collection. Filters are in Qdrant's JSON.
#[async_trait]
pub(crate) trait Store: std::fmt::Debug + Send + Sync {
    /// Stores `points` over those of the same ids and then deletes what `stale` finds. Both are durable when this
    /// returns; what was stored first is found all the time. A second try heals what a failed one left.
    async fn write(&self, points: Vec<Point>, stale: Value) -> Result<(), Error>;

    /// The `limit` points that fit `vector` best, best first.
    async fn query(&self, vector: Vector, limit: usize, filter: Option<Value>) -> Result<Vec<Found>, Error>;

    /// How many points `filter` finds.
    #[cfg(test)]
    async fn count(&self, filter: Value) -> Result<usize, Error>;
}

/// Sees to it that a collection's vectors are made as `asked` says, and tells of what dimension they are.
///
/// # Errors
///
/// [`Error::OtherEmbedding`], where they are made in another way.
pub(crate) fn agreed(collection: &str, stored: &[Space], asked: &str) -> Result<Space, Error> {
    if let Some(space) = stored.iter().find(|space| space.name == asked) {
        return Ok(space.clone());
    }
    let names: Vec<_> = stored.iter().map(|space| format!("`{}`", space.name)).collect();
    let stored = if names.is_empty() { "of no name".to_owned() } else { names.join(", ") };
    Err(Error::OtherEmbedding { collection: collection.to_owned(), stored, asked: format!("`{asked}`") })
}
