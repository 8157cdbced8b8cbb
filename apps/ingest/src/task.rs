//! An ingestion task: what somebody wants ingested, and how far it is.

use domain::{ContentType, Timestamp, WebhookUrl};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// What is to be ingested, and how. It never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What is converted.
    pub source: Source,
    /// What the source is.
    pub content_type: ContentType,
    /// Whose chunks are stored.
    pub document_id: String,
    /// Whether what the document had before goes.
    pub replace_existing: bool,
    /// Who is told of the end.
    pub webhook_url: Option<WebhookUrl>,
    /// What the caller wants every chunk's metadata to say besides.
    pub metadata: Map<String, Value>,
    /// What the converter is told.
    pub options: Map<String, Value>,
    /// The longest chunk, in characters, unless the default holds.
    pub chunk_size: Option<u64>,
    /// How much of a chunk is repeated in the next one, in characters, unless the default holds.
    pub chunk_overlap: Option<u64>,
    /// Where chunks are cut, unless the default holds.
    pub chunking_strategy: Option<String>,
    /// Whether remote workers are to convert it, if they can.
    pub remote: bool,
    /// How many seconds after the task's begin remote conversion must be over.
    pub remote_timeout: Option<u64>,
    /// Whether it is converted here when the remote conversion fails.
    pub fallback_to_local: bool,
}

/// What is converted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A file of the data folder.
    File {
        /// What its sender called it. It is never a path.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// What a URL leads to.
    Url(String),
}

impl Source {
    /// What a person knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::File { name, .. } => name,
            Self::Url(url) => url,
        }
    }
}

/// How far a task is, as the original's clients know it. A task goes through some of them, never backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It was accepted or begun.
    Initializing,
    /// Its source is being uploaded, and a job created.
    CreatingRemoteJob,
    /// A remote job is waited for.
    WaitingForRemoteCompletion,
    /// It is converted here.
    LocalProcessing,
    /// Its chunks are being stored.
    Storing,
    /// It is searchable.
    Completed,
}

impl Stage {
    const ALL: [Self; 6] = [
        Self::Initializing,
        Self::CreatingRemoteJob,
        Self::WaitingForRemoteCompletion,
        Self::LocalProcessing,
        Self::Storing,
        Self::Completed,
    ];

    /// How it is spelled.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::CreatingRemoteJob => "creating_remote_job",
            Self::WaitingForRemoteCompletion => "waiting_for_remote_completion",
            Self::LocalProcessing => "local_processing",
            Self::Storing => "storing",
            Self::Completed => "completed",
        }
    }

    /// How much of a task is done when the stage begins, from 0 to 1.
    #[must_use]
    pub fn progress(self) -> f64 {
        match self {
            Self::Initializing => 0.1,
            Self::CreatingRemoteJob => 0.2,
            Self::WaitingForRemoteCompletion => 0.3,
            Self::LocalProcessing => 0.4,
            Self::Storing => 0.7,
            Self::Completed => 1.0,
        }
    }

    /// How much is done when a converter here says `percentage` of its own work is: the original maps it to 10 to 70 %.
    #[must_use]
    pub fn local_progress(percentage: u8) -> f64 {
        f64::from(100 + u32::from(percentage.min(100)) * 6) / 1000.0
    }

    /// The stage that is spelled so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// What happens next to a task. Every change of phase is one conditional write, so each happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has happened yet.
    Waiting,
    /// It is being converted, here or remotely.
    Converting,
    /// One conversion was taken, for good; its content is being stored.
    Storing,
    /// It is searchable.
    Succeeded,
    /// It failed or was cancelled.
    Failed,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Waiting, Self::Converting, Self::Storing, Self::Succeeded, Self::Failed];

    /// How it is kept.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Converting => "converting",
            Self::Storing => "storing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// The phase that is kept so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// The task's state as the original's clients know it.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::Waiting => "PENDING",
            Self::Converting | Self::Storing => "PROGRESS",
            Self::Succeeded => "SUCCESS",
            Self::Failed => "FAILURE",
        }
    }

    /// Whether nothing happens any more.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A task as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: Uuid,
    /// What is wanted.
    pub spec: Spec,
    /// What happens next.
    pub phase: Phase,
    /// How far it is.
    pub stage: Stage,
    /// The remote job that converts it, or did not.
    pub remote_job_id: Option<String>,
    /// Why it is converted remotely or here, with the figures that decided it.
    pub decision: Option<Value>,
    /// `remote` or `local`, once a conversion was taken.
    pub processing_method: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// What came of it.
    pub result: Option<Value>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was first begun. Its remote deadline counts from here, so that a restart does not begin anew.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A conversion that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The Markdown.
    pub text: String,
    /// What the converter knows of the source.
    pub metadata: Map<String, Value>,
    /// How long the conversion took, in seconds.
    pub processing_time: f64,
}

impl Task {
    /// How much is done, from 0 to 1, with `here` as what the converter here says ([`Stage::local_progress`]): that from 0.1
    /// on when the task is converted here from the start, and at least the stage's 0.4 once a remote conversion was tried.
    /// So it moves all the way of a task that is converted here, and never goes back in one that falls back.
    #[must_use]
    pub fn progress(&self, here: Option<f64>) -> f64 {
        let remotely = self.decision.as_ref().is_some_and(|made| made["processing_method"] == "remote");
        let from_the_start = !remotely && self.remote_job_id.is_none();
        match (self.phase, self.stage) {
            (Phase::Converting, Stage::LocalProcessing) if from_the_start => {
                here.unwrap_or(Stage::Initializing.progress())
            }
            (_, stage) => here.map_or(stage.progress(), |here| here.max(stage.progress())),
        }
    }
}

/// What happened to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What, for programs.
    pub event: String,
    /// What, for a person.
    pub message: String,
    /// More of it, for programs.
    pub details: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_the_originals_and_never_go_back() {
        let named: Vec<_> = Stage::ALL.iter().map(|stage| (stage.name(), stage.progress())).collect();
        assert_eq!(
            named,
            [
                ("initializing", 0.1),
                ("creating_remote_job", 0.2),
                ("waiting_for_remote_completion", 0.3),
                ("local_processing", 0.4),
                ("storing", 0.7),
                ("completed", 1.0)
            ]
        );
        assert!(Stage::ALL.is_sorted_by(|a, b| a.progress() < b.progress()));
        assert!(Stage::ALL.iter().all(|stage| Stage::named(stage.name()) == Some(*stage)));
        assert!(Phase::ALL.iter().all(|phase| Phase::named(phase.name()) == Some(*phase)));
    }

    #[test]
    fn a_local_converters_percentage_becomes_ten_to_seventy() {
        let shown: Vec<f64> = [0, 25, 50, 75, 100, 255].map(Stage::local_progress).to_vec();
        assert_eq!(shown, [0.1, 0.25, 0.4, 0.55, 0.7, 0.7]);
    }
}
