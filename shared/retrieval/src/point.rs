//! What is stored of a chunk, and how chunks are told apart.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Chunk, Document, Hit, embedding::Vector};

/// The payload key of a chunk's text.
const CONTENT: &str = "content";
/// The payload key of the document.
pub(crate) const DOCUMENT: &str = "document_id";
/// The payload key of the ingestion task.
pub(crate) const TASK: &str = "task_id";
/// The payload key of the chunk's place in the document.
const INDEX: &str = "chunk_index";
/// The namespace of points' ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_5a0e_3c0b_4b7e_9a52_7d1c_84e9_20b3);

/// A chunk as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    /// The same for the same chunk of the same task's document.
    pub(crate) id: Uuid,
    /// What it is found by; an empty one is stored and never found.
    pub(crate) vector: Vector,
    /// Its text and what is known of it.
    pub(crate) payload: Map<String, Value>,
}

impl Point {
    pub(crate) fn new(document: &Document<'_>, chunk: &Chunk, vector: Vector) -> Self {
        let mut payload = document.metadata.clone();
        let own = [
            (CONTENT, json!(chunk.text)),
            (INDEX, json!(chunk.index)),
            ("chunk_size", json!(chunk.text.chars().count())),
            (DOCUMENT, json!(document.id)),
            (TASK, json!(document.task_id)),
            ("source_type", json!(document.source_type)),
            ("processing_method", json!(document.processing_method)),
        ];
        payload.extend(own.into_iter().map(|(key, value)| (key.to_owned(), value)));
        Self { id: id(document, chunk), vector, payload }
    }
}

fn id(document: &Document<'_>, chunk: &Chunk) -> Uuid {
    // JSON keeps apart what plain joining would not.
    let name = json!([document.id, document.task_id, chunk.index]).to_string();
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// A hit, of the payload that was found.
pub(crate) fn hit(score: f32, mut payload: Map<String, Value>) -> Hit {
    let text = match payload.remove(CONTENT) {
        Some(Value::String(text)) => text,
        Some(_) | None => String::new(),
    };
    let document_id = payload.get(DOCUMENT).and_then(Value::as_str).unwrap_or_default().to_owned();
    let index = payload.get(INDEX).and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
    Hit { score, document_id, chunk_index: index.unwrap_or_default(), text, metadata: payload }
}

/// The filter for a document's chunks.
pub(crate) fn of_document(id: &str) -> Value {
    json!({ "must": [matches(DOCUMENT, id)] })
}

/// The filter for chunks that are stored and should not be, once the document has its `count` new ones.
pub(crate) fn stale(document: &Document<'_>, count: usize) -> Value {
    let task = matches(TASK, document.task_id);
    if document.replace {
        let new = json!({ "must": [task, { "key": INDEX, "range": { "lt": count } }] });
        json!({ "must": [matches(DOCUMENT, document.id)], "must_not": [new] })
    } else {
        let beyond = json!({ "key": INDEX, "range": { "gte": count } });
        json!({ "must": [matches(DOCUMENT, document.id), task, beyond] })
    }
}

fn matches(key: &str, value: &str) -> Value {
    json!({ "key": key, "match": { "value": value } })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_the_same_for_the_same_chunk_and_differ_for_others() {
        let metadata = Map::new();
        let of = |id: &str, task_id: &str, index: usize| {
            let (source_type, processing_method) = ("document", "local");
            let document =
                Document { id, task_id, replace: false, metadata: &metadata, source_type, processing_method };
            super::id(&document, &Chunk { index, text: String::new(), start: 0, end: 0 })
        };
        assert_eq!(of("a", "b", 1), of("a", "b", 1));
        let all = [of("a", "b", 1), of("a", "b", 2), of("b", "a", 1), of("ab", "", 1), of("a\",\"b", "", 1)];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
