//! `POST /api/v1/ingest/file` and `POST /api/v1/ingest/url`.

use std::{path::Path, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request, State},
};
use domain::{ContentType, FileName};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use ingestion::detect::{self, DetectError};
use serde::Serialize;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::{
    Site,
    form::{Fields, Wanted},
    refusal::Refusal,
    upload::{self, Upload},
};
use crate::task::Source;

/// The longest URL, in characters.
const LONGEST_URL: usize = 2000;

/// What a submission is answered.
#[derive(Debug, Serialize)]
pub(super) struct Accepted {
    task_id: Uuid,
    status: &'static str,
    message: String,
}

pub(super) async fn file(State(site): State<Arc<Site>>, request: Request) -> Result<Json<Accepted>, Refusal> {
    let folder = &site.pipeline.parts().folder;
    let (fields, upload) = upload::read(request, folder, site.max_upload_bytes).await?;
    let wanted = fields.read(&site.networks)?;
    let Some(Upload { incoming, name, size }) = upload else {
        return Err(Refusal::bad("No file provided"));
    };
    let content_type = type_of_file(&wanted, &name, incoming.path())?;
    let message = message("File", &name, wanted.remote);
    let id = Uuid::now_v7();
    let spec = wanted.spec(id, Source::File { name, size }, content_type);
    site.pipeline.accept(id, spec, Some(incoming)).await?;
    tracing::info!(task = %id, "a file is accepted");
    Ok(accepted(id, message))
}

pub(super) async fn url(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Accepted>, Refusal> {
    let fields = fields(&headers, request).await?;
    let wanted = fields.read(&site.networks)?;
    let Some(url) = fields.text("url")? else { return Err(Refusal::bad("No URL provided")) };
    if url.chars().count() > LONGEST_URL {
        return Err(Refusal::field("url", format!("must be at most {LONGEST_URL} characters")));
    }
    let (parsed, found) = page(&url)?;
    let content_type = type_of_url(&wanted, found)?;
    let message = message("URL", &url, wanted.remote);
    let id = Uuid::now_v7();
    let spec = wanted.spec(id, Source::Url(parsed.to_string()), content_type);
    site.pipeline.accept(id, spec, None).await?;
    // What follows the host may be a secret, as the links are that somebody shares.
    tracing::info!(task = %id, scheme = parsed.scheme(), host = parsed.host_str(), "a URL is accepted");
    Ok(accepted(id, message))
}

/// A URL as it is kept, and what it leads to. Whoever reads the task would read a password in it, and converters do not
/// take any.
fn page(text: &str) -> Result<(Url, ContentType), Refusal> {
    let no_page = || Refusal::field("url", "must begin with http:// or https:// and name a host");
    let found = detect::content_type_of_url(text).map_err(|_| no_page())?;
    let url = Url::parse(text).map_err(|_| no_page())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::field("url", "must not have a user name or a password"));
    }
    Ok((url, found))
}

fn accepted(task_id: Uuid, message: String) -> Json<Accepted> {
    Json(Accepted { task_id, status: "pending", message })
}

fn message(kind: &str, name: &str, remote: bool) -> String {
    let how = if remote { "remote" } else { "local" };
    format!("{kind} '{name}' queued for {how} processing and ingestion")
}

/// The fields of a form of either type, or of a JSON object.
async fn fields(headers: &HeaderMap, request: Request) -> Result<Fields, Refusal> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("multipart/form-data") {
        return upload::fields(request).await;
    }
    let body = Bytes::from_request(request, &())
        .await
        .map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    if kind.starts_with("application/x-www-form-urlencoded") {
        let pairs = url::form_urlencoded::parse(&body);
        let text = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
            (name.into_owned(), Value::String(value.into_owned()))
        };
        return Ok(Fields(pairs.map(text).collect()));
    }
    match serde_json::from_slice(&body) {
        Ok(Value::Object(fields)) => Ok(Fields(fields)),
        _ => Err(Refusal::bad("The body must be a form or a JSON object with the field `url`")),
    }
}

/// What a file is: what its sender says, else what its name, else what its first bytes say.
fn type_of_file(wanted: &Wanted, name: &str, path: &Path) -> Result<ContentType, Refusal> {
    if let Some(said) = &wanted.source_type {
        return match said {
            ContentType::Web | ContentType::Youtube => Err(Refusal::bad(format!(
                "`source_type` {said} is for URLs; post them to /api/v1/ingest/url"
            ))),
            _ => Ok(said.clone()),
        };
    }
    let unknown = || {
        let detail = format!(
            "It cannot be told what '{name}' is; say it with `source_type`: audio, video, document or image, or a \
             custom type spelled x-…"
        );
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    };
    // A name beside the file, with the extension that the sender gave it and nothing else of the sender's.
    let safe = FileName::from_client(name);
    let beside = Path::new(safe.as_str()).extension().map(|extension| path.with_extension(extension));
    let by_name = beside.and_then(|beside| detect::content_type(&beside).ok());
    match by_name.map_or_else(|| detect::content_type(path), Ok) {
        Ok(found) => Ok(found),
        Err(DetectError::File { source, .. }) => Err(Refusal::of_file(&source)),
        Err(DetectError::Unknown { .. } | DetectError::NoUrl { .. }) => Err(unknown()),
    }
}

fn type_of_url(wanted: &Wanted, found: ContentType) -> Result<ContentType, Refusal> {
    match &wanted.source_type {
        None => Ok(found),
        Some(said @ (ContentType::Web | ContentType::Youtube | ContentType::Custom(_))) => Ok(said.clone()),
        Some(said) => Err(Refusal::bad(format!(
            "`source_type` {said} is for files; a URL is web or youtube, or a custom type spelled x-…"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_kept_as_everybody_spells_it() {
        let kept = |text| page(text).unwrap().0.to_string();
        assert_eq!(kept("HTTPS://Example.com"), "https://example.com/");
        assert_eq!(kept("http://example.com:80/a?b=C"), "http://example.com/a?b=C");
    }

    #[test]
    fn a_url_with_a_password_is_refused_by_its_fields_name() {
        for text in ["https://me:secret@example.com/", "https://me@example.com/", "https://:x@example.com/"] {
            let refusal = page(text).unwrap_err();
            assert_eq!(refusal, Refusal::field("url", "must not have a user name or a password"));
        }
    }
}
