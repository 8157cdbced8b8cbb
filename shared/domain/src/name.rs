use std::fmt;

use serde::{Deserialize, Serialize};

/// A file's name that is safe in an object key, a header and a work folder: 1 to 100 of `A-Z a-z 0-9 . _ -`,
/// not beginning with a dot.
///
/// It is made from whatever name a client gives, so that a client-given name never becomes a path. The extension
/// survives, because the original's converter takes the source's format from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct FileName(String);

const LONGEST: usize = 100;
const LONGEST_EXTENSION: usize = 16;

impl FileName {
    /// Makes a safe name: the last path component, other characters replaced by `_`, shortened before the extension.
    #[must_use]
    pub fn from_client(name: &str) -> Self {
        let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let safe: String = last
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
            .collect();
        let safe = safe.trim_start_matches('.').trim_end_matches('.');
        let (stem, extension) = match safe.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() && extension.len() <= LONGEST_EXTENSION => {
                (stem, Some(extension))
            }
            _ => (safe, None),
        };
        let room = LONGEST - extension.map_or(0, |extension| extension.len() + 1);
        let stem = stem[..stem.len().min(room)].trim_end_matches('.');
        let stem = if stem.is_empty() { "source" } else { stem };
        Self(extension.map_or_else(|| stem.to_owned(), |extension| format!("{stem}.{extension}")))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for FileName {
    fn from(name: String) -> Self {
        Self::from_client(&name)
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_become_safe_and_keep_their_extension() {
        for (given, made) in [
            ("talk.mp3", "talk.mp3"),
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("a \"quoted\"\nname.pdf", "a__quoted__name.pdf"),
            ("smile 😀.png", "smile__.png"),
            (".hidden", "hidden"),
            ("...", "source"),
            ("", "source"),
            ("/", "source"),
            ("ends.with.", "ends.with"),
            ("résumé.docx", "r_sum_.docx"),
        ] {
            assert_eq!(FileName::from_client(given).as_str(), made, "{given:?}");
        }
        let cut_at_a_dot = FileName::from_client(&format!("{}.{}", "n".repeat(99), "m".repeat(17)));
        assert_eq!(cut_at_a_dot.as_str(), "n".repeat(99));
        let long = FileName::from_client(&format!("{}.tar.gz", "n".repeat(1000)));
        assert_eq!(long.as_str().len(), 100);
        assert!(long.as_str().ends_with(".gz"));
        assert_eq!(long.to_string(), String::from(long));
    }

    proptest! {
        #[test]
        fn any_name_becomes_safe_and_stays_as_it_is_the_second_time(name in ".*") {
            let made = FileName::from_client(&name);
            let text = made.as_str();
            prop_assert!((1..=LONGEST).contains(&text.len()));
            prop_assert!(!text.starts_with('.'));
            prop_assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)));
            prop_assert_eq!(FileName::from(text.to_owned()), made);
        }
    }
}
