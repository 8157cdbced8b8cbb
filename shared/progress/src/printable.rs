use std::borrow::Cow;

/// The text without what would move a terminal's cursor, colour it, or turn its direction: escape sequences go as a
/// whole, line ends and tabs become spaces, other control and direction characters go.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| !is_harmful(c)) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                match chars.next_if(|next| matches!(next, '[' | ']' | 'P' | 'X' | '^' | '_' | '@'..='~')) {
                    Some('[') => skip_control_sequence(&mut chars),
                    Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut chars),
                    Some(_) | None => {}
                }
            }
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut chars),
            '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => clean.push(' '),
            c if is_harmful(c) => {}
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What follows the introducer of a control sequence: parameters, then one final character.
fn skip_control_sequence(chars: &mut Chars<'_>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    let _ = chars.next_if(|c| matches!(c, '@'..='~'));
}

/// What follows the introducer of a string that is for the terminal: everything up to its end, or up to the text's.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(c) = chars.next() {
        match c {
            '\x07' | '\u{9c}' => return,
            '\x1b' if chars.next_if_eq(&'\\').is_some() => return,
            _ => {}
        }
    }
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_go_as_a_whole() {
        for (text, clean) in [
            ("plain é 講義 😀", "plain é 講義 😀"),
            ("\x1b[2m12:00\x1b[0m [\x1b[32m\x1b[1minfo\x1b[0m] x", "12:00 [info] x"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\u{9b}31mred", "red"),
            ("\u{9d}0;title\u{9c}after", "after"),
            ("\x1bP1$r\x1b\\a", "a"),
            ("\x1bcreset", "reset"),
            ("a\x1b", "a"),
            ("a\x1b[", "a"),
            ("never ends \x1b]0;title", "never ends "),
        ] {
            assert_eq!(printable(text), clean, "{text:?}");
        }
    }

    #[test]
    fn characters_that_move_or_turn_go_and_space_stays() {
        assert_eq!(printable("a\tb\r\nc\x08\x00\x07d\u{2028}e"), "a b  cd e");
        assert_eq!(printable("invoice\u{202e}fdp.exe\u{2066}"), "invoicefdp.exe");
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in any::<String>()) {
            let clean = printable(&text);
            prop_assert!(!clean.chars().any(is_harmful));
            prop_assert_eq!(printable(&clean), clean.clone());
        }

        #[test]
        fn nothing_harmful_is_left_of_sequences(
            parts in proptest::collection::vec(prop_oneof![
                Just("\x1b"), Just("["), Just("]"), Just("31"), Just("m"), Just(";"), Just("\x07"), Just("\\"),
                Just("\u{9b}"), Just("\u{90}"), Just("text"), Just("\u{202e}"),
            ], 0..20),
        ) {
            let text = parts.concat();
            let clean = printable(&text);
            prop_assert!(!clean.chars().any(is_harmful));
        }
    }
}
