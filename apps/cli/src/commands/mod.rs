//! One file for each command.

mod bulk;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod queues;
pub(crate) mod result;
pub(crate) mod retry;
mod save;
pub(crate) mod selftest;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod watch;
pub(crate) mod webhook_secret;
pub(crate) mod workers;

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use api::manage::ManageResponse;
use client::{Client, Error, RetryPolicy, retrying};

use crate::{
    args::{Command, Global},
    connection,
    failure::Failure,
    output::Output,
};

/// How often a call is tried that may be repeated: a person waits for the answer.
pub(crate) const TRIES: RetryPolicy =
    RetryPolicy { tries: 3, base: Duration::from_millis(500), cap: Duration::from_secs(5) };

/// What every command works with.
pub(crate) struct Session<'a> {
    pub(crate) output: &'a Output,
    pub(crate) global: &'a Global,
    hint: Mutex<Option<String>>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(output: &'a Output, global: &'a Global) -> Self {
        Self { output, global, hint: Mutex::new(None) }
    }

    /// A client of the server that the options name.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        connection::client(self.global)
    }

    /// What Ctrl-C says from now on.
    pub(crate) fn resume_with(&self, hint: String) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = Some(hint);
    }

    /// What Ctrl-C says now.
    pub(crate) fn hint(&self) -> Option<String> {
        self.hint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What Ctrl-C says while jobs are waited for.
    fn jobs_go_on(&self, job_ids: &[String]) {
        let (jobs, go) = if job_ids.len() == 1 { ("job", "goes") } else { ("jobs", "go") };
        self.resume_with(format!(
            "The {jobs} {go} on. To watch again: remote-jobs watch {}",
            job_ids.join(" ")
        ));
    }
}

/// Runs a command.
pub(crate) async fn run(session: &Session<'_>, command: Command) -> Result<(), Failure> {
    match command {
        Command::Submit(args) => Box::pin(submit::run(session, &args)).await,
        Command::Convert(args) => Box::pin(convert::run(session, &args)).await,
        Command::List(args) => Box::pin(list::run(session, &args)).await,
        Command::Status(args) => Box::pin(status::run(session, &args)).await,
        Command::Watch(args) => Box::pin(watch::run(session, &args)).await,
        Command::Result(args) => Box::pin(result::run(session, &args)).await,
        Command::Cancel(args) => Box::pin(cancel::run(session, &args)).await,
        Command::Retry(args) => Box::pin(retry::run(session, &args)).await,
        Command::Delete(args) => Box::pin(delete::run(session, &args)).await,
        Command::Stats => Box::pin(stats::run(session)).await,
        Command::Workers(args) => Box::pin(workers::run(session, &args)).await,
        Command::Pause(args) => Box::pin(queues::run(session, &args, true)).await,
        Command::Resume(args) => Box::pin(queues::run(session, &args, false)).await,
        Command::Events(command) => Box::pin(events::run(session, &command)).await,
        Command::WebhookSecret(command) => Box::pin(webhook_secret::run(session, &command)).await,
        Command::Import(args) => Box::pin(import::run(session, &args)).await,
        Command::Keys(args) => Box::pin(keys::run(session, &args)).await,
        Command::Doctor => Box::pin(doctor::run(session)).await,
        Command::Selftest(args) => Box::pin(selftest::run(session, &args)).await,
        Command::Completions(args) => completions::run(session, &args),
    }
}

/// Does the same for each of several things. A failure of one is told, and the others are done all the same, unless
/// they would meet it too; in the end the first one decides the exit code.
pub(crate) struct Each<'a> {
    output: &'a Output,
    alone: bool,
    code: Option<u8>,
}

impl<'a> Each<'a> {
    pub(crate) fn of<T>(output: &'a Output, all: &[T]) -> Self {
        Self { output, alone: all.len() == 1, code: None }
    }

    /// For things that the person did not name, so that each failure must say which it is about.
    pub(crate) fn several(output: &'a Output) -> Self {
        Self { output, alone: false, code: None }
    }

    /// Notes how one of them went.
    ///
    /// # Errors
    /// The failure itself, when it concerns all or there is only one.
    pub(crate) fn note<T>(&mut self, about: &str, done: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match done {
            Ok(value) => Ok(Some(value)),
            Err(failure) if self.alone || failure.concerns_all() => Err(failure),
            Err(failure) => {
                self.output.failure(&failure, Some(about));
                self.code.get_or_insert(failure.code());
                Ok(None)
            }
        }
    }

    /// How they went together.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.code.map_or(Ok(()), |code| Err(Failure::Told { code }))
    }
}

/// Makes a call that changes something, again when its answer was lost. `done` says whether an error then means that the
/// lost call had worked, and what it had answered.
async fn repeating<T>(
    call: impl AsyncFn() -> Result<T, Error>,
    done: impl FnOnce(&Error) -> Option<T>,
) -> Result<T, Error> {
    let tries = Cell::new(0_u32);
    let made = retrying(&TRIES, async || {
        tries.set(tries.get() + 1);
        call().await
    });
    match made.await {
        Err(error) if tries.get() > 1 => done(&error).ok_or(error),
        made => made,
    }
}

/// Tells what a job is after somebody intervened.
fn tell_managed(output: &Output, job: &ManageResponse) -> Result<(), Failure> {
    output.value(job)?;
    let by = job.continued_by.as_ref().map(|by| format!(", continued by {by}")).unwrap_or_default();
    output.line(&format!("{}  {}{by}", job.job_id, job.status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Captured;

    #[test]
    fn one_failure_of_several_is_told_and_decides_the_code() {
        let err = Captured::default();
        let output = Output::captured(false, false, Captured::default(), err.clone());
        let mut each = Each::of(&output, &["a", "b"]);
        assert_eq!(each.note("a", Err::<(), _>(Failure::Usage("Why.".into()))).unwrap(), None);
        assert_eq!(each.note("b", Ok(1)).unwrap(), Some(1));
        assert_eq!(each.end().unwrap_err().code(), 2);
        assert_eq!(err.text(), "error: a: Why.\n");
    }

    #[tokio::test]
    async fn a_refusal_after_a_lost_answer_may_mean_that_it_is_done() {
        let refused = || Error::Invalid { reason: "gone".into() };
        let lost =
            || Error::Unreadable { host: "h".into(), status: 503, reason: "r".into(), retry_after: None };
        let of = async |errors: &[fn() -> Error]| {
            let made = Cell::new(0);
            let call = async || {
                made.set(made.get() + 1);
                Err::<&str, _>(errors[made.get() - 1]())
            };
            repeating(call, |error| matches!(error, Error::Invalid { .. }).then_some("done")).await.is_ok()
        };
        assert!(of(&[lost, refused]).await);
        assert!(!of(&[refused]).await, "nothing was lost");
    }

    #[test]
    fn a_failure_of_all_ends_it_at_once() {
        let output = Output::captured(false, false, Captured::default(), Captured::default());
        let unreachable = || client::Error::Unreachable { host: "h".into(), reason: "r".into() };
        let mut each = Each::of(&output, &["a", "b"]);
        assert_eq!(each.note("a", Err::<(), _>(unreachable().into())).unwrap_err().code(), 3);
        let mut each = Each::of(&output, &["a"]);
        assert_eq!(each.note("a", Err::<(), _>(Failure::Usage("Why.".into()))).unwrap_err().code(), 2);
    }
}
