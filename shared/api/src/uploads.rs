//! `POST /uploads` and `POST /{id}/result-upload`, with `/parts`, `/complete` and `/abort`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for a place to upload a source to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CreateUploadRequest {
    /// The file's name. Its extension survives; no path does.
    pub filename: String,
    /// Its size in bytes.
    #[serde(deserialize_with = "crate::decode::whole")]
    pub size_bytes: u64,
    /// Its SHA-256 as 64 hexadecimal digits.
    #[serde(deserialize_with = "crate::decode::sha256", serialize_with = "hex::serde::serialize")]
    #[schemars(with = "String")]
    pub sha256: [u8; 32],
}

/// Asks for a place to upload a large result to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CreateResultUploadRequest {
    /// The size in bytes of the result document, which is the JSON object `{content, metadata, processing_time}`.
    #[serde(deserialize_with = "crate::decode::whole")]
    pub size_bytes: u64,
    /// Its SHA-256 as 64 hexadecimal digits.
    #[serde(deserialize_with = "crate::decode::sha256", serialize_with = "hex::serde::serialize")]
    #[schemars(with = "String")]
    pub sha256: [u8; 32],
}

/// Where and how to upload. Exactly one of `put` and `multipart` is present, unless `uploaded` is true.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UploadResponse {
    /// The upload's id, for `/parts`, `/complete` and `/abort`.
    pub upload_id: String,
    /// What to name as `source_file_path` in the job, or as `result_key` in the result.
    pub source_file_path: String,
    /// True when the same bytes are already there, and nothing is left to upload.
    pub uploaded: bool,
    /// The whole file in one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put: Option<PresignedRequest>,
    /// The file in parts, which have URLs of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multipart: Option<Multipart>,
}

/// A request that needs no API key, for as long as it is valid. Its URL is a secret.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct PresignedRequest {
    /// The HTTP method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Headers that must be sent just as they are.
    pub headers: BTreeMap<String, String>,
    /// How long the request is valid.
    pub expires_in_seconds: u64,
}

impl std::fmt::Debug for PresignedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.url.split('?').next().unwrap_or_default();
        write!(f, "PresignedRequest({} {shown}?…)", self.method)
    }
}

/// How to cut a file into parts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Multipart {
    /// The object store's id of the upload, for `/parts`, `/complete` and `/abort`.
    pub multipart_upload_id: String,
    /// The size in bytes of every part but the last.
    pub part_size_bytes: u64,
    /// How many parts there are. They are numbered from 1.
    pub part_count: u32,
}

/// Asks for URLs of parts, up to [`SignPartsRequest::MOST_PARTS`] at a time. They can be asked for again at any time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignPartsRequest {
    /// As `POST /uploads` or `POST /{id}/result-upload` answered it.
    pub source_file_path: String,
    /// As answered there.
    pub multipart_upload_id: String,
    /// The parts.
    pub parts: Vec<PartToSign>,
}

impl SignPartsRequest {
    /// The most parts in one call.
    pub const MOST_PARTS: usize = 100;
}

/// A part to be uploaded.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PartToSign {
    /// From 1.
    #[serde(deserialize_with = "crate::decode::whole")]
    pub part_number: u64,
    /// The part's size in bytes.
    #[serde(deserialize_with = "crate::decode::whole")]
    pub size_bytes: u64,
    /// The part's SHA-256 as 64 hexadecimal digits.
    #[serde(deserialize_with = "crate::decode::sha256", serialize_with = "hex::serde::serialize")]
    #[schemars(with = "String")]
    pub sha256: [u8; 32],
}

/// URLs of parts, in the order they were asked for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignPartsResponse {
    /// One request for each part.
    pub parts: Vec<PresignedRequest>,
}

/// Puts the uploaded parts together.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CompleteUploadRequest {
    /// As `POST /uploads` or `POST /{id}/result-upload` answered it.
    pub source_file_path: String,
    /// As answered there.
    pub multipart_upload_id: String,
    /// Every part, in order.
    pub parts: Vec<UploadedPart>,
}

/// A part that was uploaded.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UploadedPart {
    /// From 1.
    #[serde(deserialize_with = "crate::decode::whole")]
    pub part_number: u64,
    /// The `ETag` header of the part's upload, quotes included.
    pub etag: String,
    /// The part's SHA-256, as it was signed.
    #[serde(deserialize_with = "crate::decode::sha256", serialize_with = "hex::serde::serialize")]
    #[schemars(with = "String")]
    pub sha256: [u8; 32],
}

/// The upload is complete.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CompleteUploadResponse {
    /// What to name in the job or the result.
    pub source_file_path: String,
    /// The whole size in bytes.
    pub size_bytes: u64,
}

/// Gives a multipart upload up.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AbortUploadRequest {
    /// As `POST /uploads` or `POST /{id}/result-upload` answered it.
    pub source_file_path: String,
    /// As answered there.
    pub multipart_upload_id: String,
}

/// The upload is gone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AbortUploadResponse {
    /// Always true.
    pub aborted: bool,
}
