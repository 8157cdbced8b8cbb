//! What can happen to a job. Each function gives the job as it will be, or says why it cannot happen.

use std::time::Duration;

use crate::{
    Attempt, Credential, Holder, Jitter, Job, LeaseTerms, MAX_ATTEMPTS, MAX_FREE_RETURNS, Outcome, Pending,
    Progress, Refused, ResultRef, Running, State, Status, Timestamp, Wait, WorkerId, limits::longest_backoff,
};

/// What a worker submits at the end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// The conversion worked; the result is stored.
    Completed(ResultRef),
    /// It did not.
    Failed {
        /// What the worker says, for a person.
        error: String,
        /// False when another attempt would fail the same way.
        retryable: bool,
    },
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    /// It was accepted, and the job is now this.
    Accepted(Box<Job>),
    /// The same lease had submitted the same outcome before; nothing changes and this status is answered again.
    Repeated(Status),
}

/// What a heartbeat changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Renewal {
    /// The job as it will be.
    pub job: Job,
    /// Whether the lease was renewed. Otherwise only progress changed, which moves nothing in the `due` index.
    pub renewed: bool,
}

/// An attempt that the caller was shown to hold, and the job without it. Only [`Job::held_by`] makes one.
struct Held {
    job: Job,
    running: Running,
    /// The attempt had lapsed and nobody took the job since.
    lapsed: bool,
}

impl Job {
    /// A worker takes the job.
    ///
    /// # Errors
    /// [`Refused::NotDue`] unless the job waits and its turn has come.
    pub fn claim(
        &self,
        worker: WorkerId,
        holder: Holder,
        terms: LeaseTerms,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let waits = matches!(self.state, State::Pending(_)) && !self.is_past_deadline(now);
        if !waits || self.due_at().is_none_or(|due| due > now) {
            return Err(Refused::NotDue { status: self.status() });
        }
        let (lease, confirmed) = match terms {
            LeaseTerms::Renewed(term) => (term.min(LeaseTerms::FIRST_TERM), false),
            LeaseTerms::WholeRun => (self.spec.limits.run, true),
        };
        let running =
            Running { worker, holder, started_at: now, terms, lease_ends_at: now.plus(lease), confirmed };
        let mut job = self.changed(now);
        job.progress = None;
        job.state = State::Processing(running);
        Ok(job)
    }

    /// The worker is alive and may have made progress.
    ///
    /// The lease is renewed when less than two thirds of it are left, or when this is the first sign of life.
    ///
    /// # Errors
    /// [`Refused::StaleLease`] when the caller does not hold the job; [`Refused::RunTimeout`] when the attempt has
    /// used up its time.
    pub fn heartbeat(
        &self,
        credential: &Credential,
        progress: Option<Progress>,
        now: Timestamp,
    ) -> Result<Renewal, Refused> {
        let Held { mut job, mut running, lapsed } = self.held_by(credential)?;
        if self.run_deadline(&running) <= now {
            return Err(Refused::RunTimeout { status: self.status() });
        }
        let renewed = match running.terms {
            LeaseTerms::WholeRun => lapsed,
            LeaseTerms::Renewed(term) => {
                lapsed || !running.confirmed || running.lease_ends_at.since(now) < term * 2 / 3
            }
        };
        if renewed {
            job = job.changed(now);
            if let LeaseTerms::Renewed(term) = running.terms {
                running.lease_ends_at = now.plus(term);
            }
            running.confirmed = true;
        }
        job.progress = progress.or(job.progress);
        job.updated_at = now;
        job.state = State::Processing(running);
        Ok(Renewal { job, renewed })
    }

    /// Says whether the caller holds the job, which downloads and uploads for an attempt demand.
    ///
    /// # Errors
    /// [`Refused::StaleLease`] when it does not.
    pub fn holds(&self, credential: &Credential) -> Result<(), Refused> {
        self.held_by(credential).map(|_| ())
    }

    /// Whether the job was cancelled while the caller ran it, which its next heartbeat is told.
    #[must_use]
    pub fn was_cancelled_under(&self, credential: &Credential) -> bool {
        matches!(self.state, State::Cancelled { .. })
            && self
                .attempts
                .last()
                .is_some_and(|attempt| attempt.outcome == Outcome::Cancelled && attempt.holder.is(credential))
    }

    /// Says whether a submission of this kind would be accepted, before its result is stored.
    ///
    /// # Errors
    /// As [`Job::submit`].
    pub fn may_submit(&self, credential: &Credential, success: bool) -> Result<Option<Status>, Refused> {
        self.first_answer(credential, success)
            .map_or_else(|| self.held_by(credential).map(|_| None), |answer| answer.map(Some))
    }

