//! Which workers there are. A poll notes its worker, but seldom, because a write costs more than all that an idle poll
//! reads; who runs a job is told by the job. Why so: `docs/decisions/0014-workers-are-noted-seldom.md`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{
    rfc3339,
    workers::{LeaveResponse, ListWorkersRequest, ListWorkersResponse, WorkerView},
};
use domain::{ContentType, Job, JobId, Tenant, Timestamp, WorkerId};
use store::{WorkerRecord, WorkerTable};

use crate::{Caller, Error, Service};

/// How long a poll may be held up by its worker's being noted.
const LONGEST_NOTE: Duration = Duration::from_secs(2);
/// The soonest that a worker is noted again because it is another than it was, or after a write that failed.
const SOONEST: Duration = Duration::from_secs(60);
/// Of how many workers of a tenant one process notes at a time that they were seen. Whoever polls under ever new names
/// has so many rows written in each `seen_every`, and no more.
const MOST_NOTED: usize = 2000;
/// The most workers in one answer, and the most running jobs that are looked at for it.
const MOST_WORKERS: usize = 1000;
const MOST_RUNNING: usize = 1000;
/// What was read of a tenant with more workers and jobs than this is good for a while, because it costs as much as many
/// jobs do and is asked for before each.
const FEW: usize = 20;
const FRESH: Duration = Duration::from_secs(10);
/// The longest text that is kept of what program a worker is, in characters.
const LONGEST_VERSION: usize = 100;

/// A worker that polls.
pub(crate) struct Seen<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) id: &'a WorkerId,
    pub(crate) content_types: &'a [ContentType],
    pub(crate) version: Option<&'a str>,
    /// Whether it says that it has just started.
    pub(crate) starting: bool,
    /// How long it has been idle, and how long it waits between two polls then. Absent of one that does not say so, or whose
    /// calls are held open.
    pub(crate) idle: Option<(Duration, Duration)>,
}

/// What this process knows of workers without asking the table.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    noted: Mutex<HashMap<Tenant, HashMap<Key, Noted>>>,
    read: Mutex<HashMap<Tenant, (Timestamp, Arc<Known>)>>,
}

/// What tells a worker from others: as names are not always unique, also what it converts. Each has a row of its own.
type Key = (WorkerId, BTreeSet<ContentType>);

/// What was noted of a worker last.
#[derive(Debug)]
struct Noted {
    at: Timestamp,
    /// When it is to be noted again.
    next: Timestamp,
    version: Option<String>,
}

/// What the table says of a tenant's workers.
#[derive(Debug, Default)]
struct Known {
    records: Vec<WorkerRecord>,
    more: bool,
    running: HashMap<WorkerId, Vec<Runs>>,
}

/// A job that a worker runs.
#[derive(Debug)]
struct Runs {
    job: JobId,
    content_type: ContentType,
    heard_at: Timestamp,
}

impl Seen<'_> {
    fn key(&self) -> Key {
        (self.id.clone(), self.content_types.iter().cloned().collect())
    }
}

impl Service {
    /// The tenant's workers that were seen in the last week, the live ones first: at most 1000. Half a read unit for each,
    /// one for each job that runs, and half a one for each queue that they serve.
    ///
    /// # Errors
    /// The store.
    pub async fn list_workers(
        &self,
        caller: &Caller,
        request: &ListWorkersRequest,
    ) -> Result<ListWorkersResponse, Error> {
        let now = self.now();
        let known = match self.roster.read(&caller.tenant, now) {
            Some(known) => known,
            None => self.read_workers(&caller.tenant, now).await?,
        };
        let live_within = self.live_within();
        let wanted = |record: &&WorkerRecord| {
            request.content_type.as_ref().is_none_or(|wanted| record.content_types.contains(wanted))
        };
        let mut workers: Vec<WorkerView> = known
            .records
            .iter()
            .filter(wanted)
            .map(|record| known.view(record, now.since(record.seen_at) <= live_within))
            .collect();
        workers.sort_by(|a, b| b.live.cmp(&a.live).then_with(|| a.worker_id.cmp(&b.worker_id)));
        Ok(ListWorkersResponse { workers, live_within_seconds: live_within.as_secs(), more: known.more })
    }

