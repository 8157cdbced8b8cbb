//! `pause` and `resume`.

use api::statistics::QueueResponse;
use clap::Args;
use client::{Client, Error, retrying};
use domain::ContentType;

use super::{Each, Session, TRIES};
use crate::{failure::Failure, filters::content_type};

#[derive(Args, Debug)]
pub(crate) struct QueuesArgs {
    /// The queues' content types: audio, video, document, image, web, youtube, or a custom type spelled x-…
    #[arg(required = true, value_name = "TYPE", value_parser = content_type)]
    types: Vec<ContentType>,
}

/// Pauses queues, or resumes them.
pub(crate) async fn run(session: &Session<'_>, args: &QueuesArgs, pause: bool) -> Result<(), Failure> {
    let client = session.client()?;
    let mut each = Each::of(session.output, &args.types);
    for content_type in &args.types {
        let set = retrying(&TRIES, || set(&client, content_type.as_str(), pause)).await;
        if let Some(queue) = each.note(content_type.as_str(), set.map_err(Failure::from))? {
            session.output.value(&queue)?;
            let now = if queue.paused { "paused; jobs wait and still time out" } else { "resumed" };
            session.output.line(&format!("{}  {now}", queue.content_type))?;
        }
    }
    each.end()
}

async fn set(client: &Client, content_type: &str, pause: bool) -> Result<QueueResponse, Error> {
    if pause { client.pause_queue(content_type).await } else { client.resume_queue(content_type).await }
}
