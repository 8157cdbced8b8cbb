use std::{fmt, time::Duration};

use domain::ContentType;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::RemoteSettings;

/// How a document is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By a worker of the remote conversion service.
    Remote,
    /// By the ingestion service itself.
    Local,
}

impl Method {
    /// How it is spelled on the wire: `remote` or `local`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a document is converted remotely or locally, as a word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Local: nobody asked for a remote conversion.
    NotRequested,
    /// Local: it is switched off here.
    NotEnabled,
    /// Local: this type is not converted remotely here.
    TypeNotSupported,
    /// Remote, as far as the rules go: nobody was asked.
    Allowed,
    /// Local: no time is left.
    DeadlineExhausted,
    /// Local: the control plane does not take the key.
    Unauthorized,
    /// Local: the control plane cannot be asked.
    Unreachable,
    /// Local: nobody is there who would do it.
    NoLiveWorker,
    /// Local: an operator lets no worker claim such jobs.
    QueuePaused,
    /// Local: such conversions take longer than there is time.
    TooSlow,
    /// Local: what waits before it takes too long.
    QueueTooLong,
    /// Remote: the server is an older one that does not tell its workers.
    WorkersUnknown,
    /// Remote: somebody is there who does it.
    WorkerAvailable,
    /// Remote: something speaks against it, but a local conversion is not allowed.
    NoFallback,
    /// Remote: an earlier run of the same task has created the job.
    Resumed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 15] = [
        Self::NotRequested,
        Self::NotEnabled,
        Self::TypeNotSupported,
        Self::Allowed,
        Self::DeadlineExhausted,
        Self::Unauthorized,
        Self::Unreachable,
        Self::NoLiveWorker,
        Self::QueuePaused,
        Self::TooSlow,
        Self::QueueTooLong,
        Self::WorkersUnknown,
        Self::WorkerAvailable,
        Self::NoFallback,
        Self::Resumed,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRequested => "not_requested",
            Self::NotEnabled => "not_enabled",
            Self::TypeNotSupported => "type_not_supported",
            Self::Allowed => "allowed",
            Self::DeadlineExhausted => "deadline_exhausted",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::NoLiveWorker => "no_live_worker",
            Self::QueuePaused => "queue_paused",
            Self::TooSlow => "too_slow",
            Self::QueueTooLong => "queue_too_long",
            Self::WorkersUnknown => "workers_unknown",
            Self::WorkerAvailable => "worker_available",
            Self::NoFallback => "no_fallback",
            Self::Resumed => "resumed",
        }
    }

    /// What it speaks for.
    #[must_use]
    pub fn method(self) -> Method {
        match self {
            Self::NotRequested
            | Self::NotEnabled
            | Self::TypeNotSupported
            | Self::DeadlineExhausted
            | Self::Unauthorized
            | Self::Unreachable
            | Self::NoLiveWorker
            | Self::QueuePaused
            | Self::TooSlow
            | Self::QueueTooLong => Method::Local,
            Self::Allowed
            | Self::WorkersUnknown
            | Self::WorkerAvailable
            | Self::NoFallback
            | Self::Resumed => Method::Remote,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What the control plane told before a decision. What it did not tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// How many workers are there that take the type.
    pub live_workers: Option<u64>,
    /// How many jobs of the type wait for a worker.
    pub queue_depth: Option<u64>,
    /// How many run.
    pub running: Option<u64>,
    /// Half of the type's conversions in the last days took at most this long, in seconds.
    pub run_time_p50_seconds: Option<f64>,
    /// Nine of ten took at most this long, in seconds.
    pub run_time_p90_seconds: Option<f64>,
    /// How long the job would wait for a worker, in seconds, if every conversion took the median and every live worker
    /// did one at a time. Jobs that run count as far as they leave no worker free.
    pub expected_wait_seconds: Option<f64>,
    /// How much time there is, in seconds.
    pub deadline_seconds: u64,
    /// Whether workers may claim no job of the type.
    pub paused: Option<bool>,
}

/// Whether a document is converted remotely, and why. It is displayed as a sentence, and serialised as
/// `{processing_method, reason, explanation, figures}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// How it is converted.
    pub method: Method,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for a person: a sentence.
    pub explanation: String,
    /// What the control plane told, if it was asked and did.
    pub figures: Option<Figures>,
}

impl Decision {
    pub(crate) fn new(reason: Reason, explanation: impl Into<String>, figures: Option<Figures>) -> Self {
        Self { method: reason.method(), reason, explanation: explanation.into(), figures }
    }

    /// Whether it is for a remote conversion.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.method == Method::Remote
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explanation)
    }
}

impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Decision", 4)?;
        fields.serialize_field("processing_method", &self.method)?;
        fields.serialize_field("reason", &self.reason)?;
        fields.serialize_field("explanation", &self.explanation)?;
        fields.serialize_field("figures", &self.figures)?;
        fields.end()
    }
}

