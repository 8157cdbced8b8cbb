//! Cuts a document's Markdown into chunks that are small enough to be found by.

use std::str::FromStr;

use text_splitter::{Characters, ChunkConfig, MarkdownSplitter, TextSplitter};

/// How long a chunk is at most, in characters, when nothing else is asked for.
const DEFAULT_CHUNK_SIZE: usize = 4000;
/// How many characters a chunk repeats of the one before at most, when nothing else is asked for.
const DEFAULT_CHUNK_OVERLAP: usize = 200;

/// Shorter chunks say nothing by themselves, and a large document would have millions of them.
const SMALLEST: u64 = 50;
/// Longer chunks are more than an embedding can read.
const LARGEST: u64 = 100_000;
/// How many chunks a splitter looks at in one go. The time it takes grows with the square of that.
const AT_ONCE: usize = 8;
/// The most bytes a character has in UTF-8.
const WIDEST: usize = 4;

/// Where a document may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Strategy {
    /// Between sentences, better between paragraphs.
    #[default]
    Sentence,
    /// Between words.
    Word,
    /// Between paragraphs, else between lines.
    Paragraph,
    /// Between any two characters.
    Character,
    /// Between the parts that Markdown has: headings, lists, code blocks, paragraphs.
    Markdown,
}

impl FromStr for Strategy {
    type Err = InvalidChunking;

    fn from_str(name: &str) -> Result<Self, InvalidChunking> {
        match name.trim().to_ascii_lowercase().as_str() {
            "sentence" => Ok(Self::Sentence),
            "word" => Ok(Self::Word),
            "paragraph" => Ok(Self::Paragraph),
            "character" => Ok(Self::Character),
            "markdown" => Ok(Self::Markdown),
            _ => Err(InvalidChunking {
                field: "chunking_strategy",
                reason: "give sentence, word, paragraph, character or markdown".to_owned(),
            }),
        }
    }
}

/// Sizes of chunks and where to cut. Only what can be followed can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRules {
    size: usize,
    overlap: usize,
    strategy: Strategy,
}

impl Default for ChunkRules {
    fn default() -> Self {
        Self { size: DEFAULT_CHUNK_SIZE, overlap: DEFAULT_CHUNK_OVERLAP, strategy: Strategy::default() }
    }
}

impl ChunkRules {
    /// The rules a caller asks for: sizes in characters, 50 to 100000, an overlap of at most half of the size, and a
    /// strategy by name: `sentence`, `word`, `paragraph`, `character` or `markdown`. What it leaves out is the default,
    /// which is 4000, 200 and `sentence`; the default overlap shrinks with small sizes.
    ///
    /// # Errors
    ///
    /// [`InvalidChunking`] for the first field that cannot be followed.
    pub fn new(
        size: Option<u64>,
        overlap: Option<u64>,
        strategy: Option<&str>,
    ) -> Result<Self, InvalidChunking> {
        let size = size.map_or(Ok(DEFAULT_CHUNK_SIZE), valid_size)?;
        let overlap = overlap
            .map_or(Ok(DEFAULT_CHUNK_OVERLAP.min(size / 2)), |overlap| valid_overlap(overlap, size))?;
        let strategy = strategy.map_or(Ok(Strategy::default()), str::parse)?;
        Ok(Self { size, overlap, strategy })
    }
}

fn valid_size(size: u64) -> Result<usize, InvalidChunking> {
    let refused = || InvalidChunking {
        field: "chunk_size",
        reason: format!("give {SMALLEST} to {LARGEST} characters, or leave it out for {DEFAULT_CHUNK_SIZE}"),
    };
    if !(SMALLEST..=LARGEST).contains(&size) {
        return Err(refused());
    }
    usize::try_from(size).map_err(|_| refused())
}

fn valid_overlap(overlap: u64, size: usize) -> Result<usize, InvalidChunking> {
    // A larger share would store a document many times over.
    usize::try_from(overlap).ok().filter(|overlap| *overlap <= size / 2).ok_or_else(|| InvalidChunking {
        field: "chunk_overlap",
        reason: format!("give at most half of chunk_size, which is {} characters of {size}", size / 2),
    })
}

