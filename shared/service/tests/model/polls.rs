//! What concerns many jobs or events at once: polls, sweeps and deliveries. Which of them come first is the system's
//! choice, so each write is checked to be a legal one, and in the end that nothing was left out.

use crate::{
    calls::{Answered, Call, Given, Who},
    check::{Fault, same, same_event},
    crash::Written,
    deliver::Carried,
    events::{Event, Try},
    job::{Job, Millis, Proof},
    model::{Grant, Model, lease_text},
    rows::facts_of_row,
    steps::WORKERS,
};

/// How a server stands to leases that have lapsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) now: Millis,
    /// Since when workers can reach it again.
    pub(crate) since: Millis,
    /// Until when it begins anywhere in a queue, because it has lost a race.
    pub(crate) raced_until: Millis,
}

impl Server {
    /// What time makes of a job, as far as this server lets it.
    pub(crate) fn after_time(&self, job: &Job, jitter: f64) -> Option<Job> {
        let spared = job.run().is_some_and(|run| {
            let term = run.term.unwrap_or(0).max(60_000);
            self.now < self.since.saturating_add(term) && job.run_ends(run) > self.now
        });
        if spared || !job.is_out_of_time(self.now) {
            return None;
        }
        let mut after = job.clone();
        after.time_passes(self.now, jitter);
        Some(after)
    }
}

/// A call that may write much, as it is checked.
pub(crate) struct Checked<'a> {
    pub(crate) model: &'a mut Model,
    pub(crate) server: Server,
    /// The world as the call saw it before others came in between, and the moment, when a write was held up.
    pub(crate) saw: Option<(Model, Millis)>,
    pub(crate) written: &'a [Written],
    /// What was answered, unless the server died.
    pub(crate) answered: Option<&'a Answered>,
    pub(crate) carried: &'a [Carried],
}

