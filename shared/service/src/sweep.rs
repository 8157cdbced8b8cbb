use std::collections::{BTreeMap, HashMap};

use domain::{ContentType, Job, JobId, Pending, Refused, State, Status, Tenant, Timestamp, Wait};
use futures::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use serde::Serialize;
use store::{Depth, Depths, LiveHint, LivePage, LivePlace, Replacement, SweepRecord};
use tokio::time::Instant;

use crate::{Error, Service, hints::Ready, transition::log_lapse};

/// How many due jobs are seen to at once.
const AT_ONCE: usize = 16;
/// The most due jobs that one sweep remembers, 3 MB of them. The next one finds the rest.
const MOST_DUE: usize = 100_000;

/// What one sweep saw and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Swept {
    /// Live jobs seen.
    pub live: u64,
    /// Jobs ended because a limit ran out.
    pub timed_out: u64,
    /// Jobs sent back to their queue because an attempt ran out.
    pub returned: u64,
    /// Jobs moved out of partitions that no poll looks at any more, because there are fewer of them than there were.
    pub moved: u64,
    /// Jobs that were due and that there was no time for. The next sweep sees to them.
    pub left: u64,
    /// Events that are not delivered yet.
    pub undelivered_events: u64,
    /// Events whose delivery was given up.
    pub dead_events: u64,
    /// How long ago the oldest job was created that waits for its turn, in seconds.
    pub oldest_seconds: u64,
    /// False when time ran out before every live job was seen. Then the next sweep goes on where this one stopped, and no
    /// depth is recorded.
    pub complete: bool,
    /// What DynamoDB charged for this sweep.
    pub read_units: f64,
    /// What DynamoDB charged for this sweep.
    pub write_units: f64,
    /// What is in each queue, by its tenant and content type: `default#audio`.
    pub queues: BTreeMap<String, QueueDepth>,
}

/// What is in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueDepth {
    /// How many jobs wait for their turn.
    pub waiting: u64,
    /// How long ago the oldest of them was created, in seconds.
    pub oldest_seconds: u64,
    /// How many wait for the end of a backoff.
    pub backing_off: u64,
    /// How many run.
    pub running: u64,
}

/// What was seen of the live jobs.
#[derive(Default)]
struct Seen {
    live: u64,
    undelivered: u64,
    dead: u64,
    queues: Queues,
    due: Vec<Due>,
    /// How many jobs whose backoff has ended are in each queue.
    returned: HashMap<(Tenant, ContentType), u64>,
    /// How many due jobs each tenant has.
    turns: HashMap<Tenant, usize>,
}

/// The live jobs of every queue.
#[derive(Default)]
struct Queues(HashMap<(Tenant, ContentType), Depth>);

/// A job that something has to be done about.
#[derive(Clone, Copy)]
struct Due {
    id: JobId,
    /// Whether it is where no poll looks.
    stray: bool,
    /// Its number among those of its tenant.
    turn: usize,
}

/// What a sweep did about a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Did {
    Nothing,
    /// Ended or returned it.
    Lapsed,
    /// Moved it to where polls look.
    Moved,
}

/// How far a look at the live jobs came before its time was over.
enum Reached {
    /// To the end.
    End,
    /// To this place, or not beyond the beginning.
    Place(Option<LivePlace>),
}

/// What a live job is doing.
#[derive(Clone, Copy)]
enum Doing {
    Waiting,
    BackingOff,
    Running,
}

impl Service {
    /// Ends or returns every live job whose time has run out, as a poll does with what it meets, and counts what is in the
    /// queues. Takes no input, may run twice at once, and stops at `until`. Due jobs of several tenants take turns, so that
    /// one with many does not keep the others waiting.
    ///
    /// # Errors
    /// The store. What was done stays done.
    pub async fn sweep(&self, until: Instant) -> Result<Swept, Error> {
        // A meter of its own tells what this sweep costs from what everything else does meanwhile.
        let apart = Self { store: self.store.metered(), ..self.clone() };
        // In a box, because futures this deep within each other are more than the compiler takes.
        let mut swept = Box::pin(apart.sweep_apart(until)).await?;
        let units = apart.store.meter.units();
        (swept.read_units, swept.write_units) = (units.read, units.write);
        Ok(swept)
    }

    async fn sweep_apart(&self, until: Instant) -> Result<Swept, Error> {
        let mut ready = Ready::default();
        let swept = self.sweep_parts(&mut ready, until).await?;
        // Last, so that a slow SQS takes nothing from what the next sweep needs to know.
        self.hint_again(ready, until).await;
        Ok(swept)
    }

