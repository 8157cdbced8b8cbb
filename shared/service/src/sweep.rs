use std::collections::BTreeMap;

use domain::{Refused, Status, Timestamp};
use serde::Serialize;
use store::LiveHint;
use tokio::time::Instant;

use crate::{Error, Service, transition::log_lapse};

/// What one sweep saw and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Live jobs seen.
    pub live: u64,
    /// Jobs ended because a limit ran out.
    pub timed_out: u64,
    /// Jobs sent back to their queue because an attempt ran out.
    pub returned: u64,
    /// False when time ran out before every live job was seen.
    pub complete: bool,
    /// What waits in each queue, by the queue's name.
    pub queues: BTreeMap<String, QueueDepth>,
}

/// What waits in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueDepth {
    /// How many jobs wait for their turn.
    pub depth: u64,
    /// How long ago the oldest of them was created, in seconds.
    pub oldest_seconds: u64,
}

impl Service {
    /// Ends or returns every live job whose time has run out, as a poll does with what it meets, and counts what
    /// waits. Takes no input, may run twice at once, and stops at `until`.
    ///
    /// # Errors
    /// The store. What was done stays done.
    pub async fn sweep(&self, until: Instant) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let mut from = None;
        loop {
            let page = self.store.jobs.live(0, 1, from).await?;
            for hint in page.hints {
                if Instant::now() >= until {
                    return Ok(swept);
                }
                let now = self.now();
                swept.count(&hint, now);
                if hint.deadline <= now || (!hint.waiting && hint.due_at <= now) {
                    match self.sweep_one(&hint, &mut swept).await {
                        // One job that cannot be read or written must not keep the others from being swept.
                        Err(error) if !error.retryable() || matches!(error, Error::Contended(_)) => {
                            tracing::error!(job_id = %hint.id, cause = %error, "passed over");
                        }
                        outcome => outcome?,
                    }
                }
            }
            from = page.next;
            if from.is_none() {
                swept.complete = true;
                return Ok(swept);
            }
        }
    }

    async fn sweep_one(&self, hint: &LiveHint, swept: &mut Swept) -> Result<(), Error> {
        let Some(job) = self.store.jobs.get(hint.id).await? else { return Ok(()) };
        // Where somebody else was faster, nothing is left to do at the second look, and it is theirs to count.
        let mut did = false;
        let changed = self
            .change(job, |job| {
                let lapsed = self.lapsed(job, self.now());
                did = lapsed.is_some();
                Ok::<_, Refused>(lapsed)
            })
            .await?;
        if !did {
            return Ok(());
        }
        log_lapse(&changed);
        match changed.status() {
            Status::Timeout => swept.timed_out += 1,
            Status::Pending => swept.returned += 1,
            Status::Processing | Status::Completed | Status::Failed | Status::Cancelled => {}
        }
        Ok(())
    }
}

impl Swept {
    fn count(&mut self, hint: &LiveHint, now: Timestamp) {
        self.live += 1;
        if hint.waiting {
            let queue = self.queues.entry(hint.queue.clone()).or_default();
            queue.depth += 1;
            queue.oldest_seconds = queue.oldest_seconds.max(now.since(hint.created_at).as_secs());
        }
    }
}
