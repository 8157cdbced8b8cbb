//! The fields of a submission, as forms and JSON objects carry them. An empty field is one that is not there.

use domain::{ContentType, InvalidValue, WebhookUrl};
use retrieval::ChunkRules;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::refusal::Refusal;
use crate::{
    networks::Networks,
    task::{Source, Spec},
};

/// The longest `document_id`, in characters.
const LONGEST_ID: usize = 255;
/// The longest `metadata`, in bytes of JSON: every chunk carries it.
const LONGEST_METADATA: usize = 64 << 10;
/// The longest `remote_timeout`, a week in seconds.
const LONGEST_TIMEOUT: u64 = 7 * 24 * 3600;

/// What was sent: text from a form, anything from JSON.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Map<String, Value>);

/// What is wanted of a source.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) source_type: Option<ContentType>,
    document_id: Option<String>,
    replace_existing: bool,
    webhook_url: Option<WebhookUrl>,
    metadata: Map<String, Value>,
    use_docling: bool,
    chunk_size: Option<u64>,
    chunk_overlap: Option<u64>,
    chunking_strategy: Option<String>,
    pub(super) remote: bool,
    remote_timeout: Option<u64>,
    fallback_to_local: bool,
}

impl Fields {
    /// Reads all fields but the source itself. Those that are not known are left alone, as the original does.
    pub(super) fn read(&self, networks: &Networks) -> Result<Wanted, Refusal> {
        let wanted = Wanted {
            source_type: self.source_type()?,
            document_id: self.document_id()?,
            replace_existing: self.boolean("replace_existing", false)?,
            webhook_url: self.webhook_url(networks)?,
            metadata: self.metadata()?,
            use_docling: self.boolean("use_docling", false)?,
            chunk_size: self.number("chunk_size")?,
            chunk_overlap: self.number("chunk_overlap")?,
            chunking_strategy: self.text("chunking_strategy")?,
            remote: self.boolean("remote", false)?,
            remote_timeout: self.remote_timeout()?,
            fallback_to_local: self.boolean("fallback_to_local", true)?,
        };
        ChunkRules::new(wanted.chunk_size, wanted.chunk_overlap, wanted.chunking_strategy.as_deref())
            .map_err(|error| Refusal::new(http::StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
        Ok(wanted)
    }

    /// A field that is there and not empty.
    fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => true,
        })
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
            Some(_) => Err(Refusal::field(name, "must be a text")),
        }
    }

    /// As Python's clients write them: `True`, `true`, `1`, `yes`, `on`.
    fn boolean(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        let text = match self.given(name) {
            None => return Ok(default),
            Some(Value::Bool(value)) => return Ok(*value),
            Some(Value::String(text)) => text.trim().to_ascii_lowercase(),
            Some(other) => other.to_string(),
        };
        match text.as_str() {
            "true" | "1" | "yes" | "on" | "t" | "y" => Ok(true),
            "false" | "0" | "no" | "off" | "f" | "n" => Ok(false),
            _ => Err(Refusal::field(name, "must be true or false")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let number = match self.given(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(other) => other.as_u64(),
        };
        number.map(Some).ok_or_else(|| Refusal::field(name, "must be a whole number that is not negative"))
    }

    fn remote_timeout(&self) -> Result<Option<u64>, Refusal> {
        match self.number("remote_timeout")? {
            Some(seconds) if !(1..=LONGEST_TIMEOUT).contains(&seconds) => {
                Err(Refusal::field("remote_timeout", format!("must be 1 to {LONGEST_TIMEOUT} seconds")))
            }
            seconds => Ok(seconds),
        }
    }

    /// The original's usage calls it `content_type`, its service `source_type`.
    fn source_type(&self) -> Result<Option<ContentType>, Refusal> {
        for name in ["source_type", "content_type"] {
            if let Some(text) = self.text(name)? {
                let parsed = text.to_ascii_lowercase().parse();
                return parsed
                    .map(Some)
                    .map_err(|InvalidValue(rule)| Refusal::bad(format!("`{name}` {text:?} {rule}")));
            }
        }
        Ok(None)
    }

    fn document_id(&self) -> Result<Option<String>, Refusal> {
        let Some(id) = self.text("document_id")? else { return Ok(None) };
        if id.chars().count() > LONGEST_ID || id.chars().any(char::is_control) {
            let rule = format!("must be at most {LONGEST_ID} characters without control characters");
            return Err(Refusal::field("document_id", rule));
        }
        Ok(Some(id))
    }

    fn webhook_url(&self, networks: &Networks) -> Result<Option<WebhookUrl>, Refusal> {
        let Some(text) = self.text("webhook_url")? else { return Ok(None) };
        let refused = |InvalidValue(rule): InvalidValue| Refusal::field("webhook_url", rule);
        let url: WebhookUrl = text.parse().map_err(refused)?;
        networks.url(&url).map_err(refused)?;
        Ok(Some(url))
    }

    fn metadata(&self) -> Result<Map<String, Value>, Refusal> {
        let invalid = || Refusal::bad("Invalid metadata JSON");
        let value = match self.given("metadata") {
            None => return Ok(Map::new()),
            Some(Value::String(text)) if text.len() > LONGEST_METADATA => return Err(too_long()),
            Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| invalid())?,
            Some(other) if other.to_string().len() > LONGEST_METADATA => return Err(too_long()),
            Some(other) => other.clone(),
        };
        match value {
            Value::Object(metadata) => Ok(metadata),
            Value::Null => Ok(Map::new()),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(invalid()),
        }
    }
}

