//! Events of API Gateway, EventBridge and DynamoDB, as `tests/events` has them, answered by the functions on the way that
//! their programs take.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test meets unexpectedly is a failed test")]

mod calls;
mod deadlines;
mod rounds;
mod scene;
