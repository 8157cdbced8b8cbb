//! One job as the design and the protocol describe it: plain values and what each call makes of them. Nothing here
//! comes from the domain's transitions, which this is compared with.

/// Milliseconds on the server's clock, or how many of them.
pub(crate) type Millis = i64;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) content_type: &'static str,
    pub(crate) queue: Millis,
    pub(crate) run: Millis,
    pub(crate) total: Option<Millis>,
    pub(crate) max_retries: u32,
    /// The head start in the queue.
    pub(crate) credit: Millis,
    pub(crate) webhook: Option<&'static str>,
    /// Whether the task options are too large for the row.
    pub(crate) large_options: bool,
}

/// What proves that somebody holds an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Proof {
    /// The hash of a token, in hexadecimal digits.
    Token(String),
    /// An API key, in a call without a token.
    Key(&'static str),
}

/// What a call brings along.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Brought {
    pub(crate) token: Option<String>,
    pub(crate) key: &'static str,
}

impl Proof {
    pub(crate) fn is(&self, brought: &Brought) -> bool {
        match self {
            Self::Token(hash) => brought.token.as_ref() == Some(hash),
            Self::Key(key) => brought.token.is_none() && brought.key == *key,
        }
    }
}

/// An attempt that runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) worker: &'static str,
    pub(crate) proof: Proof,
    /// How long a lease lasts; a client of the original system has it for the whole run.
    pub(crate) term: Option<Millis>,
    pub(crate) started: Millis,
    pub(crate) lease_ends: Millis,
    pub(crate) heard: bool,
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) run: Run,
    pub(crate) ended: Millis,
    pub(crate) how: How,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum How {
    Completed,
    Failed { error: String, then: &'static str },
    TimedOut,
    Lapsed,
    NeverHeardOf,
    Released,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    Waits {
        since: Millis,
        backoff: bool,
    },
    Runs(Run),
    Over {
        status: &'static str,
        at: Millis,
        /// What the error says. A few words that must be in it where the server words it.
        error: Option<String>,
        /// The key of the result.
        result: Option<String>,
    },
}

/// Why a call changes nothing, in the words of the API's refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    StaleLease,
    NoLeaseToken,
    RunTimeout,
    OtherOutcome(&'static str),
    Ended,
    NotRetryable,
    TakenOver,
    TooManyAttempts,
    NotEnded,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) tenant: &'static str,
    pub(crate) asked: Asked,
    /// The idempotency key it was created under, and the shape that was asked for then.
    pub(crate) made_by: Option<(u8, usize)>,
    pub(crate) created: Millis,
    pub(crate) opened: Millis,
    pub(crate) updated: Millis,
    pub(crate) revision: u64,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) retries: u32,
    pub(crate) free_returns: u32,
    pub(crate) progress: Option<u8>,
    pub(crate) local: bool,
    pub(crate) phase: Phase,
}

impl Job {
    pub(crate) fn new(id: String, tenant: &'static str, asked: Asked, now: Millis) -> Self {
        Self {
            id,
            tenant,
            asked,
            made_by: None,
            created: now,
            opened: now,
            updated: now,
            revision: 1,
            attempts: Vec::new(),
            retries: 0,
            free_returns: 0,
            progress: None,
            local: false,
            phase: Phase::Waits { since: now, backoff: false },
        }
    }

    pub(crate) fn status(&self) -> &'static str {
        match &self.phase {
            Phase::Waits { .. } => "pending",
            Phase::Runs(_) => "processing",
            Phase::Over { status, .. } => status,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    pub(crate) fn run(&self) -> Option<&Run> {
        match &self.phase {
            Phase::Runs(run) => Some(run),
            Phase::Waits { .. } | Phase::Over { .. } => None,
        }
    }

    /// The number of the attempt that runs, or of the last one.
    pub(crate) fn attempt(&self) -> usize {
        self.attempts.len() + usize::from(self.run().is_some())
    }

    /// Whether time has ended the last attempt and nobody took the job since.
    pub(crate) fn is_lapsed(&self) -> bool {
        let by_time = |how: &How| matches!(how, How::Lapsed | How::TimedOut | How::NeverHeardOf);
        matches!(self.phase, Phase::Waits { .. })
            && self.attempts.last().is_some_and(|last| by_time(&last.how))
    }

    pub(crate) fn total_ends(&self) -> Millis {
        self.asked.total.map_or(Millis::MAX, |total| self.opened + total)
    }

    pub(crate) fn run_ends(&self, run: &Run) -> Millis {
        (run.started + self.asked.run).min(self.total_ends())
    }

    /// When the present wait or run is over for good.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Waits { since, .. } => Some((since + self.asked.queue).min(self.total_ends())),
            Phase::Runs(run) => Some(self.run_ends(run)),
            Phase::Over { .. } => None,
        }
    }

    /// Whether the job comes back at a known time, instead of waiting for its turn; and when it is due.
    pub(crate) fn due(&self) -> Option<(bool, Millis)> {
        match &self.phase {
            Phase::Waits { backoff: false, .. } => Some((false, self.created - self.asked.credit)),
            Phase::Waits { backoff: true, since } => Some((true, *since)),
            Phase::Runs(run) => Some((true, run.lease_ends.min(self.run_ends(run)))),
            Phase::Over { .. } => None,
        }
    }

    pub(crate) fn due_key(&self) -> Option<String> {
        let kind = if self.due()?.0 { "return" } else { "queue" };
        Some(format!("{kind}#{}#{}#0", self.tenant, self.asked.content_type))
    }

    /// Whether the index names the job to a poll.
    pub(crate) fn is_met(&self, now: Millis) -> bool {
        self.due().is_some_and(|(_, due)| due <= now)
    }
}

/// What a worker submits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Submitted {
    /// The key of the stored result.
    Result(String),
    Failure {
        error: &'static str,
        retryable: bool,
    },
}

impl How {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
            Self::TimedOut => "timed-out",
            Self::Lapsed => "lapsed",
            Self::NeverHeardOf => "never-heard-of",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Refusal {
    /// As the answer is compared: the refusal's name, and what the job is.
    pub(crate) fn text(self, status: &str) -> String {
        format!("refused: {self:?} of a job that is {status}")
    }
}
