//! What callers meet when DynamoDB or S3 refuses, is slow or cannot be reached, or when a function dies: a success, or
//! 503 with `Retry-After`, after which the same call made again completes what was begun. Nothing is ever half-done.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what the tests' helpers meet unexpectedly is a failed test"
)]

mod cases;
mod engines;
mod keys;
mod line;
mod matrix;
mod process;
mod programs;
mod refusals;
mod scene;
mod state;
