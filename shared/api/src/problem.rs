use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An error as RFC 9457 `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:remote-jobs:` and the kind's name, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status, again.
    pub status: u16,
    /// What is wrong here and what to do about it, for a person.
    pub detail: String,
    /// The fields at fault, for 422.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// What the job is, for 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<String>,
    /// The request's id, which finds it in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldProblem {
    /// The field's path, `task_options` or `parts[2].sha256`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// The kinds of problem there are. Each has one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request cannot be parsed.
    Malformed,
    /// No key, or one that is unknown, wrong or revoked.
    Unauthorized,
    /// The key's scopes do not admit the call.
    Forbidden,
    /// No such thing for this tenant.
    NotFound,
    /// The path exists, with another method.
    MethodNotAllowed,
    /// The state of the job does not admit the call.
    Refused,
    /// The caller does not hold the job's lease.
    StaleLease,
    /// The source object is gone.
    SourceExpired,
    /// The body is larger than the call takes.
    TooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// A field has a value that it cannot have.
    Invalid,
    /// An idempotency key came with another request than before.
    IdempotencyMismatch,
    /// Too many calls.
    TooManyRequests,
    /// A fault of the server.
    Internal,
    /// The server cannot do it now.
    Unavailable,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Refused,
        Self::StaleLease,
        Self::SourceExpired,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::IdempotencyMismatch,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unavailable,
    ];

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.spelling().0
    }

    /// The last part of the problem's `type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.spelling().1
    }

    fn title(self) -> &'static str {
        self.spelling().2
    }

    fn spelling(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Malformed => (400, "malformed", "The request cannot be read"),
            Self::Unauthorized => (401, "unauthorized", "A valid API key is needed"),
            Self::Forbidden => (403, "forbidden", "The API key does not admit this call"),
            Self::NotFound => (404, "not-found", "Not found"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "The path has no such method"),
            Self::Refused => (409, "refused", "The job's state does not admit this"),
            Self::StaleLease => (409, "stale-lease", "The lease is not held any more"),
            Self::SourceExpired => (409, "source-expired", "The source file is gone"),
            Self::TooLarge => (413, "too-large", "The body is too large"),
            Self::UnsupportedMediaType => (415, "unsupported-media-type", "The body is not JSON"),
            Self::Invalid => (422, "invalid", "A field is not valid"),
            Self::IdempotencyMismatch => {
                (422, "idempotency-mismatch", "The idempotency key belongs to another request")
            }
            Self::TooManyRequests => (429, "too-many-requests", "Too many requests"),
            Self::Internal => (500, "internal", "The server failed"),
            Self::Unavailable => (503, "unavailable", "Not available now"),
        }
    }
}

/// What comes before the kind's name in a problem's `type`.
const NAMESPACE: &str = "urn:remote-jobs:";

impl Problem {
    /// The content type of a problem's body.
    pub const MEDIA_TYPE: &str = "application/problem+json";

    /// A problem of this kind.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{NAMESPACE}{}", kind.name()),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            errors: Vec::new(),
            job_status: None,
            request_id: None,
        }
    }

    /// Which kind it is, if it is one this version knows.
    #[must_use]
    pub fn known_kind(&self) -> Option<Kind> {
        let name = self.kind.strip_prefix(NAMESPACE)?;
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_recognised_again_and_has_a_name_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for kind in Kind::ALL {
            assert_eq!(Problem::new(kind, "why").known_kind(), Some(kind));
            assert!(names.insert(kind.name()));
        }
    }
}
