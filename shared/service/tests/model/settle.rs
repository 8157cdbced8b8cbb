//! Compares what a call has come to with what the model says, and takes it over into the model.

use std::fmt::Write as _;

use crate::{
    calls::{Answered, Call},
    check::{Fault, lawful, same, same_event},
    coverage::met,
    crash::Written,
    job::{Job, Millis},
    model::{Change, Expected, Model},
    polls::Checked,
    run::{Life, Outcome},
};

impl Life<'_> {
    /// Compares what a call was answered and has written with what the model says, and takes it over.
    pub(crate) fn settle(
        &mut self,
        number: usize,
        call: &Call,
        saw: Option<(Model, Millis)>,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        let Outcome { answered, died_at } = outcome;
        let before = self.model.clone();
        let written = self.place.wires.recorder().take_written();
        let _ = write!(
            self.trace,
            "\n        -> {}",
            if died_at.is_some() { "no answer" } else { &answered.text }
        );
        for given in answered.given.iter().filter(|_| died_at.is_none()) {
            let _ = write!(self.trace, ", {} by token {}", given.job, given.token.is_some());
        }
        for written in &written {
            let keys: Vec<&str> = written.rows.iter().map(|(pk, _)| pk.as_str()).collect();
            let _ =
                write!(self.trace, "\n           wrote {}: {}", keys.join(", "), written.rows[0].1["status"]);
            lawful(written, &self.place.wires.recorder().objects)?;
        }
        if matches!(call, Call::Poll { .. } | Call::Sweep | Call::Deliver(_)) {
            let server = self.server(number);
            let heard = died_at.is_none().then_some(answered);
            let carried = &answered.carried;
            let model = &mut self.model;
            Checked { model, server, saw, written: &written, answered: heard, carried }.check(call)?;
        } else {
            self.one(number, call, saw, &written, outcome)?;
        }
        if let (Call::Delete { job, .. }, Some(_)) = (call, died_at) {
            self.model.half_deleted.insert(job.clone());
        }
        met(call, &before, &self.model, outcome).into_iter().for_each(|met| self.meet(met));
        Ok(())
    }

    /// As [`Life::settle`], for a call that concerns one thing.
    fn one(
        &mut self,
        number: usize,
        call: &Call,
        saw: Option<(Model, Millis)>,
        written: &[Written],
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        let Outcome { answered, died_at } = outcome;
        let late = saw.as_ref().and_then(|(saw, then)| self.deleted_twice(call, saw, *then));
        let (seen, now) = self.seen(number, call, saw);
        let expected = late.unwrap_or_else(|| seen.expect(call, now));
        if died_at.is_none() && answered.text != expected.text && !self.went_with_its_job(call, answered) {
            return Err(format!("the model answers {:?}, the system {:?}", expected.text, answered.text));
        }
        if written.len() > expected.changes.len() {
            return Err(format!("{} writes were made instead of {:?}", written.len(), expected.changes));
        }
        let mut written = written.iter();
        for change in expected.changes {
            match written.next() {
                Some(written) => self.take_over(change, written)?,
                None if died_at.is_some() => break,
                None => return Err(format!("{change:?} was not written")),
            }
        }
        if let Call::Pause { tenant, content_type, resume } = call {
            self.pause((tenant, content_type), !resume);
        }
        self.check_creation(call, outcome)
    }

    /// Whether a result is refused whose deletion has begun, and may have got as far as the result.
    fn went_with_its_job(&self, call: &Call, answered: &Answered) -> bool {
        let Call::Result { job, .. } = call else { return false };
        let going = self.model.half_deleted.contains(job) || self.model.job(job).is_none();
        going && answered.text == "urn:remote-jobs:not-found"
    }

    /// A deletion that finds the job gone has nothing left to do, unless it was only about to fence it off.
    fn deleted_twice(&self, call: &Call, saw: &Model, then: Millis) -> Option<Expected> {
        let Call::Delete { job, .. } = call else { return None };
        let expected = saw.expect(call, then);
        let only_to_delete = matches!(expected.changes[..], [Change::Gone(_)]);
        let done = only_to_delete && self.model.job(job).is_none();
        done.then(|| Expected { changes: Vec::new(), ..expected })
    }

    /// The world as a call saw it, and the moment that it goes by.
    fn seen(&self, number: usize, call: &Call, saw: Option<(Model, Millis)>) -> (Model, Millis) {
        let (mut seen, now) = (self.model.clone(), self.place.servers[number].now());
        let Some((saw, then)) = saw else { return (seen, now) };
        for job in &saw.jobs {
            // Progress that came in between is overwritten, as nothing hangs on it.
            if let Some(same) = self.model.unchanged(&saw, &job.id) {
                seen.put(same.clone());
            }
        }
        // Most calls go by when they came. These look at the clock once more when they have come too late.
        let looks_again = match call {
            Call::Redrive { event, .. } => saw.event(event) != self.model.event(event),
            Call::Delete { job, .. } => self.model.unchanged(&saw, job).is_none(),
            _ => false,
        };
        (seen, if looks_again { now } else { then })
    }

    fn take_over(&mut self, change: Change, written: &Written) -> Result<(), Fault> {
        match change {
            Change::New(job) => {
                let id = written.job().ok_or("no job was written")?.to_owned();
                let job = Job { id, ..*job };
                same(&job, written)?;
                self.model.put(job);
            }
            Change::Job(job) => {
                same(&job, written)?;
                self.model.put(*job);
            }
            Change::Gone(id) => {
                if written.job() != Some(&id) || written.rows[0].1.get("status").is_some() {
                    return Err(format!("{id} was to be deleted"));
                }
                self.model.jobs.retain(|job| job.id != id);
                self.place.wires.recorder().objects.retain(|key, _| !key.contains(&id));
            }
            Change::Event(event) => {
                same_event(&event, written)?;
                self.model.put_event(*event);
            }
        }
        Ok(())
    }

    /// What a creation answers is the job that there is.
    fn check_creation(&mut self, call: &Call, outcome: &Outcome) -> Result<(), Fault> {
        let (Call::Create { tenant, key, shape, .. }, None) = (call, &outcome.died_at) else { return Ok(()) };
        let Some(id) = &outcome.answered.job else { return Ok(()) };
        let made_by = key.map(|key| (key, *shape));
        match self.model.job(id) {
            Some(job) if job.tenant == *tenant && job.made_by == made_by => Ok(()),
            job => Err(format!("{id} was answered, which is {job:?}")),
        }
    }

    fn pause(&mut self, queue: (&'static str, &'static str), paused: bool) {
        if paused {
            self.model.paused.insert(queue);
        } else {
            self.model.paused.remove(&queue);
        }
    }
}