    /// What an earlier sweep had no time for comes first. Only what is seen from the beginning to the end is all there is.
    async fn sweep_parts(&self, ready: &mut Ready, until: Instant) -> Result<Swept, Error> {
        let record = self.store.sweeps.last().await?;
        let mut swept = Swept::default();
        if let Some(from) = record.resume.clone() {
            let (mut rest, reached) = self.see_rest(from, until).await?;
            self.see_to(&mut rest, &mut swept, until).await?;
            rest.tell(ready);
            if let Reached::Place(place) = reached {
                return self.stopped(swept, &rest, &record, place).await;
            }
        }
        let began_at = self.now();
        let (mut all, reached) = self.see(None, until).await?;
        self.see_to(&mut all, &mut swept, until).await?;
        all.tell(ready);
        if let Reached::Place(place) = reached {
            return self.stopped(swept, &all, &record, place).await;
        }
        self.record(&all, &record, began_at).await?;
        swept.complete = true;
        swept.report(&all, self.now());
        Ok(swept)
    }

    /// As [`Service::see`]. Where an earlier sweep stopped may be no place any more, as after a change of the table.
    async fn see_rest(&self, from: LivePlace, until: Instant) -> Result<(Seen, Reached), Error> {
        match self.see(Some(from), until).await {
            Err(error) if !error.retryable() => Ok((Seen::default(), Reached::End)),
            seen => seen,
        }
    }

    /// Looks at every live job from a place on. A quarter of the time is kept for what is found.
    async fn see(&self, mut from: Option<LivePlace>, until: Instant) -> Result<(Seen, Reached), Error> {
        let see_until = Instant::now() + until.saturating_duration_since(Instant::now()) * 3 / 4;
        let (mut seen, now) = (Seen::default(), self.now());
        while Instant::now() < see_until {
            let page = self.store.jobs.live(0, 1, from).await?;
            from = page.next.clone();
            seen.add(page, now);
            if from.is_none() {
                return Ok((seen, Reached::End));
            }
        }
        Ok((seen, Reached::Place(from)))
    }

    /// Says where the next sweep is to go on.
    async fn stopped(
        &self,
        mut swept: Swept,
        seen: &Seen,
        record: &SweepRecord,
        place: Option<LivePlace>,
    ) -> Result<Swept, Error> {
        if let Some(place) = place.filter(|place| record.resume.as_ref() != Some(place)) {
            self.store.sweeps.stopped(record, place).await?;
        }
        swept.report(seen, self.now());
        Ok(swept)
    }

    /// Ends or returns what is due, until there is no time left.
    async fn see_to(&self, seen: &mut Seen, swept: &mut Swept, until: Instant) -> Result<(), Error> {
        let mut due = std::mem::take(&mut seen.due);
        due.sort_by_key(|due| due.turn);
        let mut due = due.into_iter();
        let (mut failed, mut under_way) = (None, FuturesUnordered::new());
        loop {
            while failed.is_none() && under_way.len() < AT_ONCE && Instant::now() < until {
                let Some(next) = due.next() else { break };
                under_way.push(Box::pin(self.sweep_one(next)));
            }
            match under_way.next().await {
                Some(Ok((job, did))) => swept.note(seen, job.as_ref(), did),
                // What is under way is finished, so that nothing of it goes uncounted.
                Some(Err(error)) => failed = Some(error),
                None => break,
            }
        }
        swept.left += due.len() as u64;
        failed.map_or(Ok(()), Err)
    }

    /// Ends or returns a job if it is still due, and moves it if it is stray. Gives it as it is then, unless it is gone or
    /// cannot be read, and what this did.
    async fn sweep_one(&self, due: Due) -> Result<(Option<Job>, Did), Error> {
        match self.lapse_one(due).await {
            // One job that cannot be read or written must not keep the others from being swept.
            Err(error) if !error.retryable() || matches!(error, Error::Contended(_)) => {
                tracing::error!(job_id = %due.id, cause = %error, "passed over");
                Ok((None, Did::Nothing))
            }
            outcome => outcome,
        }
    }

    async fn lapse_one(&self, due: Due) -> Result<(Option<Job>, Did), Error> {
        let Some(job) = self.store.jobs.get(due.id).await? else { return Ok((None, Did::Nothing)) };
        // Where somebody else was faster, nothing is left to do at the second look, and it is theirs to count.
        let mut did = false;
        let changed = self
            .change(job, |job| {
                let lapsed = self.lapsed(job, self.now());
                did = lapsed.is_some();
                Ok::<_, Refused>(lapsed)
            })
            .await?;
        if did {
            log_lapse(&changed);
            return Ok((Some(changed), Did::Lapsed));
        }
        // Written anew as it is, it gets its place among the partitions of now. Whoever changes it meanwhile does the same.
        let moves = due.stray
            && changed.ending().is_none()
            && self.write(&changed, &changed).await? == Replacement::Written;
        Ok((Some(changed), if moves { Did::Moved } else { Did::Nothing }))
    }

    /// Writes what was seen of each tenant's queues, and then that everything was seen: a tenant whose row is older than
    /// that has no live jobs.
    async fn record(&self, seen: &Seen, record: &SweepRecord, seen_at: Timestamp) -> Result<(), Error> {
        let mut tenants: BTreeMap<Tenant, BTreeMap<ContentType, Depth>> = BTreeMap::new();
        for ((tenant, content_type), depth) in &seen.queues.0 {
            tenants.entry(tenant.clone()).or_default().insert(content_type.clone(), *depth);
        }
        let rows = tenants
            .into_iter()
            .map(|(tenant, queues)| self.record_depths(tenant, Depths { seen_at, queues }));
        let mut rows = stream::iter(rows).buffer_unordered(AT_ONCE);
        while let Some(written) = rows.next().await {
            written?;
        }
        Ok(self.store.sweeps.completed(record, seen_at).await?)
    }

