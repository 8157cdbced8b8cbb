//! What holds of every library, wherever its points are.

use tempfile::TempDir;

use super::{Given, open, qdrant::Qdrant, texts};
use crate::{Error, Library};

/// A place for libraries, which outlives them.
struct Place {
    folder: TempDir,
    qdrant: Option<Qdrant>,
}

impl Place {
    fn embedded() -> Self {
        Self { folder: TempDir::new().unwrap(), qdrant: None }
    }

    async fn server() -> Self {
        Self { folder: TempDir::new().unwrap(), qdrant: Some(Qdrant::start().await) }
    }

    async fn open(&self) -> Library {
        self.open_with(&[]).await.unwrap()
    }

    async fn open_with(&self, more: &[(&str, &str)]) -> Result<Library, Error> {
        let url = self.qdrant.as_ref().map(Qdrant::url);
        let mut variables = more.to_vec();
        if let Some(url) = &url {
            variables.extend([("QDRANT_URL", url.as_str()), ("QDRANT_API_KEY", super::qdrant::KEY)]);
        }
        open(&variables, self.path()).await
    }

    fn path(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// Runs each test function over the engine in this process and over a server.
macro_rules! everywhere {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Place::embedded()).await;
            })*
        }
        mod server {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Place::server().await).await;
            })*
        }
    };
}

everywhere!(
    passages_are_found_by_their_words,
    the_passage_that_says_most_of_it_comes_first,
    words_that_occur_nowhere_find_nothing,
    a_search_can_be_limited_to_a_document,
    what_is_stored_with_a_chunk_comes_with_the_hit,
    storing_the_same_again_changes_nothing,
    a_document_that_is_stored_again_has_just_its_new_chunks,
    documents_of_two_tasks_stay_side_by_side_when_nothing_is_replaced,
    a_shorter_second_try_leaves_nothing_of_the_first,
    two_tasks_that_replace_each_other_leave_one_of_them,
    a_document_is_found_all_the_time_while_it_is_replaced,
    a_deleted_document_is_gone_and_others_stay,
    chunks_without_words_are_kept_and_empty_documents_too,
    a_large_document_is_stored_whole,
    what_cannot_be_searched_for_is_refused,
    a_library_that_is_opened_again_has_what_was_stored,
    another_embedding_is_refused_by_name,
);

async fn passages_are_found_by_their_words(place: Place) {
    let library = place.open().await;
    Given::new("en", "t1")
        .store(&library, "The houses stand by the river. Nobody lives in any of them now.")
        .await
        .unwrap();
    Given::new("de", "t2").store(&library, "Die Häuser stehen am Fluß. Grüße aus Köln.").await.unwrap();

    assert_eq!(texts(&library, "HOUSE").await, ["The houses stand by the river."]);
    assert_eq!(texts(&library, "haus").await, ["Die Häuser stehen am Fluß. Grüße aus Köln."]);
    assert_eq!(texts(&library, "Fluss").await, ["Die Häuser stehen am Fluß. Grüße aus Köln."]);
    assert_eq!(texts(&library, "grusse").await.len(), 1);
}

async fn the_passage_that_says_most_of_it_comes_first(place: Place) {
    let library = place.open().await;
    let text = "The ship left the old harbour at dawn in fog. The harbour was the oldest one on the coast. \
                The captain of the ship knew all of the fog.";
    Given::new("tale", "t").store(&library, text).await.unwrap();

    let hits = library.search("Captains and fog", 2, None).await.unwrap();
    assert_eq!(hits.len(), 2);
    assert!(hits[0].text.starts_with("The captain"), "{hits:?}");
    assert!(hits[0].score >= hits[1].score);
}

async fn words_that_occur_nowhere_find_nothing(place: Place) {
    let library = place.open().await;
    assert_eq!(texts(&library, "anything").await, [""; 0]);
    Given::new("a", "t").store(&library, "Some words of a document.").await.unwrap();
    assert_eq!(texts(&library, "zebra").await, [""; 0]);
    assert_eq!(texts(&library, "?!").await, [""; 0]);
    assert_eq!(library.search("zebra", 5, Some("a")).await.unwrap(), []);
}

