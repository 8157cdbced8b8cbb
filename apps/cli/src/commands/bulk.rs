//! Doing one thing to many jobs, which are named by their ids or selected by filters.

use std::fmt::Display;

use api::list::JobSummary;
use clap::Args;
use client::{Client, Error};
use domain::Status;
use futures::{StreamExt, stream};

use super::{Each, Session};
use crate::{failure::Failure, filters::Filters};

/// How many jobs are worked on at a time.
const PARALLEL: usize = 8;

/// The jobs that a command works on.
#[derive(Args, Debug)]
pub(crate) struct Selection {
    /// The jobs' ids; filters may stand in their place
    #[arg(value_name = "JOB", required_unless_present = "filters", conflicts_with = "filters")]
    jobs: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// Do not ask; without a terminal there is nobody to ask
    #[arg(long, short)]
    yes: bool,
}

/// What a command does to a job.
pub(crate) struct Action {
    /// The command's name, which is what it does.
    pub(crate) verb: &'static str,
    /// What the job is then, as a participle.
    pub(crate) done: &'static str,
    /// What goes with the job.
    pub(crate) along: &'static str,
    /// The jobs that filters without a status mean.
    pub(crate) by_default: &'static [Status],
    /// The jobs for which it makes sense.
    pub(crate) admitted: &'static [Status],
    /// Whether it is asked for before it is done to jobs that are named by their ids.
    pub(crate) asks_for_ids: bool,
}

/// Does it to each of the jobs that are meant, if the person agrees.
pub(crate) async fn run<T>(
    session: &Session<'_>,
    client: &Client,
    selection: &Selection,
    action: &Action,
    act: impl AsyncFn(&str) -> Result<T, Error>,
    tell: impl Fn(&T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let by_ids = !selection.jobs.is_empty();
    let filters = action.filters(&selection.filters)?;
    let asks = !selection.yes && (!by_ids || action.asks_for_ids);
    if asks && !session.output.can_ask() {
        return Err(action.needs_yes(by_ids));
    }
    let found =
        if by_ids { Found::named(&selection.jobs) } else { Found::selected(client, &filters).await? };
    if found.jobs.is_empty() {
        session.output.note("No job fits.");
        return Ok(());
    }
    if asks && !session.output.ask(&action.question(&found)).await? {
        session.output.note("Nothing was changed.");
        return Ok(());
    }
    let each = if by_ids { Each::of(session.output, &found.jobs) } else { Each::several(session.output) };
    work(session, each, &found.jobs, action.done, act, tell).await
}

/// Does one thing to each of several, a few at a time, and tells of each how it went. What is refused for one of them
/// does not keep the others.
pub(crate) async fn work<T>(
    session: &Session<'_>,
    mut each: Each<'_>,
    ids: &[String],
    done: &str,
    act: impl AsyncFn(&str) -> Result<T, Error>,
    tell: impl Fn(&T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    session.resume_with(format!("What was {done} stays {done}; run the same command again for the others."));
    let act = &act;
    let mut outcomes = stream::iter(ids).map(|id| async move { (id, act(id).await) }).buffered(PARALLEL);
    let mut tally = Tally { all: ids.len(), ..Tally::default() };
    let mut ended = Ok(());
    while let Some((id, outcome)) = outcomes.next().await {
        match each
            .note(id, outcome.map_err(Failure::from))
            .and_then(|told| told.as_ref().map(&tell).transpose())
        {
            Ok(Some(())) => tally.done += 1,
            Ok(None) => tally.failed += 1,
            Err(failure) => {
                tally.failed += 1;
                ended = Err(failure);
                break;
            }
        }
    }
    if ids.len() > 1 {
        session.output.note(&tally.words(done));
    }
    ended.and_then(|()| each.end())
}

impl Action {
    /// The filters with the statuses that they mean here.
    fn filters(&self, given: &Filters) -> Result<Filters, Failure> {
        if let Some(status) = given.status.iter().find(|status| !self.admitted.contains(status)) {
            return Err(Failure::Usage(format!(
                "A {status} job cannot be {}; --status may be {} here.",
                self.done,
                listed(self.admitted)
            )));
        }
        let status = if given.status.is_empty() { self.by_default.to_vec() } else { given.status.clone() };
        Ok(Filters { status, ..given.clone() })
    }

    fn needs_yes(&self, by_ids: bool) -> Failure {
        let look = if by_ids { "" } else { "; `remote-jobs list` with the same filters shows them" };
        Failure::Usage(format!("There is no terminal to ask at; add --yes to {} the jobs{look}.", self.verb))
    }

    fn question(&self, found: &Found) -> String {
        let mut verb = self.verb.to_owned();
        if let Some(first) = verb.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let count = found.jobs.len();
        let jobs = if count == 1 { "job" } else { "jobs" };
        format!("{verb} {count} {jobs}{}{}?", self.along, found.kinds())
    }
}

/// What filters select.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    jobs: Vec<String>,
    by_status: Vec<(String, usize)>,
}

impl Found {
    fn named(jobs: &[String]) -> Self {
        Self { jobs: jobs.to_vec(), by_status: Vec::new() }
    }

    /// Every job that fits, before anything is done to one: what is asked about is what is done.
    async fn selected(client: &Client, filters: &Filters) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut pages = filters.pages(client);
        while let Some(page) = pages.next(u64::MAX).await? {
            found.add(page);
        }
        Ok(found)
    }

    fn add(&mut self, page: Vec<JobSummary>) {
        for job in page {
            match self.by_status.iter_mut().find(|(status, _)| *status == job.status) {
                Some((_, count)) => *count += 1,
                None => self.by_status.push((job.status, 1)),
            }
            self.jobs.push(job.job_id);
        }
    }

    /// How many there are of each status, where that is known.
    fn kinds(&self) -> String {
        let kinds: Vec<String> =
            self.by_status.iter().map(|(status, count)| format!("{count} {status}")).collect();
        if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) }
    }
}

