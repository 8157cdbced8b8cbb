use api::{Kind, manage::DeleteResponse};
use clap::Args;
use client::{Client, Error};
use domain::Status;

use super::{
    Session,
    bulk::{self, Action, Selection},
    repeating,
};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    selection: Selection,
}

const ENDED: &[Status] = &[Status::Completed, Status::Failed, Status::Timeout, Status::Cancelled];

const DELETE: Action = Action {
    verb: "delete",
    done: "deleted",
    along: " with all files",
    by_default: ENDED,
    admitted: ENDED,
    asks_for_ids: true,
};

pub(crate) async fn run(session: &Session<'_>, args: &DeleteArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let delete = async |job_id: &str| delete(&client, job_id).await;
    bulk::run(session, &client, &args.selection, &DELETE, delete, |job| tell(session, job)).await
}

/// Deletes a job. When the answer to it is lost, a second call finds no job any more.
async fn delete(client: &Client, job_id: &str) -> Result<DeleteResponse, Error> {
    let gone = |error: &Error| {
        let gone = DeleteResponse { job_id: job_id.to_owned(), deleted_objects: 0 };
        (error.kind() == Some(Kind::NotFound)).then_some(gone)
    };
    repeating(async || client.delete_job(job_id).await, gone).await
}

fn tell(session: &Session<'_>, job: &DeleteResponse) -> Result<(), Failure> {
    session.output.value(job)?;
    let files = match job.deleted_objects {
        0 => String::new(),
        1 => " with a file".to_owned(),
        several => format!(" with {several} files"),
    };
    session.output.line(&format!("{}  deleted{files}", job.job_id))
}
