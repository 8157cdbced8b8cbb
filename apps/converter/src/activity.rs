//! What the program as a whole does, for whoever asks with `status`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use progress::printable;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What the program does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// It finds out which converters it has.
    #[default]
    Starting,
    /// It asks for work.
    Polling,
    /// It has as many jobs as it may have, and asks for no more.
    Busy,
    /// It asks again in a while, because something went wrong.
    Waiting,
    /// It takes no work until this machine can do some again.
    Paused,
    /// It was asked to stop, takes no work, and ends what runs.
    Draining,
}

/// What the server answered to the last poll, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAnswer {
    /// Whether it was an answer as it should be.
    pub ok: bool,
    /// What it said, in words.
    pub text: String,
    /// When it came, by this machine's clock.
    pub at: String,
    /// How many seconds ago that was.
    pub seconds_ago: u64,
}

/// Remembers what the program does.
#[derive(Debug, Default)]
pub struct Activities {
    now: Mutex<(Activity, Option<String>)>,
    answer: Mutex<Option<(LastAnswer, Instant)>>,
}

impl Activities {
    /// It does this now.
    pub fn set(&self, activity: Activity) {
        *lock(&self.now) = (activity, None);
    }

    /// It does this now, and why.
    pub fn set_because(&self, activity: Activity, reason: &str) {
        *lock(&self.now) = (activity, Some(printable(reason).into_owned()));
    }

    /// A poll was answered with so many jobs.
    pub fn answered(&self, jobs: usize) {
        let text = match jobs {
            0 => "no work".to_owned(),
            1 => "1 job".to_owned(),
            _ => format!("{jobs} jobs"),
        };
        self.answer(true, text);
    }

    /// A poll failed.
    pub fn failed(&self, error: &dyn std::error::Error) {
        self.answer(false, printable(&error.to_string()).into_owned());
    }

    fn answer(&self, ok: bool, text: String) {
        let answer = LastAnswer { ok, text, at: Timestamp::now().to_string(), seconds_ago: 0 };
        *lock(&self.answer) = Some((answer, Instant::now()));
    }

    /// What it does, and why if that needs to be said.
    #[must_use]
    pub fn now(&self) -> (Activity, Option<String>) {
        lock(&self.now).clone()
    }

    /// What the server answered last, if it has been asked.
    #[must_use]
    pub fn last_answer(&self) -> Option<LastAnswer> {
        let answer = lock(&self.answer);
        let (answer, since) = answer.as_ref()?;
        Some(LastAnswer { seconds_ago: since.elapsed().as_secs(), ..answer.clone() })
    }
}

/// What a thread left that panicked is as good as before: every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
