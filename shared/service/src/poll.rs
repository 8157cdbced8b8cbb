use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use api::{
    PREFIX,
    poll::{ClaimedJob, Download, LeaseGrant, PollRequest, PollResponse},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{ContentType, Holder, Job, JobId, LeaseTerms, TaskOptions, Tenant, Timestamp, WorkerId};
use rand::{Rng, seq::SliceRandom};
use serde_json::{Map, Value};
use store::{Due, Replacement, StorageKey};

use crate::{
    Caller, Error, Service,
    caller::token_hash,
    hints::{POLL_AGAIN, Waiting},
    transition::{log_lapse, note},
    workers::Seen,
};

/// The most jobs that one poll can take.
const MOST_JOBS: u64 = 100;
/// The longest that a worker may ask to be held, in seconds.
const LONGEST_WAIT: u64 = 20;
/// How often a poll that is held open looks for what became due by the passing of time.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a source's URL is valid. The download call mints a new one while the lease holds.
const DOWNLOAD_VALID: Duration = Duration::from_secs(900);
/// The longest that a worker which has been idle for long is told to wait, unless an operator says more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often the candidates of one queue are read anew when others took all of them.
const MOST_PAGES: usize = 4;

/// What a worker asks for, checked.
struct Wanted<'a> {
    caller: &'a Caller,
    worker: WorkerId,
    content_types: &'a [ContentType],
    most: usize,
    /// Whether the worker knows leases, and how long it wants them.
    terms: LeaseTerms,
    wait: Duration,
    /// How long it has been idle, if it says so.
    idle: Duration,
    /// Whether it can wait for a hint.
    hints: bool,
}

/// A job that was just claimed.
struct Claimed {
    job: Job,
    /// Read before the claim was written, so that a claim never fails for want of them.
    options: Map<String, Value>,
    token: Option<String>,
}

impl Service {
    /// Claims jobs for a worker.
    ///
    /// `native` tells a worker that knows leases from a client of the original system, which takes one job, gets no
    /// token and is never held.
    ///
    /// # Errors
    /// A field that does not fit, or the store.
    pub async fn poll(
        &self,
        caller: &Caller,
        request: &PollRequest,
        native: bool,
    ) -> Result<PollResponse, Error> {
        let wanted = self.wanted(caller, request, native)?;
        self.note_worker(self.seen(&wanted, request)).await;
        let mut claimed = self.claim_or_wait(&wanted).await?;
        let waiting = if claimed.is_empty() && wanted.hints {
            self.waiting_place(&caller.tenant, wanted.content_types, wanted.most as u64).await
        } else {
            None
        };
        if waiting.as_ref().is_some_and(|waiting| waiting.is_new) {
            // Whoever made a job due before the place was known hinted nobody at it.
            claimed = self.claim(&wanted).await?;
        }
        if !native {
            return match claimed.into_iter().next() {
                None => Ok(PollResponse::default()),
                Some(claimed) => Ok(PollResponse {
                    job_id: Some(claimed.job.id.to_string()),
                    source_file_url: Some(download_path(&claimed.job)),
                    content_type: Some(claimed.job.spec.content_type.to_string()),
                    task_options: Some(claimed.options),
                    ..PollResponse::default()
                }),
            };
        }
        let mut jobs = Vec::with_capacity(claimed.len());
        for claimed in claimed {
            jobs.push(self.grant(claimed).await?);
        }
        let several = request.max_jobs.is_some_and(|most| most > 1);
        Ok(PollResponse { jobs: several.then(|| jobs.clone()), ..self.answer(&wanted, jobs, waiting) })
    }

