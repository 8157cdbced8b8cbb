use clap::Args;
use futures::future::join_all;

use super::{Each, Session};
use crate::{
    failure::Failure,
    follow::{self, Pace},
};

#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    /// The jobs' ids
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) async fn run(session: &Session<'_>, args: &WatchArgs) -> Result<(), Failure> {
    let client = session.client()?;
    session.jobs_go_on(&args.jobs);
    let tell = |job: &api::status::StatusResponse| {
        session.output.value(job)?;
        session.output.line(&follow::line(job))
    };
    let pace = Pace::of(args.jobs.len(), session.output.is_watched());
    let ends = join_all(args.jobs.iter().map(|job_id| follow::follow(&client, job_id, pace, tell))).await;
    let mut each = Each::of(session.output, &args.jobs);
    for (job_id, end) in args.jobs.iter().zip(ends) {
        each.note(job_id, end.and_then(|job| follow::completed(&job)))?;
    }
    each.end()
}