    /// Forgets a worker that stops, and others of its name with it: those are noted again by a later poll. Its jobs stay its
    /// own until their leases end. Doing it again changes nothing.
    ///
    /// # Errors
    /// No name of a worker, or the store.
    pub async fn leave(&self, caller: &Caller, worker_id: &str) -> Result<LeaveResponse, Error> {
        let id: WorkerId = parsed(worker_id)?;
        let left = self.store.workers.forget(&caller.tenant, &id).await?;
        self.roster.forget(&caller.tenant, &id);
        Ok(LeaveResponse { worker_id: id.to_string(), left })
    }

    /// Notes that a worker polls, if it is time to. It takes a moment at most, and failing is not the poll's concern.
    pub(crate) async fn note_worker(&self, seen: Seen<'_>) {
        let now = self.now();
        let Some(record) = self.roster.note(&seen, now, self.rules.seen_every) else { return };
        let noting = self.store.workers.note(seen.tenant, &record);
        let why = match tokio::time::timeout(LONGEST_NOTE, noting).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {LONGEST_NOTE:?}"),
        };
        tracing::warn!(worker_id = %seen.id, cause = why, "a worker was not noted");
        self.roster.failed(&seen, now);
    }

    /// How long ago a live worker was seen at most. One that is told to poll less often than workers are noted is given
    /// that time.
    fn live_within(&self) -> Duration {
        self.rules.seen_every.max(self.rules.poll_again) * 2
    }

    async fn read_workers(&self, tenant: &Tenant, now: Timestamp) -> Result<Arc<Known>, Error> {
        let workers = self.store.workers.list(tenant, MOST_WORKERS).await?;
        let mut known = Known { more: workers.more, ..Known::default() };
        for record in workers.records {
            match record {
                // The table removes rows some time after theirs is over.
                Ok(record) if now.0.saturating_sub(record.seen_at.0) < WorkerTable::KEPT => {
                    known.records.push(record);
                }
                Ok(_) => {}
                // One that cannot be read must not keep the others from being seen.
                Err(error) => tracing::error!(cause = %error, "left out of the workers"),
            }
        }
        for job in self.running_jobs(tenant, &known.content_types(), now).await? {
            known.takes(&job, now);
        }
        let known = Arc::new(known);
        self.roster.put(tenant, now, &known);
        Ok(known)
    }

    /// The jobs of these types that run.
    async fn running_jobs(
        &self,
        tenant: &Tenant,
        content_types: &BTreeSet<ContentType>,
        now: Timestamp,
    ) -> Result<Vec<Job>, Error> {
        let mut ids = Vec::new();
        for content_type in content_types {
            for shard in 0..self.store.jobs.shards() {
                let most = u32::try_from(MOST_RUNNING.saturating_sub(ids.len())).unwrap_or(u32::MAX);
                if most > 0 {
                    ids.extend(self.store.jobs.running(tenant, content_type, shard, now, most).await?);
                }
            }
        }
        let mut jobs = Vec::with_capacity(ids.len());
        for read in self.store.jobs.get_many(&ids).await? {
            match read {
                Ok(job) => jobs.push(job),
                Err(error) => tracing::error!(cause = %error, "left out of a worker's jobs"),
            }
        }
        Ok(jobs)
    }
}

impl Roster {
    /// What is to be written of a worker now, if anything. Who is told so is taken to write it.
    fn note(&self, seen: &Seen<'_>, now: Timestamp, every: Duration) -> Option<WorkerRecord> {
        let version = seen.version.and_then(version);
        let mut tenants = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = tenants.entry(seen.tenant.clone()).or_default();
        let key = seen.key();
        let is_new = match workers.get(&key) {
            Some(noted) if !seen.starting && !noted.is_due(&version, now) => return None,
            Some(_) => false,
            None if was_noted_elsewhere(seen, every) => return None,
            None => true,
        };
        if is_new && workers.len() >= MOST_NOTED {
            workers.retain(|_, noted| noted.next > now);
            if workers.len() >= MOST_NOTED {
                tracing::warn!(tenant = %seen.tenant, most = MOST_NOTED, "a worker more is not noted");
                return None;
            }
        }
        workers.insert(key, Noted { at: now, next: now.plus(every), version: version.clone() });
        let content_types = seen.content_types.to_vec();
        let record = WorkerRecord { id: seen.id.clone(), content_types, version, seen_at: now };
        drop(tenants);
        if is_new || seen.starting {
            self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(seen.tenant);
        }
        Some(record)
    }

