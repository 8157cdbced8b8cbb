use std::fmt;

/// Every environment variable that the control plane reads. `AWS_*` belong to the AWS SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvVar {
    /// The table's name. Default `remote-jobs`.
    Table,
    /// The handoff bucket's name. Default `remote-jobs`.
    Bucket,
    /// How many partitions each queue is spread over. Default 1, at most 64.
    QueueShards,
    /// How many days a job's row stays after its end. Default 30, at most 40: its objects stay 45.
    RetentionDays,
    /// How many seconds a worker that found nothing waits before it asks again, where it is not held. Default 10.
    PollAgainSeconds,
    /// What the names of the SQS queues begin with on which idle workers wait for hints of work. Default none: workers are
    /// given no hints.
    HintQueues,
    /// Folders whose files may be named by absolute path, separated as in `PATH`. Default none.
    SourceRoots,
    /// Networks whose webhooks are told besides those at globally routable addresses, also over `http://`, with commas
    /// between them: `127.0.0.0/8,192.168.1.0/24`. Default none.
    WebhookNetworks,
    /// Seconds that one attempt of an audio job may run. Default 3600.
    TimeoutAudio,
    /// Seconds that one attempt of a video job may run. Default 3600.
    TimeoutVideo,
    /// Seconds that one attempt of a document job may run. Default 600.
    TimeoutDocument,
    /// Seconds that one attempt of an image job may run. Default 300.
    TimeoutImage,
    /// Seconds that one attempt of a web job may run. Default 600.
    TimeoutWeb,
    /// Seconds that one attempt of a YouTube job may run. Default 1800.
    TimeoutYoutube,
    /// `DEBUG`, `INFO`, `WARNING` or `ERROR`, or a filter as `tracing` spells it. Default `INFO`.
    LogLevel,
}

impl EnvVar {
    /// The variable's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "MORAG_TABLE",
            Self::Bucket => "MORAG_BUCKET",
            Self::QueueShards => "MORAG_QUEUE_SHARDS",
            Self::RetentionDays => "MORAG_RETENTION_DAYS",
            Self::PollAgainSeconds => "MORAG_POLL_AGAIN_SECONDS",
            Self::HintQueues => "MORAG_HINT_QUEUES",
            Self::SourceRoots => "MORAG_SOURCE_ROOTS",
            Self::WebhookNetworks => "MORAG_WEBHOOK_NETWORKS",
            Self::TimeoutAudio => "MORAG_REMOTE_TIMEOUT_AUDIO",
            Self::TimeoutVideo => "MORAG_REMOTE_TIMEOUT_VIDEO",
            Self::TimeoutDocument => "MORAG_REMOTE_TIMEOUT_DOCUMENT",
            Self::TimeoutImage => "MORAG_REMOTE_TIMEOUT_IMAGE",
            Self::TimeoutWeb => "MORAG_REMOTE_TIMEOUT_WEB",
            Self::TimeoutYoutube => "MORAG_REMOTE_TIMEOUT_YOUTUBE",
            Self::LogLevel => "MORAG_LOG_LEVEL",
        }
    }

    /// Its value, if it is set to anything.
    #[must_use]
    pub fn read(self) -> Option<String> {
        std::env::var(self.name()).ok().filter(|value| !value.is_empty())
    }
}

impl fmt::Display for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