fn too_long() -> Refusal {
    Refusal::field("metadata", format!("must be at most {LONGEST_METADATA} bytes of JSON"))
}

impl Wanted {
    /// The task that this makes of a source.
    pub(super) fn spec(self, id: Uuid, source: Source, content_type: ContentType) -> Spec {
        Spec {
            source,
            content_type,
            options: self.options(),
            // A document without a name of its own is this task's.
            document_id: self.document_id.unwrap_or_else(|| id.to_string()),
            replace_existing: self.replace_existing,
            webhook_url: self.webhook_url,
            metadata: self.metadata,
            chunk_size: self.chunk_size,
            chunk_overlap: self.chunk_overlap,
            chunking_strategy: self.chunking_strategy,
            remote: self.remote,
            remote_timeout: self.remote_timeout,
            fallback_to_local: self.fallback_to_local,
        }
    }

    /// What concerns a converter. The task's own webhook and metadata are nobody else's business.
    fn options(&self) -> Map<String, Value> {
        let mut options = Map::new();
        if self.use_docling {
            options.insert("use_docling".to_owned(), true.into());
        }
        let sizes = [("chunk_size", self.chunk_size), ("chunk_overlap", self.chunk_overlap)];
        options.extend(sizes.into_iter().filter_map(|(name, size)| Some((name.to_owned(), size?.into()))));
        if let Some(strategy) = &self.chunking_strategy {
            options.insert("chunking_strategy".to_owned(), strategy.clone().into());
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(fields: Value) -> Result<Wanted, Refusal> {
        let Value::Object(fields) = fields else { panic!("no object") };
        Fields(fields).read(&Networks::loopback())
    }

    #[test]
    fn defaults_are_the_originals() {
        let id = Uuid::now_v7();
        let spec = read(json!({})).unwrap().spec(id, Source::Url(String::new()), ContentType::Web);
        assert_eq!(spec.document_id, id.to_string());
        assert!(!spec.replace_existing && !spec.remote && spec.fallback_to_local);
        assert_eq!((spec.chunk_size, spec.chunk_overlap, spec.chunking_strategy), (None, None, None));
        assert!(spec.metadata.is_empty() && spec.options.is_empty() && spec.remote_timeout.is_none());
    }

    #[test]
    fn booleans_are_read_as_python_clients_write_them() {
        for (text, value) in [
            (json!("True"), true),
            (json!("true"), true),
            (json!("1"), true),
            (json!(" YES "), true),
            (json!("on"), true),
            (json!(true), true),
            (json!(1), true),
            (json!("False"), false),
            (json!("0"), false),
            (json!("no"), false),
            (json!("Off"), false),
            (json!(false), false),
        ] {
            assert_eq!(
                read(json!({"remote": text, "fallback_to_local": text})).unwrap().remote,
                value,
                "{text}"
            );
        }
        assert!(read(json!({"fallback_to_local": ""})).unwrap().fallback_to_local);
        for name in ["remote", "replace_existing", "use_docling", "fallback_to_local"] {
            for wrong in [json!("perhaps"), json!(2), json!("None"), json!([])] {
                let refusal = read(json!({name: wrong})).unwrap_err();
                assert_eq!(refusal, Refusal::field(name, "must be true or false"));
            }
        }
    }

    #[test]
    fn numbers_are_whole_or_absent() {
        let wanted =
            read(json!({"chunk_size": " 1000 ", "chunk_overlap": 100, "remote_timeout": ""})).unwrap();
        assert_eq!(
            (wanted.chunk_size, wanted.chunk_overlap, wanted.remote_timeout),
            (Some(1000), Some(100), None)
        );
        for name in ["chunk_size", "chunk_overlap", "remote_timeout"] {
            for wrong in [json!("many"), json!("-1"), json!(-1), json!("1.5"), json!(1.5), json!(true)] {
                let refusal = read(json!({name: wrong})).unwrap_err();
                assert_eq!(refusal.status, 422);
                assert!(refusal.detail.starts_with(&format!("`{name}` must be")), "{}", refusal.detail);
            }
        }
        for wrong in [0, LONGEST_TIMEOUT + 1] {
            assert_eq!(read(json!({"remote_timeout": wrong})).unwrap_err().status, 422);
        }
    }

    #[test]
    fn impossible_chunks_name_their_field() {
        for (fields, name) in [
            (json!({"chunk_size": 0}), "chunk_size"),
            (json!({"chunk_size": 100, "chunk_overlap": 100}), "chunk_overlap"),
            (json!({"chunking_strategy": "astrology"}), "chunking_strategy"),
        ] {
            let refusal = read(fields).unwrap_err();
            assert_eq!(refusal.status, 422);
            assert!(refusal.detail.contains(name), "{}", refusal.detail);
        }
    }

    #[test]
    fn metadata_is_an_object() {
        let metadata =
            |value: Value| read(json!({"metadata": value})).map(|wanted| Value::Object(wanted.metadata));
        assert_eq!(metadata(json!("{\"a\": [1]}")), Ok(json!({"a": [1]})));
        assert_eq!(metadata(json!({"a": 1})), Ok(json!({"a": 1})));
        assert_eq!(metadata(json!("null")), Ok(json!({})));
        for wrong in [json!("{"), json!("[]"), json!("3"), json!("{'a': 1}"), json!([1])] {
            assert_eq!(metadata(wrong), Err(Refusal::bad("Invalid metadata JSON")));
        }
        assert_eq!(metadata(json!({"a": "x".repeat(70_000)})).unwrap_err().status, 422);
    }

    #[test]
    fn a_type_may_be_called_either_name() {
        assert_eq!(read(json!({"content_type": "Audio"})).unwrap().source_type, Some(ContentType::Audio));
        let both = read(json!({"content_type": "audio", "source_type": "video"})).unwrap();
        assert_eq!(both.source_type, Some(ContentType::Video));
        let refusal = read(json!({"source_type": "painting"})).unwrap_err();
        assert_eq!(refusal.status, 400);
        assert!(refusal.detail.starts_with("`source_type` \"painting\" is not a content type: use audio"));
    }

    #[test]
    fn ids_and_webhooks_are_checked() {
        assert_eq!(read(json!({"document_id": "x".repeat(256)})).unwrap_err().status, 422);
        assert_eq!(read(json!({"document_id": "a\nb"})).unwrap_err().status, 422);
        assert_eq!(
            read(json!({"document_id": "Ü".repeat(255)})).unwrap().document_id.unwrap().chars().count(),
            255
        );
        for wrong in ["ftp://x", "http://10.0.0.1/", "https://user:pw@x/"] {
            let refusal = read(json!({"webhook_url": wrong})).unwrap_err();
            assert!(refusal.status == 422 && refusal.detail.starts_with("`webhook_url` "), "{wrong}");
        }
        assert!(read(json!({"webhook_url": "http://127.0.0.1:9/x"})).unwrap().webhook_url.is_some());
    }
}