/// Chunk rules that cannot be followed. What is displayed names the field and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is not possible: {reason}")]
pub struct InvalidChunking {
    /// The field of the request: `chunk_size`, `chunk_overlap` or `chunking_strategy`.
    field: &'static str,
    reason: String,
}

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its place among the document's chunks, from 0.
    pub index: usize,
    /// Its text, which neither begins nor ends with white space.
    pub text: String,
    /// The byte of the document at which it begins.
    pub start: usize,
    /// The byte of the document before which it ends.
    pub end: usize,
}

/// Cuts `markdown` into chunks that, in order, hold all of its text but white space between chunks. A document of
/// white space has none. What takes time grows with the document's length and no faster.
#[must_use]
pub fn chunks(markdown: &str, rules: &ChunkRules) -> Vec<Chunk> {
    let cuts = match rules.strategy {
        Strategy::Sentence => by_sentences(markdown, rules),
        Strategy::Paragraph => {
            let splitter = TextSplitter::new(config(rules));
            by_parts(markdown, rules.size, |part| spans(splitter.chunk_indices(part)))
        }
        Strategy::Markdown => {
            let splitter = MarkdownSplitter::new(config(rules));
            by_parts(markdown, rules.size, |part| spans(splitter.chunk_indices(part)))
        }
        Strategy::Word => by_words(markdown, rules),
        Strategy::Character => by_characters(markdown, rules),
    };
    let mut chunks: Vec<Chunk> = Vec::with_capacity(cuts.len());
    for (start, end) in cuts {
        let (start, end) = trimmed(markdown, start, end);
        // A chunk that only repeats the one before is none, and one that only says more takes its place.
        if end <= chunks.last().map_or(start, |last| last.end) {
            continue;
        }
        chunks.pop_if(|last| last.start == start);
        chunks.push(Chunk { index: chunks.len(), text: markdown[start..end].to_owned(), start, end });
    }
    chunks
}

/// Where a chunk begins and before which byte it ends.
type Cut = (usize, usize);

/// White space counts and is cut off afterwards: where it does not count, a splitter takes one step after the other
/// through it, and looks at all of it each time.
fn config(rules: &ChunkRules) -> ChunkConfig<Characters> {
    let config = ChunkConfig::new(rules.size).with_trim(false);
    config.with_overlap(rules.overlap).unwrap_or_else(|_| ChunkConfig::new(rules.size).with_trim(false))
}

fn spans<'a>(pieces: impl Iterator<Item = (usize, &'a str)>) -> Vec<Cut> {
    let pieces = pieces.filter(|(_, text)| !text.is_empty());
    pieces.map(|(start, text)| (start, start + text.len())).collect()
}

/// Lines that a sentence runs over are joined for the splitter, which would rather cut between lines.
fn by_sentences(text: &str, rules: &ChunkRules) -> Vec<Cut> {
    let splitter = TextSplitter::new(config(rules));
    by_parts(&lines_joined(text), rules.size, |part| spans(splitter.chunk_indices(part)))
}

/// The text with spaces for the single line breaks before letters, byte for byte as long.
fn lines_joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\r', '\n']) {
        let (line, tail) = rest.split_at(at);
        let after = tail.trim_start();
        let gap = &tail[..tail.len() - after.len()];
        joined.push_str(line);
        if gap.is_ascii() && gap.matches('\n').count() == 1 && after.starts_with(char::is_alphabetic) {
            joined.extend(std::iter::repeat_n(' ', gap.len()));
        } else {
            joined.push_str(gap);
        }
        rest = after;
    }
    joined.push_str(rest);
    joined
}