    async fn record_depths(&self, tenant: Tenant, depths: Depths) -> Result<bool, Error> {
        Ok(self.store.sweeps.record(&tenant, &depths).await?)
    }
}

impl Seen {
    /// Adds the jobs that wait, or whose backoff has ended. The parts that a sweep looks at overlap, so that of what several
    /// saw in a queue the most counts.
    fn tell(&self, ready: &mut Ready) {
        let mut counts: HashMap<&(Tenant, ContentType), u64> = HashMap::new();
        let waiting = self.queues.0.iter().map(|(queue, depth)| (queue, depth.waiting));
        for (queue, count) in waiting.chain(self.returned.iter().map(|(queue, count)| (queue, *count))) {
            *counts.entry(queue).or_default() += count;
        }
        for ((tenant, content_type), count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let known = ready.entry(tenant.clone()).or_default().entry(content_type.clone()).or_default();
            *known = count.max(*known);
        }
    }

    fn add(&mut self, page: LivePage, now: Timestamp) {
        self.undelivered += page.undelivered;
        self.dead += page.dead;
        for hint in page.hints {
            self.live += 1;
            let is_due = hint.deadline <= now || (!hint.waiting && hint.due_at <= now);
            let Some(queue) = queue_of(&hint) else { continue };
            if matches!(doing(&hint), Doing::BackingOff) && hint.due_at <= now {
                *self.returned.entry(queue.clone()).or_default() += 1;
            }
            if (is_due || hint.stray) && self.due.len() < MOST_DUE {
                self.add_due(&hint, &queue.0);
            } else {
                self.queues.add(queue, doing(&hint), hint.created_at);
            }
        }
    }

    fn add_due(&mut self, hint: &LiveHint, tenant: &Tenant) {
        let turns = match self.turns.get_mut(tenant) {
            Some(turns) => turns,
            None => self.turns.entry(tenant.clone()).or_default(),
        };
        self.due.push(Due { id: hint.id, stray: hint.stray, turn: *turns });
        *turns += 1;
    }
}

impl Queues {
    fn add(&mut self, queue: (Tenant, ContentType), doing: Doing, created_at: Timestamp) {
        let depth = self.0.entry(queue).or_default();
        match doing {
            Doing::Waiting => {
                depth.waiting += 1;
                depth.oldest = Some(depth.oldest.map_or(created_at, |oldest| oldest.min(created_at)));
            }
            Doing::BackingOff => depth.backing_off += 1,
            Doing::Running => depth.running += 1,
        }
    }
}

/// The tenant and the content type in the name of a queue's partition, `queue#<tenant>#<type>#<shard>`.
fn queue_of(hint: &LiveHint) -> Option<(Tenant, ContentType)> {
    let mut parts = hint.queue.split('#').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn doing(hint: &LiveHint) -> Doing {
    match (hint.waiting, hint.running) {
        (true, _) => Doing::Waiting,
        (false, true) => Doing::Running,
        (false, false) => Doing::BackingOff,
    }
}

impl Swept {
    /// Counts what became of a job that was due, and where it is now.
    fn note(&mut self, seen: &mut Seen, job: Option<&Job>, did: Did) {
        let Some(job) = job else { return };
        match job.status() {
            Status::Timeout if did == Did::Lapsed => self.timed_out += 1,
            Status::Pending if did == Did::Lapsed => self.returned += 1,
            _ if did == Did::Moved => self.moved += 1,
            _ => {}
        }
        let doing = match &job.state {
            State::Pending(Pending { wait: Wait::Turn, .. }) => Doing::Waiting,
            State::Pending(Pending { wait: Wait::Backoff, .. }) => Doing::BackingOff,
            State::Processing(_) => Doing::Running,
            State::Completed { .. }
            | State::Failed { .. }
            | State::Timeout { .. }
            | State::Cancelled { .. } => return,
        };
        seen.queues.add((job.tenant.clone(), job.spec.content_type.clone()), doing, job.created_at);
    }

    fn report(&mut self, seen: &Seen, now: Timestamp) {
        self.live = seen.live;
        self.undelivered_events = seen.undelivered;
        self.dead_events = seen.dead;
        for ((tenant, content_type), depth) in &seen.queues.0 {
            let oldest_seconds = depth.oldest.map_or(0, |oldest| now.since(oldest).as_secs());
            self.oldest_seconds = self.oldest_seconds.max(oldest_seconds);
            self.queues.insert(
                format!("{tenant}#{content_type}"),
                QueueDepth {
                    waiting: depth.waiting,
                    oldest_seconds,
                    backing_off: depth.backing_off,
                    running: depth.running,
                },
            );
        }
    }
}
