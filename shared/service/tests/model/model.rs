//! Everything there is, as the design and the protocol describe it, and what each call answers and changes.

use std::collections::BTreeSet;

use api::rfc3339;
use domain::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    calls::{Call, FAILURE, Verdict, Who, document},
    events::Event,
    job::{How, Job, Millis, Phase, Refusal, Run, Submitted},
    rows::result_key,
    steps::SHAPES,
};

/// A job that a poll has given out, as its worker remembers it.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) job: String,
    pub(crate) who: Who,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) jobs: Vec<Job>,
    pub(crate) events: Vec<Event>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) paused: BTreeSet<(&'static str, &'static str)>,
    /// The jobs whose deletion was begun. Their objects go first.
    pub(crate) half_deleted: BTreeSet<String>,
    /// The share of the longest backoff that is waited.
    pub(crate) jitter: f64,
}

/// What a call must be answered, and what it must change.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) text: String,
    /// One after another; a server that dies leaves out the last ones.
    pub(crate) changes: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A job that there was not; its id is the system's choice.
    New(Box<Job>),
    Job(Box<Job>),
    /// A job that is gone.
    Gone(String),
    Event(Box<Event>),
}

const NO_JOB: &str = "no such job";

fn at(now: Millis) -> String {
    rfc3339(Timestamp(now))
}

impl Expected {
    fn answer(text: impl Into<String>) -> Self {
        Self { text: text.into(), changes: Vec::new() }
    }

    fn change(text: impl Into<String>, change: Change) -> Self {
        Self { text: text.into(), changes: vec![change] }
    }
}