    /// The attempt ends with a result or a failure.
    ///
    /// # Errors
    /// [`Refused::StaleLease`] when the caller does not hold the job, [`Refused::OtherOutcome`] when it has already
    /// submitted the opposite.
    pub fn submit(
        &self,
        credential: &Credential,
        submission: Submission,
        now: Timestamp,
        jitter: Jitter,
    ) -> Result<Submitted, Refused> {
        if let Some(answer) = self.first_answer(credential, matches!(submission, Submission::Completed(_))) {
            return answer.map(Submitted::Repeated);
        }
        let Held { job, running, .. } = self.held_by(credential)?;
        let job = match submission {
            Submission::Completed(result) => {
                let mut job = job.ended(&running, Outcome::Completed, now);
                // What is done is at 100 %. The rest would only make its record too large for two write units.
                job.progress = None;
                job.state = State::Completed { at: now, result };
                job
            }
            Submission::Failed { error, retryable } => {
                let again = retryable && job.has_retry(job.attempts.len() + 1, now);
                let then = if again { Status::Pending } else { Status::Failed };
                let outcome = Outcome::Failed { error: shortened(&error), then };
                let mut job = job.ended(&running, outcome, now);
                if then == Status::Pending {
                    job.retry_after_backoff(now, jitter);
                } else {
                    job.state = State::Failed { at: now, error };
                }
                job
            }
        };
        Ok(Submitted::Accepted(Box::new(job)))
    }

    /// The worker gives the job back, because it is shutting down. It keeps its rank and spends no retry. `None` when
    /// the same lease has given it back before.
    ///
    /// # Errors
    /// [`Refused::StaleLease`] when the caller does not hold the job; [`Refused::RunTimeout`] when its attempt
    /// was ended for having used up its time.
    pub fn release(
        &self,
        credential: &Credential,
        now: Timestamp,
        jitter: Jitter,
    ) -> Result<Option<Self>, Refused> {
        let again = self
            .attempts
            .iter()
            .any(|attempt| attempt.outcome == Outcome::Released && attempt.holder.is_token_of(credential));
        if again {
            return Ok(None);
        }
        let Held { job, running, lapsed } = self.held_by(credential)?;
        // Giving it back must not spare the attempt the retry that its timeout has cost.
        if lapsed && self.run_deadline(&running) <= now {
            return Err(Refused::RunTimeout { status: self.status() });
        }
        Ok(Some(job.ended(&running, Outcome::Released, now).returned_free(now, jitter)))
    }

