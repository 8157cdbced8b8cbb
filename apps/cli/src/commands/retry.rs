use clap::Args;

use super::{Each, Session, tell_managed};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct RetryArgs {
    /// The jobs' ids
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) async fn run(session: &Session<'_>, args: &RetryArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let mut each = Each::of(session.output, &args.jobs);
    for job_id in &args.jobs {
        // Tried once: when the answer to it is lost, a second one would be refused, and seem to have failed.
        let retried = client.retry(job_id).await;
        if let Some(job) = each.note(job_id, retried.map_err(Failure::from))? {
            tell_managed(session.output, &job)?;
        }
    }
    each.end()
}