impl RemoteSettings {
    /// What the rules alone say: nobody is asked anything.
    #[must_use]
    pub fn should_use_remote(&self, content_type: &ContentType, requested: bool) -> Decision {
        if !requested {
            return Decision::new(Reason::NotRequested, "Remote conversion was not asked for.", None);
        }
        if !self.enabled {
            return Decision::new(
                Reason::NotEnabled,
                "Remote conversion was asked for, but is not enabled here; set MORAG_REMOTE_CONVERSION_ENABLED=true \
                 to enable it.",
                None,
            );
        }
        if !self.content_types.contains(content_type) {
            let supported: Vec<&str> = self.content_types.iter().map(ContentType::as_str).collect();
            let supported = if supported.is_empty() { "none".to_owned() } else { supported.join(", ") };
            return Decision::new(
                Reason::TypeNotSupported,
                format!(
                    "Remote conversion is not set up for {content_type}; MORAG_REMOTE_CONTENT_TYPES has {supported}."
                ),
                None,
            );
        }
        let explanation = format!("Remote conversion was asked for and is allowed for {content_type}.");
        Decision::new(Reason::Allowed, explanation, None)
    }
}

pub(crate) fn resumed() -> Decision {
    Decision::new(Reason::Resumed, "A remote job of this task is there already.", None)
}

/// What is decided where a local conversion is not allowed, whatever speaks for one.
pub(crate) fn without_fallback(decision: Decision) -> Decision {
    if decision.is_remote() {
        return decision;
    }
    let explanation = format!(
        "Local conversion is not allowed for this task, so the remote one is tried although: {}",
        decision.explanation
    );
    Decision::new(Reason::NoFallback, explanation, decision.figures)
}

/// What there is to weigh once the control plane has answered.
pub(crate) struct Prospects<'a> {
    pub(crate) content_type: &'a ContentType,
    pub(crate) figures: Figures,
    /// How long ago a live worker was seen at most, in seconds.
    pub(crate) live_within_seconds: u64,
    pub(crate) within: Duration,
}

impl Prospects<'_> {
    /// The first thing that speaks against a remote conversion; else what speaks for it.
    pub(crate) fn decide(self) -> Decision {
        let figures = Figures { expected_wait_seconds: self.expected_wait(), ..self.figures };
        let weighed = Self { figures, ..self };
        let (reason, explanation) = weighed.verdict();
        Decision::new(reason, explanation, Some(figures))
    }

    fn verdict(&self) -> (Reason, String) {
        let (figures, content_type) = (&self.figures, self.content_type);
        let left = self.within.as_secs_f64();
        if figures.live_workers == Some(0) {
            let within = self.live_within_seconds;
            let said = format!("No worker that takes {content_type} has been seen in the last {within} s.");
            return (Reason::NoLiveWorker, said);
        }
        if figures.paused == Some(true) {
            return (Reason::QueuePaused, format!("The queue of {content_type} is paused."));
        }
        let (Some(median), wait) = (figures.run_time_p50_seconds, figures.expected_wait_seconds) else {
            return self.nothing_against();
        };
        if median > left {
            return (
                Reason::TooSlow,
                format!(
                    "Half of the conversions of {content_type} took longer than {median:.0} s, and {left:.0} s are left."
                ),
            );
        }
        match wait {
            Some(wait) if wait + median > left => (
                Reason::QueueTooLong,
                format!(
                    "{}: about {wait:.0} s, then {median:.0} s of its own, and {left:.0} s are left.",
                    self.jobs_ahead()
                ),
            ),
            _ => self.nothing_against(),
        }
    }

    fn nothing_against(&self) -> (Reason, String) {
        let Some(workers) = self.figures.live_workers else {
            let said = "The server does not tell its workers, so the job is tried.";
            return (Reason::WorkersUnknown, said.to_owned());
        };
        let takes = if workers == 1 { "live worker takes" } else { "live workers take" };
        let mut said = format!("{workers} {takes} {}.", self.content_type);
        match self.figures.queue_depth {
            None | Some(0) => {}
            Some(1) => said.push_str(" 1 job waits before it."),
            Some(waiting) => said.push_str(&format!(" {waiting} jobs wait before it.")),
        }
        (Reason::WorkerAvailable, said)
    }

    /// How many workers share the jobs. Where they are not told, one is taken to be there.
    fn workers(&self) -> u64 {
        self.figures.live_workers.unwrap_or(1).max(1)
    }

    /// How many jobs must end before a worker is free for this one: all that wait, and of those that run as many as
    /// leave no worker free.
    fn ahead(&self) -> Option<u64> {
        let running = self.figures.running.unwrap_or(0);
        let busy = running.saturating_add(1).saturating_sub(self.workers());
        Some(self.figures.queue_depth?.saturating_add(busy))
    }

    fn jobs_ahead(&self) -> String {
        match self.ahead().unwrap_or(0) {
            1 => "1 job is before it".to_owned(),
            ahead => format!("{ahead} jobs are before it"),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "so many jobs and workers nobody has")]
    fn expected_wait(&self) -> Option<f64> {
        Some(self.ahead()? as f64 * self.figures.run_time_p50_seconds? / self.workers() as f64)
    }
}
