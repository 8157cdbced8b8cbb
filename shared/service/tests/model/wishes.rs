//! What the wishes of a history stand for at the moment when they are made.

use sha2::{Digest, Sha256};

use crate::{
    calls::{Call, Verdict, Who, document},
    events::Event,
    job::Job,
    model::{Grant, result_of},
    run::Life,
    steps::{Among, Is, MOST_JOBS, Pick, Someone, WORKERS, Wish},
};

impl Life<'_> {
    /// The call that a wish stands for at this moment. `None` when there is nothing that it could be about.
    pub(crate) async fn resolve(&mut self, wish: &Wish) -> Option<Call> {
        let id = |pick: Pick| self.pick(pick).map(|job| job.id.clone());
        let tenant = |pick: Pick, foreign: bool| {
            let tenant = self.pick(pick).map_or("t", |job| job.tenant);
            if foreign { other(tenant) } else { tenant }
        };
        Some(match wish {
            Wish::Create { tenant, shape, key } => {
                // A job that is there already needs no place.
                let known = self.model.jobs.iter().any(|job| {
                    job.tenant == *tenant && key.is_some() && job.made_by.map(|(key, _)| key) == *key
                });
                if self.model.jobs.len() >= MOST_JOBS && !known {
                    return None;
                }
                let source = self.place.source(tenant);
                Call::Create { tenant, source, shape: *shape, key: *key }
            }
            Wish::Poll { job, worker, all_types, most, lease } => {
                let job = self.pick(*job)?;
                let of_tenant = |worker: &usize| WORKERS[*worker].tenant == job.tenant;
                let workers: Vec<usize> = (0..WORKERS.len()).filter(of_tenant).collect();
                let content_types =
                    if *all_types { vec!["audio", "document"] } else { vec![job.asked.content_type] };
                let worker = workers[worker % workers.len()];
                Call::Poll { worker, content_types, most: *most, lease: *lease }
            }
            Wish::Heartbeat(someone, percent) => {
                Call::Heartbeat { job: id(someone.job)?, who: self.who(*someone)?, percent: *percent }
            }
            Wish::Submit(someone, verdict) => {
                let (job, who) = (self.pick(someone.job)?.clone(), self.who(*someone)?);
                let key = self.result(&job, &who, *verdict).await;
                Call::Submit { job: job.id, who, verdict: *verdict, key }
            }
            Wish::Release(someone) => Call::Release { job: id(someone.job)?, who: self.who(*someone)? },
            Wish::Cancel { job, takeover, foreign } => {
                Call::Cancel { job: id(*job)?, tenant: tenant(*job, *foreign), takeover: *takeover }
            }
            Wish::Retry { job, foreign } => Call::Retry { job: id(*job)?, tenant: tenant(*job, *foreign) },
            Wish::Delete { job, foreign } => Call::Delete { job: id(*job)?, tenant: tenant(*job, *foreign) },
            Wish::Status { job, foreign } => Call::Status { job: id(*job)?, tenant: tenant(*job, *foreign) },
            Wish::Result { job, foreign } => Call::Result { job: id(*job)?, tenant: tenant(*job, *foreign) },
            Wish::Pause { tenant, content_type, resume } => {
                Call::Pause { tenant, content_type, resume: *resume }
            }
            Wish::Sweep { anyway } => {
                let now = self.place.clock.now();
                let some = self.model.jobs.iter().any(|job| job.is_out_of_time(now));
                (some || *anyway).then_some(Call::Sweep)?
            }
            Wish::Deliver { script, anyway } => {
                let now = self.place.clock.now();
                let some = self.model.events.iter().any(|event| event.is_due(now));
                (some || *anyway).then_some(Call::Deliver(script.clone()))?
            }
            Wish::Redrive { event, foreign } => {
                let dead: Vec<&Event> = self.model.events.iter().filter(|event| event.is_dead()).collect();
                let any = self.model.events.get(event % self.model.events.len().max(1));
                let any = any.filter(|_| event.is_multiple_of(4));
                let event = dead.get(event % dead.len().max(1)).copied().or(any)?;
                let tenant = if *foreign { other(event.tenant) } else { event.tenant };
                Call::Redrive { event: event.id.clone(), tenant }
            }
        })
    }

    /// One of the jobs, of the kind that is asked for; now and then another, when there is none.
    pub(crate) fn pick(&self, Pick { among, number }: Pick) -> Option<&Job> {
        let now = self.place.clock.now();
        let preferred = |job: &&Job| match among {
            Among::All => true,
            Among::Due => job.may_be_claimed(now),
            Among::Running => job.run().is_some(),
            Among::Unheard => job.run().is_some_and(|run| !run.heard),
            Among::Heard => job.run().is_some_and(|run| run.heard && run.term.is_some()),
            Among::Lapsed => job.is_lapsed(),
            Among::Over => job.is_over(),
        };
        let some: Vec<&Job> = self.model.jobs.iter().filter(preferred).collect();
        let any = self.model.jobs.get(number % self.model.jobs.len().max(1));
        let any = any.filter(|_| number.is_multiple_of(4));
        some.get(number % some.len().max(1)).copied().or(any)
    }

    fn who(&self, someone: Someone) -> Option<Who> {
        let job = self.pick(someone.job)?;
        let grants: Vec<&Grant> = self.model.grants.iter().filter(|grant| grant.job == job.id).collect();
        let key = WORKERS.iter().find(|worker| worker.tenant == job.tenant)?.key;
        let stranger = Who { tenant: job.tenant, key, token: Some("never granted".to_owned()) };
        let holder = grants.last().map_or(stranger.clone(), |grant| grant.who.clone());
        Some(match someone.is {
            Is::Holder => holder,
            Is::Earlier(number) => {
                grants.get(number % grants.len().max(1)).map_or(stranger, |grant| grant.who.clone())
            }
            Is::Stranger => stranger,
            Is::Keyholder(key) => Who { key, token: None, ..stranger },
            Is::Foreigner => Who { tenant: other(job.tenant), ..holder },
        })
    }

    /// The key of a worker's result. It names the attempt that the job is at when the worker calls.
    async fn result(&self, job: &Job, who: &Who, verdict: Verdict) -> String {
        let (key, body) = (result_of(job, who), document(who));
        if verdict == Verdict::Uploaded {
            let sha256: [u8; 32] = Sha256::digest(&body).into();
            let parsed = key.parse().unwrap();
            self.place.observer.handoff.put(&parsed, body.into(), &sha256).await.unwrap();
            self.place.wires.recorder().objects.insert(key.clone(), hex::encode(sha256));
        }
        key
    }
}

fn other(tenant: &str) -> &'static str {
    if tenant == "t" { "u" } else { "t" }
}
