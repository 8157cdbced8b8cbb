//! The template for AWS against the code that it deploys: routes, table, bucket, settings, times and roles. Nothing is
//! deployed here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test meets unexpectedly is a failed test")]

mod api;
mod functions;
mod metrics;
mod operations;
mod roles;
mod scene;
mod storage;
mod yaml;
