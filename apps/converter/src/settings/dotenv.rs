//! `.env` files as python-dotenv reads them, because people have them from the original converter.
//!
//! Values may be bare (up to a ` #`), in single or in double quotes, and span lines in quotes; `export` may stand
//! before a name; `${NAME}` and `${NAME:-otherwise}` are replaced. The libraries that there are for this take bare
//! values with spaces for faults, replace `$NAME` too, and do not say in which line a fault is.

use std::collections::{BTreeMap, HashMap};

/// The variables of a file, and the numbers of the lines that could not be understood. `process` has what counts
/// before the file where a value refers to another variable.
pub(super) fn parse(text: &str, process: &HashMap<String, String>) -> (BTreeMap<String, String>, Vec<usize>) {
    let (mut variables, mut faults) = (BTreeMap::new(), Vec::new());
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let end_of_line = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let first = rest[..end_of_line].trim();
        if first.is_empty() || first.starts_with('#') {
            rest = &rest[end_of_line..];
            continue;
        }
        match binding(rest) {
            Some((name, value, after)) => {
                if let Some(value) = value {
                    let value = expanded(&value, process, &variables);
                    variables.insert(name.to_owned(), value);
                }
                rest = after;
            }
            None => {
                faults.push(line);
                rest = &rest[end_of_line..];
            }
        }
    }
    (variables, faults)
}

/// A name, its value unless no `=` follows, and what comes after the line.
fn binding(text: &str) -> Option<(&str, Option<String>, &str)> {
    let text = text.trim_start();
    let exported = text.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let text = exported.map_or(text, |rest| rest.trim_start_matches(BLANK));
    let (name, rest) = name(text)?;
    let rest = rest.trim_start_matches(BLANK);
    let Some(rest) = rest.strip_prefix('=') else {
        return Some((name, None, after_line(rest)?));
    };
    let rest = rest.trim_start_matches(BLANK);
    let quoted = rest.chars().next().filter(|first| matches!(first, '\'' | '"'));
    let Some(quote) = quoted else {
        let line = rest.find(['\r', '\n']).map_or(rest, |at| &rest[..at]);
        return Some((name, Some(bare(line).to_owned()), after_line(&rest[line.len()..])?));
    };
    let (value, rest) = quoted_value(&rest[1..], quote)?;
    Some((name, Some(value), after_line(rest)?))
}

const BLANK: [char; 2] = [' ', '\t'];

fn name(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return quoted.split_once('\'').filter(|(name, _)| !name.is_empty());
    }
    let end = text.find(|c: char| c == '=' || c == '#' || c.is_whitespace()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A value without quotes ends where a comment begins.
fn bare(line: &str) -> &str {
    let comment = line
        .match_indices('#')
        .map(|(at, _)| at)
        .find(|at| *at == 0 || line[..*at].ends_with(char::is_whitespace));
    comment.map_or(line, |at| &line[..at]).trim_end()
}

/// What stands before the closing quote, and what after it.
fn quoted_value(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, next)) => push_escaped(&mut value, next, quote),
                None => return None,
            },
            end if end == quote => return Some((value, &text[at + 1..])),
            other => value.push(other),
        }
    }
    None
}

fn push_escaped(value: &mut String, escaped: char, quote: char) {
    let meant = match escaped {
        '\\' | '\'' => Some(escaped),
        '"' if quote == '"' => Some('"'),
        'a' if quote == '"' => Some('\u{7}'),
        'b' if quote == '"' => Some('\u{8}'),
        'f' if quote == '"' => Some('\u{c}'),
        'n' if quote == '"' => Some('\n'),
        'r' if quote == '"' => Some('\r'),
        't' if quote == '"' => Some('\t'),
        'v' if quote == '"' => Some('\u{b}'),
        _ => None,
    };
    if meant.is_none() {
        value.push('\\');
    }
    value.push(meant.unwrap_or(escaped));
}

/// What follows the line, if nothing but a comment is left of it.
fn after_line(text: &str) -> Option<&str> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let line = line.trim();
    (line.is_empty() || line.starts_with('#')).then_some(after)
}

/// The value with what it refers to.
fn expanded(value: &str, process: &HashMap<String, String>, before: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((ahead, reference)) = rest.split_once("${") {
        let Some((inside, after)) = reference.split_once('}') else { break };
        let (name, otherwise) = inside.split_once(":-").unwrap_or((inside, ""));
        let found = process.get(name).or_else(|| before.get(name)).map_or(otherwise, String::as_str);
        expanded.push_str(ahead);
        expanded.push_str(found);
        rest = after;
    }
    expanded + rest
}
