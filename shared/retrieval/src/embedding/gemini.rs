//! Gemini's `batchEmbedContents`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Purpose;
use crate::{
    Error,
    http::{Endpoint, Http, Request},
    settings::{Secret, ServedModel},
};

/// How many texts one request may have.
pub(super) const MOST: usize = 100;

#[derive(Debug)]
pub(crate) struct Gemini {
    url: Endpoint,
    model: String,
    key: Option<Secret>,
}

#[derive(Deserialize)]
struct Answer {
    embeddings: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    values: Vec<f32>,
}

impl Gemini {
    pub(super) fn new(served: &ServedModel) -> Self {
        let call = format!("{}:batchEmbedContents", served.model);
        let url = served.base_url.join(&["models", &call]);
        Self { url, model: served.model.clone(), key: served.key.clone() }
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn url(&self) -> String {
        self.url.to_string()
    }

    pub(super) async fn embed(
        &self,
        http: &Http,
        texts: &[&str],
        purpose: Purpose,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let requests: Vec<Value> = texts.iter().map(|text| self.request(text, purpose)).collect();
        let mut request = Request::post(self.url.clone(), json!({ "requests": requests }));
        if let Some(key) = &self.key {
            // Not in the query, which others write into their logs.
            request = request.header("x-goog-api-key", key);
        }
        let answer: Answer = http.send(&request).await?;
        Ok(answer.embeddings.into_iter().map(|embedding| embedding.values).collect())
    }

    fn request(&self, text: &str, purpose: Purpose) -> Value {
        let task = match purpose {
            Purpose::Document => "RETRIEVAL_DOCUMENT",
            Purpose::Query => "RETRIEVAL_QUERY",
        };
        json!({
            "model": format!("models/{}", self.model),
            "content": { "parts": [{ "text": text }] },
            "taskType": task,
        })
    }
}
