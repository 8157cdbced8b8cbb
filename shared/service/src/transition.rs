//! Reading a job and changing it while others do the same.

use std::{sync::atomic::Ordering, time::Duration};

use domain::{Job, JobId, LeaseTerms, Refused, State, Timestamp, Wait};
use store::Replacement;
use tracing::{Span, field::display};

use crate::{Caller, Error, METRIC, Service};

/// How long workers have at least to renew their leases once the server is back.
const GRACE: Duration = Duration::from_secs(60);

/// How often a write is tried whose job others keep changing. Losing means that somebody else made progress.
const MOST_ROUNDS: usize = 16;

/// Puts the job into the log line of the call at hand.
pub(crate) fn note(job: &Job) {
    let span = Span::current();
    span.record("job_id", display(job.id));
    span.record("attempt", job.attempt_number());
}

/// Says in the log that an attempt or a whole job has run out of time, whoever noticed.
pub(crate) fn log_lapse(job: &Job) {
    let outcome = job.attempts.last().map(|attempt| format!("{:?}", attempt.outcome));
    let attempt = job.attempts.len();
    tracing::info!(target: METRIC, job_id = %job.id, attempt, status = %job.status(), outcome, "lapsed");
}

impl Service {
    /// The caller's job.
    pub(crate) async fn job(&self, caller: &Caller, id: &str) -> Result<Job, Error> {
        let no_job = || Error::NoJob(id.to_owned());
        let parsed: JobId = id.parse().map_err(|_| no_job())?;
        let job = self.store.jobs.get(parsed).await?.ok_or_else(no_job)?;
        if job.tenant != caller.tenant {
            return Err(no_job());
        }
        note(&job);
        Ok(job)
    }

    /// Changes a job as `decide` says, which is asked again whenever somebody else was faster. `None` leaves the job
    /// as it is. Gives the job as it is afterwards.
    pub(crate) async fn change(
        &self,
        mut job: Job,
        mut decide: impl FnMut(&Job) -> Result<Option<Job>, Refused> + Send,
    ) -> Result<Job, Error> {
        let id = job.id;
        for _ in 0..MOST_ROUNDS {
            let Some(new) = decide(&job).map_err(|refused| Error::Refused(id, refused))? else {
                return Ok(job);
            };
            match self.write(&job, &new).await? {
                Replacement::Written => return Ok(new),
                Replacement::Lost(Some(now)) => job = *now,
                Replacement::Lost(None) => return Err(Error::NoJob(id.to_string())),
            }
        }
        Err(Error::Contended(id))
    }

    /// Writes `new` in place of `read`, unless somebody else was faster, and tells whoever waits for what it means. Every
    /// change of a job comes through here.
    pub(crate) async fn write(&self, read: &Job, new: &Job) -> Result<Replacement, Error> {
        let replacement = self.store.jobs.replace(read, new).await?;
        if replacement == Replacement::Written {
            self.announce(new).await;
            if read.ending().is_none() && new.ending().is_some() {
                self.announce_end(new).await;
            }
        }
        Ok(replacement)
    }

    async fn announce_end(&self, job: &Job) {
        // Without a receiver nobody waits.
        let _ = self.ended.send(job.id);
        if job.spec.webhook.is_some() {
            self.events.notify_one();
        }
        self.count_end(job).await;
    }

    /// Wakes idle workers when a job has become due, or will soon: the polls that are held open, and the workers that wait
    /// for a hint.
    pub(crate) async fn announce(&self, job: &Job) {
        let State::Pending(pending) = &job.state else { return };
        self.due.notify_waiters();
        let delay = match pending.wait {
            Wait::Turn => Duration::ZERO,
            Wait::Backoff => pending.since.since(self.now()),
        };
        self.hint(&job.tenant, &job.spec.content_type, 1, delay).await;
    }

    /// What has run out by `now`, except a lease whose worker had no chance to renew it.
    pub(crate) fn lapsed(&self, job: &Job, now: Timestamp) -> Option<Job> {
        let spared = job.running().is_some_and(|running| {
            let term = match running.terms {
                LeaseTerms::Renewed(term) => term.max(GRACE),
                LeaseTerms::WholeRun => GRACE,
            };
            let reachable_since = Timestamp(self.reachable_since.load(Ordering::Relaxed));
            now < reachable_since.plus(term) && job.run_deadline(running) > now
        });
        if spared { None } else { job.lapse(now, self.world.jitter()) }
    }
}
