//! `GET /poll` and `POST /poll`: a worker asks for work.

use domain::ContentType;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::{Map, Value};

/// What a worker takes. As a query, `content_types` is a comma-separated list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PollRequest {
    /// What the worker calls itself.
    pub worker_id: String,
    /// The types it converts.
    #[serde(deserialize_with = "content_types")]
    #[schemars(with = "Vec<String>")]
    pub content_types: Vec<ContentType>,
    /// The most jobs it takes now, 1 to 100. By default 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub max_jobs: Option<u64>,
    /// How long a lease lasts without a heartbeat, 20 to 3600. By default 60. A GET without it is taken for a client
    /// of the original system: it gets one job, no lease token, and a lease that lasts the whole run timeout.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub lease_seconds: Option<u64>,
    /// How long to wait for work when there is none, at most 20. By default 0.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub wait_seconds: Option<u64>,
    /// How long it is since the worker last had a job. A server that holds no call open lets a worker that says so wait the
    /// longer the longer it has been idle.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::decode::maybe_whole"
    )]
    pub idle_seconds: Option<u64>,
    /// Whether the worker can wait for a hint that there is work, at the `hint_url` of the answer. By default not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hints: bool,
    /// What program the worker is, as `product/version`. By default what its `User-Agent` header begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether the worker has just started, so that it is known again at once after a goodbye. By default not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starting: bool,
}

/// A worker asks the index once for each type.
const MOST_CONTENT_TYPES: usize = 32;

fn content_types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ContentType>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a list of content types, or one string with commas between them")]
    enum Spelled {
        List(Vec<String>),
        Commas(String),
    }
    let names = match Spelled::deserialize(deserializer)? {
        Spelled::List(names) => names,
        Spelled::Commas(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    if names.len() > MOST_CONTENT_TYPES {
        return Err(D::Error::custom(format!("must name at most {MOST_CONTENT_TYPES} content types")));
    }
    let mut types = Vec::new();
    for name in names.iter().filter(|name| !name.is_empty()) {
        let parsed: ContentType =
            name.parse().map_err(|error| D::Error::custom(format!("names {name:?}, which {error}")))?;
        if !types.contains(&parsed) {
            types.push(parsed);
        }
    }
    if types.is_empty() {
        return Err(D::Error::custom("must name at least one content type"));
    }
    Ok(types)
}

/// A job, or nulls when there is none. The first four fields are all that a client of the original system gets.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PollResponse {
    /// The job's id.
    pub job_id: Option<String>,
    /// The path under this server that redirects to the source.
    pub source_file_url: Option<String>,
    /// What the source is.
    pub content_type: Option<String>,
    /// The creator's options.
    pub task_options: Option<Map<String, Value>>,
    /// The lease, for workers that know leases.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseGrant>,
    /// All jobs claimed, the first one included, when `max_jobs` was more than 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Vec<ClaimedJob>>,
    /// When to ask again, when there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_again_in_seconds: Option<u64>,
    /// Where to wait until then, for workers that can, where the server has such a place.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub hint: Option<HintGrant>,
}

/// Where an idle worker learns that it is worth while to ask again before its time.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct HintGrant {
    /// A presigned GET that is held open for up to 20 seconds, to be repeated. Its answer names a message
    /// (`ReceiveMessage` of Amazon SQS) when there may be work. A secret.
    pub hint_url: String,
    /// How long the URL is valid.
    pub hint_url_expires_in_seconds: u64,
}

impl std::fmt::Debug for HintGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HintGrant").field("hint_url", &"…").finish_non_exhaustive()
    }
}

/// One of several jobs claimed at once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ClaimedJob {
    /// The job's id.
    pub job_id: String,
    /// The path under this server that redirects to the source.
    pub source_file_url: String,
    /// What the source is.
    pub content_type: String,
    /// The creator's options.
    pub task_options: Map<String, Value>,
    /// The lease.
    #[serde(flatten)]
    pub lease: LeaseGrant,
}

