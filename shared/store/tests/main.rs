//! What the store keeps, and how: the same for every DynamoDB. The names of the tests are the specification.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what the tests' helpers meet unexpectedly is a failed test"
)]

mod backend;
mod due;
mod events;
mod handoff;
mod hints;
mod keys;
mod live;
mod rows;
mod support;
mod table;
mod unavailable;
mod workers;
