use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    ContentType, FileName, Inconsistent, JobId, KeyId, LeaseTerms, Limits, MAX_ATTEMPTS, Tenant, Timestamp,
    TokenHash, WebhookUrl, WorkerId,
};

/// One conversion, from its creation to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The job's id.
    pub id: JobId,
    /// Whose job it is.
    pub tenant: Tenant,
    /// What was asked for. Never changes.
    pub spec: Spec,
    /// When it was created.
    pub created_at: Timestamp,
    /// When `limits.total` began to count: creation, or the last retry by hand.
    pub opened_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
    /// Grows by one with every change but plain progress. A write is conditional on it.
    pub revision: u64,
    /// The attempts that have ended, oldest first. Their count is the number of the last ended attempt.
    pub attempts: Vec<Attempt>,
    /// Retries spent since creation or the last retry by hand.
    pub retries: u32,
    /// Returns to the queue that cost no retry, counted over the same span.
    pub free_returns: u32,
    /// What the running or last attempt said of its progress. Absent once the job is converted.
    pub progress: Option<Progress>,
    /// True once the ingestion side has taken the job over to convert it locally. Never taken back.
    pub continued_locally: bool,
    /// Where the job stands.
    pub state: State,
}

/// What was asked for when a job was created.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What the source is.
    pub content_type: ContentType,
    /// The ingestion service's own id for the work this job belongs to.
    pub ingestion_task_id: String,
    /// What to convert.
    pub source: Source,
    /// The caller's options, handed to the converter unread.
    pub task_options: TaskOptions,
    /// What bounds the job.
    pub limits: Limits,
    /// How much older than it is the job counts as in its queue.
    pub priority: Priority,
    /// The hash of the creating request, when it came with an idempotency key.
    pub request_hash: Option<[u8; 32]>,
    /// Who is told when the job has ended.
    pub webhook: Option<WebhookUrl>,
}

/// The caller's options for the converter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskOptions {
    /// The JSON text of one object.
    Inline(String),
    /// Too large for the job's record, which every heartbeat writes; kept as an object of its own.
    Stored,
}

/// The object to convert, as it was when the job was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The object's key in the handoff bucket.
    pub key: String,
    /// The name it is downloaded under.
    pub name: FileName,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its ETag, quotes included.
    pub etag: String,
    /// Its SHA-256, when the uploader declared one.
    pub sha256: Option<[u8; 32]>,
}

/// How much a job is moved forward in its queue. A difference in credit is also the longest that a job of a lower
/// priority waits behind later ones of a higher, so none starves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Two hours of credit.
    High,
    /// One hour of credit.
    #[default]
    Normal,
    /// No credit.
    Low,
}

impl Priority {
    /// The head start over a job of low priority.
    #[must_use]
    pub fn credit(self) -> Duration {
        match self {
            Self::High => Duration::from_secs(7200),
            Self::Normal => Duration::from_secs(3600),
            Self::Low => Duration::ZERO,
        }
    }
}

/// Where a job stands, with just what belongs to that state.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Waiting for a worker.
    Pending(Pending),
    /// Leased to a worker.
    Processing(Running),
    /// Converted; the last attempt's outcome says how.
    Completed {
        /// When.
        at: Timestamp,
        /// Where the result is.
        result: ResultRef,
    },
    /// An attempt failed and no retry was left.
    Failed {
        /// When.
        at: Timestamp,
        /// Why, for a person.
        error: String,
    },
    /// One of the job's limits ran out.
    Timeout {
        /// When.
        at: Timestamp,
        /// Which limit, for a person.
        error: String,
    },
    /// Ended by a caller.
    Cancelled {
        /// When.
        at: Timestamp,
    },
}

/// A job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When the queue timeout began to count.
    pub since: Timestamp,
    /// What it waits for.
    pub wait: Wait,
}

/// What a waiting job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its turn, which is now.
    Turn,
    /// The end of a backoff; `since` of the queue timeout is that same moment.
    Backoff,
}