    fn wanted<'a>(
        &self,
        caller: &'a Caller,
        request: &'a PollRequest,
        native: bool,
    ) -> Result<Wanted<'a>, Error> {
        let worker = request
            .worker_id
            .parse()
            .map_err(|error: domain::InvalidValue| Error::field("worker_id", error.0))?;
        let most = request.max_jobs.unwrap_or(1);
        if !(1..=MOST_JOBS).contains(&most) {
            return Err(Error::field("max_jobs", format!("must be 1 to {MOST_JOBS}")));
        }
        let wait = request.wait_seconds.unwrap_or(0);
        if wait > LONGEST_WAIT {
            return Err(Error::field("wait_seconds", format!("must be 0 to {LONGEST_WAIT}")));
        }
        let terms = match request.lease_seconds {
            None if !native => LeaseTerms::WholeRun,
            None => LeaseTerms::DEFAULT,
            Some(seconds) if LeaseTerms::BOUNDS_SECONDS.contains(&seconds) => {
                LeaseTerms::Renewed(Duration::from_secs(seconds))
            }
            Some(_) => {
                let (least, most) = LeaseTerms::BOUNDS_SECONDS.into_inner();
                return Err(Error::field("lease_seconds", format!("must be {least} to {most}")));
            }
        };
        Ok(Wanted {
            caller,
            worker,
            content_types: &request.content_types,
            // A client of the original reads one job from the answer; a second would run unseen into its timeout.
            most: if native { usize::try_from(most).unwrap_or(1) } else { 1 },
            terms,
            wait: if native {
                Duration::from_secs(wait).min(self.rules.longest_wait)
            } else {
                Duration::ZERO
            },
            idle: Duration::from_secs(request.idle_seconds.unwrap_or(0)),
            hints: native && request.hints,
        })
    }

    /// What the poll tells of its worker.
    fn seen<'a>(&self, wanted: &'a Wanted<'_>, request: &'a PollRequest) -> Seen<'a> {
        let hinted = wanted.hints && self.hint_queues.is_some();
        let pause = if hinted { POLL_AGAIN } else { self.pause(wanted.idle) };
        let says_so = request.idle_seconds.is_some() && wanted.wait.is_zero();
        Seen {
            tenant: &wanted.caller.tenant,
            id: &wanted.worker,
            content_types: wanted.content_types,
            version: request.version.as_deref(),
            starting: request.starting,
            idle: says_so.then_some((wanted.idle, pause)),
        }
    }

    async fn claim_or_wait(&self, wanted: &Wanted<'_>) -> Result<Vec<Claimed>, Error> {
        let until = tokio::time::Instant::now() + wanted.wait;
        loop {
            // Registered before looking, so that a job created in between is not missed.
            let due = self.due.notified();
            tokio::pin!(due);
            due.as_mut().enable();
            let claimed = self.claim(wanted).await?;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if !claimed.is_empty() || left.is_zero() || self.draining.load(Ordering::Relaxed) {
                return Ok(claimed);
            }
            let _ = tokio::time::timeout(left.min(LOOK_AGAIN), due).await;
        }
    }

    /// Takes what is due: lapsed leases and ended backoffs first, then the queue, in a random order of the types so
    /// that a busy one does not hide the others.
    async fn claim(&self, wanted: &Wanted<'_>) -> Result<Vec<Claimed>, Error> {
        let _counted = self.crowd.enter();
        let mut queues: Vec<(&ContentType, u32)> = wanted
            .content_types
            .iter()
            .flat_map(|content_type| (0..self.store.jobs.shards()).map(move |shard| (content_type, shard)))
            .collect();
        queues.shuffle(&mut rand::rng());
        let (mut claimed, mut paused) = (Vec::new(), BTreeMap::new());
        for due in [Due::Returning, Due::Waiting] {
            for (content_type, shard) in &queues {
                let queue = (due, *content_type, *shard);
                match self.claim_from(wanted, queue, &mut paused, &mut claimed).await {
                    // What is claimed already must reach the worker.
                    Err(_) if !claimed.is_empty() => return Ok(claimed),
                    outcome => outcome?,
                }
                if claimed.len() >= wanted.most {
                    return Ok(claimed);
                }
            }
        }
        Ok(claimed)
    }

    async fn claim_from<'a>(
        &self,
        wanted: &Wanted<'_>,
        (due, content_type, shard): (Due, &'a ContentType, u32),
        paused: &mut BTreeMap<&'a ContentType, bool>,
        claimed: &mut Vec<Claimed>,
    ) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let mut fruitless = 0;
        for _ in 0..MOST_PAGES {
            let now = self.now();
            let most = self.crowd.page(wanted.most - claimed.len(), fruitless, now);
            let tenant = &wanted.caller.tenant;
            let mut page = self.store.jobs.due(due, tenant, content_type, shard, now, most).await?;
            // Only a queue with something in it is worth the question.
            if page.is_empty() || self.is_paused(tenant, content_type, paused).await? {
                return Ok(());
            }
            let full = page.len() >= usize::try_from(most).unwrap_or(usize::MAX);
            page.retain(|id| !seen.contains(id));
            let start = self.crowd.start(page.len(), now);
            page.rotate_left(start);
            let mut raced = false;
            for id in &page {
                match self.try_claim(*id, wanted).await.or_else(|error| passed_over(*id, error))? {
                    Try::Claimed(job) => claimed.push(*job),
                    Try::NotDue => drop(seen.insert(*id)),
                    Try::Lost => {
                        raced = true;
                        self.crowd.lost_a_race(self.now());
                    }
                }
                if claimed.len() >= wanted.most {
                    return Ok(());
                }
                // The rest of a page read before the race is contested as well: read a larger one, begin elsewhere.
                if raced {
                    break;
                }
            }
            match (raced, full) {
                (true, _) => {}
                // Behind those that cannot be claimed, unreadable ones among them, others may wait.
                (false, true) => fruitless += 1,
                (false, false) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether no worker may claim from a queue, asked once in a poll.
    async fn is_paused<'a>(
        &self,
        tenant: &Tenant,
        content_type: &'a ContentType,
        known: &mut BTreeMap<&'a ContentType, bool>,
    ) -> Result<bool, Error> {
        if let Some(paused) = known.get(content_type) {
            return Ok(*paused);
        }
        let paused = self.store.queues.is_paused(tenant, content_type).await?;
        known.insert(content_type, paused);
        Ok(paused)
    }

    async fn try_claim(&self, id: JobId, wanted: &Wanted<'_>) -> Result<Try, Error> {
        let Some(job) = self.store.jobs.get(id).await? else { return Ok(Try::NotDue) };
        let now = self.now();
        let lapsed = self.lapsed(&job, now);
        let options = self.options(&job).await?;
        let (holder, token) = match wanted.terms {
            LeaseTerms::WholeRun => (Holder::Key(wanted.caller.key.clone()), None),
            LeaseTerms::Renewed(_) => {
                let token = new_token();
                (Holder::Token(token_hash(&token)), Some(token))
            }
        };
        let claim = lapsed.as_ref().unwrap_or(&job).claim(wanted.worker.clone(), holder, wanted.terms, now);
        let (new, token) = match (claim, &lapsed) {
            (Ok(new), _) => (new, Some(token)),
            // What was met and has run out is ended, or sent into its backoff, on the spot.
            (Err(_), Some(lapsed)) => (lapsed.clone(), None),
            // Somebody claimed it since the index was read; its lease is young and the index will say so soon.
            (Err(_), None) if job.due_at().is_some_and(|due| due > now) => return Ok(Try::Lost),
            (Err(_), None) => return Ok(Try::NotDue),
        };
        let written = self.write(&job, &new).await?;
        if let (Replacement::Written, Some(lapsed)) = (&written, &lapsed) {
            log_lapse(lapsed);
        }
        Ok(match (written, token) {
            (Replacement::Written, Some(token)) => {
                note(&new);
                tracing::info!(job_id = %new.id, attempt = new.attempt_number(), worker_id = %wanted.worker, "claimed");
                Try::Claimed(Box::new(Claimed { job: new, options, token }))
            }
            (Replacement::Written, None) => Try::NotDue,
            (Replacement::Lost(_), _) => Try::Lost,
        })
    }

    async fn grant(&self, Claimed { job, options, token }: Claimed) -> Result<ClaimedJob, Error> {
        let now = self.now();
        let source = &job.spec.source;
        let download = self.store.handoff.presign_get(&source.key, &source.name, DOWNLOAD_VALID).await?;
        Ok(ClaimedJob {
            job_id: job.id.to_string(),
            source_file_url: download_path(&job),
            content_type: job.spec.content_type.to_string(),
            task_options: options,
            lease: LeaseGrant {
                lease_token: token.unwrap_or_default(),
                attempt: job.attempt_number() as u64,
                lease_expires_in_seconds: remaining_seconds(&job, now),
                report_every_seconds: report_every_seconds(&job),
                run_timeout_seconds: job
                    .running()
                    .map_or(0, |running| job.run_deadline(running).since(now).as_secs()),
                download: Download {
                    url: download.url,
                    filename: source.name.to_string(),
                    size_bytes: source.size_bytes,
                    sha256: source.sha256.map(hex::encode),
                    etag: source.etag.clone(),
                    expires_in_seconds: DOWNLOAD_VALID.as_secs(),
                },
            },
        })
    }

    fn answer(&self, wanted: &Wanted<'_>, jobs: Vec<ClaimedJob>, waiting: Option<Waiting>) -> PollResponse {
        match jobs.into_iter().next() {
            Some(first) => PollResponse {
                job_id: Some(first.job_id),
                source_file_url: Some(first.source_file_url),
                content_type: Some(first.content_type),
                task_options: Some(first.task_options),
                lease: Some(first.lease),
                ..PollResponse::default()
            },
            None => PollResponse {
                poll_again_in_seconds: Some(self.poll_again(wanted, waiting.as_ref()).as_secs()),
                hint: waiting.map(|waiting| waiting.grant),
                ..PollResponse::default()
            },
        }
    }

    /// When a worker that found nothing is to ask again.
    fn poll_again(&self, wanted: &Wanted<'_>, waiting: Option<&Waiting>) -> Duration {
        let usual = self.rules.poll_again;
        match waiting {
            // After a poll that was held open the next one may follow at once.
            _ if !wanted.wait.is_zero() => Duration::ZERO,
            // The index may not tell yet of a job that became due before the place was known.
            Some(Waiting { is_new: true, .. }) => usual.min(POLL_AGAIN),
            // Later its place might not be live any more.
            Some(Waiting { is_new: false, .. }) => POLL_AGAIN,
            None => self.pause(wanted.idle),
        }
    }

    /// How long a worker that has been idle for so long waits without a hint. So a job that comes waits for at most a tenth of
    /// how long the worker has waited.
    fn pause(&self, idle: Duration) -> Duration {
        self.rules.poll_again.max((idle / 10).min(LONGEST_PAUSE))
    }

    async fn options(&self, job: &Job) -> Result<Map<String, Value>, Error> {
        let unreadable = |cause: String| Error::Internal(format!("task options of job {}: {cause}", job.id));
        let text = match &job.spec.task_options {
            TaskOptions::Inline(text) => text.clone().into(),
            TaskOptions::Stored => {
                let key = StorageKey::Options { tenant: job.tenant.clone(), job: job.id };
                let stored = self.store.handoff.get(&key.to_string(), 1 << 20).await?;
                stored.ok_or_else(|| unreadable("they are not stored any more".to_owned()))?
            }
        };
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
    }

    /// A new URL for a job's source.
    pub(crate) async fn download_url(&self, job: &Job) -> Result<String, Error> {
        let source = &job.spec.source;
        Ok(self.store.handoff.presign_get(&source.key, &source.name, DOWNLOAD_VALID).await?.url)
    }
}

