//! A Qdrant server, by its REST interface.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Error,
    embedding::{Space, Vector},
    http::{Endpoint, Http, Request},
    point::{self, Point},
    settings::{self, Secret},
    store::{Found, Store},
};

/// How many points are sent in one request, which the server limits to 32 MB.
const AT_ONCE: usize = 64;

/// One collection of a server.
#[derive(Debug)]
pub(crate) struct Server {
    http: Http,
    collection: Endpoint,
    key: Option<Secret>,
    space: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
struct Collection {
    config: Config,
    #[serde(default)]
    payload_schema: Map<String, Value>,
}

#[derive(Deserialize)]
struct Config {
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    /// One vector without a name, or vectors by name.
    #[serde(default)]
    vectors: Value,
    sparse_vectors: Option<BTreeMap<String, SparseParams>>,
}

#[derive(Deserialize)]
struct SparseParams {
    modifier: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    status: String,
}

#[cfg(test)]
#[derive(Deserialize)]
struct Counted {
    count: usize,
}

#[derive(Deserialize)]
struct Points {
    points: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    score: f32,
    payload: Option<Map<String, Value>>,
}

impl Server {
    /// The collection `name` of a server, with vectors called `space`. Nothing is sent yet.
    pub(crate) fn new(server: &settings::Server, name: &str, space: String, http: Http) -> Self {
        let collection = server.url.join(&["collections", name]);
        Self { http, collection, key: server.key.clone(), space }
    }

    /// The collection's vectors, if it is there, and after seeing to its indexes.
    ///
    /// # Errors
    ///
    /// [`Error`], where the server could not be asked.
    pub(crate) async fn spaces(&self) -> Result<Option<Vec<Space>>, Error> {
        let collection: Collection = match self.send(Request::get(self.collection.clone())).await {
            Err(Error::Refused { status: 404, .. }) => return Ok(None),
            collection => collection?,
        };
        let spaces = spaces(&collection.config.params);
        // A collection of somebody else's is left as it is.
        if spaces.iter().any(|space| space.name == self.space) {
            self.index(&collection.payload_schema).await?;
        }
        Ok(Some(spaces))
    }

    /// Makes the collection, unless somebody else just did.
    ///
    /// # Errors
    ///
    /// [`Error`], where the server could not be asked or does not do it.
    pub(crate) async fn create(&self, space: &Space) -> Result<(), Error> {
        let body = match space.dimension {
            Some(size) => json!({ "vectors": { &space.name: { "size": size, "distance": "Cosine" } } }),
            None => json!({ "vectors": {}, "sparse_vectors": { &space.name: { "modifier": "idf" } } }),
        };
        match self.send::<bool>(Request::put(self.collection.clone(), body)).await {
            Ok(_) | Err(Error::Refused { status: 409, .. }) => self.index(&Map::new()).await,
            Err(error) => Err(error),
        }
    }

    async fn index(&self, indexed: &Map<String, Value>) -> Result<(), Error> {
        for field in [point::DOCUMENT, point::TASK].into_iter().filter(|field| !indexed.contains_key(*field))
        {
            let url = self.collection.join(&["index"]).with_query("wait=true");
            let body = json!({ "field_name": field, "field_schema": "keyword" });
            self.update(Request::put(url, body)).await?;
        }
        Ok(())
    }

    async fn put(&self, points: &[Point]) -> Result<(), Error> {
        let points: Vec<Value> = points.iter().map(|point| self.point(point)).collect();
        let url = self.collection.join(&["points"]).with_query("wait=true");
        self.update(Request::put(url, json!({ "points": points }))).await
    }

    fn point(&self, point: &Point) -> Value {
        let mut vectors = Map::new();
        if !point.vector.is_empty() {
            vectors.insert(self.space.clone(), vector(&point.vector));
        }
        json!({ "id": point.id, "vector": vectors, "payload": point.payload })
    }

    /// Sends a change and sees to it that it was made: a server under load may only have noted it.
    async fn update(&self, request: Request) -> Result<(), Error> {
        let update: Update = self.send(request).await?;
        if update.status == "completed" {
            return Ok(());
        }
        let reason = format!("the change is only {}; try again later", update.status);
        Err(Error::Refused { url: self.collection.to_string(), status: 503, reason })
    }

    async fn send<T: serde::de::DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let request = match &self.key {
            Some(key) => request.header("api-key", key),
            None => request,
        };
        let answer: Answer<T> = self.http.send(&request).await?;
        Ok(answer.result)
    }
}

#[async_trait]
impl Store for Server {
    async fn write(&self, points: Vec<Point>, stale: Value) -> Result<(), Error> {
        for points in points.chunks(AT_ONCE) {
            self.put(points).await?;
        }
        let url = self.collection.join(&["points", "delete"]).with_query("wait=true");
        self.update(Request::post(url, json!({ "filter": stale }))).await
    }

    async fn query(&self, query: Vector, limit: usize, filter: Option<Value>) -> Result<Vec<Found>, Error> {
        let mut body = json!({
            "query": vector(&query),
            "using": self.space,
            "limit": limit,
            "with_payload": true,
        });
        if let Some(filter) = filter {
            body["filter"] = filter;
        }
        let found: Points =
            self.send(Request::post(self.collection.join(&["points", "query"]), body)).await?;
        let found = found.points.into_iter();
        Ok(found
            .map(|point| Found { score: point.score, payload: point.payload.unwrap_or_default() })
            .collect())
    }

    #[cfg(test)]
    async fn count(&self, filter: Value) -> Result<usize, Error> {
        let body = json!({ "filter": filter, "exact": true });
        let counted: Counted =
            self.send(Request::post(self.collection.join(&["points", "count"]), body)).await?;
        Ok(counted.count)
    }
}

fn vector(vector: &Vector) -> Value {
    match vector {
        Vector::Dense(values) => json!(values),
        Vector::Sparse(sparse) => json!({ "indices": sparse.indices, "values": sparse.values }),
    }
}

/// The vectors with a name that are made to be searched as this crate does it.
fn spaces(params: &Params) -> Vec<Space> {
    let dense = params.vectors.as_object().into_iter().flatten();
    let dense = dense.filter_map(|(name, vector)| {
        let dimension = usize::try_from(vector.get("size")?.as_u64()?).ok()?;
        Some(Space { name: name.clone(), dimension: Some(dimension) })
    });
    let sparse = params.sparse_vectors.iter().flatten();
    let sparse = sparse.map(|(name, params)| {
        let weighed = params.modifier.as_deref() == Some("idf");
        let name = if weighed { name.clone() } else { format!("{name} without idf") };
        Space { name, dimension: None }
    });
    dense.chain(sparse).collect()
}
