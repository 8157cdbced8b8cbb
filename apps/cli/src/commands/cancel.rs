use api::manage::CancelRequest;
use clap::Args;
use client::retrying;

use super::{Each, Session, TRIES, tell_managed};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// The jobs' ids
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// The work goes on elsewhere; it is remembered for good, and a retry is refused from then on
    #[arg(long)]
    takeover: bool,
}

pub(crate) async fn run(session: &Session<'_>, args: &CancelArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let request = CancelRequest { takeover: args.takeover };
    let mut each = Each::of(session.output, &args.jobs);
    for job_id in &args.jobs {
        let cancelled = retrying(&TRIES, || client.cancel(job_id, &request)).await;
        if let Some(job) = each.note(job_id, cancelled.map_err(Failure::from))? {
            tell_managed(session.output, &job)?;
        }
    }
    each.end()
}
