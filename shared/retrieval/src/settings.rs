use std::fmt;

use crate::http::Endpoint;

/// The collection, when no other is named.
const DEFAULT_COLLECTION: &str = "morag_documents";
const OPENAI_URL: &str = "https://api.openai.com/v1";
const OPENAI_MODEL: &str = "text-embedding-3-small";
const GEMINI_URL: &str = "https://generativelanguage.googleapis.com/v1beta";
const GEMINI_MODEL: &str = "gemini-embedding-001";
const LONGEST_COLLECTION: usize = 200;

/// Where documents are stored and how they are embedded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Qdrant's URL; without one the engine in this process is used.
    pub(crate) server: Option<Server>,
    /// The collection's name.
    pub(crate) collection: String,
    /// What makes vectors.
    pub(crate) provider: Provider,
}

/// A Qdrant server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) url: Endpoint,
    pub(crate) key: Option<Secret>,
}

/// What makes vectors.
#[derive(Debug, Clone)]
pub(crate) enum Provider {
    /// The words themselves.
    Lexical,
    /// A server that speaks OpenAI's interface.
    OpenAi(ServedModel),
    /// Gemini.
    Gemini(ServedModel),
}

/// A model and where it is served.
#[derive(Debug, Clone)]
pub(crate) struct ServedModel {
    pub(crate) base_url: Endpoint,
    pub(crate) model: String,
    pub(crate) key: Option<Secret>,
}

/// A key. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A setting that cannot be used. What is displayed names the variable and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} cannot be used: {reason}")]
pub struct SettingsError {
    variable: &'static str,
    reason: String,
}

impl Settings {
    /// Reads the settings by `get`, which is asked for variables by name; an empty value counts as none.
    ///
    /// | variable | what it sets | default |
    /// |---|---|---|
    /// | `QDRANT_URL` | a Qdrant server | the engine in this process |
    /// | `QDRANT_API_KEY` | its key | none |
    /// | `QDRANT_COLLECTION_NAME` | the collection | `morag_documents` |
    /// | `MORAG_EMBEDDING_PROVIDER` | `lexical`, `openai` or `gemini` | `lexical` |
    /// | `OPENAI_BASE_URL`, `OPENAI_EMBEDDING_MODEL`, `OPENAI_API_KEY` | the `openai` provider; the key may be left out where a server of your own asks for none | OpenAI's, `text-embedding-3-small` |
    /// | `GEMINI_BASE_URL`, `GEMINI_EMBEDDING_MODEL`, `GEMINI_API_KEY` | the `gemini` provider | Google's, `gemini-embedding-001` |
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for the first variable that cannot be used.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get =
            |variable| get(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        Ok(Self { server: server(&get)?, collection: collection(&get)?, provider: provider(&get)? })
    }
}

