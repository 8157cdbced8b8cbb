use api::manage::CancelRequest;
use clap::Args;
use client::retrying;
use domain::Status;

use super::{
    Session, TRIES,
    bulk::{self, Action, Selection},
    tell_managed,
};
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    selection: Selection,
    /// The work goes on elsewhere; it is remembered for good, and a retry is refused from then on
    #[arg(long)]
    takeover: bool,
}

const CANCEL: Action = Action {
    verb: "cancel",
    done: "cancelled",
    along: "",
    by_default: &[Status::Pending, Status::Processing],
    admitted: &[Status::Pending, Status::Processing],
    asks_for_ids: false,
};

/// Who takes a job over may do so after its end, too.
const TAKE_OVER: Action = Action {
    admitted: &[Status::Pending, Status::Processing, Status::Failed, Status::Timeout, Status::Cancelled],
    ..CANCEL
};

pub(crate) async fn run(session: &Session<'_>, args: &CancelArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let request = CancelRequest { takeover: args.takeover };
    let action = if args.takeover { TAKE_OVER } else { CANCEL };
    let cancel = async |job_id: &str| retrying(&TRIES, || client.cancel(job_id, &request)).await;
    bulk::run(session, &client, &args.selection, &action, cancel, |job| tell_managed(session.output, job))
        .await
}
