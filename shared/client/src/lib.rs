//! The typed HTTP client of the remote conversion service.
//!
//! [`Client`] has one method for each call of the API, and three that move files: [`Client::upload_file`],
//! [`Client::upload_result`] and [`Client::download`]. Files travel straight between this machine and the object
//! store, by presigned URLs that are never sent with the API key and never shown with their query.
//!
//! A single call is tried once: whoever calls decides with [`Error::retryable`], or wraps the call in [`retrying`].
//! Transfers retry by themselves, because they know how to go on where they stopped.

mod answer;
mod base_url;
mod calls;
mod client;
mod error;
mod retry;
mod secrets;
mod transfer;

pub use base_url::BaseUrl;
pub use client::{Client, Probe};
pub use error::Error;
pub use retry::{RetryPolicy, retrying};
pub use secrets::{ApiKey, Lease, LeaseToken, PresignedUrl};
pub use transfer::{OnProgress, Uploaded};

#[cfg(test)]
mod tests;
