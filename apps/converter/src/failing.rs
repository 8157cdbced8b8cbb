//! Keeps a converter whose commands always fail from using up the queue's retries, which it would do quickly.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::ContentType;
use tokio::time::Instant;

/// After how many failures in a row no more jobs of a type are taken for a while.
const MANY: u32 = 5;
/// The first pause. Each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How the conversions of each content type have gone lately.
#[derive(Debug, Default)]
pub struct Failing(Mutex<HashMap<String, Record>>);

#[derive(Debug, Default)]
struct Record {
    in_a_row: u32,
    paused_until: Option<Instant>,
    /// Whether a job is at work that shows whether the type works again.
    tried: bool,
}

/// How a job's conversion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It made a result.
    Well,
    /// It failed in a way that another try may not.
    Badly,
    /// It says nothing about whether the type's converter works.
    Otherwise,
}

/// What may be asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Open {
    /// The content types.
    pub content_types: Vec<ContentType>,
    /// Whether one of them is to be tried with a single job.
    pub one_only: bool,
    /// When the next paused type may be tried.
    pub next: Option<Instant>,
}

impl Failing {
    fn records(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of these types may be asked for at this moment.
    #[must_use]
    pub fn open(&self, content_types: &[ContentType], now: Instant) -> Open {
        let records = self.records();
        let mut open = Open { content_types: Vec::new(), one_only: false, next: None };
        for content_type in content_types {
            let record = records.get(content_type.as_str()).filter(|record| record.in_a_row >= MANY);
            match record {
                None => open.content_types.push(content_type.clone()),
                Some(record) if record.tried => {}
                Some(Record { paused_until: Some(until), .. }) if *until > now => {
                    open.next = Some(open.next.map_or(*until, |next| next.min(*until)));
                }
                Some(_) => {
                    open.one_only = true;
                    open.content_types.push(content_type.clone());
                }
            }
        }
        open
    }

    /// A job of this type begins.
    #[must_use]
    pub fn begun(self: &Arc<Self>, content_type: &str) -> Conversion {
        if let Some(record) = self.records().get_mut(content_type) {
            record.tried = true;
        }
        let content_type = content_type.to_owned();
        Conversion { failing: Arc::clone(self), content_type, how: Ended::Otherwise }
    }

    fn failed(&self, content_type: &str) {
        let mut records = self.records();
        let record = records.entry(content_type.to_owned()).or_default();
        record.in_a_row += 1;
        if let Some(pause) = pause(record.in_a_row) {
            record.paused_until = Some(Instant::now() + pause);
            tracing::error!(
                content_type,
                failed_in_a_row = record.in_a_row,
                pause_seconds = pause.as_secs(),
                "every job of this type fails here, so none is taken for a while; its log says why, and \
                 remote-converter doctor whether something is missing"
            );
        }
    }
}

/// A job at work. When the value goes, the job has ended.
#[derive(Debug)]
pub struct Conversion {
    failing: Arc<Failing>,
    content_type: String,
    how: Ended,
}

impl Conversion {
    /// How it ended, which is otherwise than by its converter unless this says so.
    pub fn ends(&mut self, how: Ended) {
        self.how = how;
    }
}

impl Drop for Conversion {
    fn drop(&mut self) {
        let content_type = self.content_type.as_str();
        match self.how {
            Ended::Well => {
                let record = self.failing.records().remove(content_type);
                if record.is_some_and(|record| record.in_a_row >= MANY) {
                    tracing::info!(content_type, "jobs of this type succeed again");
                }
            }
            Ended::Badly => self.failing.failed(content_type),
            Ended::Otherwise => {}
        }
        if let Some(record) = self.failing.records().get_mut(content_type) {
            record.tried = false;
        }
    }
}

fn pause(in_a_row: u32) -> Option<Duration> {
    let beyond = in_a_row.checked_sub(MANY)?;
    Some(FIRST_PAUSE.saturating_mul(1 << beyond.min(10)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(open: &Open) -> Vec<&str> {
        open.content_types.iter().map(ContentType::as_str).collect()
    }

    fn end(failing: &Arc<Failing>, how: Ended) {
        failing.begun("audio").ends(how);
    }

    #[test]
    fn a_type_that_always_fails_is_paused_and_then_tried_by_one_job() {
        let failing = Arc::new(Failing::default());
        let both = [ContentType::Audio, ContentType::Video];
        for _ in 0..MANY {
            assert_eq!(types(&failing.open(&both, Instant::now())), ["audio", "video"]);
            end(&failing, Ended::Badly);
        }
        let now = Instant::now();
        let open = failing.open(&both, now);
        assert_eq!(types(&open), ["video"]);
        assert!(open.next.unwrap() > now && open.next.unwrap() <= now + FIRST_PAUSE);

        let later = now + FIRST_PAUSE;
        let open = failing.open(&both, later);
        assert_eq!((types(&open), open.one_only), (vec!["audio", "video"], true));
        let trial = failing.begun("audio");
        assert_eq!(types(&failing.open(&both, later)), ["video"], "one try at a time");
        drop(trial);
        assert_eq!(types(&failing.open(&both, later)), ["audio", "video"], "it showed nothing");
        end(&failing, Ended::Badly);
        assert_eq!(types(&failing.open(&both, later)), ["video"], "the second pause is longer");
        end(&failing, Ended::Well);
        let open = failing.open(&both, Instant::now());
        assert_eq!((types(&open), open.one_only), (vec!["audio", "video"], false));
    }

    #[test]
    fn a_success_between_failures_begins_the_count_anew() {
        let failing = Arc::new(Failing::default());
        for _ in 0..3 {
            (1..MANY).for_each(|_| end(&failing, Ended::Badly));
            end(&failing, Ended::Well);
        }
        assert_eq!(types(&failing.open(&[ContentType::Audio], Instant::now())), ["audio"]);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(MANY - 1), None);
        assert_eq!(pause(MANY), Some(FIRST_PAUSE));
        assert_eq!(pause(MANY + 1), Some(2 * FIRST_PAUSE));
        assert_eq!(pause(u32::MAX), Some(LONGEST_PAUSE));
    }
}
