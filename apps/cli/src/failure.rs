use std::{fmt, io, path::PathBuf};

use api::{Kind, Problem};
use client::Error;
use ingestion::detect::DetectError;
use serde_json::{Value, json};
use store::EnvironmentError;

use crate::exit;

/// Why the command ends with another exit code than 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server, the way to it, or a transfer.
    Api(Error),
    /// AWS's environment, or what it leads to.
    Environment(EnvironmentError),
    /// A use case that was done here refuses.
    Refused(Box<Problem>),
    /// What was asked for makes no sense. A sentence that says what would.
    Usage(String),
    /// A local file.
    File { path: PathBuf, source: io::Error },
    /// Something else on this machine. A sentence.
    Local(String),
    /// Standard output takes nothing more.
    Output(io::Error),
    /// A job that was waited for ended otherwise than completed.
    JobEnded { job_id: String, status: String, reason: Option<String> },
    /// A job file that cannot be imported. A sentence that says what to do.
    NotTaken(String),
    /// A file that could not be converted: a sentence, and the exit code that it means.
    NotConverted { message: String, code: u8 },
    /// Checks failed, each of which was told already.
    Checks { failed: usize },
    /// Something failed that was told already.
    Told { code: u8 },
    /// Ctrl-C, and how to go on.
    Interrupted { hint: Option<String> },
}

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Api(error) => exit::of(error),
            Self::Environment(error) => exit::of_environment(error),
            Self::Refused(_) => exit::REFUSED,
            Self::Usage(_) => exit::USAGE,
            Self::File { .. } | Self::Local(_) => exit::LOCAL_FILE,
            // Whoever reads has seen enough, as in `remote-jobs … | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
            Self::Output(_) => exit::LOCAL_FILE,
            Self::JobEnded { .. } | Self::NotTaken(_) => exit::JOB_NOT_COMPLETED,
            Self::Checks { .. } => exit::CHECK_FAILED,
            Self::NotConverted { code, .. } | Self::Told { code } => *code,
            Self::Interrupted { .. } => exit::INTERRUPTED,
        }
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Told { .. }) || self.code() == exit::OK
    }

    /// Whether the next job or file would meet the same failure.
    pub(crate) fn concerns_all(&self) -> bool {
        match self {
            Self::Output(_) | Self::Interrupted { .. } => true,
            // A server that answers so runs, and fails for this request.
            Self::Api(error) if error.kind() == Some(Kind::Internal) => false,
            // What failed of the server was one file's transfer.
            Self::NotConverted { code, .. } => matches!(*code, exit::UNREACHABLE | exit::KEY_REFUSED),
            failure => {
                matches!(failure.code(), exit::UNREACHABLE | exit::KEY_REFUSED | exit::SERVER_FAILED)
            }
        }
    }

    /// The failure for programs.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({"message": self.to_string(), "exit_code": self.code()});
        if let Self::Refused(problem) = self {
            if let Some(kind) = problem.known_kind() {
                error["kind"] = kind.name().into();
            }
            error["problem"] = json!(problem);
        }
        if let Self::Api(api) = self {
            error["retryable"] = api.retryable().into();
            if let Some(status) = api.status() {
                error["status"] = status.into();
            }
            if let Some(kind) = api.kind() {
                error["kind"] = kind.name().into();
            }
            if let Error::Refused { problem, .. } = api {
                error["problem"] = json!(problem);
            }
        }
        json!({"error": error})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(error) => error.fmt(f)?,
            Self::Environment(error) => write!(f, "{}.", sentence(&error.to_string()))?,
            Self::Refused(problem) => f.write_str(&problem.detail)?,
            Self::Usage(text)
            | Self::Local(text)
            | Self::NotTaken(text)
            | Self::NotConverted { message: text, .. } => f.write_str(text)?,
            Self::File { path, source } => write!(f, "Cannot use {}: {source}.", path.display())?,
            Self::Output(error) => write!(f, "Cannot write the output: {error}.")?,
            Self::JobEnded { job_id, status, reason } => {
                write!(f, "Job {job_id} ended as {status}")?;
                match reason {
                    Some(reason) => write!(f, ": {reason}")?,
                    None => f.write_str(".")?,
                }
            }
            Self::Checks { failed: 1 } => f.write_str("One check failed.")?,
            Self::Checks { failed } => write!(f, "{failed} checks failed.")?,
            Self::Told { .. } => {}
            Self::Interrupted { hint } => f.write_str(hint.as_deref().unwrap_or("Interrupted."))?,
        }
        match self.advice() {
            Some(advice) => write!(f, " {advice}"),
            None => Ok(()),
        }
    }
}