    /// Time has passed: ends what has run out. `None` when nothing has.
    #[must_use]
    pub fn lapse(&self, now: Timestamp, jitter: Jitter) -> Option<Self> {
        match &self.state {
            State::Pending(pending) if self.is_past_deadline(now) => Some(self.changed(now).timed_out(
                now,
                if self.is_past_total(now) {
                    self.total_timeout_error()
                } else {
                    format!(
                        "no worker took this {} job within its queue timeout of {}",
                        self.spec.content_type,
                        seconds(pending.since.plus(self.spec.limits.queue).since(pending.since)),
                    )
                },
            )),
            // A claim whose answer may never have arrived is no run that took too long.
            State::Processing(running)
                if !running.confirmed && self.due_at().is_some_and(|due| due <= now) =>
            {
                Some(self.ended(running, Outcome::NeverHeardOf, now).returned_free(now, jitter))
            }
            State::Processing(running) if self.run_deadline(running) <= now => {
                let job = self.ended(running, Outcome::TimedOut, now);
                Some(if job.is_past_total(now) {
                    let error = job.total_timeout_error();
                    job.timed_out(now, error)
                } else {
                    job.retried_or_timed_out(now, jitter, |limits| {
                        format!(
                            "worker {} did not finish within the run timeout of {}",
                            running.worker,
                            seconds(limits.run)
                        )
                    })
                })
            }
            State::Processing(running) if running.lease_ends_at <= now => {
                Some(self.lease_lapsed(running, now, jitter))
            }
            State::Pending(_)
            | State::Processing(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Timeout { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// A caller ends the job. With `takeover` the ingestion side says that it continues with a local conversion,
    /// which is remembered in every state but `completed`.
    ///
    /// # Errors
    /// [`Refused::Ended`] when the job is completed, or has ended otherwise and this is no takeover. Cancelling what
    /// is already cancelled changes nothing and is no error.
    pub fn cancel(&self, takeover: bool, now: Timestamp) -> Result<Self, Refused> {
        let mut job = match &self.state {
            State::Pending(_) => self.changed(now),
            State::Processing(running) => self.ended(running, Outcome::Cancelled, now),
            State::Cancelled { .. } if !takeover => return Ok(self.clone()),
            State::Failed { .. } | State::Timeout { .. } | State::Cancelled { .. }
                if self.continued_locally && takeover =>
            {
                return Ok(self.clone());
            }
            State::Failed { .. } | State::Timeout { .. } | State::Cancelled { .. } if takeover => {
                let mut job = self.changed(now);
                job.continued_locally = true;
                return Ok(job);
            }
            State::Completed { .. }
            | State::Failed { .. }
            | State::Timeout { .. }
            | State::Cancelled { .. } => {
                return Err(Refused::Ended { status: self.status() });
            }
        };
        job.continued_locally = takeover;
        job.state = State::Cancelled { at: now };
        Ok(job)
    }

    /// Says whether the job may be deleted with its objects.
    ///
    /// # Errors
    /// [`Refused::NotEnded`] unless it has ended.
    pub fn may_be_deleted(&self) -> Result<(), Refused> {
        match self.ending() {
            Some(_) => Ok(()),
            None => Err(Refused::NotEnded { status: self.status() }),
        }
    }

    /// A person sends an ended job back to its queue with its retries and limits renewed.
    ///
    /// # Errors
    /// [`Refused::NotRetryable`] unless it failed, timed out or was cancelled; [`Refused::TakenOver`] when the
    /// ingestion side continued locally; [`Refused::TooManyAttempts`].
    pub fn retry(&self, now: Timestamp) -> Result<Self, Refused> {
        match &self.state {
            State::Failed { .. } | State::Timeout { .. } | State::Cancelled { .. } => {}
            State::Pending(_) | State::Processing(_) | State::Completed { .. } => {
                return Err(Refused::NotRetryable { status: self.status() });
            }
        }
        if self.continued_locally {
            return Err(Refused::TakenOver { status: self.status() });
        }
        if self.attempts.len() >= MAX_ATTEMPTS {
            return Err(Refused::TooManyAttempts { status: self.status(), most: MAX_ATTEMPTS });
        }
        let mut job = self.changed(now);
        // A clock set back must not open the job before it was created.
        job.opened_at = now.max(job.created_at);
        job.retries = 0;
        job.free_returns = 0;
        job.progress = None;
        job.state = State::Pending(Pending { since: now, wait: Wait::Turn });
        Ok(job)
    }

    /// Shows that `credential` holds the job: its attempt runs, or has lapsed and nobody has taken the job since.
    fn held_by(&self, credential: &Credential) -> Result<Held, Refused> {
        let stale = match (credential.token, self.running()) {
            (None, Some(Running { holder: Holder::Token(_), .. })) => {
                Refused::NoLeaseToken { status: self.status() }
            }
            _ => Refused::StaleLease { status: self.status() },
        };
        if let Some(running) = self.running() {
            let held = Held { job: self.clone(), running: running.clone(), lapsed: false };
            return if running.holder.is(credential) { Ok(held) } else { Err(stale) };
        }
        let State::Pending(pending) = &self.state else { return Err(stale) };
        let last =
            self.attempts.last().filter(|attempt| attempt.holder.is(credential)).ok_or(stale.clone())?;
        let retries_spent = match last.outcome {
            Outcome::Lapsed | Outcome::TimedOut => 1,
            // Beyond the free returns it spent a retry too, and only then the job waits for a backoff.
            Outcome::NeverHeardOf => u32::from(pending.wait == Wait::Backoff),
            Outcome::Completed | Outcome::Failed { .. } | Outcome::Released | Outcome::Cancelled => {
                return Err(stale);
            }
        };
        let running = Running {
            worker: last.worker.clone(),
            holder: last.holder.clone(),
            started_at: last.started_at,
            terms: last.terms,
            lease_ends_at: last.ended_at,
            confirmed: true,
        };
        let mut job = self.clone();
        job.attempts.pop();
        job.retries = job.retries.saturating_sub(retries_spent);
        job.free_returns = job.free_returns.saturating_sub(1 - retries_spent);
        Ok(Held { job, running, lapsed: true })
    }

    /// The answer that a lease which has already submitted gets again.
    fn first_answer(&self, credential: &Credential, success: bool) -> Option<Result<Status, Refused>> {
        if self.running().is_some_and(|running| running.holder.is(credential)) {
            return None;
        }
        let attempt = self.attempts.iter().rev().find(|attempt| match attempt.holder {
            Holder::Token(_) => attempt.holder.is(credential),
            // Without a token only the last attempt can be told from the others of the same key.
            Holder::Key(_) => attempt.holder.is(credential) && self.attempts.last() == Some(*attempt),
        })?;
        match (&attempt.outcome, success) {
            (Outcome::Completed, true) => Some(Ok(Status::Completed)),
            (Outcome::Failed { then, .. }, false) => Some(Ok(*then)),
            (Outcome::Completed, false) => {
                Some(Err(Refused::OtherOutcome { status: self.status(), first: "completed" }))
            }
            (Outcome::Failed { .. }, true) => {
                Some(Err(Refused::OtherOutcome { status: self.status(), first: "failed" }))
            }
            (
                Outcome::TimedOut
                | Outcome::Lapsed
                | Outcome::NeverHeardOf
                | Outcome::Released
                | Outcome::Cancelled,
                _,
            ) => None,
        }
    }

    fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, updated_at: now, ..self.clone() }
    }

    /// The job with `running` moved to its ended attempts. The caller sets the new state.
    fn ended(&self, running: &Running, outcome: Outcome, now: Timestamp) -> Self {
        let mut job = self.changed(now);
        job.attempts.push(Attempt {
            worker: running.worker.clone(),
            holder: running.holder.clone(),
            started_at: running.started_at,
            ended_at: now,
            terms: running.terms,
            outcome,
        });
        job
    }

    /// The first lapse since the job was created or retried by hand is taken over at once; later ones wait, as failures
    /// do.
    fn lease_lapsed(&self, running: &Running, now: Timestamp, jitter: Jitter) -> Self {
        let first = !self
            .attempts
            .iter()
            .any(|attempt| attempt.outcome == Outcome::Lapsed && attempt.started_at >= self.opened_at);
        let mut job = self.ended(running, Outcome::Lapsed, now).retried_or_timed_out(now, jitter, |_| {
            format!("worker {} stopped reporting and its lease ended", running.worker)
        });
        if first && let State::Pending(pending) = &mut job.state {
            *pending = Pending { since: now, wait: Wait::Turn };
        }
        job
    }

    /// Back to the queue without a retry spent, as long as that has not happened too often.
    fn returned_free(mut self, now: Timestamp, jitter: Jitter) -> Self {
        if self.free_returns >= MAX_FREE_RETURNS || self.attempts.len() >= MAX_ATTEMPTS {
            return self.retried_or_timed_out(now, jitter, |_| {
                "the job was given back or lost by its workers too often".to_owned()
            });
        }
        self.free_returns += 1;
        self.state = State::Pending(Pending { since: now, wait: Wait::Turn });
        self
    }

    fn retried_or_timed_out(
        mut self,
        now: Timestamp,
        jitter: Jitter,
        error: impl FnOnce(&crate::Limits) -> String,
    ) -> Self {
        if self.has_retry(self.attempts.len(), now) {
            self.retry_after_backoff(now, jitter);
            return self;
        }
        let error = error(&self.spec.limits);
        let error = format!("{error}; no retry is left after {} attempts", self.attempts.len());
        self.timed_out(now, error)
    }

    /// Whether another attempt may follow the `attempts` that have ended.
    fn has_retry(&self, attempts: usize, now: Timestamp) -> bool {
        self.retries < self.spec.limits.max_retries && attempts < MAX_ATTEMPTS && !self.is_past_total(now)
    }

    fn retry_after_backoff(&mut self, now: Timestamp, jitter: Jitter) {
        self.retries += 1;
        let delay = jitter.of(longest_backoff(self.retries));
        self.state = State::Pending(Pending { since: now.plus(delay), wait: Wait::Backoff });
    }

    fn timed_out(mut self, now: Timestamp, error: String) -> Self {
        self.state = State::Timeout { at: now, error };
        self
    }

    fn is_past_deadline(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    fn is_past_total(&self, now: Timestamp) -> bool {
        self.total_deadline().is_some_and(|total| total <= now)
    }

    fn total_timeout_error(&self) -> String {
        format!(
            "the job did not end within its total timeout of {}",
            seconds(self.spec.limits.total.unwrap_or_default())
        )
    }
}

/// Enough of an error to tell attempts apart. Every write pays for all attempts, so only the end keeps the whole text.
fn shortened(error: &str) -> String {
    const MOST: usize = 200;
    match error.char_indices().nth(MOST) {
        None => error.to_owned(),
        Some((end, _)) => format!("{}…", &error[..end]),
    }
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs())
}
