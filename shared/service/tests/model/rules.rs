//! The rules of a job's life: what time, workers and the ingestion side make of it.

use crate::job::{Attempt, Brought, How, Job, Millis, Phase, Proof, Refusal, Run, Submitted};

/// A native claim stands this long until its worker is heard of.
const FIRST_LEASE: Millis = 20_000;
/// A job comes back this often without a retry being spent.
const MOST_FREE_RETURNS: u32 = 20;
/// The most attempts that one job has.
pub(crate) const MOST_ATTEMPTS: usize = 100;

impl Job {
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
        if was_over && self.run_ends(&run) <= now {
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