/// Lets `split` see a few chunks' worth of text at a time, each part beginning where a chunk begins. The last two
/// chunks of a part may have been cut where the part ends: they are cut again as the first ones of the next part.
fn by_parts(text: &str, size: usize, split: impl Fn(&str) -> Vec<Cut>) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut start = 0_usize;
    loop {
        let end = text.floor_char_boundary(start.saturating_add(size * WIDEST * AT_ONCE));
        let mut found = split(&text[start..end]);
        if end == text.len() {
            cuts.extend(found.into_iter().map(|(from, to)| (start + from, start + to)));
            return cuts;
        }
        let next = match found.as_slice() {
            [] => end,
            [(0, to)] => start + to,
            [.., (from, _), _] if *from > 0 => start + from,
            [.., (from, _)] => start + from,
        };
        found.retain(|(from, _)| start + from < next);
        cuts.extend(found.into_iter().map(|(from, to)| (start + from, start + to)));
        start = next;
    }
}

fn by_words(text: &str, rules: &ChunkRules) -> Vec<Cut> {
    let words = words(text, rules.size);
    let mut cuts = Vec::new();
    let mut first = 0;
    while first < words.len() {
        let mut length = 0;
        let fitting = words[first..].iter().take_while(|word| {
            length += word.length;
            length <= rules.size
        });
        let after = first + fitting.count();
        cuts.push((words[first].start, words.get(after).map_or(text.len(), |word| word.start)));
        let Some(next) = words.get(after) else { break };
        let room = rules.overlap.min(rules.size - next.length);
        let mut repeated = 0;
        let kept = words[first + 1..after].iter().rev().take_while(|word| {
            repeated += word.length;
            repeated <= room
        });
        first = after - kept.count();
    }
    cuts
}

/// A word with the white space behind it.
struct Word {
    /// The byte at which it begins.
    start: usize,
    /// How many characters it has.
    length: usize,
}

/// The words of a text; those that are longer than a chunk are cut.
fn words(text: &str, size: usize) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut length = 0;
    for (at, letter) in text.char_indices() {
        length += 1;
        if letter.is_whitespace() || length == size {
            words.push(Word { start, length });
            start = at + letter.len_utf8();
            length = 0;
        }
    }
    if length > 0 {
        words.push(Word { start, length });
    }
    words
}

fn by_characters(text: &str, rules: &ChunkRules) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (start, _) in text.char_indices().step_by(rules.size - rules.overlap) {
        let length = text[start..].char_indices().nth(rules.size).map(|(length, _)| length);
        cuts.push((start, length.map_or(text.len(), |length| start + length)));
        if length.is_none() {
            break;
        }
    }
    cuts
}

