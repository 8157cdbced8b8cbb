//! Takes files.

use std::{io, time::Duration};

use axum::{
    body::Bytes,
    extract::multipart::{Field, Multipart, MultipartError},
};
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{form::Fields, refusal::Refusal};
use crate::folder::{Folder, Incoming};

/// The longest of all other fields together, in bytes, and the most of them.
const LONGEST_FIELDS: usize = 1 << 20;
const MOST_FIELDS: usize = 100;
/// The longest name of a file that is remembered, in characters.
const LONGEST_NAME: usize = 255;
/// How long what is not wanted is read on, so that its sender hears the answer instead of a connection that breaks.
const DRAIN: Duration = Duration::from_secs(5);

/// A file that has arrived whole and survives a power cut once it is kept.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) incoming: Incoming,
    /// What its sender called it, without the folders.
    pub(super) name: String,
    pub(super) size: u64,
}

/// Reads a form with its file. Whatever goes wrong, nothing of the file is left.
pub(super) async fn read(
    mut form: Multipart,
    folder: &Folder,
    most: u64,
) -> Result<(Fields, Option<Upload>), Refusal> {
    let read = read_fields(&mut form, folder, most).await;
    if read.is_err() {
        // Nothing depends on how that goes.
        let _ = tokio::time::timeout(DRAIN, drain(&mut form)).await;
    }
    read
}

async fn read_fields(
    form: &mut Multipart,
    folder: &Folder,
    most: u64,
) -> Result<(Fields, Option<Upload>), Refusal> {
    let (mut fields, mut upload, mut room) = (Fields::default(), None, LONGEST_FIELDS);
    for _ in 0..MOST_FIELDS {
        let Some(mut field) = form.next_field().await.map_err(unreadable)? else {
            return Ok((fields, upload));
        };
        let name = field.name().unwrap_or_default().to_owned();
        match field.file_name().map(shown) {
            Some(file_name) if name == "file" && !file_name.is_empty() => {
                if upload.is_some() {
                    return Err(Refusal::bad("There are two files; send each in a request of its own"));
                }
                upload = Some(file(&mut field, folder, most, file_name).await?);
            }
            // A file without a name is none, as the original has it.
            _ => {
                let text = text(&mut field, &mut room).await?;
                fields.0.insert(name, Value::String(text));
            }
        }
    }
    Err(Refusal::bad(format!("The form has more than {MOST_FIELDS} fields")))
}

/// Reads a form without a file.
pub(super) async fn fields(mut form: Multipart) -> Result<Fields, Refusal> {
    let (mut fields, mut room) = (Fields::default(), LONGEST_FIELDS);
    while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
        let name = field.name().unwrap_or_default().to_owned();
        fields.0.insert(name, Value::String(text(&mut field, &mut room).await?));
    }
    Ok(fields)
}

/// The last part of a name, as it may be shown and logged. It is never a path.
fn shown(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect::<String>().trim().to_owned()
}

async fn text(field: &mut Field<'_>, room: &mut usize) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
        *room = room.checked_sub(chunk.len()).ok_or_else(|| {
            let detail = format!("The fields of the form are longer than {LONGEST_FIELDS} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        })?;
        bytes.extend_from_slice(&chunk);
    }
    let name = field.name().unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| Refusal::field(name, "must be text in UTF-8"))
}

async fn file(field: &mut Field<'_>, folder: &Folder, most: u64, name: String) -> Result<Upload, Refusal> {
    let mut incoming = folder.incoming().map_err(|error| Refusal::of_file(&error))?;
    let mut file = tokio::fs::File::from_std(incoming.take().map_err(|error| Refusal::of_file(&error))?);
    let mut size = 0;
    while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
        size += chunk.len() as u64;
        if size > most {
            return Err(Refusal::too_large(most));
        }
        write(&mut file, &chunk).await?;
    }
    if size == 0 {
        return Err(Refusal::bad("The file is empty"));
    }
    finish(file).await?;
    Ok(Upload { incoming, name, size })
}

async fn write(file: &mut (impl AsyncWrite + Unpin), chunk: &Bytes) -> Result<(), Refusal> {
    file.write_all(chunk).await.map_err(|error| Refusal::of_file(&error))
}

/// Makes what was written durable. The last write may fail only here.
async fn finish(mut file: tokio::fs::File) -> Result<(), Refusal> {
    let finished: io::Result<()> = async {
        file.flush().await?;
        file.sync_all().await
    }
    .await;
    finished.map_err(|error| Refusal::of_file(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn unreadable(error: MultipartError) -> Refusal {
    Refusal::new(error.status(), format!("The form cannot be read: {}", error.body_text()))
}

async fn drain(form: &mut Multipart) {
    while let Ok(Some(mut field)) = form.next_field().await {
        while let Ok(Some(_)) = field.chunk().await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_without_folders_and_control_characters() {
        for (given, made) in [
            ("talk.mp3", "talk.mp3"),
            ("../../etc/passwd", "passwd"),
            ("C:\\docs\\Bericht Ü.pdf", "Bericht Ü.pdf"),
            ("a\nb\u{0}.txt", "ab.txt"),
            ("..", ".."),
            ("/", ""),
        ] {
            assert_eq!(shown(given), made);
        }
        assert_eq!(shown(&"n".repeat(1000)).len(), LONGEST_NAME);
    }

    #[tokio::test]
    async fn a_full_disk_is_told() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut file = tokio::fs::File::from_std(full);
        let first = write(&mut file, &Bytes::from_static(b"bytes")).await;
        let told = match first {
            Ok(()) => finish(file).await,
            refused => refused,
        };
        assert_eq!(told.unwrap_err().status, StatusCode::INSUFFICIENT_STORAGE);
    }
}
