//! The engines as their users meet them: through the AWS SDK, through presigned URLs, and after a restart.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what the tests' helpers meet unexpectedly is a failed test"
)]

mod crash;
mod dynamodb;
mod folder;
mod lifecycle;
mod multipart;
mod network;
mod objects;
mod support;
mod uploads;