fn trimmed(text: &str, start: usize, end: usize) -> Cut {
    let piece = text[start..end].trim_end();
    let end = start + piece.len();
    (end - piece.trim_start().len(), end)
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::{ProptestConfig, Strategy as _, prop},
        prop_oneof, proptest,
    };

    use super::*;

    const STRATEGIES: [&str; 5] = ["sentence", "word", "paragraph", "character", "markdown"];

    fn rules(size: u64, overlap: u64, strategy: &str) -> ChunkRules {
        ChunkRules::new(Some(size), Some(overlap), Some(strategy)).unwrap()
    }

    /// Everything that is promised of chunks, whatever the text.
    fn check(text: &str, rules: &ChunkRules) {
        let chunks = chunks(text, rules);
        let mut covered = 0;
        let mut last_start = None;
        for (index, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk.index, index);
            assert_eq!(chunk.text, &text[chunk.start..chunk.end]);
            assert!(chunk.text.chars().count() <= rules.size, "{} characters", chunk.text.chars().count());
            assert!(last_start.is_none_or(|last| last < chunk.start), "begins before the one before");
            assert!(chunk.end > covered, "says nothing new");
            if chunk.start >= covered {
                assert!(
                    text[covered..chunk.start].trim().is_empty(),
                    "lost {:?}",
                    &text[covered..chunk.start]
                );
            } else {
                let repeated = text[chunk.start..covered].chars().count();
                assert!(repeated <= rules.overlap, "{repeated} characters are repeated");
            }
            covered = chunk.end;
            last_start = Some(chunk.start);
        }
        assert!(text[covered..].trim().is_empty(), "lost {:?}", &text[covered..]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn chunks_hold_all_text_in_order_and_keep_to_their_sizes(
            text in proptest::collection::vec(
                prop_oneof![
                    4 => "[a-zA-ZäöüßÄ]{1,12}[ ,]",
                    2 => "[a-z]{2,9}[.!?] ",
                    1 => "\n{1,3}",
                    1 => "(\r\n){1,2}",
                    1 => "[-*#>|`0-9]{1,4} ?",
                    1 => "\\PC{0,8}",
                    1 => "[ \t]{1,90}",
                    1 => "[a-z]{60,200}",
                ],
                0..250,
            ).prop_map(|parts| parts.concat()),
            size in 50_u64..160,
            share in 0_u64..=50,
            strategy in prop::sample::select(STRATEGIES.to_vec()),
        ) {
            check(&text, &rules(size, size * share / 100, strategy));
        }
    }

    #[test]
    fn what_cannot_be_followed_names_its_field() {
        for (size, overlap, strategy, field) in [
            (Some(0), None, None, "chunk_size"),
            (Some(49), None, None, "chunk_size"),
            (Some(u64::MAX), None, None, "chunk_size"),
            (Some(1000), Some(1000), None, "chunk_overlap"),
            (Some(1000), Some(501), None, "chunk_overlap"),
            (None, Some(u64::MAX), None, "chunk_overlap"),
            (None, None, Some("semantic"), "chunking_strategy"),
            (None, None, Some(""), "chunking_strategy"),
        ] {
            let refused = ChunkRules::new(size, overlap, strategy).unwrap_err();
            assert_eq!(refused.field, field);
            assert!(refused.to_string().starts_with(field), "{refused}");
        }
    }

    #[test]
    fn what_is_left_out_is_the_default_and_small_chunks_repeat_less() {
        let rules = ChunkRules::new(None, None, None).unwrap();
        assert_eq!((rules.size, rules.overlap, rules.strategy), (4000, 200, Strategy::Sentence));
        assert_eq!(rules, ChunkRules::default());
        assert_eq!(ChunkRules::new(Some(100), None, None).unwrap().overlap, 50);
        assert_eq!(ChunkRules::new(Some(100), Some(0), Some("Word")).unwrap().overlap, 0);
    }

    #[test]
    fn a_document_of_white_space_has_no_chunks() {
        for strategy in STRATEGIES {
            assert_eq!(chunks("", &rules(50, 10, strategy)), []);
            assert_eq!(chunks(&" \n\t".repeat(50_000), &rules(4000, 200, strategy)), []);
            assert_eq!(chunks(&"\n".repeat(50_000), &rules(50, 10, strategy)), []);
        }
    }

    #[test]
    fn sentences_stay_whole_over_line_breaks() {
        let text =
            "The first sentence runs\nover two lines of it. The second one\ndoes the same thing here. Third.";
        let texts: Vec<_> =
            chunks(text, &rules(60, 0, "sentence")).into_iter().map(|chunk| chunk.text).collect();
        assert_eq!(
            texts,
            [
                "The first sentence runs\nover two lines of it.",
                "The second one\ndoes the same thing here. Third."
            ]
        );
    }

    #[test]
    fn a_chunk_begins_with_the_end_of_the_one_before() {
        let text = "One sentence is here. Two sentences are here. Three sentences are here. Four are here.";
        let found = chunks(text, &rules(60, 30, "sentence"));
        assert!(found.len() > 1);
        assert!(found.windows(2).all(|pair| pair[1].start < pair[0].end), "{found:?}");
    }

    #[test]
    fn markdown_is_cut_before_headings() {
        let section = |title: &str| format!("# {title}\n\n{}\n\n", "Some words of it. ".repeat(4));
        let text = section("One") + &section("Two");
        let found = chunks(&text, &rules(100, 0, "markdown"));
        assert!(found.iter().any(|chunk| chunk.text.starts_with("# Two")), "{found:?}");
    }

    #[test]
    fn long_documents_are_cut_by_every_strategy() {
        let line = "Dies ist ein Satz über Möhren, and this is one about carrots. ";
        let text = (line.repeat(7) + "\n\n").repeat(600) + &"x".repeat(30_000) + &" ".repeat(200_000) + "end";
        for strategy in STRATEGIES {
            check(&text, &rules(500, 100, strategy));
        }
    }
}