fn server(get: &impl Fn(&'static str) -> Option<String>) -> Result<Option<Server>, SettingsError> {
    let Some(url) = get("QDRANT_URL") else { return Ok(None) };
    Ok(Some(Server { url: http_url("QDRANT_URL", &url)?, key: secret(get, "QDRANT_API_KEY")? }))
}

fn collection(get: &impl Fn(&'static str) -> Option<String>) -> Result<String, SettingsError> {
    let name = get("QDRANT_COLLECTION_NAME").unwrap_or_else(|| DEFAULT_COLLECTION.to_owned());
    let fits = name.len() <= LONGEST_COLLECTION
        && !name.starts_with('.')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
    if !fits {
        return Err(SettingsError {
            variable: "QDRANT_COLLECTION_NAME",
            reason: format!(
                "give at most {LONGEST_COLLECTION} letters, digits, `-`, `_` and `.`, not beginning with `.`"
            ),
        });
    }
    Ok(name)
}

fn provider(get: &impl Fn(&'static str) -> Option<String>) -> Result<Provider, SettingsError> {
    let name = get("MORAG_EMBEDDING_PROVIDER").unwrap_or_else(|| "lexical".to_owned());
    match name.to_ascii_lowercase().as_str() {
        "lexical" => Ok(Provider::Lexical),
        "openai" => {
            let base = get("OPENAI_BASE_URL");
            let key = secret(get, "OPENAI_API_KEY")?;
            if base.is_none() && key.is_none() {
                return Err(key_needed("OPENAI_API_KEY"));
            }
            let base_url = http_url("OPENAI_BASE_URL", base.as_deref().unwrap_or(OPENAI_URL))?;
            let model = get("OPENAI_EMBEDDING_MODEL").unwrap_or_else(|| OPENAI_MODEL.to_owned());
            Ok(Provider::OpenAi(ServedModel { base_url, model, key }))
        }
        "gemini" => {
            let key = secret(get, "GEMINI_API_KEY")?.ok_or_else(|| key_needed("GEMINI_API_KEY"))?;
            let base_url =
                http_url("GEMINI_BASE_URL", get("GEMINI_BASE_URL").as_deref().unwrap_or(GEMINI_URL))?;
            let model = get("GEMINI_EMBEDDING_MODEL").unwrap_or_else(|| GEMINI_MODEL.to_owned());
            let model = model.strip_prefix("models/").unwrap_or(&model).to_owned();
            Ok(Provider::Gemini(ServedModel { base_url, model, key: Some(key) }))
        }
        _ => Err(SettingsError {
            variable: "MORAG_EMBEDDING_PROVIDER",
            reason: "give lexical, openai or gemini".to_owned(),
        }),
    }
}

fn key_needed(variable: &'static str) -> SettingsError {
    SettingsError { variable, reason: "the embedding provider needs a key; set it".to_owned() }
}

fn secret(
    get: &impl Fn(&'static str) -> Option<String>,
    variable: &'static str,
) -> Result<Option<Secret>, SettingsError> {
    match get(variable) {
        Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => Err(SettingsError {
            variable,
            reason: "it has a character that no key has; copy it again, without a line break".to_owned(),
        }),
        key => Ok(key.map(Secret)),
    }
}

fn http_url(variable: &'static str, text: &str) -> Result<Endpoint, SettingsError> {
    Endpoint::parse(text).ok_or_else(|| SettingsError {
        variable,
        reason: "give a URL such as http://localhost:6333".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_environment(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_is_the_engine_in_this_process_and_words() {
        let settings = read(&[("QDRANT_URL", " "), ("MORAG_EMBEDDING_PROVIDER", "")]).unwrap();
        assert!(settings.server.is_none());
        assert_eq!(settings.collection, "morag_documents");
        assert!(matches!(settings.provider, Provider::Lexical));
    }

    #[test]
    fn what_cannot_be_used_names_its_variable() {
        for (variables, named) in [
            (vec![("QDRANT_URL", "localhost:6333")], "QDRANT_URL"),
            (vec![("QDRANT_URL", "file:///tmp")], "QDRANT_URL"),
            (vec![("QDRANT_COLLECTION_NAME", "../up")], "QDRANT_COLLECTION_NAME"),
            (vec![("QDRANT_COLLECTION_NAME", "..")], "QDRANT_COLLECTION_NAME"),
            (vec![("MORAG_EMBEDDING_PROVIDER", "magic")], "MORAG_EMBEDDING_PROVIDER"),
            (vec![("MORAG_EMBEDDING_PROVIDER", "openai")], "OPENAI_API_KEY"),
            (vec![("MORAG_EMBEDDING_PROVIDER", "gemini")], "GEMINI_API_KEY"),
            (vec![("MORAG_EMBEDDING_PROVIDER", "gemini"), ("GEMINI_API_KEY", "a\nb")], "GEMINI_API_KEY"),
        ] {
            let refused = read(&variables).unwrap_err();
            assert_eq!(refused.variable, named);
            assert!(refused.to_string().contains(named));
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let settings = read(&[
            ("QDRANT_URL", "http://me:hidden-0@q:6333"),
            ("QDRANT_API_KEY", "hidden-1"),
            ("MORAG_EMBEDDING_PROVIDER", "OpenAI"),
            ("OPENAI_API_KEY", "hidden-2"),
        ])
        .unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("text-embedding-3-small"), "{shown}");
    }
}
