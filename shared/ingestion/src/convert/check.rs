//! What a task must be before anything is asked of anybody.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use domain::ContentType;

use crate::{ConversionError, ConversionTask, Source, detect};

pub(super) async fn check(task: &ConversionTask) -> Result<(), ConversionError> {
    let id = &task.task_id;
    if !(1..=255).contains(&id.chars().count()) || id.chars().any(char::is_control) {
        let said = "A task's id must be 1 to 255 characters without control characters.";
        return Err(ConversionError::Invalid(said.to_owned()));
    }
    match &task.source {
        Source::File { path, .. } => file(path).await,
        Source::Url(url) => is_page(url, &task.content_type),
    }
}

async fn file(path: &Path) -> Result<(), ConversionError> {
    let at = |source| ConversionError::File { path: path.to_owned(), source };
    // Opened, because a file that is there may still not be readable.
    let file = tokio::fs::File::open(path).await.map_err(at)?;
    let metadata = file.metadata().await.map_err(at)?;
    if metadata.is_dir() {
        return Err(at(io::Error::from(ErrorKind::IsADirectory)));
    }
    if metadata.len() == 0 {
        return Err(ConversionError::Empty { path: path.to_owned() });
    }
    Ok(())
}

fn is_page(url: &str, content_type: &ContentType) -> Result<(), ConversionError> {
    if let Err(error) = detect::content_type_of_url(url) {
        return Err(ConversionError::Invalid(format!("{error}.")));
    }
    match content_type {
        ContentType::Web | ContentType::Youtube | ContentType::Custom(_) => Ok(()),
        ContentType::Audio | ContentType::Video | ContentType::Document | ContentType::Image => {
            Err(ConversionError::Invalid(format!(
                "A URL is converted as web, youtube or x-…, not as {content_type}; download the file first."
            )))
        }
    }
}
