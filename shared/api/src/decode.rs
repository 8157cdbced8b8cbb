//! Reading what callers send. `null` and `""` mean absent, unknown fields are ignored, known ones are checked.

use domain::InvalidValue;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{FieldProblem, Kind, Problem};

/// A request that is refused before any use case sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected(pub Box<Problem>);

impl Rejected {
    /// One field has a value that it cannot have.
    #[must_use]
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut problem = Problem::new(Kind::Invalid, format!("`{field}` {message}"));
        problem.errors.push(FieldProblem { field: field.to_owned(), message });
        Self(Box::new(problem))
    }
}

/// Reads a JSON object.
///
/// # Errors
/// 400 when the text is no JSON object, 422 with the field's path when a field does not fit.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Rejected> {
    let malformed = |detail: String| Rejected(Box::new(Problem::new(Kind::Malformed, detail)));
    // A call whose fields are all optional may come without a body.
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => typed(fields),
        Ok(_) => Err(malformed("The body must be a JSON object.".to_owned())),
        Err(error) => Err(malformed(format!(
            "The body is not valid JSON: {}.",
            // The position is worth telling, a piece of the caller's body in a log or an answer is not.
            match error.classify() {
                serde_json::error::Category::Eof => "it ends too early".to_owned(),
                serde_json::error::Category::Io
                | serde_json::error::Category::Syntax
                | serde_json::error::Category::Data =>
                    format!("see line {}, column {}", error.line(), error.column()),
            }
        ))),
    }
}

/// Reads a query string. Numbers, `true` and `false` are recognised, everything else is text.
///
/// # Errors
/// 422 with the parameter's name when it does not fit.
pub fn query<T: DeserializeOwned>(query: &str) -> Result<T, Rejected> {
    typed(
        form_urlencoded::parse(query.as_bytes())
            .map(|(name, text)| {
                let recognised = match &*text {
                    _ if is_textual(&name) => None,
                    "true" => Some(true.into()),
                    "false" => Some(false.into()),
                    text => text.parse::<u64>().ok().map(Value::from),
                };
                (name.into_owned(), recognised.unwrap_or_else(|| text.into_owned().into()))
            })
            .collect(),
    )
}

/// A worker or a task may be called `17`.
fn is_textual(name: &str) -> bool {
    matches!(
        name,
        "worker_id" | "content_types" | "content_type" | "ingestion_task_id" | "cursor" | "day" | "status"
    )
}

fn typed<T: DeserializeOwned>(mut fields: Map<String, Value>) -> Result<T, Rejected> {
    fields.retain(|_, value| !matches!(value, Value::Null) && value.as_str() != Some(""));
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        match missing_field(&message) {
            Some(field) => Rejected::field(field, "is missing"),
            None => Rejected::field(&path, wanted(&message)),
        }
    })
}

/// What a field must be, without the value that it is: that may be long, or a secret.
fn wanted(message: &str) -> String {
    let Some((_, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "f64" | "a JSON number" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        // What a type is called here means nothing to the caller.
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("must be {expected}")
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// A whole number that may be spelled as a float, as Python's `json` spells `75.0`.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a whole number in range"
    )]
    number
        .as_u64()
        .or_else(|| {
            number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=9e15).contains(n)).map(|n| n as u64)
        })
        .ok_or_else(|| {
            serde::de::Error::custom(InvalidValue("must be a whole number of 0 or more".to_owned()))
        })
}

/// An optional [`whole`].
pub(crate) fn maybe_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    whole(deserializer).map(Some)
}

/// A SHA-256 as 64 hexadecimal digits.
pub(crate) fn sha256<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut hash = [0; 32];
    hex::decode_to_slice(&text, &mut hash)
        .map_err(|_| serde::de::Error::custom("must be a SHA-256 as 64 hexadecimal digits"))?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Sample {
        worker_id: String,
        #[serde(default, deserialize_with = "maybe_whole")]
        max_jobs: Option<u64>,
    }

    fn detail(result: Result<Sample, Rejected>) -> (u16, String) {
        let Rejected(problem) = result.unwrap_err();
        (problem.status, problem.detail)
    }

    #[test]
    fn null_and_empty_mean_absent() {
        let read: Sample = json(br#"{"worker_id":"w","max_jobs":null,"unknown":[1]}"#).unwrap();
        assert_eq!(read, Sample { worker_id: "w".into(), max_jobs: None });
        assert_eq!(detail(json(br#"{"worker_id":""}"#)), (422, "`worker_id` is missing".into()));
        assert_eq!(detail(json(b" ")), (422, "`worker_id` is missing".into()));
    }

    #[test]
    fn malformed_json_is_400_and_never_quoted() {
        assert_eq!(
            detail(json(b"{\"secret")),
            (400, "The body is not valid JSON: it ends too early.".into())
        );
        assert_eq!(
            detail(json(b"{\"max_jobs\": NaN}")),
            (400, "The body is not valid JSON: see line 1, column 14.".into())
        );
        assert_eq!(detail(json(b"[]")), (400, "The body must be a JSON object.".into()));
    }

    #[test]
    fn a_wrong_type_is_422_and_names_the_field() {
        let (status, text) = detail(json(br#"{"worker_id":5}"#));
        assert_eq!(status, 422);
        assert!(text.starts_with("`worker_id` "), "{text}");
        for bad in ["1.5", "-1", "1e300", "true"] {
            let (status, text) = detail(json(format!(r#"{{"worker_id":"w","max_jobs":{bad}}}"#).as_bytes()));
            assert_eq!((status, text.starts_with("`max_jobs` ")), (422, true), "{bad}: {text}");
        }
        let float: Sample = json(br#"{"worker_id":"w","max_jobs":3.0}"#).unwrap();
        assert_eq!(float.max_jobs, Some(3));
    }

    #[test]
    fn a_query_reads_like_a_body() {
        let read: Sample = query("worker_id=17&max_jobs=2&other=%20").unwrap();
        assert_eq!(read, Sample { worker_id: "17".into(), max_jobs: Some(2) });
        assert_eq!(detail(query("max_jobs=2")), (422, "`worker_id` is missing".into()));
        assert!(detail(query("worker_id=w&max_jobs=two")).1.starts_with("`max_jobs` "));
    }
}
