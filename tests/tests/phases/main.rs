//! The converter killed in every phase of a job, and cut off from the server: the job ends once, and what was finished
//! is not computed again.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a test meets unexpectedly is a failed test"
)]

mod killed;
mod scene;
mod unreachable;
