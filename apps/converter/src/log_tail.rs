use std::collections::VecDeque;

/// The end of a converter's log, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct LogTail {
    lines: VecDeque<String>,
    bytes: usize,
}

/// How many bytes of a log are kept.
const MOST_BYTES: usize = 8 * 1024;

impl LogTail {
    /// Adds a line, and forgets the oldest ones beyond the bound.
    pub(crate) fn push(&mut self, line: &str) {
        let line = end_of(line, MOST_BYTES);
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > MOST_BYTES && self.lines.len() > 1 {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len() + 1);
        }
    }

    /// The last `most` bytes at most, cut at a character's beginning.
    pub(crate) fn end(&self, most: usize) -> String {
        let all = self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        end_of(&all, most).to_owned()
    }
}

/// The last `most` bytes of a text at most, cut at a character's beginning.
fn end_of(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let mut tail = LogTail::default();
        for number in 0..100_000 {
            tail.push(&format!("line {number}"));
        }
        let text = tail.end(usize::MAX);
        assert!(text.len() <= MOST_BYTES && text.ends_with("line 99998\nline 99999"));
        assert!(text.starts_with("line "));
        assert_eq!(tail.end(10), "line 99999");
    }

    #[test]
    fn one_long_line_keeps_its_end() {
        let mut tail = LogTail::default();
        tail.push("before");
        tail.push(&format!("{}end", "é".repeat(20_000)));
        let text = tail.end(usize::MAX);
        assert!(text.len() <= MOST_BYTES && text.ends_with("éend") && !text.contains("before"));
        assert_eq!(tail.end(4), "end");
    }
}
