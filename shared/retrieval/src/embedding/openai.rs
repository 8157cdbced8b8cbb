//! Any server that speaks OpenAI's `POST /embeddings`.

use serde::Deserialize;
use serde_json::json;

use crate::{
    Error,
    http::{Endpoint, Http, Request},
    settings::{Secret, ServedModel},
};

/// How many texts are sent in one request; some servers take no more.
pub(super) const MOST: usize = 64;

#[derive(Debug)]
pub(crate) struct OpenAi {
    url: Endpoint,
    model: String,
    key: Option<Secret>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f32>,
}

impl OpenAi {
    pub(super) fn new(served: &ServedModel) -> Self {
        Self {
            url: served.base_url.join(&["embeddings"]),
            model: served.model.clone(),
            key: served.key.clone(),
        }
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn url(&self) -> String {
        self.url.to_string()
    }

    /// The vectors in the order of the texts, which need not be the order of the answer.
    pub(super) async fn embed(&self, http: &Http, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let body = json!({ "model": self.model, "input": texts, "encoding_format": "float" });
        let mut request = Request::post(self.url.clone(), body);
        if let Some(key) = &self.key {
            request = request.bearer(key);
        }
        let mut answer: Answer = http.send(&request).await?;
        answer.data.sort_by_key(|embedding| embedding.index);
        Ok(answer.data.into_iter().map(|embedding| embedding.embedding).collect())
    }
}
