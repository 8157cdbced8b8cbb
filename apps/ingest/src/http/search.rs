//! `GET /api/v1/search`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Site, refusal::Refusal};

/// How many chunks are found unless more are asked for, and at most.
const FOUND: usize = 10;
const MOST_FOUND: usize = 100;
/// The longest query, in characters.
const LONGEST_QUERY: usize = 4000;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    q: Option<String>,
    limit: Option<String>,
    document_id: Option<String>,
}

pub(super) async fn search(
    State(site): State<Arc<Site>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refusal> {
    let query = asked.q.unwrap_or_default();
    let query = query.trim();
    if query.is_empty() || query.chars().count() > LONGEST_QUERY {
        return Err(Refusal::field("q", format!("must be 1 to {LONGEST_QUERY} characters to search for")));
    }
    let limit = match asked.limit.filter(|limit| !limit.is_empty()) {
        None => FOUND,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=MOST_FOUND).contains(limit)).ok_or_else(|| {
                Refusal::field("limit", format!("must be a whole number of 1 to {MOST_FOUND}"))
            })?
        }
    };
    let document = asked.document_id.filter(|id| !id.is_empty());
    let hits = site.pipeline.parts().shelf.search(query, limit, document.as_deref()).await?;
    let results: Vec<Value> = hits
        .into_iter()
        .map(|hit| {
            json!({
                "score": hit.score,
                "document_id": hit.document_id,
                "chunk_index": hit.chunk_index,
                "content": hit.text,
                "metadata": hit.metadata,
            })
        })
        .collect();
    Ok(Json(json!({"query": query, "results": results})))
}
