//! `--test-connection`: whether the server answers, and whether it would give work.

use api::{Kind, poll::PollRequest, result::ReleaseRequest};
use client::{Client, Error, Lease};
use domain::{ContentType, WorkerId};

/// What a test of the connection found.
#[derive(Debug)]
pub enum Connection {
    /// All is well; this is the server's version.
    Good(String),
    /// The server does not answer, or not as it should.
    NoAnswer(Error),
    /// The server answers but refuses the key.
    Refused(Error),
}

/// Asks for the server's health, then for a job of a type that nobody has, which needs what polling needs and takes
/// nothing from anybody.
pub async fn test(client: &Client, worker_id: &WorkerId) -> Connection {
    let health = match client.health().await {
        Ok(health) => health,
        Err(error) => return Connection::NoAnswer(error),
    };
    let request = PollRequest {
        worker_id: worker_id.to_string(),
        content_types: vec![ContentType::Custom("x-connection-test".to_owned())],
        max_jobs: Some(1),
        lease_seconds: Some(20),
        wait_seconds: None,
    };
    match client.poll(&request).await {
        Ok(answer) => {
            if let (Some(job_id), Some(grant)) = (answer.job_id, answer.lease) {
                // Somebody has that type after all: their job goes back unharmed.
                let lease = Lease { job_id, token: grant.lease_token.into() };
                let _ = client.release(&lease, &ReleaseRequest::default()).await;
            }
            Connection::Good(health.version)
        }
        Err(error) if matches!(error.kind(), Some(Kind::Unauthorized | Kind::Forbidden)) => {
            Connection::Refused(error)
        }
        Err(error) => Connection::NoAnswer(error),
    }
}
