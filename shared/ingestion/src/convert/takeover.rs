//! Ending the remote job before something else continues, and local work while that cannot be done.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use api::{Kind, manage::CancelRequest};
use client::{Error, RetryPolicy};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::run::{Grounds, Known, Run};
use crate::{
    ConversionError, Converted, Event, Events, FallbackReason, LocalConversion, Outcome, Takeover,
    questions::{NoAnswer, is_denied},
};

/// How long the job's end is waited for before local work begins without it, and when a task is given up.
const LONGEST_END: Duration = Duration::from_secs(10);
/// The waits between tries, before local work begins and beside it.
const TRIES: RetryPolicy =
    RetryPolicy { tries: 4, base: Duration::from_millis(500), cap: Duration::from_secs(4) };
const BESIDE: RetryPolicy =
    RetryPolicy { tries: u32::MAX, base: Duration::from_secs(2), cap: Duration::from_secs(15) };

/// What the remote job is, once it was to be ended.
enum End {
    /// There is none.
    NoJob,
    /// Nothing will come of it any more.
    Confirmed,
    /// This one is completed.
    Completed(String),
}

/// Why it is not known what the job is.
struct Unconfirmed {
    retryable: bool,
    /// How long the control plane asks to wait.
    pause: Option<Duration>,
}

impl From<&Error> for Unconfirmed {
    /// Whatever answers in a strange way, as a proxy does whose server is away, may still come to itself.
    fn from(error: &Error) -> Self {
        Self { retryable: !is_denied(error), pause: error.retry_after() }
    }
}

/// Whose result continues.
pub(super) enum Settled {
    /// The remote one, after all.
    Remote(Converted),
    /// The local one, with what became of the remote job and why there is no result of it.
    Local(Takeover, FallbackReason),
}

/// What came of the remote job beside local work.
enum Beside {
    Remote(Converted),
    Local(Takeover, Option<FallbackReason>),
}

