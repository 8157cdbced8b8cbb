//! Wires the function to the Lambda runtime.

use std::process::ExitCode;

use sweep_jobs::{LONGEST_SWEEP, TIMEOUT};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let sweep = runtime::run_events(TIMEOUT, |app, _, deadline| {
        sweep_jobs::handle(app, deadline.before(TIMEOUT.saturating_sub(LONGEST_SWEEP)))
    });
    runtime::run(sweep).await
}
