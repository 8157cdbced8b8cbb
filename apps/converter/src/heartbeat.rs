//! Reports one job's progress, which is also its heartbeat, on a task of its own.

use std::time::Duration;

use api::{Kind, progress::ProgressRequest};
use client::{Client, Error, Lease};
use progress::handler::DisplayedProgress;
use rand::Rng;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::suspend::Wakes;

/// The least time between two reports.
const GAP: Duration = Duration::from_secs(1);
/// The longest time between two reports, whatever the server says.
const LONGEST: Duration = Duration::from_secs(600);

/// The longest lease that is reckoned with.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);
/// The least patience with one report. Within the shortest lease there is room for several such.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);

/// The stage of a job that makes no progress.
const STALLED: &str = "stalled";

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
    reporter: Reporter,
    lost: watch::Receiver<Option<Lost>>,
    stop: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Heartbeat {
    /// Starts reporting: at once, then every `every`, and up to twice as often while the percentage or the stage
    /// changes, until the server asks for another pace; and at once when the machine wakes. The lease lasts for
    /// `lasts` without a report.
    #[must_use]
    pub fn start(client: Client, lease: Lease, every: Duration, lasts: Duration, wakes: Wakes) -> Self {
        let (reporter, updates) = Reporter::new();
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
            wakes,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(beating.run()));
        Self { reporter, lost, stop, _task: task }
    }

    /// What says what to report next.
    #[must_use]
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
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

/// Says what a heartbeat reports next. Clones say it for the same one.
#[derive(Clone, Debug)]
pub struct Reporter(watch::Sender<Report>);

impl Reporter {
    /// One that reports a download so far, and where that is to be seen.
    pub(crate) fn new() -> (Self, watch::Receiver<Report>) {
        let (latest, updates) =
            watch::channel(Report { message: "Downloading".to_owned(), ..Report::default() });
        (Self(latest), updates)
    }

    /// Says how far the conversion is. The percentage never goes back within an attempt, because the server reckons
    /// with it when the job will end.
    pub fn report(&self, progress: &DisplayedProgress) {
        self.0.send_modify(|latest| {
            latest.percentage = latest.percentage.max(progress.percentage);
            // Some formats tell only a percentage; what was said before still holds then.
            if !progress.summary.is_empty() {
                latest.message.clone_from(&progress.summary);
            }
            latest.stage.clone_from(&progress.stage);
            latest.timestamp = Some(progress.updated_at.to_string());
            latest.stalled = None;
        });
    }

    /// Says something else without being further, which waits for the next report.
    pub fn say(&self, message: String) {
        self.0.send_modify(|latest| {
            latest.message = message;
            latest.stalled = None;
        });
    }

    /// Says that there is no progress, until there is again.
    pub fn stalled(&self, message: String) {
        self.0.send_modify(|latest| latest.stalled = Some(message));
    }
}

/// What a heartbeat reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    percentage: u8,
    message: String,
    timestamp: Option<String>,
    stage: Option<String>,
    /// What is said instead while there is no progress.
    stalled: Option<String>,
}

impl Report {
    fn shown_stage(&self) -> Option<&str> {
        if self.stalled.is_some() { Some(STALLED) } else { self.stage.as_deref() }
    }

    pub(crate) fn request(&self) -> ProgressRequest {
        ProgressRequest {
            percentage: self.percentage.into(),
            message: self.stalled.as_ref().unwrap_or(&self.message).clone(),
            timestamp: self.timestamp.clone(),
            stage: self.shown_stage().map(str::to_owned),
        }
    }
}

struct Beating {
    client: Client,
    lease: Lease,
    every: Duration,
    expires: Instant,
    updates: watch::Receiver<Report>,
    tell_lost: watch::Sender<Option<Lost>>,
    stop: CancellationToken,
    wakes: Wakes,
}

impl Beating {
    async fn run(mut self) {
        let mut failed = 0;
        loop {
            let report = self.updates.borrow_and_update().clone();
            let sent = Instant::now();
            let (client, patience, request) = (self.client.clone(), self.patience(), report.request());
            let reporting = timeout(patience, client.report_progress(&self.lease, &request));
            let reporting = tokio::select! {
                reporting = reporting => reporting,
                // Its connection did not survive the sleep, most likely.
                () = self.wakes.next() => continue,
            };
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
                tokio::select! { () = sleep_until(Instant::now() + wait) => {} () = self.wakes.next() => {} }
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
    async fn until_due(&mut self, sent: &Report, latest: Instant, soonest: Instant) -> bool {
        loop {
            let changed = tokio::select! {
                changed = timeout_at(latest, self.updates.changed()) => changed,
                () = self.wakes.next() => break,
            };
            let Ok(changed) = changed else { break };
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

    fn is_news(&mut self, sent: &Report) -> bool {
        let latest = self.updates.borrow_and_update();
        (latest.percentage, latest.shown_stage()) != (sent.percentage, sent.shown_stage())
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

#[cfg(test)]
mod tests {
    use progress::handler::DisplayedStatus;

    use super::*;

    fn progress(percentage: u8, summary: &str, stage: Option<&str>) -> DisplayedProgress {
        DisplayedProgress {
            percentage,
            status: DisplayedStatus::of(percentage),
            summary: summary.to_owned(),
            stage: stage.map(str::to_owned),
            updated_at: "2025-06-11T11:26:50Z".parse().unwrap(),
            completed: false,
        }
    }

    /// The percentage, the message and the stage that would be reported now.
    fn seen(updates: &watch::Receiver<Report>) -> (u64, String, Option<String>) {
        let request = updates.borrow().request();
        (request.percentage, request.message, request.stage)
    }

    fn owned(percentage: u64, message: &str, stage: Option<&str>) -> (u64, String, Option<String>) {
        (percentage, message.to_owned(), stage.map(str::to_owned))
    }

    #[test]
    fn the_percentage_never_goes_back() {
        let (reporter, updates) = Reporter::new();
        assert_eq!(seen(&updates), owned(0, "Downloading", None));
        reporter.report(&progress(40, "Extracting", Some("Audio")));
        reporter.report(&progress(10, "Transcribing", None));
        assert_eq!(seen(&updates), owned(40, "Transcribing", None));
        reporter.report(&progress(41, "", None));
        reporter.say("Submitting".to_owned());
        assert_eq!(seen(&updates), owned(41, "Submitting", None));
        assert_eq!(updates.borrow().request().timestamp.unwrap(), "2025-06-11T11:26:50Z");
    }

    #[test]
    fn a_stalled_run_says_so_until_the_next_progress() {
        let (reporter, updates) = Reporter::new();
        reporter.report(&progress(40, "Transcribing", Some("Audio")));
        reporter.stalled("No progress for 15 min".to_owned());
        assert_eq!(seen(&updates), owned(40, "No progress for 15 min", Some("stalled")));
        reporter.report(&progress(40, "Still transcribing", Some("Audio")));
        assert_eq!(seen(&updates), owned(40, "Still transcribing", Some("Audio")));
        reporter.stalled("No progress for 15 min".to_owned());
        reporter.say("Downloading: 5 of 6 MiB".to_owned());
        assert_eq!(seen(&updates), owned(40, "Downloading: 5 of 6 MiB", Some("Audio")));
    }
}