/// An attempt that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Who runs it.
    pub worker: WorkerId,
    /// Who may report on it.
    pub holder: Holder,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// How long a lease lasts from its last renewal.
    pub terms: LeaseTerms,
    /// When the lease ends.
    pub lease_ends_at: Timestamp,
    /// True once the worker has been heard of since it claimed the job.
    pub confirmed: bool,
}

/// Who may report on an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Whoever knows the token that hashes to this.
    Token(TokenHash),
    /// A client of the original system: whoever uses the API key that claimed the job, without a token.
    Key(KeyId),
}

/// What a worker's call brings as proof that it holds the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The hash of the `Lease-Token` header.
    pub token: Option<TokenHash>,
    /// The API key of the call.
    pub key: KeyId,
}

impl Holder {
    /// Whether `credential` is this holder's.
    #[must_use]
    pub fn is(&self, credential: &Credential) -> bool {
        match self {
            Self::Token(hash) => credential.token.as_ref() == Some(hash),
            Self::Key(key) => credential.token.is_none() && credential.key == *key,
        }
    }

    /// As [`Holder::is`], for tokens only: one key may hold any number of attempts, a token holds one.
    pub(crate) fn is_token_of(&self, credential: &Credential) -> bool {
        matches!(self, Self::Token(_)) && self.is(credential)
    }
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Who ran it.
    pub worker: WorkerId,
    /// Who reported on it.
    pub holder: Holder,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How long its lease lasted, kept so that a lapsed attempt can go on when nobody else took the job.
    pub terms: LeaseTerms,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its result was accepted.
    Completed,
    /// The worker reported a failure.
    Failed {
        /// What the worker said.
        error: String,
        /// What the job became by it: the answer that a repeated report gets again.
        then: Status,
    },
    /// It ran past its run timeout.
    TimedOut,
    /// Its lease ended without a heartbeat. A retry was spent.
    Lapsed,
    /// Its lease ended without any sign of life after the claim. No retry was spent.
    NeverHeardOf,
    /// The worker gave it back.
    Released,
    /// The job was cancelled while it ran.
    Cancelled,
}

/// What a worker said of its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100.
    pub percentage: u8,
    /// For a person.
    pub message: String,
    /// The stage the conversion is in, where the worker names one.
    pub stage: Option<String>,
}

/// Where an accepted result is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRef {
    /// The result object's key.
    pub key: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// The state's name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for a worker.
    Pending,
    /// Leased to a worker.
    Processing,
    /// Converted.
    Completed,
    /// Failed for good.
    Failed,
    /// A limit ran out.
    Timeout,
    /// Ended by a caller.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Processing, Self::Completed, Self::Failed, Self::Timeout, Self::Cancelled];

    /// How it is spelled on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How and when a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending<'a> {
    /// When.
    pub at: Timestamp,
    /// Why, unless it was converted.
    pub error: Option<&'a str>,
}

impl Job {
    /// A new job that waits for its first worker.
    #[must_use]
    pub fn create(id: JobId, tenant: Tenant, spec: Spec, now: Timestamp) -> Self {
        Self {
            id,
            tenant,
            spec,
            created_at: now,
            opened_at: now,
            updated_at: now,
            revision: 1,
            attempts: Vec::new(),
            retries: 0,
            free_returns: 0,
            progress: None,
            continued_locally: false,
            state: State::Pending(Pending { since: now, wait: Wait::Turn }),
        }
    }