/// A job that cannot be read or written must not keep the others of its queue from being claimed. When the store
/// itself does not answer, the poll fails.
fn passed_over(id: JobId, error: Error) -> Result<Try, Error> {
    if error.retryable() {
        return Err(error);
    }
    tracing::error!(job_id = %id, cause = %error, "passed over");
    Ok(Try::NotDue)
}

enum Try {
    Claimed(Box<Claimed>),
    NotDue,
    Lost,
}

fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>())
}

fn download_path(job: &Job) -> String {
    format!("{PREFIX}/{}/download", job.id)
}

/// How long the lease lasts from now, in whole seconds.
pub(crate) fn remaining_seconds(job: &Job, now: Timestamp) -> u64 {
    job.due_at().map_or(0, |due| due.since(now).as_secs())
}

/// A quarter of the lease, which at first is short. A client of the original system, whose lease is the whole run, is told what a native
/// worker with the default lease is.
pub(crate) fn report_every_seconds(job: &Job) -> u64 {
    let term = match job.running().map(|running| (running.terms, running.confirmed)) {
        Some((LeaseTerms::Renewed(term), true)) => term,
        Some((LeaseTerms::Renewed(term), false)) => term.min(LeaseTerms::FIRST_TERM),
        Some((LeaseTerms::WholeRun, _)) | None => Duration::from_secs(60),
    };
    (term.as_secs() / 4).max(1)
}
