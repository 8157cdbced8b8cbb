//! Reports one job's progress, which is also its heartbeat, on a task of its own.

use std::time::Duration;

use api::{Kind, progress::ProgressRequest};
use client::{Client, Error, Lease};
use progress::ProgressEvent;
use rand::Rng;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// The least time between two reports.
const GAP: Duration = Duration::from_secs(1);
/// The longest time between two reports, whatever the server says.
const LONGEST: Duration = Duration::from_secs(600);

/// The longest lease that is reckoned with.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);
/// The least patience with one report. Within the shortest lease there is room for several such.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);

/// Why a job is not this worker's to do any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Somebody cancelled it.
    Cancelled,
    /// Another worker has it, or it ended otherwise.
    Stale,
}

/// The heartbeat of one job. It stops when the value goes.
#[derive(Debug)]
pub struct Heartbeat {
    latest: watch::Sender<ProgressRequest>,
    lost: watch::Receiver<Option<Lost>>,
    stop: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Heartbeat {
    /// Starts reporting: at once, then every `every`, and up to twice as often while the percentage or the stage
    /// changes, until the server asks for another pace. The lease lasts for `lasts` without a report.
    #[must_use]
    pub fn start(client: Client, lease: Lease, every: Duration, lasts: Duration) -> Self {
        let first = ProgressRequest {
            percentage: 0,
            message: "Downloading".to_owned(),
            timestamp: None,
            stage: None,
        };
        let (latest, updates) = watch::channel(first);
        let (tell_lost, lost) = watch::channel(None);
        let stop = CancellationToken::new();
        let beating = Beating {
            client,
            lease,
            every: paced(every),
            expires: expiry(Instant::now(), lasts),
            updates,
            tell_lost,
            stop: stop.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(beating.run()));
        Self { latest, lost, stop, _task: task }
    }

    /// What to report next.
    pub fn report(&self, event: ProgressEvent) {
        self.latest.send_modify(|latest| {
            latest.percentage = u64::from(event.percentage);
            // Some formats tell only a percentage; what was said before still holds then.
            if !event.message.is_empty() {
                latest.message = event.message;
            }
            latest.stage = event.stage.or(latest.stage.take());
            latest.timestamp = event.timestamp.map(|moment| moment.to_string());
        });
    }

    /// Says something else without being further, which waits for the next report.
    pub fn say(&self, message: String) {
        self.latest.send_modify(|latest| latest.message = message);
    }

    /// Is cancelled when the job is lost.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Why the job is lost, if it is.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        *self.lost.borrow()
    }
}

struct Beating {
    client: Client,
    lease: Lease,
    every: Duration,
    expires: Instant,
    updates: watch::Receiver<ProgressRequest>,
    tell_lost: watch::Sender<Option<Lost>>,
    stop: CancellationToken,
}

impl Beating {
    async fn run(mut self) {
        let mut failed = 0;
        loop {
            let report = self.updates.borrow_and_update().clone();
            let sent = Instant::now();
            let reporting = timeout(self.patience(), self.client.report_progress(&self.lease, &report)).await;
            let Ok(reported) = reporting else {
                tracing::warn!("a heartbeat was not answered in time; it is repeated at once");
                continue;
            };
            let wait = match reported {
                Ok(answer) if answer.cancelled => return self.lose(Lost::Cancelled),
                Ok(answer) => {
                    failed = 0;
                    self.expires = expiry(sent, Duration::from_secs(answer.lease_expires_in_seconds));
                    self.every = paced(Duration::from_secs(answer.report_every_seconds));
                    self.every
                }
                Err(error) if is_lost(&error) => return self.lose(Lost::Stale),
                Err(error) => {
                    failed += 1;
                    tracing::warn!(%error, failed, "a heartbeat failed; the work goes on");
                    self.after_failure(&error)
                }
            };
            if failed > 0 {
                sleep_until(Instant::now() + wait).await;
            } else if !self.until_due(&report, sent + wait, sent + (wait / 2).max(GAP)).await {
                return;
            }
        }
    }

    /// How long one report may take, so that a hanging one leaves time for others before the lease ends.
    fn patience(&self) -> Duration {
        (self.expires.saturating_duration_since(Instant::now()) / 4).max(LEAST_PATIENCE)
    }

    /// Waits until the next report is due: at `latest`, or from `soonest` on when there is something new. False when
    /// nobody reports any more.
    async fn until_due(&mut self, sent: &ProgressRequest, latest: Instant, soonest: Instant) -> bool {
        while let Ok(changed) = timeout_at(latest, self.updates.changed()).await {
            if changed.is_err() {
                return false;
            }
            if self.is_news(sent) {
                sleep_until(soonest.min(latest)).await;
                break;
            }
        }
        true
    }

    fn is_news(&mut self, sent: &ProgressRequest) -> bool {
        let latest = self.updates.borrow_and_update();
        (latest.percentage, &latest.stage) != (sent.percentage, &sent.stage)
    }

    /// Tries sooner than usual, because the lease runs on.
    fn after_failure(&self, error: &Error) -> Duration {
        let share = rand::rng().random_range(0.25..0.75);
        error.retry_after().unwrap_or_default().max(self.every.mul_f64(share)).clamp(GAP, LONGEST)
    }

    fn lose(&self, why: Lost) {
        self.tell_lost.send_replace(Some(why));
        self.stop.cancel();
    }
}

/// When a lease ends that lasts for so long, whatever the server says.
fn expiry(from: Instant, lasts: Duration) -> Instant {
    from + lasts.min(LONGEST_LEASE)
}

fn paced(every: Duration) -> Duration {
    every.clamp(GAP, LONGEST)
}

/// Whether an answer says that the job is not this worker's any more. A refused key does not: it may be mended.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), Some(Kind::StaleLease | Kind::Refused | Kind::NotFound))
}