/// How many jobs went how.
#[derive(Default)]
struct Tally {
    all: usize,
    done: usize,
    failed: usize,
}

impl Tally {
    fn words(&self, done: &str) -> String {
        let mut text = format!("{} {done}", self.done);
        for (count, what) in [(self.failed, "failed"), (self.all - self.done - self.failed, "not finished")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}

/// Several words as a person lists them.
fn listed(words: &[impl Display]) -> String {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::output::{Output, tests::Captured};

    const ACTION: Action = Action {
        verb: "retry",
        done: "retried",
        along: " with all files",
        by_default: &[Status::Failed, Status::Timeout],
        admitted: &[Status::Failed, Status::Timeout, Status::Cancelled],
        asks_for_ids: false,
    };

    #[test]
    fn filters_without_a_status_mean_the_actions_own() {
        let of =
            |status: &[Status]| ACTION.filters(&Filters { status: status.to_vec(), ..Filters::default() });
        assert_eq!(of(&[]).unwrap().status, [Status::Failed, Status::Timeout]);
        assert_eq!(of(&[Status::Cancelled]).unwrap().status, [Status::Cancelled]);
        let failure = of(&[Status::Failed, Status::Completed]).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "A completed job cannot be retried; --status may be failed, timeout or cancelled here."
        );
        assert_eq!(failure.code(), 2);
    }

    #[test]
    fn the_question_says_how_many_of_what() {
        let mut found = Found::default();
        for (job_id, status) in [("1", "failed"), ("2", "timeout"), ("3", "failed")] {
            let job = serde_json::json!({
                "job_id": job_id, "status": status, "content_type": "audio", "filename": "", "percentage": 0,
                "ingestion_task_id": "t", "created_at": "", "updated_at": "", "retry_count": 0,
            });
            found.add(vec![serde_json::from_value(job).unwrap()]);
        }
        assert_eq!(found.jobs, ["1", "2", "3"]);
        assert_eq!(ACTION.question(&found), "Retry 3 jobs with all files (2 failed, 1 timeout)?");
        assert_eq!(ACTION.question(&Found::named(&["1".into()])), "Retry 1 job with all files?");
    }

    #[test]
    fn the_summary_leaves_out_what_there_is_none_of() {
        assert_eq!(Tally { all: 3, done: 3, failed: 0 }.words("retried"), "3 retried");
        assert_eq!(
            Tally { all: 6, done: 3, failed: 1 }.words("retried"),
            "3 retried, 1 failed, 2 not finished"
        );
    }

    type Outcome = fn() -> Result<(), Error>;

    /// What is told of jobs that end like this, with the exit code.
    async fn told(outcomes: &[(&str, Outcome)]) -> (String, String, u8) {
        let (out, err) = (Captured::default(), Captured::default());
        let output = Output::captured(false, false, out.clone(), err.clone());
        let global = crate::args::Cli::parse_from(["remote-jobs", "doctor"]).global;
        let session = Session::new(&output, &global);
        let ids: Vec<String> = outcomes.iter().map(|(id, _)| (*id).to_owned()).collect();
        let act = async |id: &str| {
            let outcome = outcomes.iter().find(|(known, _)| *known == id).unwrap().1;
            outcome().map(|()| id.to_owned())
        };
        let tell = |id: &String| output.line(&format!("{id} retried"));
        let done = work(&session, Each::several(&output), &ids, "retried", act, tell).await;
        (out.text(), err.text(), done.map_or_else(|failure| failure.code(), |()| 0))
    }

    fn refused() -> Result<(), Error> {
        let problem = api::Problem::new(api::Kind::Refused, "The job is completed.");
        Err(Error::Refused { status: 409, problem: Box::new(problem), retry_after: None })
    }

    fn unreachable() -> Result<(), Error> {
        Err(Error::Unreachable { host: "h".into(), reason: "r".into() })
    }

    #[tokio::test]
    async fn a_refusal_does_not_keep_the_others() {
        let (out, err, code) = told(&[("1", || Ok(())), ("2", refused), ("3", || Ok(()))]).await;
        assert_eq!(out, "1 retried\n3 retried\n");
        assert_eq!(err, "error: 2: The job is completed. (409 refused)\n2 retried, 1 failed\n");
        assert_eq!(code, 5);
    }

    #[tokio::test]
    async fn a_server_that_is_away_ends_it() {
        let (out, err, code) = told(&[("1", || Ok(())), ("2", unreachable), ("3", || Ok(()))]).await;
        assert_eq!(out, "1 retried\n");
        assert_eq!(err, "1 retried, 1 failed, 1 not finished\n");
        assert_eq!(code, 3);
    }
}
