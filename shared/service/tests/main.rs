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
mod delete;
mod download;
mod errors;
mod events;
mod fairness;
mod import;
mod keys;
mod list;
mod poll;
mod progress;
mod queues;
mod race;
mod release;
mod result;
mod retention;
mod retry;
mod sources;
mod statistics;
mod status;
mod support;
mod sweep;
mod units;
mod uploads;
mod workers;
