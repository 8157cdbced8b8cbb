//! Lives through a history: every step is taken by the system and by the model, and what they make of it is compared.

use std::{collections::BTreeMap, fmt::Write as _, pin::pin};

use sha2::{Digest, Sha256};

use crate::{
    calls::{Answered, Call, make},
    check::{Fault, all_same},
    coverage::Met,
    crash::{Plan, Write},
    events::{Event, Try},
    history::{Source, is_left_alone, random_step},
    job::{Job, Millis, Phase},
    model::Model,
    polls::Server,
    steps::{Step, Turn},
    system::{BEGIN, Place},
};

/// How a history went.
pub(crate) struct Lived {
    pub(crate) met: Met,
    /// The steps that were taken, and what came of them in words.
    pub(crate) steps: Vec<Step>,
    pub(crate) trace: String,
    pub(crate) fault: Option<Fault>,
}

/// A history under way.
pub(crate) struct Life<'a> {
    pub(crate) place: &'a mut Place,
    pub(crate) model: Model,
    /// Since when each server can be reached, and until when it begins anywhere in a queue.
    servers: [(Millis, Millis); 2],
    met: Met,
    steps: Vec<Step>,
    pub(crate) trace: String,
}

/// What became of a call.
pub(crate) struct Outcome {
    pub(crate) answered: Answered,
    /// What its server was writing when it died.
    pub(crate) died_at: Option<(Plan, Write)>,
}

/// Lives through a history. The first and the last thing is that there is nothing else in the table.
pub(crate) async fn live(place: &mut Place, source: Source<'_>, jitter: Millis) -> Lived {
    place.begin(jitter).await;
    let model = Model { jitter: place.clock.jitter(), ..Model::default() };
    let servers = [(Millis::MIN, Millis::MIN); 2];
    let mut life = Life { place, model, servers, met: Met::new(), steps: Vec::new(), trace: String::new() };
    let fault = life.live(source).await.err();
    Lived { met: life.met, steps: life.steps, trace: life.trace, fault }
}

