//! A small server that answers as Qdrant does, as far as a library asks: it takes just the documented shapes and
//! refuses everything else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The key that the server asks for.
pub(super) const KEY: &str = "hidden-qdrant-key";

/// A running server, which ends with the test's runtime.
pub(super) struct Qdrant {
    url: String,
    state: Shared,
}

type Shared = Arc<Mutex<Collections>>;

#[derive(Default)]
struct Collections {
    collections: BTreeMap<String, Collection>,
    /// The status of the next changes, instead of `completed`.
    status: Option<&'static str>,
}

#[derive(Default)]
struct Collection {
    vectors: BTreeMap<String, Dense>,
    sparse_vectors: BTreeMap<String, SparseParams>,
    payload_schema: Map<String, Value>,
    points: BTreeMap<String, Point>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Dense {
    size: usize,
    distance: String,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct SparseParams {
    modifier: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    vectors: BTreeMap<String, Dense>,
    #[serde(default)]
    sparse_vectors: BTreeMap<String, SparseParams>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    field_name: String,
    field_schema: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upsert {
    points: Vec<Point>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Point {
    id: uuid::Uuid,
    vector: BTreeMap<String, Vector>,
    payload: Map<String, Value>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Vector {
    Dense(Vec<f32>),
    Sparse { indices: Vec<u32>, values: Vec<f32> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Selector {
    filter: Filter,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    filter: Filter,
    exact: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    query: Vector,
    using: String,
    limit: usize,
    with_payload: bool,
    #[serde(default)]
    filter: Filter,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    must: Vec<Condition>,
    #[serde(default)]
    must_not: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Condition {
    Match { key: String, r#match: MatchValue },
    Range { key: String, range: Range },
    Filter(Filter),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchValue {
    value: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    lt: Option<f64>,
    gte: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    wait: bool,
}

impl Filter {
    fn finds(&self, payload: &Map<String, Value>) -> bool {
        self.must.iter().all(|condition| condition.finds(payload))
            && !self.must_not.iter().any(|condition| condition.finds(payload))
    }
}

impl Condition {
    fn finds(&self, payload: &Map<String, Value>) -> bool {
        match self {
            Self::Match { key, r#match } => payload.get(key) == Some(&r#match.value),
            Self::Range { key, range } => payload.get(key).and_then(Value::as_f64).is_some_and(|value| {
                range.lt.is_none_or(|bound| value < bound) && range.gte.is_none_or(|bound| value >= bound)
            }),
            Self::Filter(filter) => filter.finds(payload),
        }
    }
}

impl Qdrant {
    pub(super) async fn start() -> Self {
        let state = Shared::default();
        let routes = Router::new()
            .route("/collections/{name}", get(describe).put(create))
            .route("/collections/{name}/index", put(index))
            .route("/collections/{name}/points", put(upsert))
            .route("/collections/{name}/points/delete", post(delete))
            .route("/collections/{name}/points/query", post(query))
            .route("/collections/{name}/points/count", post(count))
            .with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, state }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// Makes the next changes end with another status than `completed`.
    pub(super) fn answer_changes(&self, status: Option<&'static str>) {
        locked(&self.state).status = status;
    }

    /// A collection that somebody else made.
    pub(super) fn add_foreign(&self, name: &str) {
        locked(&self.state).collections.insert(name.to_owned(), Collection::default());
    }

    pub(super) fn indexes(&self, collection: &str) -> Vec<String> {
        locked(&self.state).collections[collection].payload_schema.keys().cloned().collect()
    }
}

fn locked(state: &Shared) -> MutexGuard<'_, Collections> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` with a collection, for those who have the key.
fn with(
    state: &Shared,
    headers: &HeaderMap,
    name: &str,
    work: impl FnOnce(&mut Collection) -> Result<Value, String>,
) -> Response {
    if headers.get("api-key").is_none_or(|key| key != KEY) {
        return (StatusCode::UNAUTHORIZED, "Must provide an API key or an Authorization bearer token")
            .into_response();
    }
    let mut state = locked(state);
    let Some(collection) = state.collections.get_mut(name) else {
        return error(StatusCode::NOT_FOUND, &format!("Not found: Collection `{name}` doesn't exist!"));
    };
    match work(collection) {
        Ok(result) => Json(json!({ "result": result, "status": "ok", "time": 0.001 })).into_response(),
        Err(reason) => error(StatusCode::BAD_REQUEST, &reason),
    }
}

fn error(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "status": { "error": reason }, "time": 0.0 }))).into_response()
}

fn changed(state: &Shared) -> Value {
    json!({ "operation_id": 1, "status": locked(state).status.unwrap_or("completed") })
}

async fn describe(State(state): State<Shared>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    with(&state, &headers, &name, |collection| {
        let dense = collection.vectors.iter();
        let dense: Map<_, _> = dense
            .map(|(name, of)| (name.clone(), json!({ "size": of.size, "distance": of.distance })))
            .collect();
        let sparse = collection.sparse_vectors.iter();
        let sparse: Map<_, _> =
            sparse.map(|(name, of)| (name.clone(), json!({ "modifier": of.modifier }))).collect();
        Ok(json!({
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "config": { "params": { "vectors": dense, "sparse_vectors": sparse, "shard_number": 1 } },
            "payload_schema": collection.payload_schema,
        }))
    })
}

async fn create(
    State(state): State<Shared>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Json(create): Json<Create>,
) -> Response {
    if locked(&state).collections.contains_key(&name) {
        return error(StatusCode::CONFLICT, &format!("Wrong input: Collection `{name}` already exists!"));
    }
    let collection = Collection {
        vectors: create.vectors,
        sparse_vectors: create.sparse_vectors,
        ..Collection::default()
    };
    locked(&state).collections.insert(name.clone(), collection);
    with(&state, &headers, &name, |_| Ok(json!(true)))
}

async fn index(
    State(state): State<Shared>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(Waiting { wait }): Query<Waiting>,
    Json(index): Json<Index>,
) -> Response {
    assert!(wait, "an index that is not waited for may be missing");
    let done = changed(&state);
    with(&state, &headers, &name, |collection| {
        let info = json!({ "data_type": index.field_schema, "points": 0 });
        collection.payload_schema.insert(index.field_name, info);
        Ok(done)
    })
}

async fn upsert(
    State(state): State<Shared>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(Waiting { wait }): Query<Waiting>,
    Json(upsert): Json<Upsert>,
) -> Response {
    assert!(wait, "points that are not waited for may not be there");
    let done = changed(&state);
    with(&state, &headers, &name, |collection| {
        for point in &upsert.points {
            point.vector.iter().try_for_each(|(name, vector)| collection.check(name, vector))?;
        }
        let points = upsert.points.into_iter().map(|point| (point.id.to_string(), point));
        collection.points.extend(points);
        Ok(done)
    })
}

async fn delete(
    State(state): State<Shared>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(Waiting { wait }): Query<Waiting>,
    Json(selector): Json<Selector>,
) -> Response {
    assert!(wait, "points whose end is not waited for may still be there");
    let done = changed(&state);
    with(&state, &headers, &name, |collection| {
        collection.points.retain(|_, point| !selector.filter.finds(&point.payload));
        Ok(done)
    })
}

async fn query(
    State(state): State<Shared>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Json(search): Json<Search>,
) -> Response {
    with(&state, &headers, &name, |collection| {
        collection.check(&search.using, &search.query)?;
        let points = collection.points.values().filter(|point| search.filter.finds(&point.payload));
        let mut found: Vec<_> = points
            .filter_map(|point| Some((collection.score(&search, point.vector.get(&search.using)?)?, point)))
            .collect();
        found.sort_by(|one, other| other.0.total_cmp(&one.0));
        found.truncate(search.limit);
        let found: Vec<_> = found
            .into_iter()
            .map(|(score, point)| {
                let payload = search.with_payload.then_some(&point.payload);
                json!({ "id": point.id, "version": 1, "score": score, "payload": payload })
            })
            .collect();
        Ok(json!({ "points": found }))
    })
}

async fn count(
    State(state): State<Shared>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Json(Count { filter, exact }): Json<Count>,
) -> Response {
    assert!(exact);
    with(&state, &headers, &name, |collection| {
        let found = collection.points.values().filter(|point| filter.finds(&point.payload));
        Ok(json!({ "count": found.count() }))
    })
}

impl Collection {
    /// Whether a vector is one of this collection's.
    fn check(&self, name: &str, vector: &Vector) -> Result<(), String> {
        let fits = match vector {
            Vector::Dense(values) => self.vectors.get(name).is_some_and(|dense| dense.size == values.len()),
            Vector::Sparse { indices, values } => {
                let mut unique = indices.clone();
                unique.sort_unstable();
                unique.dedup();
                self.sparse_vectors.contains_key(name)
                    && unique.len() == indices.len()
                    && values.len() == indices.len()
            }
        };
        fits.then_some(()).ok_or_else(|| format!("Wrong input: Vector {name} does not fit"))
    }

    /// How well a vector fits; none, where it has nothing of what is searched for.
    fn score(&self, search: &Search, vector: &Vector) -> Option<f32> {
        match (&search.query, vector) {
            (Vector::Dense(query), Vector::Dense(values)) => Some(cosine(query, values)),
            (Vector::Sparse { indices, values }, Vector::Sparse { indices: known, values: weights }) => {
                let weight = |index: &u32| Some(weights[known.iter().position(|other| other == index)?]);
                let parts = indices.iter().zip(values);
                let parts: Vec<f32> = parts
                    .filter_map(|(index, value)| {
                        Some(value * weight(index)? * self.idf(&search.using, *index))
                    })
                    .collect();
                (!parts.is_empty()).then(|| parts.iter().sum())
            }
            (Vector::Dense(_), Vector::Sparse { .. }) | (Vector::Sparse { .. }, Vector::Dense(_)) => None,
        }
    }

    /// How rare a word is.
    fn idf(&self, name: &str, index: u32) -> f32 {
        assert_eq!(self.sparse_vectors[name].modifier.as_deref(), Some("idf"));
        let has = |point: &&Point| matches!(point.vector.get(name), Some(Vector::Sparse { indices, .. }) if indices.contains(&index));
        let having = self.points.values().filter(has).count() as f32;
        ((self.points.len() as f32 - having + 0.5) / (having + 0.5)).ln_1p()
    }
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}
