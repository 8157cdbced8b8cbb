//! Every use case over a store in memory, with a clock that only the test moves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what the tests' helpers meet unexpectedly is a failed test"
)]