impl Failure {
    /// What a person at this command can do, which the library does not know.
    fn advice(&self) -> Option<&'static str> {
        // Of AWS's environment the error itself says what to do.
        if matches!(self, Self::Environment(_)) {
            return None;
        }
        match self.code() {
            exit::KEY_REFUSED => Some(
                "Give a key with --api-key-file or MORAG_API_KEY; `remote-jobs doctor` shows its scopes.",
            ),
            exit::UNREACHABLE => Some(
                "The address comes from --api-url or MORAG_API_BASE_URL; `remote-jobs doctor` checks it.",
            ),
            _ => None,
        }
    }
}

/// With a capital letter at its beginning.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Api(error)
    }
}

impl From<DetectError> for Failure {
    fn from(error: DetectError) -> Self {
        match error {
            DetectError::File { path, source } => Self::File { path, source },
            DetectError::Unknown { .. } => Self::Usage(format!(
                "{error}; say it with --type audio, video, document, image, web or youtube, or with a custom type \
                 spelled x-…."
            )),
            DetectError::NoUrl { .. } => Self::Usage(format!("{error}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_codes_and_sentences() {
        for (failure, code, text) in [
            (Failure::Usage("Give a file.".into()), 2, "Give a file."),
            (
                Failure::File { path: "/x".into(), source: io::Error::other("no space") },
                7,
                "Cannot use /x: no space.",
            ),
            (
                Failure::JobEnded {
                    job_id: "j".into(),
                    status: "failed".into(),
                    reason: Some("no speech".into()),
                },
                1,
                "Job j ended as failed: no speech",
            ),
            (Failure::NotTaken("It has no id.".into()), 1, "It has no id."),
            (Failure::Checks { failed: 2 }, 8, "2 checks failed."),
            (Failure::Interrupted { hint: None }, 130, "Interrupted."),
        ] {
            assert_eq!((failure.code(), failure.to_string().as_str()), (code, text));
        }
    }

    #[test]
    fn what_concerns_one_request_does_not_concern_all() {
        let refused = |kind: Kind| {
            let problem = Box::new(api::Problem::new(kind, "d"));
            Failure::from(Error::Refused { status: kind.status(), problem, retry_after: None })
        };
        for kind in [Kind::Unauthorized, Kind::Forbidden, Kind::Unavailable] {
            assert!(refused(kind).concerns_all());
        }
        for kind in [Kind::Refused, Kind::NotFound, Kind::Internal, Kind::TooLarge] {
            assert!(!refused(kind).concerns_all());
        }
        assert!(!Failure::NotTaken("Why.".into()).concerns_all());
        let not_converted = |code| Failure::NotConverted { message: "Why.".into(), code };
        for code in [exit::UNREACHABLE, exit::KEY_REFUSED] {
            assert!(not_converted(code).concerns_all(), "{code}");
        }
        for code in [exit::JOB_NOT_COMPLETED, exit::REFUSED, exit::SERVER_FAILED, exit::LOCAL_FILE] {
            assert!(!not_converted(code).concerns_all(), "{code}");
        }
    }

    #[test]
    fn what_cannot_be_told_of_a_file_names_the_option() {
        let failure = Failure::from(DetectError::Unknown { path: "a.dat".into() });
        assert!(failure.code() == 2 && failure.to_string().contains("a.dat is; say it with --type audio"));
        let failure = Failure::from(ingestion::detect::content_type("/missing/file".as_ref()).unwrap_err());
        assert_eq!(failure.code(), 7);
        let failure = Failure::from(ingestion::detect::content_type_of_url("http://").unwrap_err());
        assert_eq!(failure.code(), 2);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert!(gone.code() == 0 && gone.is_silent());
        let full = Failure::Output(io::ErrorKind::StorageFull.into());
        assert!(full.code() == 7 && !full.is_silent());
    }

    #[test]
    fn programs_get_the_problem_whole() {
        let problem = api::Problem::new(api::Kind::Forbidden, "No.");
        let failure =
            Failure::from(Error::Refused { status: 403, problem: Box::new(problem), retry_after: None });
        let json = failure.to_json();
        assert_eq!(json["error"]["kind"], "forbidden");
        assert_eq!(json["error"]["problem"]["detail"], "No.");
        assert_eq!(json["error"]["exit_code"], 4);
        assert!(failure.to_string().contains("--api-key-file"));
    }
}
