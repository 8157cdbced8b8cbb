//! A deployed stack, driven through its API as its users do: by requests made by hand, by the converter, by the command
//! line, and by a client of the original system. Only what keeps the time is not waited for where the stack itself has
//! to: a lease lapses, and is swept by the schedule.
//!
//! Which server it is, the environment says as it says it to the AWS SDK: `AWS_ENDPOINT_URL` (none is AWS itself),
//! `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`. `STACK_OUTPUTS` is the stack's outputs
//! as JSON, and they say the rest. Each test has a tenant of its own, so that they run at the same time and leave each other alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a test meets unexpectedly is a failed test"
)]

mod access;
mod addresses;
mod deployment;
mod hints;
mod lapse;
mod legacy;
mod managing;
mod presigned;
mod programs;
mod race;
mod resources;
mod side_by_side;
mod tenant;
mod wakeup;
mod webhooks;
mod whole_loop;

use std::time::Duration;

use tokio::time::Instant;

/// How long something may take that no schedule is in the way of, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long something may take that a schedule of a minute does, which may just have begun, and which waits for a lease
/// and a backoff besides.
const SCHEDULED: Duration = Duration::from_secs(240);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Waits until `look` finds something, and gives it.
async fn until<T>(what: &str, within: Duration, look: impl AsyncFn() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}
