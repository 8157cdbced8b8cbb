use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{Document, embedding::Vector};

/// How many bytes of vectors are kept, which is some ten thousand of a model's.
const MOST: usize = 64 * 1024 * 1024;

/// Vectors of documents that could not be stored, for their next try: a model is slow, and is paid for every text.
/// The oldest are forgotten where they become too many.
#[derive(Debug, Default)]
pub(crate) struct Unwritten(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    of: u64,
    vectors: Vec<Vector>,
    bytes: usize,
}

impl Unwritten {
    /// What is kept of the first of these texts; nothing, if the same task had others before.
    pub(crate) fn take(&self, document: &Document<'_>, texts: &[&str]) -> Vec<Vector> {
        let mut all = self.all();
        if all.is_empty() {
            return Vec::new();
        }
        let of = key(document, texts);
        let place = all.iter().position(|kept| kept.of == of);
        place.and_then(|place| all.remove(place)).map(|kept| kept.vectors).unwrap_or_default()
    }

    /// Keeps the vectors of the first of these texts.
    pub(crate) fn keep(&self, document: &Document<'_>, texts: &[&str], vectors: Vec<Vector>) {
        let bytes = vectors.iter().map(Vector::bytes).sum();
        // A document that has no room would only push out the others.
        if bytes > MOST {
            return;
        }
        let mut all = self.all();
        all.push_back(Kept { of: key(document, texts), vectors, bytes });
        while all.iter().map(|kept| kept.bytes).sum::<usize>() > MOST {
            all.pop_front();
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(document: &Document<'_>, texts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (document.id, document.task_id, texts).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    /// How many values take more than half of the room.
    const MANY: usize = MOST * 5 / 8 / size_of::<f32>();

    #[test]
    fn the_oldest_are_forgotten_and_what_has_no_room_is_not_kept() {
        let (unwritten, metadata) = (Unwritten::default(), Map::new());
        let (source_type, processing_method) = ("document", "local");
        let of = |id| Document {
            id,
            task_id: "t",
            replace: true,
            metadata: &metadata,
            source_type,
            processing_method,
        };
        let keep = |id, values| unwritten.keep(&of(id), &["text"], vec![Vector::Dense(vec![0.0; values])]);
        keep("first", MANY);
        keep("second", MANY);
        keep("small", 1);
        keep("too large", MANY * 2);
        let take = |id| unwritten.take(&of(id), &["text"]).len();
        assert_eq!(["first", "second", "small", "too large"].map(take), [0, 1, 1, 0]);
        assert_eq!(take("second"), 0, "it is with who took it");
    }
}