async fn a_search_can_be_limited_to_a_document(place: Place) {
    let library = place.open().await;
    for id in ["a", "b"] {
        Given::new(id, "t").store(&library, "Carrots are orange.").await.unwrap();
    }
    let hits = library.search("carrot", 100, Some("b")).await.unwrap();
    assert_eq!(hits.iter().map(|hit| hit.document_id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(library.search("carrot", 1, None).await.unwrap().len(), 1);
    assert_eq!(library.search("carrot", 1, Some("c")).await.unwrap(), []);
}

async fn what_is_stored_with_a_chunk_comes_with_the_hit(place: Place) {
    let library = place.open().await;
    let text = "The first sentence is long enough for a chunk. The second one is about zebras, too.";
    assert_eq!(Given::new("a", "t").store(&library, text).await.unwrap(), 2);

    let hit = library.search("zebra", 1, None).await.unwrap().remove(0);
    assert_eq!((hit.document_id.as_str(), hit.chunk_index), ("a", 1));
    assert_eq!(hit.text, "The second one is about zebras, too.");
    let expected = serde_json::json!({
        "title": "About a", "chunk_index": 1, "chunk_size": 36, "document_id": "a", "task_id": "t",
        "source_type": "document", "processing_method": "remote",
    });
    assert_eq!(serde_json::Value::Object(hit.metadata), expected);
}

async fn storing_the_same_again_changes_nothing(place: Place) {
    let library = place.open().await;
    for replace in [true, false, true] {
        let given = Given { replace, ..Given::new("a", "t") };
        given.store(&library, "Carrots are orange. Beets are red. They are roots, both.").await.unwrap();
        assert_eq!(library.count("a").await.unwrap(), 2);
        assert_eq!(texts(&library, "carrot").await.len(), 1);
    }
}

async fn a_document_that_is_stored_again_has_just_its_new_chunks(place: Place) {
    let library = place.open().await;
    let old = "Carrots are orange and long. Beets are red and round. Leeks are green and long as well.";
    Given::new("a", "t1").store(&library, old).await.unwrap();
    Given::new("b", "t1").store(&library, old).await.unwrap();
    let before = library.count("b").await.unwrap();

    Given::new("a", "t2").store(&library, "Nothing but turnips.").await.unwrap();
    assert_eq!(library.count("a").await.unwrap(), 1);
    assert_eq!(library.search("carrot", 10, Some("a")).await.unwrap(), []);
    assert_eq!(library.search("turnip", 10, Some("a")).await.unwrap().len(), 1);
    assert_eq!(library.count("b").await.unwrap(), before);
}

async fn documents_of_two_tasks_stay_side_by_side_when_nothing_is_replaced(place: Place) {
    let library = place.open().await;
    Given::new("a", "t1").beside().store(&library, "Carrots are orange.").await.unwrap();
    Given::new("a", "t2").beside().store(&library, "Carrots are purple.").await.unwrap();
    assert_eq!(library.count("a").await.unwrap(), 2);
    assert_eq!(texts(&library, "carrot").await.len(), 2);
}

async fn a_shorter_second_try_leaves_nothing_of_the_first(place: Place) {
    let library = place.open().await;
    let long = "Carrots are orange and long. Beets are red and round. Leeks are green and long as well.";
    for replace in [true, false] {
        let given = Given { replace, ..Given::new("a", "t") };
        given.store(&library, long).await.unwrap();
        given.store(&library, "Turnips.").await.unwrap();
        assert_eq!(library.count("a").await.unwrap(), 1);
        assert_eq!(texts(&library, "carrots leeks").await, [""; 0]);
    }
}

async fn two_tasks_that_replace_each_other_leave_one_of_them(place: Place) {
    let library = place.open().await;
    for round in 0..5 {
        let (one, two) = (Given::new("a", &format!("one-{round}")), Given::new("a", &format!("two-{round}")));
        let (one, two) = tokio::join!(one.store(&library, "Carrots."), two.store(&library, "Carrots."));
        one.unwrap();
        two.unwrap();
        assert_eq!(library.count("a").await.unwrap(), 1);
    }
}

async fn a_document_is_found_all_the_time_while_it_is_replaced(place: Place) {
    let library = place.open().await;
    Given::new("a", "first").store(&library, "Carrots.").await.unwrap();
    let replacing = async {
        for round in 0..20 {
            Given::new("a", &format!("task-{round}")).store(&library, "Carrots.").await.unwrap();
        }
    };
    let searching = async {
        loop {
            assert!(!texts(&library, "carrots").await.is_empty());
        }
    };
    tokio::select! {
        () = replacing => {}
        () = searching => {}
    }
    assert_eq!(library.count("a").await.unwrap(), 1);
}

async fn a_deleted_document_is_gone_and_others_stay(place: Place) {
    let library = place.open().await;
    for (id, task) in [("a", "t1"), ("a", "t2"), ("b", "t1")] {
        Given::new(id, task).beside().store(&library, "Carrots.").await.unwrap();
    }
    library.delete("a").await.unwrap();
    library.delete("never stored").await.unwrap();
    assert_eq!(library.count("a").await.unwrap(), 0);
    assert_eq!(texts(&library, "carrots").await.len(), 1);
}

async fn chunks_without_words_are_kept_and_empty_documents_too(place: Place) {
    let library = place.open().await;
    let given = Given::new("a", "t1");
    assert_eq!(given.store(&library, "--- *** ---").await.unwrap(), 1);
    assert_eq!(library.count("a").await.unwrap(), 1);
    assert_eq!(Given::new("a", "t2").store(&library, "").await.unwrap(), 0);
    assert_eq!(library.count("a").await.unwrap(), 0);
}

async fn a_large_document_is_stored_whole(place: Place) {
    let library = place.open().await;
    let text: String =
        (0..700).map(|number| format!("This sentence has the number {number}x in it. ")).collect();
    let stored = Given::new("large", "t").store(&library, &text).await.unwrap();
    assert!(stored >= 700, "{stored} chunks");
    assert_eq!(library.count("large").await.unwrap(), stored);
    assert_eq!(texts(&library, "699x").await, ["This sentence has the number 699x in it."]);
    assert_eq!(library.search("sentence", 100, None).await.unwrap().len(), 100);
}

async fn what_cannot_be_searched_for_is_refused(place: Place) {
    let library = place.open().await;
    for (query, limit) in [("", 1), (" \n", 1), ("word", 0), ("word", 101)] {
        let refused = library.search(query, limit, None).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
        assert!(!refused.retryable());
    }
    let nameless = Given::new("", "t").store(&library, "Words.").await.unwrap_err();
    assert!(matches!(nameless, Error::Invalid { .. }), "{nameless}");
}

async fn a_library_that_is_opened_again_has_what_was_stored(place: Place) {
    for round in 1..=3 {
        let library = place.open().await;
        Given::new(&format!("d{round}"), "t").store(&library, "Carrots are orange.").await.unwrap();
        assert_eq!(texts(&library, "carrot").await.len(), round);
        drop(library);
    }
    let library = place.open().await;
    Given::new("d1", "t2").store(&library, "Beets.").await.unwrap();
    assert_eq!(texts(&library, "carrot").await.len(), 2);
}

async fn another_embedding_is_refused_by_name(place: Place) {
    let library = place.open().await;
    Given::new("a", "t").store(&library, "Carrots.").await.unwrap();
    drop(library);

    let more = [("MORAG_EMBEDDING_PROVIDER", "openai"), ("OPENAI_API_KEY", "hidden")];
    let refused = place.open_with(&more).await.unwrap_err();
    assert!(matches!(refused, Error::OtherEmbedding { .. }), "{refused}");
    for part in [
        "morag_documents",
        "bm25-english-german",
        "openai-text-embedding-3-small",
        "MORAG_EMBEDDING_PROVIDER",
    ] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let more = [more[0], more[1], ("QDRANT_COLLECTION_NAME", "morag_documents")];
    assert!(place.open_with(&more).await.is_err());
    assert_eq!(texts(&place.open().await, "carrots").await.len(), 1);
}