    /// A worker's row was not written after all.
    fn failed(&self, seen: &Seen<'_>, now: Timestamp) {
        let mut tenants = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(noted) = tenants.get_mut(seen.tenant).and_then(|workers| workers.get_mut(&seen.key())) {
            noted.next = noted.next.min(now.plus(SOONEST));
        }
    }

    fn forget(&self, tenant: &Tenant, id: &WorkerId) {
        let mut tenants = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(workers) = tenants.get_mut(tenant) {
            workers.retain(|(known, _), _| known != id);
        }
        drop(tenants);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }

    fn read(&self, tenant: &Tenant, now: Timestamp) -> Option<Arc<Known>> {
        let tenants = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, known) = tenants.get(tenant)?;
        (*read_at <= now && now.since(*read_at) < FRESH).then(|| Arc::clone(known))
    }

    fn put(&self, tenant: &Tenant, now: Timestamp, known: &Arc<Known>) {
        let running: usize = known.running.values().map(Vec::len).sum();
        let mut tenants = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, (read_at, _)| now.since(*read_at) < FRESH);
        if known.records.len() + running > FEW {
            tenants.insert(tenant.clone(), (now, Arc::clone(known)));
        }
    }
}

impl Noted {
    fn is_due(&self, version: &Option<String>, now: Timestamp) -> bool {
        let changed = self.version != *version;
        // Before `at` it is when the clock was set back.
        now >= self.next || now < self.at || (changed && now >= self.at.plus(SOONEST))
    }
}

/// Whether another process has noted a worker of which this one remembers nothing. On AWS that is how it mostly is: who waits
/// for hints polls so seldom that it meets a new process. All of them take it that the worker is noted by the poll that
/// first sees it idle for another multiple of `every`.
fn was_noted_elsewhere(seen: &Seen<'_>, every: Duration) -> bool {
    let Some((idle, pause)) = seen.idle.filter(|_| !seen.starting) else { return false };
    let beyond = idle.as_secs() % every.as_secs().max(1);
    beyond >= pause.as_secs()
}

impl Known {
    fn content_types(&self) -> BTreeSet<ContentType> {
        self.records.iter().flat_map(|record| record.content_types.iter().cloned()).collect()
    }

    /// Counts a job to its worker, if it still runs.
    fn takes(&mut self, job: &Job, now: Timestamp) {
        let Some(running) = job.running() else { return };
        if job.due_at().is_some_and(|lapses_at| lapses_at > now) {
            let content_type = job.spec.content_type.clone();
            let runs = Runs { job: job.id, content_type, heard_at: job.updated_at };
            self.running.entry(running.worker.clone()).or_default().push(runs);
        }
    }

    fn view(&self, record: &WorkerRecord, was_seen_lately: bool) -> WorkerView {
        let of_name = self.running.get(&record.id).into_iter().flatten();
        // Another worker of the name has claimed what this one does not convert.
        let running: Vec<&Runs> =
            of_name.filter(|runs| record.content_types.contains(&runs.content_type)).collect();
        let heard_at = running.iter().map(|runs| runs.heard_at).max();
        let mut jobs: Vec<JobId> = running.iter().map(|runs| runs.job).collect();
        jobs.sort_unstable();
        WorkerView {
            worker_id: record.id.to_string(),
            content_types: record.content_types.iter().map(ToString::to_string).collect(),
            version: record.version.clone(),
            last_seen: rfc3339(heard_at.map_or(record.seen_at, |at| at.max(record.seen_at))),
            live: was_seen_lately || !jobs.is_empty(),
            running_jobs: jobs.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What is kept of what a worker says it is: `product/version`, without what may follow it in a `User-Agent`.
fn version(said: &str) -> Option<String> {
    let product: String = said.split_whitespace().next()?.chars().take(LONGEST_VERSION).collect();
    Some(product.replace(char::is_control, "")).filter(|product| !product.is_empty())
}

fn parsed(worker_id: &str) -> Result<WorkerId, Error> {
    worker_id.parse().map_err(|error: domain::InvalidValue| Error::field("worker_id", error.0))
}
