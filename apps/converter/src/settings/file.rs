//! The settings file, with every value as it is written there.

use std::{fmt, path::Path};

use serde::{Deserialize, Deserializer, de};

use super::{
    SettingsError,
    names::{self, Name},
};

/// The values that a settings file gives, each once.
pub(super) struct File(pub(super) Vec<(&'static Name, List)>);

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, SettingsError> {
        let problem = |problem: String| SettingsError::File { path: path.to_owned(), problem };
        let text =
            std::fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
        // A snippet of the file in the message could show the key.
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| problem(format!("is not right: {error}")))
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = File;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings, each as `key: value`")
            }

            fn visit_unit<E: de::Error>(self) -> Result<File, E> {
                Ok(File(Vec::new()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
                let mut values = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let name = names::NAMES.iter().find(|name| name.key == key);
                    let name = name.ok_or_else(|| de::Error::custom(unknown(&key)))?;
                    let value = if name.is_list {
                        map.next_value::<Option<List>>()?
                    } else {
                        map.next_value::<Option<String>>()?.map(List::one)
                    };
                    values.extend(value.map(|value| (name, value)));
                }
                Ok(File(values))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

fn unknown(key: &str) -> String {
    let meant =
        names::nearest(key).map_or_else(String::new, |near| format!("; did you mean `{}`?", near.key));
    format!("unknown key `{key}`{meant}")
}

/// A list in the file, or one text with commas between its items.
pub(super) struct List(pub(super) Vec<String>);

impl List {
    pub(super) fn one(text: String) -> Self {
        Self(vec![text])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|text| text.trim().is_empty())
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or one text with commas between its items")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
                Ok(List::one(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(List(texts))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