impl Checked<'_> {
    /// Whether nobody died and nobody interfered, so that the call has done all there was to do.
    fn is_whole(&self) -> bool {
        self.answered.is_some() && self.saw.is_none()
    }

    pub(crate) fn check(&mut self, call: &Call) -> Result<(), Fault> {
        match call {
            Call::Poll { worker, content_types, most, lease } => {
                self.poll(*worker, content_types, *most, *lease)
            }
            Call::Sweep => self.sweep(),
            Call::Deliver(_) => self.deliver(),
            other => Err(format!("{} concerns one thing only", other.name())),
        }
    }

    /// The states that a write may start from, with the moment it takes itself to be at: what there is, or what there was
    /// before others came in between, unless they have changed more than progress.
    fn befores(&self, id: &str) -> Vec<(Job, Server)> {
        let is = self.model.job(id).cloned();
        let saw = self.saw.as_ref().and_then(|(saw, then)| {
            let saw = self.model.unchanged(saw, id)?;
            Some([(saw.clone(), Server { now: *then, ..self.server }), (saw.clone(), self.server)])
        });
        is.map(|is| (is, self.server)).into_iter().chain(saw.into_iter().flatten()).collect()
    }

    fn poll(
        &mut self,
        worker: usize,
        types: &[&'static str],
        most: u64,
        lease: Option<u64>,
    ) -> Result<(), Fault> {
        let term = WORKERS[worker].native.then(|| i64::try_from(lease.unwrap_or(60)).unwrap_or(60) * 1000);
        let most = if WORKERS[worker].native { most } else { 1 };
        let mut claimed: Vec<Job> = Vec::new();
        for written in self.written {
            let job = self.polled(written, worker, types, term)?;
            if job.run().is_some() {
                claimed.push(job.clone());
            }
            self.model.put(job);
        }
        if claimed.len() as u64 > most {
            return Err(format!("{} jobs were claimed of {most}", claimed.len()));
        }
        let Some(answered) = self.answered else { return Ok(()) };
        self.given(worker, &answered.given, &claimed)?;
        if self.is_whole() && (claimed.len() as u64) < most {
            self.nothing_left(worker, types)?;
        }
        Ok(())
    }

    /// What a poll has made of one job: a claim, or an end or a backoff on the spot.
    fn polled(
        &self,
        written: &Written,
        worker: usize,
        types: &[&'static str],
        term: Option<Millis>,
    ) -> Result<Job, Fault> {
        let row = &written.rows[0].1;
        let id = written.job().ok_or("a poll has written what is no job")?;
        let befores = self.befores(id);
        let (is, _) = befores.first().ok_or(format!("a poll has written {id}, which is not there"))?;
        let polls = &WORKERS[worker];
        if is.tenant != polls.tenant || !types.contains(&is.asked.content_type) {
            return Err(format!("a poll for {types:?} of {} has written {id}", polls.tenant));
        }
        if self.model.paused.contains(&(is.tenant, is.asked.content_type)) {
            return Err(format!("a poll has written {id} in a queue that is paused"));
        }
        let mut fault = format!("a poll has written {id}, which is not due");
        for (before, server) in befores {
            if !before.is_met(server.now) {
                continue;
            }
            let lapsed = server.after_time(&before, self.model.jitter);
            let mut after = lapsed.clone().unwrap_or(before);
            if after.may_be_claimed(server.now) {
                self.in_turn(&after, id, types)?;
                let proof = proof_of(row, polls.native, polls.key);
                after.claim(polls.name, proof, term, server.now);
            } else if lapsed.is_none() {
                continue;
            }
            match same(&after, written) {
                Ok(()) => return Ok(after),
                Err(difference) => fault = difference,
            }
        }
        Err(fault)
    }

    /// Lapsed leases and ended backoffs come before the queue, and in each the one that is due longest. A server that has
    /// lost a race begins anywhere.
    fn in_turn(&self, after: &Job, id: &str, types: &[&'static str]) -> Result<(), Fault> {
        if self.saw.is_some() || self.server.raced_until > self.server.now {
            return Ok(());
        }
        let Some(mine) = self.model.job(id).and_then(Job::due) else { return Ok(()) };
        for other in self.model.jobs.iter().filter(|other| other.id != id && other.tenant == after.tenant) {
            let Some(its) = other.due().filter(|_| types.contains(&other.asked.content_type)) else {
                continue;
            };
            let may_be_claimed = {
                let lapsed = self.server.after_time(other, self.model.jitter);
                other.is_met(self.server.now)
                    && lapsed.as_ref().unwrap_or(other).may_be_claimed(self.server.now)
                    && !self.model.paused.contains(&(other.tenant, other.asked.content_type))
            };
            let same_queue = other.asked.content_type == after.asked.content_type && its.0 == mine.0;
            if may_be_claimed && ((its.0 && !mine.0) || (same_queue && its.1 < mine.1)) {
                return Err(format!("{id} was claimed before its turn: {} comes first", other.id));
            }
        }
        Ok(())
    }

    /// The worker was told just of what it was given, and remembers it.
    fn given(&mut self, worker: usize, given: &[Given], claimed: &[Job]) -> Result<(), Fault> {
        let ids = |jobs: Vec<&String>| jobs.into_iter().cloned().collect::<Vec<_>>();
        let told = ids(given.iter().map(|given| &given.job).collect());
        let taken = ids(claimed.iter().map(|job| &job.id).collect());
        if told != taken {
            return Err(format!("the worker was told of {told:?}, and {taken:?} were claimed"));
        }
        let polls = &WORKERS[worker];
        for (given, job) in given.iter().zip(claimed) {
            let who = Who { tenant: polls.tenant, key: polls.key, token: given.token.clone() };
            let run = job.run().ok_or("what was claimed does not run")?;
            let proof = match who.brings().token {
                Some(hash) => Proof::Token(hash),
                None => Proof::Key(polls.key),
            };
            let lease = if polls.native { lease_text(job, run, self.server.now) } else { String::new() };
            if run.proof != proof || given.lease != lease {
                return Err(format!(
                    "the worker was told {:?} {:?}, and it is {lease:?} {:?}",
                    given.lease, proof, run.proof
                ));
            }
            self.model.grants.push(Grant { job: job.id.clone(), who });
        }
        Ok(())
    }

    fn nothing_left(&self, worker: usize, types: &[&'static str]) -> Result<(), Fault> {
        for job in self.model.jobs.iter().filter(|job| job.tenant == WORKERS[worker].tenant) {
            let polled = types.contains(&job.asked.content_type)
                && !self.model.paused.contains(&(job.tenant, job.asked.content_type));
            let left = job.may_be_claimed(self.server.now)
                || self.server.after_time(job, self.model.jitter).is_some();
            if polled && job.is_met(self.server.now) && left {
                return Err(format!("the poll left {} out, which is {} and due", job.id, job.status()));
            }
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), Fault> {
        let live = self.model.jobs.iter().filter(|job| !job.is_over()).count();
        let ripe = |job: &&Job| self.server.after_time(job, self.model.jitter).is_some();
        let mut due: Vec<String> = self.model.jobs.iter().filter(ripe).map(|job| job.id.clone()).collect();
        let (mut over, mut back) = (0, 0);
        for written in self.written {
            let after = self.swept(written)?;
            due.retain(|id| *id != after.id);
            *if after.is_over() { &mut over } else { &mut back } += 1;
            self.model.put(after);
        }
        let Some(answered) = self.answered.filter(|_| self.is_whole()) else { return Ok(()) };
        let text = format!("{live} live, {over} timed out, {back} returned, complete true");
        if !due.is_empty() || answered.text != text {
            return Err(format!("the sweep said {:?} instead of {text:?} and left {due:?}", answered.text));
        }
        Ok(())
    }

    fn swept(&self, written: &Written) -> Result<Job, Fault> {
        let id = written.job().ok_or("a sweep has written what is no job")?;
        let mut fault = format!("a sweep has written {id}, which is not out of time");
        for (before, server) in self.befores(id) {
            let Some(after) = server.after_time(&before, self.model.jitter) else { continue };
            match same(&after, written) {
                Ok(()) => return Ok(after),
                Err(difference) => fault = difference,
            }
        }
        Err(fault)
    }

    fn deliver(&mut self) -> Result<(), Fault> {
        let mut claimed: Vec<String> = Vec::new();
        let mut ends = [0; 4];
        for written in self.written {
            let (event, what) = self.delivered(written, &claimed)?;
            match what {
                Delivery::Claimed => claimed.push(event.id.clone()),
                Delivery::Tried(Try::Taken) => ends[0] += 1,
                Delivery::Tried(_) if !event.is_dead() => ends[1] += 1,
                Delivery::Tried(_) => ends[2] += 1,
                Delivery::PutOff => ends[3] += 1,
            }
            self.model.put_event(event);
        }
        for carried in self.carried {
            self.told_the_truth(carried)?;
        }
        let Some(answered) = self.answered.filter(|_| self.is_whole()) else { return Ok(()) };
        let [taken, failed, dead, deferred] = ends;
        let text = format!("{taken} delivered, {failed} failed, {dead} dead, {deferred} deferred");
        let left = self.model.events.iter().find(|event| event.is_due(self.server.now));
        if answered.text != text || left.is_some() {
            return Err(format!("the round said {:?} instead of {text:?} and left {left:?}", answered.text));
        }
        Ok(())
    }

    /// What a round has made of one event.
    fn delivered(&self, written: &Written, claimed: &[String]) -> Result<(Event, Delivery), Fault> {
        let id = written.event().ok_or("a delivery has written what is no event")?;
        let is = self.model.event(id).ok_or(format!("a delivery has written {id}, which is not there"))?;
        let (mut fault, now) = (format!("a delivery has written {id}, which is not due"), self.server.now);
        let failures = self.carried.iter().filter(|carried| carried.how == Try::Failed).count();
        let moments = [Some(now), self.saw.as_ref().map(|(_, then)| *then)];
        for now in moments.into_iter().flatten() {
            let mut ways = Vec::new();
            if is.is_due(now) {
                ways.push(Delivery::Claimed);
            }
            // A receiver that fails twice in a row is let alone for the rest of the round.
            if is.is_due(now) && failures >= 2 {
                ways.push(Delivery::PutOff);
            }
            if claimed.contains(&is.id) || self.saw.is_some() {
                let tries = self.carried.iter().filter(|carried| carried.event == is.id);
                ways.extend(tries.map(|carried| Delivery::Tried(carried.how)));
            }
            for way in ways {
                let mut after = is.clone();
                match way {
                    Delivery::Claimed => after.claim(now),
                    Delivery::PutOff => after.put_off(now, self.model.jitter),
                    Delivery::Tried(how) => after.tried(how, now, self.model.jitter),
                }
                match same_event(&after, written) {
                    Ok(()) => return Ok((after, way)),
                    Err(difference) => fault = difference,
                }
            }
        }
        Err(fault)
    }

    fn told_the_truth(&self, carried: &Carried) -> Result<(), Fault> {
        let event = self.model.event(&carried.event).ok_or(format!("{} was never owed", carried.event))?;
        let tells = format!(
            "remote_job.{} at {}: job {} is {} after {} attempts, continued by {:?}, result {}",
            event.status,
            api::rfc3339(domain::Timestamp(event.ended)),
            event.id.split('.').next().unwrap_or_default(),
            event.status,
            event.attempts,
            event.continued_locally.then_some("local"),
            event.status == "completed"
        );
        if carried.url != event.url || carried.tells != tells {
            return Err(format!("{:?} was told {:?} instead of {tells:?}", carried.url, carried.tells));
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Delivery {
    Claimed,
    PutOff,
    Tried(Try),
}

/// The token that a claim was given is the system's choice.
fn proof_of(row: &serde_json::Value, native: bool, key: &'static str) -> Proof {
    if !native {
        return Proof::Key(key);
    }
    let runs = facts_of_row(row).remove("runs").unwrap_or_default();
    let token = runs.split_once(" by token ").and_then(|(_, rest)| rest.split(' ').next());
    Proof::Token(token.unwrap_or_default().to_owned())
}
