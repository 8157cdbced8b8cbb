//! One method for each call of the API, by who makes it. Each is tried once.

mod ingestion;
mod operator;
mod worker;

use api::PREFIX;

use crate::base_url::segment;

/// A path below the jobs' API.
fn jobs(rest: &str) -> String {
    format!("{PREFIX}{rest}")
}

/// A path below one job.
fn job(job_id: &str, rest: &str) -> String {
    format!("{PREFIX}/{}{rest}", segment(job_id))
}

/// A path below one upload.
fn upload(upload_id: &str, rest: &str) -> String {
    format!("{PREFIX}/uploads/{}{rest}", segment(upload_id))
}
