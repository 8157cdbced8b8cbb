//! What a job's webhook is told, and how often it is tried.

use std::{fmt, str::FromStr, time::Duration};

use crate::{ContentType, InvalidValue, Jitter, Job, JobId, Status, Tenant, Timestamp, WebhookUrl};

/// The longest waits before the second and every later try of a delivery, in seconds: 16 tries within three to six days,
/// the first ones soon, as the Standard Webhooks specification advises.
const WAITS: [u64; 15] = [
    5, 300, 1800, 7200, 18_000, 36_000, 36_000, 36_000, 43_200, 43_200, 43_200, 57_600, 57_600, 57_600,
    57_600,
];

/// How long a delivery stays claimed. Whoever claimed it and died leaves it to others after that. Longer than one try may
/// take.
pub const DELIVERY_CLAIM: Duration = Duration::from_secs(60);

/// The bounds of how long an event is put off.
const PUT_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));

/// Tells every end of every job apart, also when a deleted job's id is used again. It is the webhook's message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The job.
    pub job: JobId,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The job's revision once it had ended.
    pub revision: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.ended_at.0, self.revision)
    }
}

impl FromStr for EventId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let mut parts = text.splitn(3, '.');
        let mut parsed = || {
            Some(Self {
                job: parts.next()?.parse().ok()?,
                ended_at: Timestamp(parts.next()?.parse().ok()?),
                revision: parts.next()?.parse().ok()?,
            })
        };
        parsed()
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| InvalidValue("is not the id of an event".to_owned()))
    }
}

/// The end of a job, to be told to the job's webhook. It is written with the end itself and has a life of its own: what
/// happens to the job afterwards does not touch it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Which end it is.
    pub id: EventId,
    /// Whose job it was.
    pub tenant: Tenant,
    /// Who is told.
    pub url: WebhookUrl,
    /// What is told.
    pub facts: Facts,
    /// Grows by one with every change. A write is conditional on it.
    pub revision: u64,
    /// How often delivery was begun since the event was recorded or redriven by hand.
    pub tries: u32,
    /// What went wrong with the last try, for a person.
    pub last_error: Option<String>,
    /// Where the delivery stands.
    pub delivery: Delivery,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `completed`, `failed`, `timeout` or `cancelled`.
    pub status: Status,
    /// What the source was.
    pub content_type: ContentType,
    /// The creator's id for the work the job belonged to.
    pub ingestion_task_id: String,
    /// Why the job ended, unless it was converted or cancelled.
    pub error: Option<String>,
    /// True when the caller had taken the job over.
    pub continued_locally: bool,
    /// How many attempts there were.
    pub attempts: u32,
    /// When the job was created.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To be tried at this time; while a try runs, this is when its claim ends.
    Due(Timestamp),
    /// The receiver has taken it.
    Delivered(Timestamp),
    /// Given up, because it was tried often enough or the receiver said that it is gone.
    Dead(Timestamp),
}

/// How one try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The receiver has taken it.
    Taken,
    /// It did not work, and may later.
    Failed(String),
    /// It will never work.
    Refused(String),
}

impl Job {
    /// The event that this job owes its webhook for having ended since it was `before`.
    #[must_use]
    pub fn event_since(&self, before: &Self) -> Option<Event> {
        let ending = self.ending().filter(|_| before.ending().is_none())?;
        Some(Event {
            id: EventId { job: self.id, ended_at: ending.at, revision: self.revision },
            tenant: self.tenant.clone(),
            url: self.spec.webhook.clone()?,
            facts: Facts {
                status: self.status(),
                content_type: self.spec.content_type.clone(),
                ingestion_task_id: self.spec.ingestion_task_id.clone(),
                error: ending.error.map(str::to_owned),
                continued_locally: self.continued_locally,
                attempts: u32::try_from(self.attempts.len()).unwrap_or(u32::MAX),
                created_at: self.created_at,
                ended_at: ending.at,
            },
            revision: 1,
            tries: 0,
            last_error: None,
            delivery: Delivery::Due(ending.at),
        })
    }
}

impl Event {
    /// Claims the next try for whoever writes this first. `None` unless it is due.
    #[must_use]
    pub fn claim(&self, now: Timestamp) -> Option<Self> {
        match self.delivery {
            Delivery::Due(at) if at <= now => Some(Self {
                revision: self.revision + 1,
                tries: self.tries + 1,
                delivery: Delivery::Due(now.plus(DELIVERY_CLAIM)),
                ..self.clone()
            }),
            Delivery::Due(_) | Delivery::Delivered(_) | Delivery::Dead(_) => None,
        }
    }

    /// Puts a due event off without a try, because its receiver fails others at this moment: by up to half of the
    /// event's age, so that a crowd that waits for a dead receiver costs little and one whose receiver comes back is
    /// soon on its way. It counts as no try: no event dies untried. `None` unless it is due.
    #[must_use]
    pub fn put_off(&self, now: Timestamp, jitter: Jitter) -> Option<Self> {
        let Delivery::Due(at) = self.delivery else { return None };
        let (least, most) = PUT_OFF;
        let half = (now.since(self.facts.ended_at) / 2).clamp(least, most) / 2;
        (at <= now).then(|| Self {
            revision: self.revision + 1,
            delivery: Delivery::Due(now.plus(half + jitter.of(half))),
            ..self.clone()
        })
    }

    /// What a claimed event becomes by how its try ended.
    #[must_use]
    pub fn tried(&self, tried: Tried, now: Timestamp, jitter: Jitter) -> Self {
        let (delivery, last_error) = match tried {
            Tried::Taken => (Delivery::Delivered(now), None),
            Tried::Refused(error) => (Delivery::Dead(now), Some(error)),
            Tried::Failed(error) => {
                let wait =
                    usize::try_from(self.tries).ok().and_then(|tries| WAITS.get(tries.saturating_sub(1)));
                let delivery = match wait {
                    // Equal jitter: never sooner than half of the wait, so that the tries span the days they are meant to.
                    Some(seconds) => {
                        let half = Duration::from_secs(*seconds) / 2;
                        Delivery::Due(now.plus(half + jitter.of(half)))
                    }
                    None => Delivery::Dead(now),
                };
                (delivery, Some(error))
            }
        };
        Self { revision: self.revision + 1, last_error, delivery, ..self.clone() }
    }

    /// A person sends a dead event out again, with all its tries. `None` unless it is dead.
    #[must_use]
    pub fn redrive(&self, now: Timestamp) -> Option<Self> {
        match self.delivery {
            Delivery::Dead(_) => Some(Self {
                revision: self.revision + 1,
                tries: 0,
                delivery: Delivery::Due(now),
                ..self.clone()
            }),
            Delivery::Due(_) | Delivery::Delivered(_) => None,
        }
    }
}
