//! Each function's program under the genuine Lambda runtime interface emulator, over the embedded engines:
//! `make test-lambda`, which installs the emulator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test meets unexpectedly is a failed test")]

mod emulator;
mod functions;
mod refusals;
