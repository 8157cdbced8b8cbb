//! Conversions by the ingestion client, with the real functions, a worker that the test scripts, and a line between them
//! that fails: of a remote and a local result exactly one continues, and the job's end agrees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a helper meets unexpectedly is a failed test")]

mod lines;
mod races;
mod scene;
mod webhooks;
