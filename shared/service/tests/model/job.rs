//! One job as the design and the protocol describe it: plain values and what each call makes of them. Nothing here
//! comes from the domain's transitions, which this is compared with.

use std::fmt::Write;

/// Milliseconds on the server's clock, or how many of them.
pub(crate) type Millis = i64;

/// A native claim stands this long until its worker is heard of.
const FIRST_LEASE: Millis = 20_000;
/// A job comes back this often without a retry being spent.
const MOST_FREE_RETURNS: u32 = 20;
/// The most attempts that one job has.
pub(crate) const MOST_ATTEMPTS: usize = 100;

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
    fn is(&self, brought: &Brought) -> bool {
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

    // ---- Limits and the index ----

    fn total_ends(&self) -> Millis {
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

    // ---- Time ----

    /// Whether time alone changes the job.
    pub(crate) fn is_out_of_time(&self, now: Millis) -> bool {
        match &self.phase {
            Phase::Waits { .. } => self.deadline().is_some_and(|deadline| deadline <= now),
            Phase::Runs(_) => self.is_met(now),
            Phase::Over { .. } => false,
        }
    }

    /// What time alone makes of a job that is out of it.
    pub(crate) fn time_passes(&mut self, now: Millis, jitter: f64) {
        let out_of_total = self.total_ends() <= now;
        let Phase::Runs(run) = self.phase.clone() else {
            let why = if out_of_total { "total timeout" } else { "queue timeout" };
            self.change(now);
            return self.end("timeout", now, Some(why));
        };
        if !run.heard {
            self.attempt_ends(&run, How::NeverHeardOf, now);
            self.give_back(now, jitter);
        } else if self.run_ends(&run) <= now {
            self.attempt_ends(&run, How::TimedOut, now);
            match out_of_total {
                true => self.end("timeout", now, Some("total timeout")),
                false => self.try_again(now, jitter, "did not finish within the run timeout"),
            }
        } else {
            let opened = self.opened;
            let lapsed_before = |a: &Attempt| a.how == How::Lapsed && a.run.started >= opened;
            let first = !self.attempts.iter().any(lapsed_before);
            self.attempt_ends(&run, How::Lapsed, now);
            self.try_again(now, jitter, "stopped reporting");
            if first && !self.is_over() {
                self.phase = Phase::Waits { since: now, backoff: false };
            }
        }
    }

    // ---- Workers ----

    pub(crate) fn may_be_claimed(&self, now: Millis) -> bool {
        matches!(self.phase, Phase::Waits { .. }) && self.is_met(now) && !self.is_out_of_time(now)
    }

    pub(crate) fn claim(&mut self, worker: &'static str, proof: Proof, term: Option<Millis>, now: Millis) {
        self.change(now);
        self.progress = None;
        let lease = term.map_or(self.asked.run, |term| term.min(FIRST_LEASE));
        let heard = term.is_none();
        self.phase = Phase::Runs(Run { worker, proof, term, started: now, lease_ends: now + lease, heard });
    }

    /// Whether a heartbeat of this caller is told that the job was cancelled under it.
    pub(crate) fn was_cancelled_under(&self, who: &Brought) -> bool {
        let last = self.attempts.last();
        self.status() == "cancelled"
            && last.is_some_and(|last| last.how == How::Cancelled && last.run.proof.is(who))
    }

    pub(crate) fn heartbeat(&mut self, who: &Brought, percent: u8, now: Millis) -> Result<(), Refusal> {
        let (mut run, was_over) = self.held(who)?;
        if self.run_ends(&run) <= now {
            return Err(Refusal::RunTimeout);
        }
        let left = (run.lease_ends - now).max(0);
        let renews = was_over || run.term.is_some_and(|term| !run.heard || left * 3 < term * 2);
        if was_over {
            self.take_back();
        }
        if renews {
            self.change(now);
            run.heard = true;
            run.lease_ends = run.term.map_or(run.lease_ends, |term| now + term);
        }
        self.progress = Some(percent);
        self.updated = now;
        self.phase = Phase::Runs(run);
        Ok(())
    }

    /// A result, or a failure with its words. What is answered.
    pub(crate) fn submit(
        &mut self,
        who: &Brought,
        what: &Submitted,
        now: Millis,
        jitter: f64,
    ) -> Result<&'static str, Refusal> {
        if let Some(first) = self.answered_before(who, matches!(what, Submitted::Result(_))) {
            return first;
        }
        let (run, was_over) = self.held(who)?;
        if was_over {
            self.take_back();
        }
        match what {
            Submitted::Result(key) => {
                self.attempt_ends(&run, How::Completed, now);
                // What is done is at 100 %, and its row needs no progress to say so.
                self.progress = None;
                let result = Some(key.clone());
                self.phase = Phase::Over { status: "completed", at: now, error: None, result };
            }
            Submitted::Failure { error, retryable } => {
                let how = |then| How::Failed { error: (*error).to_owned(), then };
                self.attempt_ends(&run, how("pending"), now);
                if *retryable && self.has_retry(now) {
                    self.back_off(now, jitter);
                } else if let Some(last) = self.attempts.last_mut() {
                    last.how = how("failed");
                    self.end("failed", now, Some(error));
                }
            }
        }
        Ok(self.status())
    }

    pub(crate) fn release(&mut self, who: &Brought, now: Millis, jitter: f64) -> Result<(), Refusal> {
        let by_token = |a: &Attempt| matches!(a.run.proof, Proof::Token(_)) && a.run.proof.is(who);
        if self.attempts.iter().any(|a| a.how == How::Released && by_token(a)) {
            return Ok(());
        }
        let (run, was_over) = self.held(who)?;
        if self.run_ends(&run) <= now {
            return Err(Refusal::RunTimeout);
        }
        if was_over {
            self.take_back();
        }
        self.attempt_ends(&run, How::Released, now);
        self.give_back(now, jitter);
        Ok(())
    }

    /// Whether this caller holds the attempt that runs, or the one that time ended when nobody took the job since.
    /// The second says that it is the latter.
    fn held(&self, who: &Brought) -> Result<(Run, bool), Refusal> {
        match &self.phase {
            Phase::Runs(run) if run.proof.is(who) => return Ok((run.clone(), false)),
            Phase::Runs(Run { proof: Proof::Token(_), .. }) if who.token.is_none() => {
                return Err(Refusal::NoLeaseToken);
            }
            Phase::Waits { .. } => {}
            Phase::Runs(_) | Phase::Over { .. } => return Err(Refusal::StaleLease),
        }
        match self.attempts.last() {
            Some(Attempt { run, ended, how: How::Lapsed | How::TimedOut | How::NeverHeardOf })
                if run.proof.is(who) =>
            {
                Ok((Run { lease_ends: *ended, heard: true, ..run.clone() }, true))
            }
            _ => Err(Refusal::StaleLease),
        }
    }

    /// The attempt that time ended goes on after all, so what its end cost is given back.
    fn take_back(&mut self) {
        let backoff = matches!(self.phase, Phase::Waits { backoff: true, .. });
        match self.attempts.pop().map(|attempt| attempt.how) {
            Some(How::NeverHeardOf) if !backoff => self.free_returns = self.free_returns.saturating_sub(1),
            _ => self.retries = self.retries.saturating_sub(1),
        }
    }

    /// What a lease that has submitted before is answered.
    fn answered_before(&self, who: &Brought, success: bool) -> Option<Result<&'static str, Refusal>> {
        if self.run().is_some_and(|run| run.proof.is(who)) {
            return None;
        }
        let attempt = match who.token {
            Some(_) => self.attempts.iter().rev().find(|attempt| attempt.run.proof.is(who)),
            None => self.attempts.last().filter(|attempt| attempt.run.proof.is(who)),
        };
        match (&attempt?.how, success) {
            (How::Completed, true) => Some(Ok("completed")),
            (How::Failed { then, .. }, false) => Some(Ok(then)),
            (How::Completed, false) => Some(Err(Refusal::OtherOutcome("completed"))),
            (How::Failed { .. }, true) => Some(Err(Refusal::OtherOutcome("failed"))),
            _ => None,
        }
    }

    // ---- The ingestion side ----

    pub(crate) fn cancel(&mut self, takeover: bool, now: Millis) -> Result<(), Refusal> {
        match self.phase.clone() {
            Phase::Over { status: "completed", .. } => return Err(Refusal::Ended),
            Phase::Over { .. } if takeover => {
                if !self.local {
                    self.change(now);
                    self.local = true;
                }
                return Ok(());
            }
            Phase::Over { status: "cancelled", .. } => return Ok(()),
            Phase::Over { .. } => return Err(Refusal::Ended),
            Phase::Waits { .. } => self.change(now),
            Phase::Runs(run) => self.attempt_ends(&run, How::Cancelled, now),
        }
        self.local = takeover;
        self.end("cancelled", now, None);
        Ok(())
    }

    pub(crate) fn retry(&mut self, now: Millis) -> Result<(), Refusal> {
        if !matches!(self.status(), "failed" | "timeout" | "cancelled") {
            return Err(Refusal::NotRetryable);
        }
        if self.local {
            return Err(Refusal::TakenOver);
        }
        if self.attempts.len() >= MOST_ATTEMPTS {
            return Err(Refusal::TooManyAttempts);
        }
        self.change(now);
        self.opened = now.max(self.created);
        self.retries = 0;
        self.free_returns = 0;
        self.progress = None;
        self.phase = Phase::Waits { since: now, backoff: false };
        Ok(())
    }

    // ---- What the rules have in common ----

    fn change(&mut self, now: Millis) {
        self.revision += 1;
        self.updated = now;
    }

    fn attempt_ends(&mut self, run: &Run, how: How, now: Millis) {
        self.change(now);
        self.attempts.push(Attempt { run: run.clone(), ended: now, how });
    }

    fn end(&mut self, status: &'static str, now: Millis, error: Option<&str>) {
        let error = error.map(str::to_owned);
        self.phase = Phase::Over { status, at: now, error, result: None };
    }

    fn has_retry(&self, now: Millis) -> bool {
        self.retries < self.asked.max_retries
            && self.attempts.len() < MOST_ATTEMPTS
            && self.total_ends() > now
    }

    /// Another attempt after a backoff, when one is left.
    fn try_again(&mut self, now: Millis, jitter: f64, why: &str) {
        match self.has_retry(now) {
            true => self.back_off(now, jitter),
            false => self.end("timeout", now, Some(why)),
        }
    }

    /// Half a minute, doubled with each retry up to an hour; of that, the share that the jitter says.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "an hour in milliseconds"
    )]
    fn back_off(&mut self, now: Millis, jitter: f64) {
        let longest = (30_000 << self.retries.min(16)).min(3_600_000_i64);
        self.retries += 1;
        let since = now + (longest as f64 * jitter) as Millis;
        self.phase = Phase::Waits { since, backoff: true };
    }

    /// Back to the queue without a retry spent, unless that has happened too often.
    fn give_back(&mut self, now: Millis, jitter: f64) {
        if self.free_returns < MOST_FREE_RETURNS && self.attempts.len() < MOST_ATTEMPTS {
            self.free_returns += 1;
            self.phase = Phase::Waits { since: now, backoff: false };
        } else {
            self.try_again(now, jitter, "too often");
        }
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
        let mut text = format!("refused: {self:?}");
        let _ = write!(text, " of a job that is {status}");
        text
    }
}