impl Life<'_> {
    async fn live(&mut self, source: Source<'_>) -> Result<(), Fault> {
        match source {
            Source::Steps(steps) => {
                for step in steps {
                    self.take(step.clone()).await?;
                }
            }
            Source::Random(random, length) => {
                while self.steps.len() < length {
                    let step = random_step(random, self.steps.len());
                    self.take(step).await?;
                }
                if is_left_alone(random) {
                    self.take(Step::LeaveAlone).await?;
                }
            }
        }
        self.place.clock.turn(1);
        self.look_at_the_index().await?;
        self.read_results().await?;
        let recorder = self.place.wires.recorder();
        all_same(&self.model.jobs, &self.model.events, &recorder.rows)
    }

    /// Time alone ends every job, and every webhook is told.
    async fn leave_alone(&mut self) -> Result<(), Fault> {
        self.note("nobody comes any more");
        // A claim that was never heard of goes back to its queue first, and an attempt may be followed by a backoff.
        for _ in 0..4 {
            let ends = self
                .model
                .jobs
                .iter()
                .filter_map(Job::deadline)
                .chain(self.model.events.iter().filter_map(Event::undelivered));
            let now = self.place.clock.now();
            let Some(last) = ends.max() else { break };
            self.place.clock.turn(last.max(now) - now + 1);
            self.settled(Call::Sweep).await?;
            self.settled(Call::Deliver(vec![Try::Taken])).await?;
        }
        let live = self.model.jobs.iter().find(|job| !job.is_over());
        let owed = self.model.events.iter().find(|event| event.undelivered().is_some());
        match (live, owed) {
            (None, None) => Ok(()),
            left => Err(format!("left alone, and still {left:?}")),
        }
    }

    async fn settled(&mut self, call: Call) -> Result<(), Fault> {
        let outcome = self.make(1, &call, None).await;
        self.settle(1, &call, None, &outcome)
    }

    /// Takes a step, unless there is nothing that it could be about.
    async fn take(&mut self, step: Step) -> Result<(), Fault> {
        self.place.clock.turn(1);
        let so_far = self.trace.len();
        let _ =
            write!(self.trace, "\n{:4}  {:>12} ms  ", self.steps.len() + 1, self.place.clock.now() - BEGIN);
        self.steps.push(step.clone());
        if !self.step(&step).await? {
            self.steps.pop();
            self.trace.truncate(so_far);
        }
        Ok(())
    }

    pub(crate) fn meet(&mut self, what: impl Into<String>) {
        *self.met.entry(what.into()).or_default() += 1;
    }

    fn note(&mut self, text: impl AsRef<str>) {
        self.trace.push_str(text.as_ref());
    }

    pub(crate) fn server(&self, number: usize) -> Server {
        let (since, raced_until) = self.servers[number];
        Server { now: self.place.servers[number].now(), since, raced_until }
    }

    /// False when there was nothing that the step could be about.
    async fn step(&mut self, step: &Step) -> Result<bool, Fault> {
        match step {
            Step::Clock(turn) => return Ok(self.turn(*turn)),
            Step::Spare { server, restart } => self.spare(*server, *restart),
            Step::LeaveAlone => self.leave_alone().await?,
            Step::Call { server, wish } => {
                let Some(call) = self.resolve(wish).await else { return Ok(false) };
                self.note(format!("server {server}: {call:?}"));
                let outcome = self.make(*server, &call, None).await;
                self.settle(*server, &call, None, &outcome)?;
                self.fetch(&call, &outcome.answered).await?;
            }
            Step::Doomed { server, wish, plan, spares } => {
                let Some(call) = self.resolve(wish).await else { return Ok(false) };
                self.note(format!("server {server}, {plan:?}: {call:?}"));
                let outcome = self.make(*server, &call, Some(*plan)).await;
                self.settle(*server, &call, None, &outcome)?;
                if outcome.died_at.is_some() {
                    self.restart(*server, *spares);
                }
            }
            Step::HeldUp { wish, meanwhile } => {
                let Some(call) = self.resolve(wish).await else { return Ok(false) };
                self.note(format!("server 0, held up: {call:?}"));
                self.held_up(&call, meanwhile).await?;
            }
        }
        Ok(true)
    }

    fn turn(&mut self, turn: Turn) -> bool {
        let now = self.place.clock.now();
        let to = match turn {
            Turn::By(by) => Some(now + by),
            Turn::Due(pick, by) => {
                self.pick(pick).and_then(Job::due).map(|(_, due)| due + by).filter(|due| *due >= now)
            }
            Turn::Deadline(pick, by) => {
                self.pick(pick).and_then(Job::deadline).map(|at| at + by).filter(|at| *at >= now)
            }
        };
        let Some(to) = to else { return false };
        // Nothing happens before the beginning or after a row's time to live.
        let to = to.clamp(BEGIN, BEGIN + 1_000_000_000_000);
        self.place.clock.turn(to - now);
        self.note(format!("the clock goes on by {} ms", to - now));
        true
    }

    fn spare(&mut self, number: usize, restart: bool) {
        if restart {
            self.note(format!("server {number} is restarted"));
            self.restart(number, true);
        } else {
            self.note(format!("server {number} spares leases"));
            self.place.servers[number].service.spare_leases();
            self.servers[number].0 = self.place.servers[number].now();
        }
    }

    fn restart(&mut self, number: usize, spares: bool) {
        let server = &mut self.place.servers[number];
        server.restart();
        self.servers[number] = (Millis::MIN, Millis::MIN);
        if spares {
            server.service.spare_leases();
            self.servers[number].0 = server.now();
        }
    }

    /// Makes a call of which the server may die.
    async fn make(&mut self, number: usize, call: &Call, plan: Option<Plan>) -> Outcome {
        let server = &self.place.servers[number];
        if let Some(plan) = plan {
            server.process.plan(plan);
        }
        let answered = make(server.service.clone(), call.clone()).await;
        self.replace_source(call).await;
        let server = &self.place.servers[number];
        let died_at = plan.zip(server.process.met_at());
        if died_at.is_none() {
            server.process.renew();
        }
        if let Some((Plan::Kill { moment, .. }, write)) = &died_at {
            self.meet(format!("died {moment:?} {}, {}", call.name(), write.kind()).to_lowercase());
        }
        Outcome { answered, died_at }
    }

    /// A source may go with a deleted job, and other jobs are to be made of it.
    async fn replace_source(&self, call: &Call) {
        if matches!(call, Call::Delete { .. }) {
            self.place.upload_sources().await;
        }
    }

    async fn held_up(&mut self, call: &Call, meanwhile: &[Step]) -> Result<(), Fault> {
        let (service, process) =
            (self.place.servers[0].service.clone(), self.place.servers[0].process.clone());
        let (saw, then) = (self.model.clone(), self.place.servers[0].now());
        process.plan(Plan::HoldUp);
        let mut made = pin!(make(service, call.clone()));
        let held = tokio::select! {
            answered = &mut made => Err(answered),
            write = process.is_held_up() => Ok(write),
        };
        let (answered, saw) = match held {
            Err(answered) => (answered, None),
            Ok(write) => {
                self.meet(format!("held up: {}, {}", call.name(), write.kind()));
                self.replace_source(call).await;
                for step in meanwhile {
                    self.note("\n                         meanwhile ");
                    self.place.clock.turn(1);
                    Box::pin(self.step(step)).await?;
                }
                if self.is_late(&write, &saw) {
                    self.meet(format!("came too late: {}", call.name()));
                }
                process.go_on();
                (made.await, Some((saw, then)))
            }
        };
        process.renew();
        self.replace_source(call).await;
        if matches!(call, Call::Poll { .. }) && saw.is_some() {
            self.servers[0].1 = self.servers[0].1.max(self.place.servers[0].now() + 10_000);
        }
        self.settle(0, call, saw, &Outcome { answered, died_at: None })
    }

    /// Whether others have changed what this write is of since it was decided on.
    fn is_late(&self, write: &Write, saw: &Model) -> bool {
        write.rows.iter().any(|(pk, _)| match pk.split_once('#') {
            Some(("job", id)) => self.model.unchanged(saw, id).is_none() && self.model.job(id) != saw.job(id),
            Some(("event", id)) => saw.event(id) != self.model.event(id),
            _ => false,
        })
    }

    /// What a result's URL leads to is what was accepted.
    async fn fetch(&mut self, call: &Call, answered: &Answered) -> Result<(), Fault> {
        let (Call::Result { job, .. }, Some(url)) = (call, &answered.url) else { return Ok(()) };
        let (parts, body) = self.place.backend.send("GET", url, &BTreeMap::new(), "").await;
        let sha256 = hex::encode(Sha256::digest(&body));
        match self.model.job(job).map(|job| &job.phase) {
            _ if self.model.half_deleted.contains(job) => Ok(()),
            Some(Phase::Over { result: Some(key), .. })
                if parts.status.is_success() && key.contains(&sha256) =>
            {
                self.meet("a result was fetched");
                Ok(())
            }
            other => Err(format!("{} with {sha256} was fetched as the result of {other:?}", parts.status)),
        }
    }

    /// Every accepted result is still there, as it was accepted.
    async fn read_results(&self) -> Result<(), Fault> {
        for job in self.model.jobs.iter().filter(|job| !self.model.half_deleted.contains(&job.id)) {
            let Phase::Over { result: Some(key), .. } = &job.phase else { continue };
            let body = self.place.observer.handoff.get(key, 1 << 20).await;
            let body = body.map_err(|error| error.to_string())?.unwrap_or_default();
            if !key.contains(&hex::encode(Sha256::digest(&body))) {
                return Err(format!("{} bytes are stored as {key}", body.len()));
            }
        }
        Ok(())
    }

    /// What the index says of live jobs, and nothing but them.
    async fn look_at_the_index(&mut self) -> Result<(), Fault> {
        let page = self.place.observer.jobs.live(0, 1, None).await.map_err(|error| error.to_string())?;
        let mut seen: Vec<String> = page
            .hints
            .iter()
            .map(|hint| {
                format!("{} in {} at {} until {}", hint.id, hint.queue, hint.due_at.0, hint.deadline.0)
            })
            .collect();
        let say = |job: &Job| {
            let (key, (_, due)) = (job.due_key()?, job.due()?);
            Some(format!("{} in {key} at {due} until {}", job.id, job.deadline()?))
        };
        let mut said: Vec<String> = self.model.jobs.iter().filter_map(say).collect();
        seen.sort();
        said.sort();
        if seen == said { Ok(()) } else { Err(format!("the index has {seen:?} instead of {said:?}")) }
    }
}
