use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use api::create::PriorityName;
use domain::{ContentType, WebhookUrl};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What is to be converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine.
    File {
        /// Where it is.
        path: PathBuf,
        /// What it is called, which the remote converter takes the format from.
        name: String,
    },
    /// A URL, for `web` and `youtube`.
    Url(String),
}

/// How a remote job is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// By calls that the control plane holds open until the job has ended.
    #[default]
    Quiet,
    /// Every second or few, because somebody looks on.
    Lively,
}

/// One document to convert.
#[derive(Clone, Debug)]
pub struct ConversionTask {
    /// The ingestion service's own id of the work: 1 to 255 characters without control characters. Under one id there is
    /// one upload and one remote job, however often the task is run.
    pub task_id: String,
    /// What to convert.
    pub source: Source,
    /// What it is.
    pub content_type: ContentType,
    /// Options for the converter, handed on unread. The same every time the task is run.
    pub options: Map<String, Value>,
    /// Whether the user asked for a remote conversion. By default false.
    pub requested: bool,
    /// Whether a local conversion is to be made when the remote one comes to nothing. By default true.
    pub fallback_to_local: bool,
    /// When the remote conversion must be over. It is a moment and no span, so that a task that is run again after a
    /// restart does not begin anew.
    pub deadline: SystemTime,
    /// How long the remote job may take as a whole, which bounds it also when nobody is there to cancel it. The same
    /// every time the task is run. By default there is no such limit.
    pub total_timeout: Option<Duration>,
    /// How urgent the remote job is.
    pub priority: Option<PriorityName>,
    /// Where the control plane tells that the remote job has ended. The same every time the task is run.
    pub webhook_url: Option<WebhookUrl>,
    /// Whoever hears of the remote job's end wakes the waiting by this. It only means that the control plane is asked at
    /// once.
    pub wake: Option<Arc<Notify>>,
    /// The remote job that an earlier run of this task has told of, if the caller remembers one.
    pub remote_job_id: Option<String>,
    /// How the remote job is watched.
    pub pace: Pace,
    /// Cancels the task as a whole: the remote job is cancelled too, and nothing is converted locally.
    pub cancel: CancellationToken,
}

impl ConversionTask {
    /// A task that is to be converted locally; whoever wants more sets the fields.
    #[must_use]
    pub fn new(
        task_id: impl Into<String>,
        source: Source,
        content_type: ContentType,
        deadline: SystemTime,
    ) -> Self {
        Self {
            task_id: task_id.into(),
            source,
            content_type,
            options: Map::new(),
            requested: false,
            fallback_to_local: true,
            deadline,
            total_timeout: None,
            priority: None,
            webhook_url: None,
            wake: None,
            remote_job_id: None,
            pace: Pace::default(),
            cancel: CancellationToken::new(),
        }
    }
}
