//! Takes files.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{
        FromRequest, Request,
        multipart::{Field, Multipart, MultipartError},
    },
};
use futures::{StreamExt, stream};
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
/// The most that is read ahead of the form's next field or chunk, in bytes: the parser keeps all of it in memory.
const LONGEST_AHEAD: usize = (1 << 20) + (512 << 10);
/// How long the next bytes are waited for.
const SILENCE: Duration = Duration::from_secs(60);
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

/// How far a body is read ahead of what the form's parser has made of it.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicUsize>);

impl Ahead {
    /// The same request, whose body ends with an error when it is read too far ahead. The parser reads as long as there is
    /// something, so there is a pause after each chunk.
    fn watch(&self, request: Request) -> Request {
        let ahead = self.clone();
        request.map(|body| {
            let begun = (body.into_data_stream(), ahead, false);
            Body::from_stream(stream::unfold(begun, |(mut chunks, ahead, pause)| async move {
                if pause {
                    tokio::task::yield_now().await;
                }
                let chunk = chunks.next().await?.and_then(|chunk| ahead.admit(chunk));
                Some((chunk, (chunks, ahead, true)))
            }))
        })
    }

    fn admit(&self, chunk: Bytes) -> Result<Bytes, axum::Error> {
        let read = self.0.fetch_add(chunk.len(), Ordering::Relaxed).saturating_add(chunk.len());
        if read <= LONGEST_AHEAD { Ok(chunk) } else { Err(axum::Error::new("read too far ahead")) }
    }

    /// What the parser comes to next, which is waited for so long and no longer.
    async fn next<T>(&self, read: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Refusal> {
        let come = tokio::time::timeout(SILENCE, read).await.map_err(|_| {
            let detail = format!("Nothing of the form came for {} s; send it again", SILENCE.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, detail)
        })?;
        match come {
            Ok(come) => {
                self.0.store(0, Ordering::Relaxed);
                Ok(come)
            }
            Err(_) if self.0.load(Ordering::Relaxed) > LONGEST_AHEAD => {
                let detail =
                    format!("What is before a field of the form is longer than {LONGEST_AHEAD} bytes");
                Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
            }
            Err(error) => Err(unreadable(&error)),
        }
    }
}

/// Reads a form with its file. Whatever goes wrong, nothing of the file is left.
pub(super) async fn read(
    request: Request,
    folder: &Folder,
    most: u64,
) -> Result<(Fields, Option<Upload>), Refusal> {
    let ahead = Ahead::default();
    let mut form = Multipart::from_request(ahead.watch(request), &()).await.map_err(|_| {
        Refusal::bad("No file provided: send it as field `file` of a form of type multipart/form-data")
    })?;
    let read = read_fields(&mut form, &ahead, folder, most).await;
    // Who was silent has nothing that could be read.
    if read.as_ref().is_err_and(|refusal| refusal.status != StatusCode::REQUEST_TIMEOUT) {
        // Nothing depends on how that goes.
        let _ = tokio::time::timeout(DRAIN, drain(&mut form, &ahead)).await;
    }
    read
}

async fn read_fields(
    form: &mut Multipart,
    ahead: &Ahead,
    folder: &Folder,
    most: u64,
) -> Result<(Fields, Option<Upload>), Refusal> {
    let (mut fields, mut upload, mut room) = (Fields::default(), None, LONGEST_FIELDS);
    for _ in 0..MOST_FIELDS {
        let Some(mut field) = ahead.next(form.next_field()).await? else {
            return Ok((fields, upload));
        };
        let name = field.name().unwrap_or_default().to_owned();
        match field.file_name().map(shown) {
            Some(file_name) if name == "file" && !file_name.is_empty() => {
                if upload.is_some() {
                    return Err(Refusal::bad("There are two files; send each in a request of its own"));
                }
                upload = Some(file(&mut field, ahead, folder, most, file_name).await?);
            }
            // A file without a name is none, as the original has it.
            _ => {
                let text = text(&mut field, ahead, &mut room).await?;
                fields.0.insert(name, Value::String(text));
            }
        }
    }
    Err(Refusal::bad(format!("The form has more than {MOST_FIELDS} fields")))
}

/// Reads a form without a file.
pub(super) async fn fields(request: Request) -> Result<Fields, Refusal> {
    let ahead = Ahead::default();
    let mut form = Multipart::from_request(ahead.watch(request), &())
        .await
        .map_err(|error| Refusal::bad(error.body_text()))?;
    let (mut fields, mut room) = (Fields::default(), LONGEST_FIELDS);
    while let Some(mut field) = ahead.next(form.next_field()).await? {
        let name = field.name().unwrap_or_default().to_owned();
        fields.0.insert(name, Value::String(text(&mut field, &ahead, &mut room).await?));
    }
    Ok(fields)
}

/// The last part of a name, as it may be shown and logged. It is never a path.
fn shown(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect::<String>().trim().to_owned()
}

async fn text(field: &mut Field<'_>, ahead: &Ahead, room: &mut usize) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = ahead.next(field.chunk()).await? {
        *room = room.checked_sub(chunk.len()).ok_or_else(|| {
            let detail = format!("The fields of the form are longer than {LONGEST_FIELDS} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        })?;
        bytes.extend_from_slice(&chunk);
    }
    let name = field.name().unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| Refusal::field(name, "must be text in UTF-8"))
}

async fn file(
    field: &mut Field<'_>,
    ahead: &Ahead,
    folder: &Folder,
    most: u64,
    name: String,
) -> Result<Upload, Refusal> {
    let mut incoming = folder.incoming().map_err(|error| Refusal::of_file(&error))?;
    let mut file = tokio::fs::File::from_std(incoming.take().map_err(|error| Refusal::of_file(&error))?);
    let mut size = 0;
    while let Some(chunk) = ahead.next(field.chunk()).await? {
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

fn unreadable(error: &MultipartError) -> Refusal {
    Refusal::new(error.status(), format!("The form cannot be read: {}", error.body_text()))
}

async fn drain(form: &mut Multipart, ahead: &Ahead) {
    while let Ok(Some(mut field)) = ahead.next(form.next_field()).await {
        while let Ok(Some(_)) = ahead.next(field.chunk()).await {}
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

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_falls_silent_is_given_up_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let begun = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.md\"\r\n\r\nbegins";
        for sent in [begun, "--b\r\ncontent-disposition", ""] {
            let sent = stream::iter([Ok::<_, io::Error>(sent)]).chain(stream::pending());
            let request = http::Request::post("/").header("content-type", "multipart/form-data; boundary=b");
            let request = request.body(Body::from_stream(sent)).unwrap();
            let refusal = read(request, &folder, 100).await.unwrap_err();
            assert_eq!(refusal.status, StatusCode::REQUEST_TIMEOUT);
            assert_eq!(std::fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
        }
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
