/// The longest line that is kept whole, in bytes.
pub const MOST_LINE_BYTES: usize = 16 * 1024;

/// Cuts lines out of bytes as they come, in bounded memory.
///
/// A line ends with `\n` or `\r`, because progress bars go back to the beginning of their line. Empty lines are left
/// out. What a line has beyond the bound is dropped, and what is not UTF-8 is replaced.
#[derive(Debug)]
pub struct LineSplitter {
    most: usize,
    partial: Vec<u8>,
}

impl Default for LineSplitter {
    fn default() -> Self {
        Self::new(MOST_LINE_BYTES)
    }
}

impl LineSplitter {
    /// Keeps at most `most` bytes of each line.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, partial: Vec::new() }
    }

    /// The lines that these bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
        // The first piece goes on with the line before; each further piece means that a line ended.
        if let Some(first) = pieces.next() {
            self.append(first);
        }
        for piece in pieces {
            lines.extend(self.finish());
            self.append(piece);
        }
        lines
    }

    /// The last line, if it has no end yet. The splitter is empty afterwards.
    pub fn finish(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.partial);
        if line.is_empty() {
            return None;
        }
        Some(match String::from_utf8(line) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    fn append(&mut self, piece: &[u8]) {
        let room = self.most.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_end_with_either_character_and_empty_ones_are_left_out() {
        let mut splitter = LineSplitter::default();
        assert_eq!(splitter.push(b"one\r\ntwo\rthree\n\n\nfo"), ["one", "two", "three"]);
        assert_eq!(splitter.push(b"ur"), Vec::<String>::new());
        assert_eq!(splitter.push(b"\n"), ["four"]);
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn a_line_without_end_takes_no_more_than_its_bound() {
        let mut splitter = LineSplitter::new(8);
        for _ in 0..10_000 {
            assert!(splitter.push(b"abcde").is_empty());
            assert!(splitter.partial.len() <= 8);
        }
        assert_eq!(splitter.push(b"\nnext\n"), ["abcdeabc", "next"]);
    }

    #[test]
    fn what_is_not_utf_8_is_replaced() {
        let mut splitter = LineSplitter::default();
        assert_eq!(splitter.push(b"\xff[5%] a\xc3\n"), ["\u{fffd}[5%] a\u{fffd}"]);
        // A character that two reads share is whole again.
        assert!(splitter.push(b"\xc3").is_empty());
        assert_eq!(splitter.push(b"\xa9\n"), ["é"]);
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            cuts in proptest::collection::vec(0usize..300, 0..6),
            most in 1usize..40,
        ) {
            let mut whole = LineSplitter::new(most);
            let mut expected = whole.push(&bytes);
            expected.extend(whole.finish());

            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut splitter = LineSplitter::new(most);
            let mut seen = Vec::new();
            let mut from = 0;
            for cut in cuts {
                let to = cut.min(bytes.len());
                seen.extend(splitter.push(&bytes[from..to]));
                from = to;
            }
            seen.extend(splitter.push(&bytes[from..]));
            seen.extend(splitter.finish());
            prop_assert_eq!(seen, expected);
        }
    }
}
