//! The service with scripted conversions, library and webhooks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

mod bench;
mod calls;
mod hooks;
mod phases;
mod races;
mod site;
mod telling;
mod whole;
