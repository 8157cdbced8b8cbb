//! The exit codes, which scripts rely on.

use client::Error;
use store::EnvironmentError;

/// Everything went as asked.
pub const OK: u8 = 0;
/// A job ended as failed, timed out or cancelled; a file could not be converted; or a job file was not taken.
pub const JOB_NOT_COMPLETED: u8 = 1;
/// The arguments cannot be used.
pub const USAGE: u8 = 2;
/// The server cannot be reached, or what answers there does not speak this API.
pub const UNREACHABLE: u8 = 3;
/// The API key is missing, wrong, or lacks the scope; or AWS's credentials are missing, wrong, or lack a right.
pub const KEY_REFUSED: u8 = 4;
/// The server refused the request.
pub const REFUSED: u8 = 5;
/// The server, or the object store, failed.
pub const SERVER_FAILED: u8 = 6;
/// A local file cannot be read or written.
pub const LOCAL_FILE: u8 = 7;
/// A check of `doctor` or `selftest` failed.
pub const CHECK_FAILED: u8 = 8;
/// Ctrl-C, as shells count it.
pub const INTERRUPTED: u8 = 130;

/// The codes as `--help` lists them.
pub const HELP: &str = "Exit codes:
    0  everything went as asked
    1  a job ended as failed, timed out or cancelled; convert could not convert a file; or import could not take a job
       file
    2  the arguments cannot be used
    3  the server, or the table, cannot be reached, or what answers there is not this API
    4  the API key is missing, wrong, or lacks the scope; with --table, AWS's credentials are or do
    5  the server refused the request, or there is no such table
    6  the server or the object store failed
    7  a local file cannot be read or written
    8  a check of doctor or selftest failed
  130  interrupted; jobs that were submitted go on";

/// The code of a client's error.
#[must_use]
pub fn of(error: &Error) -> u8 {
    match error {
        Error::Refused { status, .. } | Error::Unreadable { status, .. } => of_status(*status),
        Error::Unreachable { .. }
        | Error::Untrusted { .. }
        | Error::TimedOut { .. }
        | Error::Transfer { status: None, .. } => UNREACHABLE,
        // The object store knows no API key, so its 403 says nothing about one.
        Error::Transfer { status: Some(400..=499), .. } => REFUSED,
        Error::Transfer { .. } | Error::Corrupt { .. } => SERVER_FAILED,
        Error::File { .. } => LOCAL_FILE,
        Error::Invalid { .. } => USAGE,
    }
}

/// The code of what is wrong with AWS's environment.
#[must_use]
pub fn of_environment(error: &EnvironmentError) -> u8 {
    match error {
        EnvironmentError::NoRegion => USAGE,
        EnvironmentError::NoCredentials(_)
        | EnvironmentError::WrongCredentials { .. }
        | EnvironmentError::Denied { .. } => KEY_REFUSED,
        EnvironmentError::Missing { .. } | EnvironmentError::Other { .. } => REFUSED,
        EnvironmentError::Unavailable { .. } => UNREACHABLE,
    }
}

fn of_status(status: u16) -> u8 {
    match status {
        401 | 403 => KEY_REFUSED,
        400..=499 => REFUSED,
        500..=599 => SERVER_FAILED,
        _ => UNREACHABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable(status: u16) -> Error {
        Error::Unreadable { host: "h".into(), status, reason: "r".into(), retry_after: None }
    }

    fn transfer(status: Option<u16>) -> Error {
        Error::Transfer { host: "h".into(), status, code: None, reason: "r".into(), retry_after: None }
    }

    #[test]
    fn every_error_has_its_code() {
        let problem = |kind| Error::Refused {
            status: api::Kind::status(kind),
            problem: Box::new(api::Problem::new(kind, "d")),
            retry_after: None,
        };
        for (error, code) in [
            (problem(api::Kind::Unauthorized), KEY_REFUSED),
            (problem(api::Kind::Forbidden), KEY_REFUSED),
            (problem(api::Kind::NotFound), REFUSED),
            (problem(api::Kind::Invalid), REFUSED),
            (problem(api::Kind::Unavailable), SERVER_FAILED),
            (unreadable(200), UNREACHABLE),
            (unreadable(403), KEY_REFUSED),
            (unreadable(502), SERVER_FAILED),
            (transfer(None), UNREACHABLE),
            (transfer(Some(403)), REFUSED),
            (transfer(Some(503)), SERVER_FAILED),
            (Error::Unreachable { host: "h".into(), reason: "r".into() }, UNREACHABLE),
            (Error::Untrusted { host: "h".into(), reason: "r".into() }, UNREACHABLE),
            (Error::Corrupt { what: "w".into(), reason: "r".into() }, SERVER_FAILED),
            (Error::File { path: "p".into(), source: std::io::Error::other("o") }, LOCAL_FILE),
            (Error::Invalid { reason: "r".into() }, USAGE),
        ] {
            assert_eq!(of(&error), code, "{error}");
        }
    }

    #[test]
    fn help_names_every_code() {
        let codes = [
            OK,
            JOB_NOT_COMPLETED,
            USAGE,
            UNREACHABLE,
            KEY_REFUSED,
            REFUSED,
            SERVER_FAILED,
            LOCAL_FILE,
            CHECK_FAILED,
            INTERRUPTED,
        ];
        let named: Vec<u8> =
            HELP.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(named, codes);
    }
}
