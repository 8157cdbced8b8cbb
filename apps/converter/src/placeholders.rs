//! The arguments of a converter command, with placeholders in braces for what each job puts there.

use std::{ffi::OsString, path::Path};

/// What the placeholders of a command stand for.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The source.
    pub input: &'a Path,
    /// Where the result goes.
    pub output: &'a Path,
    /// The job's options.
    pub options: &'a Path,
    /// The work folder.
    pub work: &'a Path,
    /// The interpreter of the setting `python`.
    pub python: &'a Path,
}

/// One argument of a command, with placeholders in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

/// A placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Input,
    Output,
    Options,
    Work,
    Python,
    Here,
}

impl Place {
    const ALL: [(&'static str, Self); 6] = [
        ("input", Self::Input),
        ("output", Self::Output),
        ("options", Self::Options),
        ("work", Self::Work),
        ("python", Self::Python),
        ("here", Self::Here),
    ];
}

impl Argument {
    /// Placeholders are words in braces; braces around anything else stand for themselves.
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut kept = String::new();
        while let Some(open) = rest.find('{') {
            let (before, after) = (&rest[..open], &rest[open + 1..]);
            kept.push_str(before);
            let word_end = after.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(after.len());
            if word_end == 0 || !after[word_end..].starts_with('}') {
                kept.push('{');
                rest = after;
                continue;
            }
            let word = &after[..word_end];
            let known = Place::ALL.iter().find(|(name, _)| *name == word);
            let (_, place) = known.ok_or_else(|| {
                let names: Vec<String> = Place::ALL.iter().map(|(name, _)| format!("{{{name}}}")).collect();
                format!("has the unknown placeholder {{{word}}}; there are {}", names.join(" "))
            })?;
            pieces.push(Piece::Text(std::mem::take(&mut kept)));
            pieces.push(Piece::Place(*place));
            rest = &after[word_end + 1..];
        }
        kept.push_str(rest);
        pieces.push(Piece::Text(kept));
        Ok(Self(pieces))
    }

    /// Whether this placeholder is in it.
    pub(crate) fn names(&self, place: Place) -> bool {
        self.0.contains(&Piece::Place(place))
    }

    /// The argument with what the placeholders stand for.
    pub(crate) fn fill(&self, here: &Path, places: &Places<'_>) -> OsString {
        let mut filled = OsString::new();
        for piece in &self.0 {
            filled.push(match piece {
                Piece::Text(text) => text.as_ref(),
                Piece::Place(Place::Input) => places.input.as_os_str(),
                Piece::Place(Place::Output) => places.output.as_os_str(),
                Piece::Place(Place::Options) => places.options.as_os_str(),
                Piece::Place(Place::Work) => places.work.as_os_str(),
                Piece::Place(Place::Python) => places.python.as_os_str(),
                Piece::Place(Place::Here) => here.as_os_str(),
            });
        }
        filled
    }
}

/// Reads a command. `field` is what errors call it.
pub(crate) fn arguments(words: &[String], field: &str) -> Result<Vec<Argument>, String> {
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(format!("names no program in `{field}`"));
    }
    let parse = |word: &String| Argument::parse(word).map_err(|problem| format!("{problem} (in `{field}`)"));
    words.iter().map(parse).collect()
}
