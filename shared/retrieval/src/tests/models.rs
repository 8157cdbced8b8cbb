//! Libraries whose vectors a model makes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Given, Waits, open,
    qdrant::{KEY, Qdrant},
    settings,
};
use crate::{Error, Library};

const MODEL_KEY: &str = "hidden-model-key";

/// A server with a model that knows three words, behind both interfaces.
#[derive(Clone)]
struct Served {
    url: String,
    state: Arc<Mutex<Model>>,
}

#[derive(Default)]
struct Model {
    /// How many values vectors have.
    dimension: usize,
    /// What the next requests are answered, before the model is asked again. It answers those that have 200 here.
    refusals: VecDeque<(u16, Option<&'static str>)>,
    /// How many texts each request had, and what for where it said so.
    requests: Vec<(usize, Option<String>)>,
}

impl Served {
    async fn start() -> Self {
        let state = Arc::new(Mutex::new(Model { dimension: 3, ..Model::default() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, state }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn refuse(&self, refusals: &[(u16, Option<&'static str>)]) {
        self.with(|state| state.refusals.extend(refusals));
    }

    fn openai(&self) -> Vec<(&str, &str)> {
        vec![
            ("MORAG_EMBEDDING_PROVIDER", "openai"),
            ("OPENAI_BASE_URL", &self.url),
            ("OPENAI_API_KEY", MODEL_KEY),
        ]
    }

    fn gemini(&self) -> Vec<(&str, &str)> {
        vec![
            ("MORAG_EMBEDDING_PROVIDER", "gemini"),
            ("GEMINI_BASE_URL", &self.url),
            ("GEMINI_API_KEY", MODEL_KEY),
        ]
    }
}

async fn answer(
    State(state): State<Arc<Mutex<Model>>>,
    uri: Uri,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((status, retry_after)) = state.refusals.pop_front().filter(|(status, _)| *status != 200) {
        let told = Json(json!({ "error": { "message": format!("no, {MODEL_KEY}"), "code": status } }));
        let wait = retry_after.map(|wait| [("retry-after", wait)]);
        let status = StatusCode::from_u16(status).unwrap();
        return match wait {
            Some(wait) => (status, wait, told).into_response(),
            None => (status, told).into_response(),
        };
    }
    let header =
        |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    match uri.to_string().as_str() {
        "/v1/embeddings" => {
            assert_eq!(header("authorization"), format!("Bearer {MODEL_KEY}"));
            assert_eq!(body["model"], "text-embedding-3-small");
            let texts: Vec<&str> =
                body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
            state.requests.push((texts.len(), None));
            let vectors = texts.iter().enumerate();
            let mut data: Vec<Value> = vectors
                .map(|(index, text)| json!({ "object": "embedding", "index": index, "embedding": vector(text, state.dimension) }))
                .collect();
            data.reverse();
            Json(json!({ "object": "list", "data": data, "usage": { "total_tokens": 1 } })).into_response()
        }
        "/v1/models/gemini-embedding-001:batchEmbedContents" => {
            assert_eq!(header("x-goog-api-key"), MODEL_KEY);
            let requests = body["requests"].as_array().unwrap();
            let purpose = requests[0]["taskType"].as_str().map(str::to_owned);
            state.requests.push((requests.len(), purpose));
            let vectors: Vec<Value> = requests
                .iter()
                .map(|request| {
                    assert_eq!(request["model"], "models/gemini-embedding-001");
                    let text = request["content"]["parts"][0]["text"].as_str().unwrap();
                    json!({ "values": vector(text, state.dimension) })
                })
                .collect();
            Json(json!({ "embeddings": vectors })).into_response()
        }
        other => panic!("nobody asks for {other}"),
    }
}

/// The text's meaning: how much of it is about animals, plants and stones.
fn vector(text: &str, dimension: usize) -> Vec<f32> {
    let about = |word: &str| if text.contains(word) { 1.0 } else { 0.05 };
    [about("zebra"), about("carrot"), about("granite"), 0.0].into_iter().take(dimension).collect()
}

async fn stored(library: &Library) {
    for (id, text) in
        [("a", "All about the zebra."), ("b", "All about the carrot."), ("c", "All about granite.")]
    {
        Given::new(id, "t").store(library, text).await.unwrap();
    }
}

#[tokio::test]
async fn the_nearest_in_meaning_is_found_first_by_both_providers_in_both_stores() {
    let served = Served::start().await;
    for variables in [served.openai(), served.gemini()] {
        let (folder, qdrant) = (TempDir::new().unwrap(), Qdrant::start().await);
        let url = qdrant.url();
        let server = [&variables[..], &[("QDRANT_URL", &url), ("QDRANT_API_KEY", KEY)]].concat();
        for variables in [variables.clone(), server] {
            let library = open(&variables, folder.path()).await.unwrap();
            stored(&library).await;
            let hits = library.search("a carrot?", 3, None).await.unwrap();
            assert_eq!((hits.len(), hits[0].document_id.as_str()), (3, "b"));
            assert_eq!(library.search("a carrot?", 3, Some("c")).await.unwrap().len(), 1);
            assert!(!format!("{library:?}").contains("hidden"), "{library:?}");
        }
    }
}

#[tokio::test]
async fn texts_are_sent_in_batches_and_told_apart_from_queries() {
    let (served, folder) = (Served::start().await, TempDir::new().unwrap());
    let library = open(&served.gemini(), folder.path()).await.unwrap();
    served.with(|state| state.requests.clear());
    let text: String =
        (0..230).map(|line| format!("Sentence number {line} is about the zebra, it is. ")).collect();
    assert_eq!(Given::new("a", "t").store(&library, &text).await.unwrap(), 230);
    library.search("zebra", 1, None).await.unwrap();
    let purpose = |purpose: &str| Some(format!("RETRIEVAL_{purpose}"));
    let requests = served.with(|state| state.requests.clone());
    let documents = [100, 100, 30].map(|texts| (texts, purpose("DOCUMENT")));
    assert_eq!(requests, [&documents[..], &[(1, purpose("QUERY"))]].concat());
}

#[tokio::test]
async fn a_busy_model_is_asked_again_when_it_says() {
    let (served, folder, waits) = (Served::start().await, TempDir::new().unwrap(), Waits::default());
    let settings = settings(&served.openai());
    let library = Library::open_pausing(&settings, folder.path(), waits.pause()).await.unwrap();
    served.refuse(&[(429, Some("7")), (503, None), (500, Some("0"))]);
    Given::new("a", "t").store(&library, "zebra").await.unwrap();
    assert_eq!(waits.all(), [7000, 1000, 2000].map(Duration::from_millis));
    assert_eq!(library.count("a").await.unwrap(), 1);
}

#[tokio::test]
async fn a_model_is_asked_once_for_each_text_however_often_storing_is_tried() {
    let (served, folder, qdrant) = (Served::start().await, TempDir::new().unwrap(), Qdrant::start().await);
    let url = qdrant.url();
    let variables = [&served.openai()[..], &[("QDRANT_URL", &url), ("QDRANT_API_KEY", KEY)]].concat();
    let library = open(&variables, folder.path()).await.unwrap();
    served.with(|state| state.requests.clear());
    let text: String =
        (0..94).map(|line| format!("Sentence number {line} is about the zebra, it is. ")).collect();

    qdrant.answer_changes(Some("acknowledged"));
    served.refuse(&[(200, None), (401, None)]);
    let given = Given::new("a", "t");
    assert!(given.store(&library, &text).await.is_err(), "the model fails");
    for _ in 0..3 {
        assert!(given.store(&library, &text).await.is_err(), "the server fails");
    }
    qdrant.answer_changes(None);
    assert_eq!(given.store(&library, &text).await.unwrap(), 94);
    assert_eq!(served.with(|state| state.requests.clone()), [(64, None), (30, None)]);
    assert_eq!(library.search("granite", 5, Some("a")).await.unwrap().len(), 5);

    given.store(&library, "All about granite.").await.unwrap();
    assert_eq!(served.with(|state| state.requests.last().cloned()), Some((1, None)));
}

#[tokio::test]
async fn vectors_of_another_text_are_not_taken_for_the_next_try() {
    let (served, folder, qdrant) = (Served::start().await, TempDir::new().unwrap(), Qdrant::start().await);
    let url = qdrant.url();
    let variables = [&served.openai()[..], &[("QDRANT_URL", &url), ("QDRANT_API_KEY", KEY)]].concat();
    let library = open(&variables, folder.path()).await.unwrap();
    qdrant.answer_changes(Some("acknowledged"));
    assert!(Given::new("a", "t").store(&library, "All about granite.").await.is_err());
    qdrant.answer_changes(None);
    Given::new("b", "t").store(&library, "All about the zebra.").await.unwrap();
    Given::new("a", "t").store(&library, "All about the carrot.").await.unwrap();
    let hits = library.search("a carrot?", 2, None).await.unwrap();
    assert_eq!(hits[0].document_id, "a");
}

#[tokio::test]
async fn a_model_that_refuses_is_named_without_the_key() {
    let (served, folder) = (Served::start().await, TempDir::new().unwrap());
    let library = open(&served.openai(), folder.path()).await.unwrap();
    for (refusals, retryable) in
        [(vec![(401, None)], false), (vec![(429, Some("3600"))], true), (vec![(503, None); 5], true)]
    {
        served.refuse(&refusals);
        let refused = Given::new("a", "t").store(&library, "zebra").await.unwrap_err();
        assert!(matches!(&refused, Error::Refused { status, .. } if *status == refusals[0].0), "{refused}");
        assert_eq!(refused.retryable(), retryable);
        assert!(refused.to_string().contains(&format!("{}/embeddings", served.url)), "{refused}");
        assert!(!format!("{refused} {refused:?}").contains("hidden"), "{refused:?}");
        assert_eq!(served.with(|state| state.refusals.len()), 0);
    }
    assert_eq!(library.count("a").await.unwrap(), 0);
}

#[tokio::test]
async fn vectors_of_another_dimension_are_refused_also_after_opening_again() {
    let (served, folder) = (Served::start().await, TempDir::new().unwrap());
    drop(open(&served.openai(), folder.path()).await.unwrap());
    served.with(|state| {
        state.dimension = 4;
        state.requests.clear();
    });
    let library = open(&served.openai(), folder.path()).await.unwrap();
    assert_eq!(served.with(|state| state.requests.len()), 0, "the collection knows its dimension");
    let refused = Given::new("a", "t").store(&library, "zebra").await.unwrap_err();
    assert!(matches!(refused, Error::Unusable { .. }), "{refused}");
    assert!(refused.to_string().contains("vectors of 4 dimensions, where the collection has 3"), "{refused}");
}

#[tokio::test]
async fn a_collection_of_words_is_not_opened_with_a_model_and_the_other_way_round() {
    let (served, folder) = (Served::start().await, TempDir::new().unwrap());
    drop(open(&served.openai(), folder.path()).await.unwrap());
    for variables in [vec![], served.gemini()] {
        let refused = open(&variables, folder.path()).await.unwrap_err();
        assert!(matches!(refused, Error::OtherEmbedding { .. }), "{refused}");
    }
    let other = [&served.gemini()[..], &[("QDRANT_COLLECTION_NAME", "other")]].concat();
    assert!(open(&other, folder.path()).await.is_ok());
}