impl Model {
    pub(crate) fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    /// The job as `saw` has it, when nothing but its progress has changed since.
    pub(crate) fn unchanged<'a>(&self, saw: &'a Self, id: &str) -> Option<&'a Job> {
        let same = |saw: &&Job, is: &Job| (saw.revision, saw.created) == (is.revision, is.created);
        saw.job(id).filter(|saw| self.job(id).is_some_and(|is| same(saw, is)))
    }

    pub(crate) fn event(&self, id: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.id == id)
    }

    fn of_tenant(&self, id: &str, tenant: &str) -> Option<&Job> {
        self.job(id).filter(|job| job.tenant == tenant)
    }

    /// Takes over what has become of a job, and what that owes its webhook.
    pub(crate) fn put(&mut self, job: Job) {
        let before = self.jobs.iter_mut().find(|known| known.id == job.id);
        let ended = job.is_over() && before.as_ref().is_none_or(|before| !before.is_over());
        if let Some(event) = Event::of(&job).filter(|_| ended) {
            self.events.push(event);
        }
        match before {
            Some(before) => *before = job,
            None => self.jobs.push(job),
        }
    }

    pub(crate) fn put_event(&mut self, event: Event) {
        if let Some(known) = self.events.iter_mut().find(|known| known.id == event.id) {
            *known = event;
        }
    }

    /// What a call that concerns one thing must come to at `now`.
    pub(crate) fn expect(&self, call: &Call, now: Millis) -> Expected {
        match call {
            Call::Create { tenant, shape, key, .. } => self.create(tenant, *shape, *key, now),
            Call::Heartbeat { job, who, percent } => self.heartbeat(job, who, *percent, now),
            Call::Submit { job, who, verdict, key } => self.submit(job, who, *verdict, key, now),
            Call::Release { job, who } => self.change(job, who.tenant, |job| {
                let released = job.release(&who.brings(), now, self.jitter);
                released.map(|()| job.status().to_owned())
            }),
            Call::Cancel { job, tenant, takeover } => self.change(job, tenant, |job| {
                let cancelled = job.cancel(*takeover, now);
                cancelled.map(|()| managed(job))
            }),
            Call::Retry { job, tenant } => self.change(job, tenant, |job| {
                let retried = job.retry(now);
                retried.map(|()| managed(job))
            }),
            Call::Delete { job, tenant } => self.delete(job, tenant, now),
            Call::Pause { resume, .. } => Expected::answer(if *resume { "resumed" } else { "paused" }),
            Call::Status { job, tenant } => {
                Expected::answer(self.of_tenant(job, tenant).map_or(NO_JOB.to_owned(), status))
            }
            Call::Result { job, tenant } => Expected::answer(match self.of_tenant(job, tenant) {
                None => NO_JOB,
                Some(job) if job.status() == "completed" => "a URL",
                Some(_) => "urn:remote-jobs:refused",
            }),
            Call::Redrive { event, tenant } => self.redrive(event, tenant, now),
            // What concerns many things is checked write by write.
            Call::Poll { .. } | Call::Sweep | Call::Deliver(_) => Expected::answer(""),
        }
    }

    fn create(&self, tenant: &'static str, shape: usize, key: Option<u8>, now: Millis) -> Expected {
        let of_key = |job: &&Job| job.tenant == tenant && job.made_by.map(|(key, _)| key) == key;
        if let Some(there) = key.and_then(|_| self.jobs.iter().find(of_key)) {
            return Expected::answer(match there.made_by == key.map(|key| (key, shape)) {
                true => format!("{} since {}", there.status(), at(there.created)),
                false => "urn:remote-jobs:idempotency-mismatch".to_owned(),
            });
        }
        let mut job = Job::new(String::new(), tenant, SHAPES[shape], now);
        job.made_by = key.map(|key| (key, shape));
        Expected::change(format!("pending since {}", at(now)), Change::New(Box::new(job)))
    }

    fn change(
        &self,
        id: &str,
        tenant: &str,
        change: impl FnOnce(&mut Job) -> Result<String, Refusal>,
    ) -> Expected {
        let Some(before) = self.of_tenant(id, tenant) else { return Expected::answer(NO_JOB) };
        let mut after = before.clone();
        match change(&mut after) {
            Err(refusal) => Expected::answer(refusal.text(before.status())),
            Ok(text) if after == *before => Expected::answer(text),
            Ok(text) => Expected::change(text, Change::Job(Box::new(after))),
        }
    }

    fn heartbeat(&self, id: &str, who: &Who, percent: u8, now: Millis) -> Expected {
        if self.of_tenant(id, who.tenant).is_some_and(|job| job.was_cancelled_under(&who.brings())) {
            return Expected::answer("cancelled");
        }
        let mut expected = self.change(id, who.tenant, |job| {
            job.heartbeat(&who.brings(), percent, now)?;
            let (_, due) = job.due().unwrap_or_default();
            let term = job.run().and_then(|run| run.term).unwrap_or(60_000);
            Ok(format!("goes on for {} s, report every {} s", seconds(due - now), report_every(term)))
        });
        // Also a heartbeat that says nothing new is written, so that `updated` shows a sign of life.
        if expected.changes.is_empty()
            && expected.text.starts_with("goes on")
            && let Some(job) = self.job(id)
        {
            expected.changes.push(Change::Job(Box::new(job.clone())));
        }
        expected
    }

    fn submit(&self, id: &str, who: &Who, verdict: Verdict, key: &str, now: Millis) -> Expected {
        self.change(id, who.tenant, |job| {
            let what = match verdict {
                Verdict::Inline | Verdict::Uploaded => Submitted::Result(key.to_owned()),
                Verdict::Failed { retryable } => Submitted::Failure { error: FAILURE, retryable },
            };
            let status = job.submit(&who.brings(), &what, now, self.jitter)?;
            let ended = !matches!(status, "pending" | "processing");
            Ok(format!("{status}, continued {}", ended && job.asked.webhook.is_some()))
        })
    }

    /// A job that could be retried is first kept from that, because its objects go before it does.
    fn delete(&self, id: &str, tenant: &str, now: Millis) -> Expected {
        let Some(job) = self.of_tenant(id, tenant) else { return Expected::answer(NO_JOB) };
        if !job.is_over() {
            return Expected::answer(Refusal::NotEnded.text(job.status()));
        }
        let mut expected = Expected::change("deleted", Change::Gone(id.to_owned()));
        let mut fenced = job.clone();
        if job.clone().retry(now).is_ok() && fenced.cancel(true, now).is_ok() {
            expected.changes.insert(0, Change::Job(Box::new(fenced)));
        }
        expected
    }

    fn redrive(&self, id: &str, tenant: &str, now: Millis) -> Expected {
        match self.event(id).filter(|event| event.tenant == tenant) {
            None => Expected::answer("urn:remote-jobs:not-found"),
            Some(event) if !event.is_dead() => Expected::answer("urn:remote-jobs:refused"),
            Some(event) => {
                let mut event = event.clone();
                event.redrive(now);
                Expected::change(format!("due since {}", at(now)), Change::Event(Box::new(event)))
            }
        }
    }
}

