//! Waiting for a hint that there is work, where the server names a place for it.

use std::{future, time::Duration};

use api::poll::HintGrant;
use client::{Client, Error, PresignedUrl};
use tokio::{task::JoinHandle, time::Instant};

/// The least time between two questions for a hint that were answered with none. A queue that works takes 20 seconds.
const LEAST_ROUND: Duration = Duration::from_secs(5);
/// A wait that lasted this long was at a place that works, and where hints are not given in vain.
const GOOD_WAIT: Duration = Duration::from_secs(15);
/// How long to wait after the first hint in a row that led to no job. It is doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// After how many places in a row that did not work none is asked for any more.
const MOST_FAILURES: u32 = 3;
/// For how long.
const WITHOUT: Duration = Duration::from_secs(600);

/// How waiting for hints goes.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Whether the operator wants it.
    is_wanted: bool,
    /// How many places in a row did not work.
    failed: u32,
    /// None is asked for before that.
    without_until: Option<Instant>,
    /// How many hints in a row led to no job.
    vain: u32,
    /// Whether the next poll is because of a hint.
    was_hinted: bool,
}

/// What came of a wait.
pub(crate) enum Heard {
    /// There may be work.
    Hint,
    /// The place does not work (any more).
    Failure(Error),
}

impl Hints {
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self { is_wanted, ..Self::default() }
    }

    /// Whether to ask the server for a place to wait.
    pub(crate) fn are_wanted(&self, now: Instant) -> bool {
        self.is_wanted && self.without_until.is_none_or(|until| until <= now)
    }

    /// Notes that a poll was given jobs.
    pub(crate) fn led_to_jobs(&mut self) {
        (self.was_hinted, self.vain) = (false, 0);
    }

    /// Notes that a poll found nothing. If it was because of a hint, how long to wait before another: the server may not see
    /// yet what it hinted at, or somebody else was faster, and a queue full of old hints must not make a busy loop.
    pub(crate) fn led_nowhere(&mut self, most: Duration) -> Option<Duration> {
        if !std::mem::take(&mut self.was_hinted) {
            return None;
        }
        self.vain += 1;
        Some(FIRST_PAUSE.saturating_mul(1 << (self.vain - 1).min(6)).min(most))
    }

    /// Notes what came of a wait that lasted this long. How often in a row it has failed now.
    pub(crate) fn heard(&mut self, heard: &Heard, waited: Duration) -> u32 {
        if waited >= GOOD_WAIT {
            (self.failed, self.vain) = (0, 0);
        }
        match heard {
            Heard::Hint => {
                tracing::debug!("hinted");
                (self.was_hinted, self.failed) = (true, 0);
            }
            Heard::Failure(error) => {
                self.failed += 1;
                tracing::debug!(%error, "no hints");
                if self.failed >= MOST_FAILURES {
                    let seconds = WITHOUT.as_secs();
                    tracing::warn!(%error, seconds, "hints cannot be waited for; polling without them for a while");
                    self.without_until = Some(Instant::now() + WITHOUT);
                    self.failed = 0;
                    return MOST_FAILURES;
                }
            }
        }
        self.failed
    }
}

/// A question for a hint that is under way. It goes on when the wait for it ends early, because what the queue gives to
/// somebody who has hung up is lost, and its answer is taken by the next wait at the same queue.
pub(crate) struct Asked {
    queue: String,
    begun: Instant,
    answer: JoinHandle<Result<bool, Error>>,
}

impl Asked {
    fn new(client: &Client, url: PresignedUrl, queue: String) -> Self {
        let client = client.clone();
        let answer = tokio::spawn(async move { client.wait_for_hint(&url).await });
        Self { queue, begun: Instant::now(), answer }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// Waits for a hint, or until the place fails. For ever without a place.
pub(crate) async fn wait(client: &Client, place: Option<&HintGrant>, asked: &mut Option<Asked>) -> Heard {
    let Some(place) = place else { return future::pending().await };
    let url: PresignedUrl = match place.hint_url.parse() {
        Ok(url) => url,
        Err(error) => return Heard::Failure(error),
    };
    let queue = place.hint_url.split('?').next().unwrap_or_default();
    loop {
        let asking = match asked.take() {
            Some(asking) if asking.queue == queue => asking,
            _ => Asked::new(client, url.clone(), queue.to_owned()),
        };
        let asking = asked.insert(asking);
        let (begun, answer) = (asking.begun, (&mut asking.answer).await);
        *asked = None;
        match answer {
            Ok(Ok(true)) => return Heard::Hint,
            Ok(Err(error)) => return Heard::Failure(error),
            Ok(Ok(false)) | Err(_) => tokio::time::sleep_until(begun + LEAST_ROUND).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Heard {
        Heard::Failure("nowhere".parse::<PresignedUrl>().unwrap_err())
    }

    #[test]
    fn hints_that_lead_nowhere_are_followed_ever_more_slowly_until_one_does() {
        let mut hints = Hints::new(true);
        let most = Duration::from_secs(10);
        assert_eq!(hints.led_nowhere(most), None, "no hint, no pause of its own");
        let mut pauses = Vec::new();
        for _ in 0..5 {
            hints.heard(&Heard::Hint, Duration::ZERO);
            pauses.push(hints.led_nowhere(most).unwrap().as_secs());
            assert_eq!(hints.led_nowhere(most), None, "the poll after that is no hint's");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10]);
        hints.heard(&Heard::Hint, GOOD_WAIT);
        assert_eq!(hints.led_nowhere(most), Some(FIRST_PAUSE), "there was none for a while");
        hints.heard(&Heard::Hint, Duration::ZERO);
        hints.led_to_jobs();
        hints.heard(&Heard::Hint, Duration::ZERO);
        assert_eq!(hints.led_nowhere(most), Some(FIRST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn places_that_fail_again_and_again_are_not_asked_for_for_a_while() {
        let mut hints = Hints::new(true);
        for waited in [Duration::ZERO, GOOD_WAIT, Duration::ZERO] {
            hints.heard(&failure(), waited);
            assert!(hints.are_wanted(Instant::now()), "one of them had worked");
        }
        assert_eq!(hints.heard(&failure(), Duration::ZERO), MOST_FAILURES);
        assert!(!hints.are_wanted(Instant::now()));
        tokio::time::advance(WITHOUT).await;
        assert!(hints.are_wanted(Instant::now()));
        assert!(!Hints::new(false).are_wanted(Instant::now()));
    }
}