/// What a worker needs to keep a job and to do it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct LeaseGrant {
    /// Proves the lease, in the header `Lease-Token`. A secret.
    pub lease_token: String,
    /// Which attempt this is, from 1.
    pub attempt: u64,
    /// When the lease ends unless the worker is heard of before.
    pub lease_expires_in_seconds: u64,
    /// How often to report.
    pub report_every_seconds: u64,
    /// How long the attempt may run.
    pub run_timeout_seconds: u64,
    /// The source.
    pub download: Download,
}

impl std::fmt::Debug for LeaseGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseGrant")
            .field("attempt", &self.attempt)
            .field("lease_token", &"…")
            .finish_non_exhaustive()
    }
}

/// The source, and how to check it. `GET /{id}/download` mints a new URL at any time.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Download {
    /// A presigned GET. A secret.
    pub url: String,
    /// The name to store it under.
    pub filename: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its SHA-256 as 64 hexadecimal digits, where the uploader declared one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its ETag, to resume with `If-Match`.
    pub etag: String,
    /// How long the URL is valid.
    pub expires_in_seconds: u64,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(text: &str) -> Result<Vec<String>, String> {
        crate::query::<PollRequest>(&format!("worker_id=w&content_types={text}"))
            .map(|request| request.content_types.iter().map(ToString::to_string).collect())
            .map_err(|rejected| rejected.0.detail)
    }

    #[test]
    fn content_types_are_a_list_or_have_commas_between_them() {
        assert_eq!(types("audio,%20video,audio,").unwrap(), ["audio", "video"]);
        assert_eq!(types("").unwrap_err(), "`content_types` is missing");
        assert_eq!(types(",").unwrap_err(), "`content_types` must name at least one content type");
        assert!(
            types("audio,music").unwrap_err().starts_with("`content_types` names \"music\", which is not a")
        );
        let request: PollRequest = crate::json(br#"{"worker_id":"w","content_types":["image"]}"#).unwrap();
        assert_eq!(request.content_types, [ContentType::Image]);
        assert!(crate::json::<PollRequest>(br#"{"worker_id":"w","content_types":[]}"#).is_err());
        assert!(crate::json::<PollRequest>(br#"{"worker_id":"w","content_types":[1]}"#).is_err());
    }

    #[test]
    fn hints_are_asked_for_by_a_query_and_by_a_body() {
        let asked: PollRequest =
            crate::query("worker_id=true&content_types=audio&hints=true&idle_seconds=7").unwrap();
        assert_eq!((asked.hints, asked.idle_seconds, asked.worker_id.as_str()), (true, Some(7), "true"));
        let asked: PollRequest = crate::json(br#"{"worker_id":"w","content_types":["image"]}"#).unwrap();
        assert!(!asked.hints && asked.idle_seconds.is_none());
        let wrong = crate::query::<PollRequest>("worker_id=w&content_types=audio&hints=yes").unwrap_err();
        assert_eq!(wrong.0.detail, "`hints` must be a boolean");
    }

    #[test]
    fn a_hint_url_is_never_shown() {
        let hint = HintGrant { hint_url: "https://q/?secret".to_owned(), hint_url_expires_in_seconds: 900 };
        let answer = PollResponse { hint: Some(hint), ..PollResponse::default() };
        assert!(!format!("{answer:?}").contains("secret"));
        let read: PollResponse = serde_json::from_str(&serde_json::to_string(&answer).unwrap()).unwrap();
        assert_eq!(read.hint.unwrap().hint_url, "https://q/?secret");
    }

    #[test]
    fn no_work_is_four_nulls() {
        let empty = serde_json::to_string(&PollResponse::default()).unwrap();
        assert_eq!(
            empty,
            r#"{"job_id":null,"source_file_url":null,"content_type":null,"task_options":null}"#
        );
    }
}
