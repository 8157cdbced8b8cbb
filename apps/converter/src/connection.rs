//! What answers at the server's address, and whether it would give this worker work.

use api::{Kind, poll::PollRequest, result::ReleaseRequest};
use client::{Client, Error, Lease};
use domain::ContentType;

/// This program's version, whose first number is that of the servers it works with.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a test calls itself: under this worker's own name it would be taken for it, with other types.
const TESTER: &str = "connection-test";

/// What a test of the connection found.
#[derive(Debug)]
pub enum Connection {
    /// All is well; this is the server's version.
    Good(String),
    /// The server does not answer.
    NoAnswer(Error),
    /// The server answers but refuses the key.
    Refused(Error),
    /// What answers is no server that this program works with. A sentence.
    Other(String),
}

/// Asks for the server's health, then for a job of a type that nobody has, which needs what polling needs and takes
/// nothing from anybody.
pub async fn test(client: &Client) -> Connection {
    let health = match client.health().await {
        Ok(health) => health,
        Err(error) => return no_health(client, error),
    };
    if let Err(message) = check_version(client, &health.version) {
        return Connection::Other(message);
    }
    let request = PollRequest {
        worker_id: TESTER.to_owned(),
        content_types: vec![ContentType::Custom("x-connection-test".to_owned())],
        max_jobs: Some(1),
        lease_seconds: Some(20),
        wait_seconds: None,
        ..PollRequest::default()
    };
    match client.poll(&request).await {
        Ok(answer) => {
            if let (Some(job_id), Some(grant)) = (answer.job_id, answer.lease) {
                // Somebody has that type after all: their job goes back unharmed.
                let lease = Lease { job_id, token: grant.lease_token.into() };
                let _ = client.release(&lease, &ReleaseRequest::default()).await;
            }
            // An older server does not know the call, and nobody counts on this worker anyway.
            let _ = client.leave(TESTER).await;
            Connection::Good(health.version)
        }
        Err(error) if matches!(error.kind(), Some(Kind::Unauthorized | Kind::Forbidden)) => {
            Connection::Refused(error)
        }
        Err(error) => Connection::NoAnswer(error),
    }
}

/// Whether a server of this version can be worked with: its first number counts, as in semantic versioning.
///
/// # Errors
/// A sentence that names both versions, when it cannot.
pub fn check_version(client: &Client, version: &str) -> Result<(), String> {
    if major(version) == major(VERSION) {
        return Ok(());
    }
    let server = client.base();
    Err(format!(
        "{server} runs version {version}, and this remote-converter is {VERSION}: their first numbers must be the \
         same. Install the one of the server's version."
    ))
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// Asks a server for its version at the start, which is to end here only where waiting does not help: a server that is
/// not there, or not well, may be later.
///
/// # Errors
/// [`Connection::Other`], or [`Connection::NoAnswer`] for a certificate that is not trusted.
pub async fn check(client: &Client) -> Result<(), Connection> {
    match client.health().await {
        Ok(health) => check_version(client, &health.version).map_err(Connection::Other),
        Err(error) => match no_health(client, error) {
            Connection::NoAnswer(error) if !matches!(error, Error::Untrusted { .. }) => Ok(()),
            useless => Err(useless),
        },
    }
}

/// A program without `/health` may still be one that people take for a remote-jobs server: the original had none.
fn no_health(client: &Client, error: Error) -> Connection {
    let server = client.base();
    match error.status() {
        Some(404 | 405) => Connection::Other(format!(
            "{server} answers, but has no /health: it is another program, or the original MoRAG API, whose jobs this \
             converter cannot take. Set api_base_url to a remote-jobs server."
        )),
        Some(status) if !error.retryable() => Connection::Other(format!(
            "{server} answers {status}, but not as a remote-jobs server does: {error}"
        )),
        _ => Connection::NoAnswer(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_a_version_counts() {
        let client = Client::new("http://box".parse().unwrap(), None, "test/1").unwrap();
        let own = major(VERSION);
        for good in [VERSION.to_owned(), format!("{own}.99.7"), format!("{own}.1.0-rc.1+abc")] {
            assert_eq!(check_version(&client, &good), Ok(()), "{good}");
        }
        for other in ["99.0.0", "", "unknown"] {
            let message = check_version(&client, other).unwrap_err();
            assert!(message.contains("http://box runs version ") && message.contains(VERSION), "{message}");
        }
    }
}
