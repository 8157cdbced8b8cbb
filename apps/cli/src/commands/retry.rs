use api::manage::ManageResponse;
use clap::Args;
use client::{Client, Error};
use domain::Status;

use super::{
    Session,
    bulk::{self, Action, Selection},
    repeating, tell_managed,
};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    selection: Selection,
}

const RETRY: Action = Action {
    verb: "retry",
    done: "retried",
    along: "",
    // Who cancelled a job does not want it, unless it is said.
    by_default: &[Status::Failed, Status::Timeout],
    admitted: &[Status::Failed, Status::Timeout, Status::Cancelled],
    asks_for_ids: false,
};

pub(crate) async fn run(session: &Session<'_>, args: &RetryArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let retry = async |job_id: &str| retry(&client, job_id).await;
    bulk::run(session, &client, &args.selection, &RETRY, retry, |job| tell_managed(session.output, job)).await
}

/// Retries a job. When the answer to it is lost, a second call is refused because the job waits or runs already.
async fn retry(client: &Client, job_id: &str) -> Result<ManageResponse, Error> {
    repeating(async || client.retry(job_id).await, |refused| waits_already(job_id, refused)).await
}

fn waits_already(job_id: &str, refused: &Error) -> Option<ManageResponse> {
    let Error::Refused { problem, .. } = refused else { return None };
    let status =
        problem.job_status.clone().filter(|status| matches!(status.as_str(), "pending" | "processing"))?;
    Some(ManageResponse { job_id: job_id.to_owned(), status, continued_by: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_waits_was_retried_by_the_call_whose_answer_was_lost() {
        let refused = |status: Option<&str>| {
            let mut problem = api::Problem::new(api::Kind::Refused, "d");
            problem.job_status = status.map(str::to_owned);
            Error::Refused { status: 409, problem: Box::new(problem), retry_after: None }
        };
        assert_eq!(waits_already("j", &refused(Some("pending"))).unwrap().status, "pending");
        assert!(waits_already("j", &refused(Some("completed"))).is_none());
        assert!(waits_already("j", &refused(None)).is_none());
    }
}
