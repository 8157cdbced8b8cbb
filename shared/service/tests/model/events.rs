//! What a webhook is owed, as the design describes it.

use crate::job::{Job, Millis, Phase};

/// A try is claimed for this long.
const CLAIM: Millis = 60_000;
/// The longest waits between the tries, in seconds.
const WAITS: [Millis; 15] = [
    5, 300, 1800, 7200, 18_000, 36_000, 36_000, 36_000, 43_200, 43_200, 43_200, 57_600, 57_600, 57_600,
    57_600,
];

/// The end of a job that is to be told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) tenant: &'static str,
    pub(crate) url: &'static str,
    pub(crate) status: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) error: Option<String>,
    pub(crate) continued_locally: bool,
    pub(crate) attempts: usize,
    pub(crate) created: Millis,
    pub(crate) ended: Millis,
    pub(crate) revision: u64,
    pub(crate) tries: usize,
    pub(crate) last_error: Option<&'static str>,
    pub(crate) stands: Stands,
}

/// Where a delivery stands, since or until when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stands {
    Due(Millis),
    Delivered(Millis),
    Dead(Millis),
}

/// How a try ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Try {
    Taken,
    Failed,
    Refused,
}

pub(crate) const FAILED: &str = "it answered 500";
pub(crate) const REFUSED: &str = "it answered 410";

impl Event {
    /// What is owed for the end that a job has just come to.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        let Phase::Over { status, at, error, .. } = &job.phase else { return None };
        Some(Self {
            id: format!("{}.{at}.{}", job.id, job.revision),
            tenant: job.tenant,
            url: job.asked.webhook?,
            status,
            content_type: job.asked.content_type,
            error: error.clone(),
            continued_locally: job.local,
            attempts: job.attempts.len(),
            created: job.created,
            ended: *at,
            revision: 1,
            tries: 0,
            last_error: None,
            stands: Stands::Due(*at),
        })
    }

    pub(crate) fn due(&self) -> (&'static str, Option<Millis>) {
        match self.stands {
            Stands::Due(at) => ("event", Some(at)),
            Stands::Dead(at) => ("dead", Some(at)),
            Stands::Delivered(_) => ("", None),
        }
    }

    pub(crate) fn is_due(&self, now: Millis) -> bool {
        matches!(self.stands, Stands::Due(at) if at <= now)
    }

    /// When it is tried next.
    pub(crate) fn undelivered(&self) -> Option<Millis> {
        match self.stands {
            Stands::Due(at) => Some(at),
            Stands::Delivered(_) | Stands::Dead(_) => None,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.stands, Stands::Dead(_))
    }

    pub(crate) fn delivered(&self) -> Option<Millis> {
        match self.stands {
            Stands::Delivered(at) => Some(at),
            Stands::Due(_) | Stands::Dead(_) => None,
        }
    }

    /// Since when nothing is to be done for it any more.
    pub(crate) fn done(&self) -> Option<Millis> {
        match self.stands {
            Stands::Delivered(at) | Stands::Dead(at) => Some(at),
            Stands::Due(_) => None,
        }
    }

    pub(crate) fn claim(&mut self, now: Millis) {
        self.revision += 1;
        self.tries += 1;
        self.stands = Stands::Due(now + CLAIM);
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a day in milliseconds")]
    pub(crate) fn tried(&mut self, how: Try, now: Millis, jitter: f64) {
        self.revision += 1;
        self.last_error = match how {
            Try::Taken => None,
            Try::Failed => Some(FAILED),
            Try::Refused => Some(REFUSED),
        };
        self.stands = match (how, WAITS.get(self.tries.saturating_sub(1))) {
            (Try::Taken, _) => Stands::Delivered(now),
            (Try::Failed, Some(seconds)) => {
                let half = seconds * 500;
                Stands::Due(now + half + (half as f64 * jitter) as Millis)
            }
            (Try::Refused, _) | (Try::Failed, None) => Stands::Dead(now),
        };
    }

    /// Not tried, because its receiver fails others: waits for up to half of its age.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "an hour in milliseconds"
    )]
    pub(crate) fn put_off(&mut self, now: Millis, jitter: f64) {
        self.revision += 1;
        let longest = ((now - self.ended).max(0) as f64 / 2.0).clamp(10_000.0, 3_600_000.0);
        self.stands = Stands::Due(now + (longest / 2.0 * (1.0 + jitter)) as Millis);
    }

    pub(crate) fn redrive(&mut self, now: Millis) {
        self.revision += 1;
        self.tries = 0;
        self.stands = Stands::Due(now);
    }
}
