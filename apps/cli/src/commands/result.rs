use std::path::PathBuf;

use api::result::ResultDocument;
use clap::Args;
use client::retrying;

use super::{Session, TRIES, save};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct ResultArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    job: String,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The metadata as JSON instead of the Markdown
    #[arg(long)]
    metadata: bool,
}

pub(crate) async fn run(session: &Session<'_>, args: &ResultArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let document = retrying(&TRIES, || client.result(&args.job)).await?;
    let text = text(&document, args.metadata, session.output.is_json())?;
    let Some(path) = args.out.as_deref().filter(|path| path.as_os_str() != "-") else {
        return session.output.verbatim(&text);
    };
    save::whole(path, &text)?;
    session.output.note(&format!("Saved {}", path.display()));
    session.output.value(&serde_json::json!({"job_id": args.job, "saved": path}))
}

/// What was asked for: the document for programs, else the Markdown or the metadata.
fn text(document: &ResultDocument, metadata: bool, json: bool) -> Result<String, Failure> {
    let text = match (metadata, json) {
        (false, false) => return Ok(document.content.clone()),
        (false, true) => serde_json::to_string(document),
        (true, false) => serde_json::to_string_pretty(&document.metadata),
        (true, true) => serde_json::to_string(&document.metadata),
    };
    text.map_err(|error| Failure::Output(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_was_asked_for_is_written() {
        let document: ResultDocument =
            serde_json::from_str(r##"{"content":"# Text","metadata":{"language":"en"}}"##).unwrap();
        let of = |metadata, json| text(&document, metadata, json).unwrap();
        assert_eq!(of(false, false), "# Text");
        assert_eq!(of(true, false), "{\n  \"language\": \"en\"\n}");
        assert_eq!(of(true, true), r#"{"language":"en"}"#);
        assert_eq!(
            of(false, true),
            r##"{"content":"# Text","metadata":{"language":"en"},"processing_time":null}"##
        );
    }
}
