use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::InvalidValue;

/// What a job's source is, which decides the queue it waits in and the converters that can take it.
///
/// Besides the six types of the original system there are custom ones, spelled `x-` and a name, for converters
/// that somebody adds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ContentType {
    /// Recorded sound.
    Audio,
    /// Moving pictures.
    Video,
    /// Text documents: PDF, Office, HTML, plain text.
    Document,
    /// Still pictures.
    Image,
    /// A web page, named by its URL.
    Web,
    /// A YouTube video, named by its URL.
    Youtube,
    /// A type of somebody's own, spelled with its `x-`.
    Custom(String),
}

impl ContentType {
    /// The types of the original system.
    pub const KNOWN: [Self; 6] =
        [Self::Audio, Self::Video, Self::Document, Self::Image, Self::Web, Self::Youtube];

    /// How the type is spelled on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Document => "document",
            Self::Image => "image",
            Self::Web => "web",
            Self::Youtube => "youtube",
            Self::Custom(name) => name,
        }
    }
}

impl FromStr for ContentType {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Some(known) = Self::KNOWN.into_iter().find(|known| known.as_str() == text) {
            return Ok(known);
        }
        let custom = text.strip_prefix("x-").is_some_and(|name| {
            (1..=48).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        });
        if custom {
            return Ok(Self::Custom(text.to_owned()));
        }
        Err(InvalidValue(
            "is not a content type: use audio, video, document, image, web, youtube, \
             or x- followed by 1 to 48 of a-z, 0-9 and -"
                .to_owned(),
        ))
    }
}

impl TryFrom<String> for ContentType {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<ContentType> for String {
    fn from(content_type: ContentType) -> Self {
        content_type.as_str().to_owned()
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_round_trip() {
        for text in ["audio", "video", "document", "image", "web", "youtube", "x-selftest-1"] {
            let parsed: ContentType = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
            assert_eq!(String::from(parsed), text);
        }
    }

    #[test]
    fn others_are_refused() {
        let long = format!("x-{}", "a".repeat(49));
        for text in ["", "Audio", "audios", "x-", "x-A", "x-a#b", "x-a b", long.as_str()] {
            assert!(ContentType::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
