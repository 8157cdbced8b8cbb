use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// A lock for every document that somebody writes: two tasks that replace the same one would delete each other's
/// chunks, and those of different documents need not wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until nobody else writes the document. It is the caller's until the guard is dropped.
    pub(crate) async fn of(&self, document_id: &str) -> OwnedMutexGuard<()> {
        self.lock(document_id).lock_owned().await
    }

    fn lock(&self, document_id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds a lock or waits for it has a reference to it.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(document_id.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_the_same_document_is_waited_for() {
        let turns = Turns::default();
        let first = turns.of("a").await;
        assert!(turns.of("b").now_or_never().is_some());
        let mut second = Box::pin(turns.of("a"));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        let second = second.await;
        assert!(turns.of("a").now_or_never().is_none());
        drop(second);
    }

    #[tokio::test]
    async fn documents_that_nobody_writes_are_forgotten() {
        let turns = Turns::default();
        for document in 0..9 {
            drop(turns.of(&document.to_string()).await);
        }
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
