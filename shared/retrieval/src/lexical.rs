//! Texts as sparse vectors of their words, weighted as BM25 does it: an embedding that needs no model.
//!
//! A text is brought into one Unicode form, so that a composed and a decomposed `ä` are the same. Words are runs of
//! letters and digits; case and accents do not count (`Äpfel` is `apfel`, `Straße` is `strasse`). No word is left out
//! for being common: the engine weighs a word by how rare it is in the collection. Every word counts as its English
//! and as its German stem, so that `houses` finds `house` and `Häuser` finds `Haus` without anybody saying which
//! language a text is in. Languages that do not put spaces between words are found by whole runs of letters only.

use std::collections::BTreeMap;

use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
use serde_json::json;
use unicode_normalization::UnicodeNormalization;

use crate::{Error, embedding::Sparse};

/// The name under which collections keep these vectors. Another way to make them needs another name.
pub(crate) const SPACE: &str = "bm25-english-german";

/// How many words a chunk has on average: that of the default size in English prose.
const WORDS_OF_A_CHUNK: f64 = 650.0;

/// Makes the vectors.
#[derive(Debug)]
pub(crate) struct Lexical {
    stemmers: Vec<EdgeBm25>,
}

impl Lexical {
    /// # Errors
    ///
    /// [`Error::Engine`], where the engine does not take the rules for words.
    pub(crate) fn new() -> Result<Self, Error> {
        let stemmers = ["english", "german"].into_iter().map(stemmer).collect::<Result<_, _>>()?;
        Ok(Self { stemmers })
    }

    /// The vector of a text that is to be found.
    pub(crate) fn document(&self, text: &str) -> Sparse {
        let text = folded(text);
        let mut weights = BTreeMap::new();
        for stemmer in &self.stemmers {
            let vector = stemmer.embed_document(&text);
            for (index, value) in vector.indices.into_iter().zip(vector.values) {
                // Both languages have this stem, which is still one word.
                weights.entry(index).and_modify(|known: &mut f32| *known = known.max(value)).or_insert(value);
            }
        }
        weights.into_iter().collect()
    }

    /// The vector of a text that is searched for: its words weigh the same, each shared among its stems.
    pub(crate) fn query(&self, text: &str) -> Sparse {
        let text = folded(text);
        let mut weights = BTreeMap::new();
        for word in words(&text) {
            let stems = self.stems(word);
            let share = 1.0 / stems.len().max(1) as f32;
            for stem in stems {
                weights.insert(stem, share);
            }
        }
        weights.into_iter().collect()
    }

    fn stems(&self, word: &str) -> Vec<u32> {
        let mut stems: Vec<u32> =
            self.stemmers.iter().flat_map(|stemmer| stemmer.embed_query(word).indices).collect();
        stems.sort_unstable();
        stems.dedup();
        stems
    }
}

fn stemmer(language: &str) -> Result<EdgeBm25, Error> {
    let failed = |reason: String| Error::Engine { reason: format!("its rules for words: {reason}") };
    let rules = json!({
        "tokenizer": "word",
        "language": language,
        "ascii_folding": true,
        "stopwords": {},
        "avg_len": WORDS_OF_A_CHUNK,
    });
    let rules: EdgeBm25Config = serde_json::from_value(rules).map_err(|error| failed(error.to_string()))?;
    EdgeBm25::new(rules).map_err(|error| failed(error.to_string()))
}

/// The text with every letter in one form, and without the marks that only say where a line may break.
fn folded(text: &str) -> String {
    text.nfkc().filter(|letter| !matches!(letter, '\u{AD}' | '\u{200B}'..='\u{200D}' | '\u{FEFF}')).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(query: &str, text: &str) -> bool {
        let lexical = Lexical::new().unwrap();
        let document = lexical.document(text);
        lexical.query(query).indices.iter().any(|index| document.indices.contains(index))
    }

    #[test]
    fn words_are_found_in_other_forms_in_english_and_in_german() {
        for (query, text) in [
            ("house", "Many houses were built."),
            ("running", "She runs every day."),
            ("Haus", "Die Häuser am Markt"),
            ("häuser", "ein HAUS"),
            ("Möglichkeit", "Es gibt viele Möglichkeiten."),
            ("Strasse", "Die Straße ist lang."),
            ("STRASSE", "die straße"),
            ("Cafe", "Das Café am Eck"),
            ("2024", "Bericht 2024/25"),
            ("the", "The Who"),
            ("und", "Sonne und Mond"),
            ("мир", "Привет, Мир!"),
        ] {
            assert!(finds(query, text), "{query} in {text}");
        }
    }

    #[test]
    fn letters_are_the_same_however_they_are_put_together() {
        assert!(finds("M\u{fc}ller", "Frau Mu\u{308}ller"));
        assert!(finds("Donaudampf", "Donau\u{ad}dampf"));
        assert!(finds("finance", "\u{fb01}nance"));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for (query, text) in
            [("zebra", "The quick brown fox"), ("Zug", "Die Häuser am Markt"), ("", "a"), ("?!", "a ?!")]
        {
            assert!(!finds(query, text), "{query} in {text}");
        }
    }

    #[test]
    fn every_word_of_a_query_weighs_the_same_however_many_stems_it_has() {
        let lexical = Lexical::new().unwrap();
        for word in ["cat", "Möglichkeiten", "running"] {
            let total: f32 = lexical.query(word).values.iter().sum();
            assert!((total - 1.0).abs() < 1e-6, "{word} weighs {total}");
        }
        assert!(lexical.stems("Moglichkeiten").len() > 1, "a word that the languages stem differently");
    }
}
