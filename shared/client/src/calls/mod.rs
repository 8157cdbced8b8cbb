//! One method for each call of the API, by who makes it. Each is tried once.

mod hint;
mod ingestion;
mod operator;
mod worker;

use api::PREFIX;

use crate::base_url::segment;

const KEYS: &str = "/api/v1/keys";
const EVENTS: &str = "/api/v1/events";
const WORKERS: &str = "/api/v1/remote-workers";
const WEBHOOK_SECRET: &str = "/api/v1/webhook-secret";

/// A path below the jobs' API.
fn jobs(rest: &str) -> String {
    format!("{PREFIX}{rest}")
}

/// A path below one job.
fn job(job_id: &str, rest: &str) -> String {
    format!("{PREFIX}/{}{rest}", segment(job_id))
}

/// A path below one queue.
fn queue(content_type: &str, rest: &str) -> String {
    format!("/api/v1/queues/{}{rest}", segment(content_type))
}

/// A path below one upload.
fn upload(upload_id: &str, rest: &str) -> String {
    format!("{PREFIX}/uploads/{}{rest}", segment(upload_id))
}
