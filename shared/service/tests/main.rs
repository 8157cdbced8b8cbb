//! Every use case over a store in memory, with a clock that only the test moves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what the tests' helpers meet unexpectedly is a failed test"
)]

#[path = "../../store/tests/backend/mod.rs"]
mod backend;
mod cancel;
mod create;
mod download;
mod errors;
mod keys;
mod poll;
mod progress;
mod race;
mod release;
mod result;
mod retry;
mod sources;
mod status;
mod support;
mod sweep;
mod units;
mod uploads;
