use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ingestion::{Decision, Event, Events, Figures, Method};
use serde_json::{Value, json};

use crate::{
    bars::{Bar, Bars},
    commands::Session,
    failure::Failure,
    follow,
};

/// The jobs that go on when the command is interrupted, by their files.
pub(super) struct Going<'a> {
    session: &'a Session<'a>,
    jobs: Mutex<BTreeMap<String, String>>,
}

impl<'a> Going<'a> {
    pub(super) fn of(session: &'a Session<'a>) -> Self {
        let going = Self { session, jobs: Mutex::default() };
        going.change(|_| {});
        going
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        let mut jobs = lock(&self.jobs);
        change(&mut jobs);
        let ids: Vec<&str> = jobs.values().map(String::as_str).collect();
        self.session.resume_with(hint(&ids));
    }
}

/// What Ctrl-C says while these jobs are under way.
fn hint(job_ids: &[&str]) -> String {
    let again = "Run the same command again to go on where it was.";
    let (jobs, go, them) = match job_ids {
        [] => return format!("Interrupted. {again}"),
        [_] => ("job", "goes", "it"),
        _ => ("jobs", "go", "them"),
    };
    format!("The {jobs} {go} on. {again} To end {them}: remote-jobs cancel {}", job_ids.join(" "))
}

/// Tells what happens to one file: on a bar, as lines beside the answer, or as JSON.
pub(super) struct Teller<'a> {
    session: &'a Session<'a>,
    bars: &'a Bars,
    going: &'a Going<'a>,
    source: &'a str,
    explain: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<(Phase, Bar)>,
    /// What was told last of a job, or of a local conversion.
    last: Option<(String, u8, String)>,
    /// Whether the job had ended when it was first asked for.
    had_ended: bool,
    asked: bool,
    failure: Option<Failure>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Transfer,
    Job,
}

impl<'a> Teller<'a> {
    pub(super) fn new(
        session: &'a Session<'a>,
        bars: &'a Bars,
        going: &'a Going<'a>,
        source: &'a str,
        explain: bool,
    ) -> Self {
        Self { session, bars, going, source, explain, state: Mutex::default() }
    }

    /// Whether the job that was told of last had ended before this run asked for it.
    pub(super) fn had_ended_before(&self) -> bool {
        let mut state = lock(&self.state);
        state.asked = false;
        std::mem::take(&mut state.had_ended)
    }

    /// Nothing more happens to the file.
    ///
    /// # Errors
    /// When something could not be told, because standard output takes nothing more.
    pub(super) fn end(&self) -> Result<(), Failure> {
        self.going.change(|jobs| drop(jobs.remove(self.source)));
        let mut state = lock(&self.state);
        state.bar = None;
        state.failure.take().map_or(Ok(()), Err)
    }

    fn value(&self, state: &mut State, mut value: Value) {
        value["file"] = self.source.into();
        if let Err(failure) = self.bars.aside(|| self.session.output.value(&value)) {
            state.failure.get_or_insert(failure);
        }
    }

    fn note(&self, text: &str) {
        self.bars.aside(|| self.session.output.note(&format!("{}: {text}", self.source)));
    }

    fn decided(&self, state: &mut State, decision: &Decision) {
        self.value(state, json!({"event": "decided", "decision": decision}));
        if self.explain {
            self.note(&explained(decision));
        }
    }

    fn changed(&self, state: &mut State, status: &str, percentage: u8, message: &str) {
        let now = (status.to_owned(), percentage, message.to_owned());
        if state.last.as_ref() == Some(&now) {
            return;
        }
        // Without a bar, the lines of a conversion that says much would be in the way of everything else.
        let is_news = state.last.as_ref().is_none_or(|(last, _, _)| last != status);
        state.last = Some(now);
        if self.bars.shown() {
            self.bar(state, Phase::Job).percent(percentage, printable(message));
        } else if is_news {
            self.note(status);
        }
    }

    fn bar<'s>(&self, state: &'s mut State, phase: Phase) -> &'s Bar {
        let bar = state.bar.take().filter(|(of, _)| *of == phase);
        let (_, bar) = state.bar.insert(bar.unwrap_or_else(|| {
            let bar = match phase {
                Phase::Transfer => self.bars.transfer(self.source),
                Phase::Job => self.bars.job(self.source),
            };
            (phase, bar)
        }));
        bar
    }

    fn uploading(&self, state: &mut State, done: u64, total: u64) {
        if self.bars.shown() {
            self.bar(state, Phase::Transfer).bytes(done, total);
        }
    }

    fn remote(&self, state: &mut State, status: &str, percentage: u8, message: Option<&str>) {
        state.had_ended |= !state.asked && follow::has_ended(status);
        state.asked = true;
        self.value(
            state,
            json!({"event": "status", "status": status, "percentage": percentage, "message": message}),
        );
        self.changed(state, status, percentage, message.unwrap_or(status));
    }
}

impl Events for Teller<'_> {
    fn tell(&self, event: Event<'_>) {
        let state = &mut *lock(&self.state);
        match event {
            Event::Decided(decision) => self.decided(state, decision),
            Event::Uploading { done, total } => self.uploading(state, done, total),
            Event::Created { job_id } => {
                self.going.change(|jobs| drop(jobs.insert(self.source.to_owned(), job_id.to_owned())));
                self.value(state, json!({"event": "created", "job_id": job_id}));
                if !self.bars.shown() {
                    self.note(&format!("job {job_id}"));
                }
            }
            Event::Remote { status, percentage, message } => {
                self.remote(state, status, percentage, message);
            }
            Event::FallingBack { reason } => {
                self.value(state, json!({"event": "falling_back", "fallback": reason}));
                self.note(&reason.to_string());
            }
            Event::RemoteAfterAll { job_id } => {
                self.value(state, json!({"event": "remote_after_all", "job_id": job_id}));
            }
            Event::Local { percentage, message } => {
                self.going.change(|jobs| drop(jobs.remove(self.source)));
                self.value(state, json!({"event": "local", "percentage": percentage, "message": message}));
                self.changed(state, "converting on this machine", percentage, message);
            }
            // What is added later is told by whoever knows it.
            _ => {}
        }
    }
}

/// A decision with the figures that it was made by.
fn explained(decision: &Decision) -> String {
    let place = match decision.method {
        Method::Remote => "remotely",
        Method::Local => "on this machine",
    };
    let figures = decision.figures.as_ref().map(figures).filter(|text| !text.is_empty());
    let figures = figures.map(|text| format!(" ({text})")).unwrap_or_default();
    format!("{place}: {decision}{figures}")
}

fn figures(figures: &Figures) -> String {
    let count = |name: &str, value: Option<u64>| value.map(|value| format!("{name} {value}"));
    let seconds = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {value:.1} s"));
    let all = [
        count("live workers", figures.live_workers),
        count("waiting", figures.queue_depth),
        count("running", figures.running),
        seconds("median run", figures.run_time_p50_seconds),
        seconds("9 of 10 runs within", figures.run_time_p90_seconds),
        seconds("expected wait", figures.expected_wait_seconds),
        Some(format!("time {} s", figures.deadline_seconds)),
        figures.paused.filter(|paused| *paused).map(|_| "paused".to_owned()),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What a thread left that panicked is as good as before: every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