/// The key under which what this worker read is kept.
pub(crate) fn result_of(job: &Job, who: &Who) -> String {
    let sha256 = hex::encode(Sha256::digest(document(who)));
    result_key(job.tenant, &job.id, job.attempt(), &sha256)
}

fn managed(job: &Job) -> String {
    format!("{}, by {}", job.status(), if job.local { "local" } else { "" })
}

/// What a worker is told of the job that it was just given.
pub(crate) fn lease_text(job: &Job, run: &Run, now: Millis) -> String {
    let (_, due) = job.due().unwrap_or_default();
    let term = run.term.unwrap_or_default().min(20_000);
    format!(
        "attempt {}, {} s, report every {} s, run {} s",
        job.attempt(),
        seconds(due - now),
        report_every(term),
        seconds(job.run_ends(run) - now)
    )
}

fn seconds(span: Millis) -> Millis {
    span.max(0) / 1000
}

fn report_every(term: Millis) -> Millis {
    (term / 1000 / 4).max(1)
}

/// What anybody of the tenant is told of a job.
fn status(job: &Job) -> String {
    let maybe = |moment: Option<Millis>| moment.map(at).unwrap_or_default();
    let last = job.run().or(job.attempts.last().map(|attempt| &attempt.run));
    let (completed, error) = match &job.phase {
        Phase::Over { at, error, .. } => (Some(*at), error.is_some()),
        Phase::Waits { .. } | Phase::Runs(_) => {
            (None, job.attempts.last().is_some_and(|last| has_error(&last.how)))
        }
    };
    let next = match job.phase {
        Phase::Waits { since, backoff: true } => Some(since),
        Phase::Waits { .. } | Phase::Runs(_) | Phase::Over { .. } => None,
    };
    let percent = if job.status() == "completed" { 100 } else { job.progress.unwrap_or(0) };
    format!(
        "{} of {} since {}, updated {}, started {}, completed {}, error {error}, retry {} of {}, {percent} %, until {}, next {}, [{}]",
        job.status(),
        last.map_or("", |run| run.worker),
        at(job.created),
        at(job.updated),
        maybe(last.map(|run| run.started)),
        maybe(completed),
        job.retries,
        job.asked.max_retries,
        maybe(job.deadline()),
        maybe(next),
        attempts(job).join(", ")
    )
}

fn has_error(how: &How) -> bool {
    matches!(how, How::Failed { .. } | How::TimedOut | How::Lapsed)
}

fn attempts(job: &Job) -> Vec<String> {
    let ended = job.attempts.iter().map(|attempt| {
        let error = match &attempt.how {
            How::Failed { error, .. } => error,
            _ => "",
        };
        let (worker, started) = (attempt.run.worker, at(attempt.run.started));
        format!("{worker} {started} {} {} {error}", at(attempt.ended), attempt.how.name())
    });
    let running = job.run().map(|run| format!("{} {}  running ", run.worker, at(run.started)));
    ended.chain(running).zip(1..).map(|(line, number)| format!("{number} {line}")).collect()
}