impl<L: LocalConversion, E: Events> Run<'_, L, E> {
    /// Ends the remote job that has come to nothing for this reason, so that only one result can continue.
    pub(super) async fn settle(&self, reason: FallbackReason) -> Settled {
        if reason.is_of_a_completed_job() {
            return Settled::Local(Takeover::CompletedUnusable, reason);
        }
        match self.end_job(self.task.fallback_to_local).await {
            Ok(End::NoJob) => Settled::Local(Takeover::NoJob, reason),
            Ok(End::Confirmed) => Settled::Local(Takeover::Confirmed, reason),
            Ok(End::Completed(job_id)) => match self.remote_after_all(&job_id).await {
                Ok(converted) => Settled::Remote(converted),
                Err(why) => Settled::Local(Takeover::CompletedUnusable, why),
            },
            Err(_) => Settled::Local(Takeover::Unconfirmed, reason),
        }
    }

    /// Ends the remote job, for some seconds at most.
    async fn end_job(&self, takeover: bool) -> Result<End, Unconfirmed> {
        let trying = async {
            let mut failed = 0;
            loop {
                let unconfirmed = match self.try_to_end(takeover).await {
                    Ok(end) => return Ok(end),
                    Err(unconfirmed) => unconfirmed,
                };
                failed += 1;
                if !unconfirmed.retryable || failed >= TRIES.tries {
                    return Err(unconfirmed);
                }
                sleep(pause(&TRIES, failed, &unconfirmed)).await;
            }
        };
        let too_long = Unconfirmed { retryable: true, pause: None };
        timeout(LONGEST_END, trying).await.unwrap_or(Err(too_long))
    }

    /// Cancels the remote job of a task that is given up, as well as can be, and says what became of it.
    pub(super) async fn let_go(&self) -> Option<Takeover> {
        if !self.rules().is_remote() {
            return None;
        }
        Some(match self.end_job(false).await {
            Ok(End::NoJob) => Takeover::NoJob,
            Ok(End::Confirmed) => Takeover::Confirmed,
            Ok(End::Completed(_)) => Takeover::CompletedUnusable,
            Err(_) => {
                tracing::warn!(task_id = %self.task.task_id, job_id = self.job_id(), "the remote job could not be cancelled");
                Takeover::Unconfirmed
            }
        })
    }

    async fn try_to_end(&self, takeover: bool) -> Result<End, Unconfirmed> {
        let Some(job_id) = self.find_job().await? else { return Ok(End::NoJob) };
        match self.client.cancel(&job_id, &CancelRequest { takeover }).await {
            Ok(_) => Ok(End::Confirmed),
            Err(Error::Refused { problem, .. }) if problem.known_kind() == Some(Kind::Refused) => {
                let completed = problem.job_status.as_deref() == Some("completed");
                Ok(if completed { End::Completed(job_id) } else { End::Confirmed })
            }
            Err(error) if error.kind() == Some(Kind::NotFound) => Ok(End::Confirmed),
            Err(error) => {
                tracing::debug!(%error, job_id, "the job could not be cancelled");
                Err(Unconfirmed::from(&error))
            }
        }
    }

    /// The remote job, if there is one.
    async fn find_job(&self) -> Result<Option<String>, Unconfirmed> {
        match self.known() {
            Known::None => Ok(None),
            Known::Job(job_id) => Ok(Some(job_id)),
            Known::Maybe => match self.earlier_job().await {
                Ok(found) => {
                    self.learn(found.clone().map_or(Known::None, Known::Job));
                    Ok(found.inspect(|job_id| self.events.tell(Event::Found { job_id })))
                }
                Err(no_answer) => {
                    Err(Unconfirmed { retryable: matches!(no_answer, NoAnswer::Away(_)), pause: None })
                }
            },
            // Asked for once more, and created now if the request is still on its way: then that finds a job that is ended,
            // and makes none of its own that nobody would know of.
            Known::Asked(request) => match self.create_job(&request).await {
                Ok(job_id) => {
                    self.events.tell(Event::Found { job_id: &job_id });
                    Ok(Some(job_id))
                }
                Err(_) if matches!(self.known(), Known::None) => Ok(None),
                Err(error) => Err(Unconfirmed::from(&error)),
            },
        }
    }

    /// Converts locally although it is not known what the remote job is, and goes on trying to end it. Should it turn out
    /// to be completed, its result is taken and the local work is dropped.
    pub(super) async fn locally_though_unconfirmed(
        &self,
        mut grounds: Grounds,
    ) -> Result<Outcome, ConversionError> {
        let (hurry, completed) = (Notify::new(), AtomicBool::new(false));
        let mut beside = pin!(self.end_beside(&hurry, &completed));
        let mut local = pin!(self.local_conversion());
        let (converted, came) = tokio::select! {
            biased;
            came = &mut beside => (None, came),
            converted = &mut local => {
                // Nobody waits for a job that this run has not asked for.
                let known = matches!(self.known(), Known::Job(_) | Known::Asked(_));
                hurry.notify_one();
                let last = if known { self.settings.longest_question } else { Duration::ZERO };
                let mut came = timeout(last, &mut beside).await.ok();
                if came.is_none() && completed.load(Ordering::Relaxed) {
                    came = Some(beside.await);
                }
                (Some(converted), came.unwrap_or(Beside::Local(Takeover::Unconfirmed, None)))
            }
        };
        match came {
            Beside::Remote(converted) => Ok(self.remote(grounds.decision, converted)),
            Beside::Local(takeover, why) => {
                grounds.fallback = why.or(grounds.fallback);
                let converted = match converted {
                    Some(converted) => converted,
                    None => local.await,
                };
                self.local_outcome(grounds, takeover, converted)
            }
        }
    }

    /// Tries to take the job over for as long as it takes. `hurry` says that there is no time left, `completed` is set
    /// once it is known that the job was faster.
    async fn end_beside(&self, hurry: &Notify, completed: &AtomicBool) -> Beside {
        let mut failed = 0;
        loop {
            match self.try_to_end(true).await {
                Ok(End::NoJob) => return Beside::Local(Takeover::NoJob, None),
                Ok(End::Confirmed) => return Beside::Local(Takeover::Confirmed, None),
                Ok(End::Completed(job_id)) => {
                    completed.store(true, Ordering::Relaxed);
                    return match self.remote_after_all(&job_id).await {
                        Ok(converted) => Beside::Remote(converted),
                        Err(why) => Beside::Local(Takeover::CompletedUnusable, Some(why)),
                    };
                }
                Err(unconfirmed) if !unconfirmed.retryable => {
                    return Beside::Local(Takeover::Unconfirmed, None);
                }
                Err(unconfirmed) => {
                    failed += 1;
                    tokio::select! {
                        () = sleep(pause(&BESIDE, failed, &unconfirmed)) => {}
                        () = hurry.notified() => {}
                    }
                }
            }
        }
    }
}

/// How long to wait after so many failures in a row.
fn pause(policy: &RetryPolicy, failed: u32, unconfirmed: &Unconfirmed) -> Duration {
    let bound = policy.base.saturating_mul(1 << failed.saturating_sub(1).min(8)).min(policy.cap);
    // Half of it by chance, so that many tasks do not come back at one moment.
    let by_chance = bound.mul_f64(0.5 + rand::random::<f64>() / 2.0);
    by_chance.max(unconfirmed.pause.unwrap_or_default())
}