    /// The state's name.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.state {
            State::Pending(_) => Status::Pending,
            State::Processing(_) => Status::Processing,
            State::Completed { .. } => Status::Completed,
            State::Failed { .. } => Status::Failed,
            State::Timeout { .. } => Status::Timeout,
            State::Cancelled { .. } => Status::Cancelled,
        }
    }

    /// The number of the attempt that runs or, when none does, of the last one; 0 before the first.
    #[must_use]
    pub fn attempt_number(&self) -> usize {
        self.attempts.len() + usize::from(matches!(self.state, State::Processing(_)))
    }

    /// The attempt that runs.
    #[must_use]
    pub fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Processing(running) => Some(running),
            State::Pending(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Timeout { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// How and when the job ended, if it has.
    #[must_use]
    pub fn ending(&self) -> Option<Ending<'_>> {
        match &self.state {
            State::Pending(_) | State::Processing(_) => None,
            State::Completed { at, .. } | State::Cancelled { at } => Some(Ending { at: *at, error: None }),
            State::Failed { at, error } | State::Timeout { at, error } => {
                Some(Ending { at: *at, error: Some(error) })
            }
        }
    }

    /// The job's place in its queue: ascending, and never after the moment it was created.
    #[must_use]
    pub fn rank(&self) -> Timestamp {
        self.created_at.minus(self.spec.priority.credit())
    }

    /// When something has to happen to the job at the latest: a worker's turn, the end of a backoff, the end of a
    /// lease or of a run. Absent once it has ended.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Pending(Pending { wait: Wait::Turn, .. }) => Some(self.rank()),
            State::Pending(Pending { wait: Wait::Backoff, since }) => Some(*since),
            State::Processing(running) => Some(running.lease_ends_at.min(self.run_deadline(running))),
            State::Completed { .. }
            | State::Failed { .. }
            | State::Timeout { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// When the present wait or run is over for good. Absent once the job has ended.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match &self.state {
            State::Pending(pending) => {
                let queue = pending.since.plus(self.spec.limits.queue);
                Some(self.total_deadline().map_or(queue, |total| total.min(queue)))
            }
            State::Processing(running) => Some(self.run_deadline(running)),
            State::Completed { .. }
            | State::Failed { .. }
            | State::Timeout { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// When the attempt must be over: its run timeout or the job's total timeout, whichever is earlier.
    #[must_use]
    pub fn run_deadline(&self, running: &Running) -> Timestamp {
        let run = running.started_at.plus(self.spec.limits.run);
        self.total_deadline().map_or(run, |total| total.min(run))
    }

    pub(crate) fn total_deadline(&self) -> Option<Timestamp> {
        self.spec.limits.total.map(|total| self.opened_at.plus(total))
    }

    /// When the running attempt will be done if it goes on at the rate it went so far. Absent before the first
    /// progress above 0 %.
    #[must_use]
    pub fn estimated_completion(&self) -> Option<Timestamp> {
        let running = self.running()?;
        let percentage = u32::from(self.progress.as_ref()?.percentage);
        let so_far = self.updated_at.since(running.started_at);
        (percentage > 0).then(|| running.started_at.plus(so_far * 100 / percentage))
    }

    /// Refuses a combination that no sequence of transitions produces. Decoding a stored row ends with this.
    ///
    /// # Errors
    /// [`Inconsistent`] names the rule that is broken.
    pub fn check(&self) -> Result<(), Inconsistent> {
        let last = self.attempts.last().map(|attempt| &attempt.outcome);
        let completed = self.attempts.iter().filter(|a| a.outcome == Outcome::Completed).count();
        let rules = [
            (self.revision > 0, "revision 0"),
            (
                // A job that has not ended runs another attempt or waits for it.
                self.attempts.len() + usize::from(self.ending().is_none()) <= MAX_ATTEMPTS,
                "more attempts than a job can have",
            ),
            (
                completed == usize::from(self.status() == Status::Completed),
                "completed attempts do not fit the status",
            ),
            (
                self.status() != Status::Completed || last == Some(&Outcome::Completed),
                "completed by an attempt that is not the last",
            ),
            (
                !(self.continued_locally && matches!(self.state, State::Completed { .. })),
                "both completed remotely and continued locally",
            ),
            (!self.continued_locally || self.ending().is_some(), "continued locally and not ended"),
            (
                self.running().is_none_or(|running| {
                    matches!(running.terms, LeaseTerms::WholeRun) == matches!(running.holder, Holder::Key(_))
                }),
                "lease terms do not fit the holder",
            ),
            (self.opened_at >= self.created_at, "opened before it was created"),
        ];
        rules
            .into_iter()
            .try_for_each(|(holds, broken)| if holds { Ok(()) } else { Err(Inconsistent(broken)) })
    }
}
