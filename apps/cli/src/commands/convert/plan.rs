use std::{
    io,
    path::{Path, PathBuf},
};

use domain::ContentType;
use ingestion::{RemoteSettings, Source, detect};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::ConvertArgs;
use crate::failure::Failure;

/// What is to be done with one file.
pub(super) struct Plan {
    pub(super) source: Source,
    pub(super) content_type: ContentType,
    pub(super) options: Map<String, Value>,
    /// Stands for the source's content and for how it is converted: the same whenever these are.
    pub(super) digest: String,
    /// Stands for the job, which another place or time limit would make another one.
    job: String,
}

impl Plan {
    pub(super) async fn of(
        source: &str,
        args: &ConvertArgs,
        settings: &RemoteSettings,
    ) -> Result<Self, Failure> {
        let content_type = content_type(source, args.content_type.as_ref())?;
        let options = sorted(args.options.iter().cloned().collect());
        let (source, content) = if detect::is_url(source) {
            (Source::Url(source.to_owned()), hex::encode(Sha256::digest(source)))
        } else {
            let path = PathBuf::from(source);
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content = hash(&path).await?;
            (Source::File { path, name }, content)
        };
        let name = match &source {
            Source::File { name, .. } => name.as_str(),
            Source::Url(_) => "",
        };
        let digest = digest(&json!([content, name, content_type, options]));
        let falls_back = !args.remote && !args.no_fallback;
        // Who forces it wants another job than the one that is there.
        let forced = args.force.then(Uuid::new_v4);
        let job = digest_of_job(&digest, falls_back, settings.timeout(&content_type).as_secs(), forced);
        Ok(Self { source, content_type, options, digest, job })
    }

    /// The id under which there is one upload and one job. Attempts count from 1.
    pub(super) fn task_id(&self, attempt: u32) -> String {
        format!("convert-{}-{attempt}", self.job)
    }
}

fn digest_of_job(digest: &str, falls_back: bool, run_seconds: u64, forced: Option<Uuid>) -> String {
    self::digest(&json!([digest, falls_back, run_seconds, forced]))
}

/// The type of a source, unless it is said.
fn content_type(source: &str, said: Option<&ContentType>) -> Result<ContentType, Failure> {
    match (detect::is_url(source), said) {
        (true, Some(page @ (ContentType::Web | ContentType::Youtube))) => Ok(page.clone()),
        (true, None) => Ok(detect::content_type_of_url(source)?),
        (true, Some(_)) => Err(Failure::Usage(
            "A URL is converted as a web page or a video: leave out --type, or give --type web or --type youtube; \
             download any other file first."
                .to_owned(),
        )),
        (false, Some(said)) => Ok(said.clone()),
        (false, None) => Ok(detect::content_type(Path::new(source))?),
    }
}

/// The options in the order of their names, as deep as they go, whatever order they were given in.
fn sorted(mut options: Map<String, Value>) -> Map<String, Value> {
    options.sort_keys();
    options.values_mut().for_each(Value::sort_all_objects);
    options
}

fn digest(value: &Value) -> String {
    hex::encode(Sha256::digest(value.to_string()))
}

/// The SHA-256 of a file's content, of which little is in memory.
pub(super) async fn hash(path: &Path) -> Result<String, Failure> {
    let file = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = Sha256::new();
        io::copy(&mut std::fs::File::open(file)?, &mut hasher)?;
        Ok(hex::encode(hasher.finalize()))
    });
    let hashed = hashing.await.map_err(io::Error::other).flatten();
    hashed.map_err(|source| Failure::File { path: path.to_owned(), source })
}
