//! Asks for work as long as there is room for it.

use std::{
    mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use api::{
    Kind,
    poll::{ClaimedJob, HintGrant, PollRequest, PollResponse},
};
use client::{Client, Error};
use domain::{ContentType, WorkerId};
use rand::Rng;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::Activity,
    failing::Open,
    hints::{self, Asked, Hints},
    suspend::Wakes,
    work::Worker,
};

/// How long the server may hold a poll open.
const WAIT_SECONDS: u64 = 20;
/// The least wait after a poll that was answered at once with nothing.
const LEAST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait between two polls that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// The longest wait that the server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// What is asked for, and how often.
#[derive(Clone, Debug)]
pub struct Polling {
    /// What this worker calls itself.
    pub worker_id: WorkerId,
    /// What it converts.
    pub content_types: Vec<ContentType>,
    /// How many jobs it runs at the same time.
    pub max_jobs: usize,
    /// How long to wait when the server does not say.
    pub interval: Duration,
    /// How long a lease lasts without a heartbeat.
    pub lease_seconds: u64,
    /// Whether to wait for hints where the server gives some, so that it needs to be asked less often.
    pub instant_wakeup: bool,
}

/// The server refuses the key, and has never accepted it since the start.
#[derive(Debug, thiserror::Error)]
#[error("The server refuses to give work: {0}")]
pub struct KeyRefused(pub Error);

/// Polls and works until `drain` is cancelled, then waits for the jobs that run.
///
/// # Errors
/// [`KeyRefused`] when the very first answer is that.
pub async fn run(worker: Arc<Worker>, polling: Polling, drain: CancellationToken) -> Result<(), KeyRefused> {
    let mut looping = Looping {
        wakes: worker.wakes.clone(),
        hints: Hints::new(polling.instant_wakeup),
        asked: None,
        idle_since: Instant::now(),
        worker,
        polling,
        running: JoinSet::new(),
        failed: 0,
        unable: 0,
        was_answered: false,
    };
    let ended = tokio::select! {
        biased;
        () = drain.cancelled() => Ok(()),
        ended = looping.poll_on() => ended,
    };
    looping.worker.activities.set(Activity::Draining);
    looping.reap();
    if !looping.running.is_empty() {
        tracing::info!(jobs = looping.running.len(), "no more polls; waiting for the running jobs");
    }
    let Looping { worker, polling, mut running, was_answered, .. } = looping;
    let goodbye = async {
        // Who was never answered is not known.
        if was_answered {
            say_goodbye(&worker.client, &polling.worker_id).await;
        }
    };
    let jobs = async {
        while let Some(ended) = running.join_next().await {
            note(ended);
        }
    };
    tokio::join!(goodbye, jobs);
    ended
}

/// Tells the server that nobody is to count on this worker any more, if that can be done quickly. Untold, the server takes it
/// for stopped after a while.
async fn say_goodbye(client: &Client, worker_id: &WorkerId) {
    match tokio::time::timeout(GOODBYE, client.leave(worker_id.as_str())).await {
        Ok(Ok(_)) => {}
        // A server that is older does not know the call.
        Ok(Err(error)) => tracing::debug!(%error, "the server was not told of the stop"),
        Err(_) => tracing::debug!("the server was not told of the stop in time"),
    }
}

struct Looping {
    worker: Arc<Worker>,
    polling: Polling,
    wakes: Wakes,
    running: JoinSet<()>,
    failed: u32,
    /// How many jobs in a row this machine had been unable to do when that was last waited for to pass.
    unable: u32,
    was_answered: bool,
    hints: Hints,
    asked: Option<Asked>,
    /// When it was seen last that a job ran.
    idle_since: Instant,
}

/// What to wait for before the next poll.
struct Pause {
    longest: Duration,
    /// Where a hint may come that ends it.
    place: Option<HintGrant>,
}

impl From<Duration> for Pause {
    fn from(longest: Duration) -> Self {
        Self { longest, place: None }
    }
}

impl Looping {
    /// Never ends but by a refused key. May be dropped at any moment: a claim whose answer is lost comes back by itself.
    async fn poll_on(&mut self) -> Result<(), KeyRefused> {
        loop {
            if !self.running.is_empty() {
                self.idle_since = Instant::now();
            }
            self.reap();
            self.recover().await;
            let free = self.polling.max_jobs.saturating_sub(self.running.len());
            let open = self.worker.failing.open(&self.polling.content_types, Instant::now());
            if free == 0 || open.content_types.is_empty() {
                match free {
                    0 => self.worker.activities.set(Activity::Busy),
                    _ => self.worker.activities.set_because(Activity::Paused, "the last conversions failed"),
                }
                self.until_room(open.next).await;
                continue;
            }
            self.worker.activities.set(Activity::Polling);
            let (begun, reopens) = (Instant::now(), open.next);
            let (client, request) = (self.worker.client.clone(), self.request(free, open));
            let polled = tokio::select! {
                polled = client.poll(&request) => polled,
                // The connection that the answer was to come by did not survive the sleep, most likely.
                () = self.wakes.next() => {
                    self.asked = None;
                    continue;
                }
            };
            let pause = match polled {
                Ok(answer) => self.on_answer(answer, begun),
                Err(error) => self.on_error(error)?.into(),
            };
            self.wait(pause, reopens).await;
        }
    }

    /// Waits before the next poll, unless there is a reason to ask sooner: a hint, a job that has ended, a content type that
    /// may be tried again, or a sleep of the machine that no connection survived.
    async fn wait(&mut self, pause: Pause, reopens: Option<Instant>) {
        let begun = Instant::now();
        let waits_for_hints = pause.place.is_some();
        let mut until = begun + pause.longest;
        if waits_for_hints {
            until = reopens.map_or(until, |reopens| reopens.min(until));
        }
        let client = self.worker.client.clone();
        let heard = tokio::select! {
            heard = hints::wait(&client, pause.place.as_ref(), &mut self.asked) => heard,
            () = tokio::time::sleep_until(until) => return,
            () = self.wakes.next() => {
                // Its connection has not survived.
                self.asked = None;
                return;
            }
            Some(ended) = self.running.join_next(), if waits_for_hints => {
                note(ended);
                return;
            }
        };
        let failed = self.hints.heard(&heard, begun.elapsed());
        if failed > 0 {
            tokio::time::sleep(self.backoff(failed)).await;
        }
    }

    /// Takes no work for a while after this machine was unable to do some, and then none as long as its disk takes
    /// nothing: what it cannot do is others' to do, and it would take all of it, because failing is quick.
    async fn recover(&mut self) {
        let unable = self.worker.unable.load(Ordering::Relaxed);
        if mem::replace(&mut self.unable, unable) == unable || unable == 0 {
            return;
        }
        for tries in unable.. {
            let wait = self.backoff(tries);
            tracing::warn!(unable, wait_ms = wait.as_millis(), "no polls for a while");
            self.worker
                .activities
                .set_because(Activity::Paused, "this machine was unable to do its last jobs");
            tokio::time::sleep(wait).await;
            let folders = Arc::clone(&self.worker.folders);
            let tried = tokio::task::spawn_blocking(move || folders.try_working()).await;
            match tried.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "nothing can be written to `temp_dir`"),
            }
        }
    }

    /// How long to wait after something went wrong this often in a row.
    fn backoff(&self, failed: u32) -> Duration {
        let bound = self.polling.interval.saturating_mul(1 << (failed - 1).min(6)).min(LONGEST_WAIT);
        bound.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Takes the jobs away that have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.running.try_join_next() {
            note(ended);
        }
    }

    /// Waits until a job ends, or until that moment when there may be room for more.
    async fn until_room(&mut self, next: Option<Instant>) {
        let next = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.running.join_next() => note(ended),
            () = next => {}
        }
    }

    fn request(&self, free: usize, open: Open) -> PollRequest {
        PollRequest {
            worker_id: self.polling.worker_id.to_string(),
            content_types: open.content_types,
            max_jobs: Some(if open.one_only { 1 } else { free as u64 }),
            lease_seconds: Some(self.polling.lease_seconds),
            wait_seconds: Some(WAIT_SECONDS),
            idle_seconds: Some(self.idle_since.elapsed().as_secs()),
            hints: self.hints.are_wanted(Instant::now()),
            // The client's `User-Agent` says it.
            version: None,
            starting: !self.was_answered,
        }
    }

    /// Starts what was claimed. What to wait for before the next poll.
    fn on_answer(&mut self, mut answer: PollResponse, begun: Instant) -> Pause {
        self.failed = 0;
        self.was_answered = true;
        let (again, place) = (answer.poll_again_in_seconds.map(again), answer.hint.take());
        let jobs = jobs(answer);
        self.worker.activities.answered(jobs.len());
        if jobs.is_empty() {
            return self.on_nothing(again, place, begun);
        }
        self.hints.led_to_jobs();
        for job in jobs {
            let conversion = self.worker.failing.begun(&job.content_type);
            self.running.spawn(Arc::clone(&self.worker).run(job, conversion));
        }
        Duration::ZERO.into()
    }

    fn on_nothing(&mut self, again: Option<Duration>, place: Option<HintGrant>, begun: Instant) -> Pause {
        if let Some(pause) = self.hints.led_nowhere(self.polling.interval) {
            return pause.into();
        }
        if let Some(place) = place {
            let valid = Duration::from_secs(place.hint_url_expires_in_seconds).max(self.polling.interval);
            // Workers that were told the same need not come at once.
            let longest = again.unwrap_or(self.polling.interval).min(valid).max(LEAST_WAIT);
            let longest = longest.mul_f64(rand::rng().random_range(0.9..=1.0));
            return Pause { longest, place: Some(place) };
        }
        // A poll that the server held open has waited already.
        let was_held = begun.elapsed() + Duration::from_secs(1) >= Duration::from_secs(WAIT_SECONDS);
        let longest = match again {
            // However little the server wants to be spared, this is no busy loop.
            Some(again) if !was_held => again.max(LEAST_WAIT),
            Some(again) => again,
            None if was_held => Duration::ZERO,
            None => self.polling.interval,
        };
        longest.into()
    }

    fn on_error(&mut self, error: Error) -> Result<Duration, KeyRefused> {
        let refused = matches!(error.kind(), Some(Kind::Unauthorized | Kind::Forbidden));
        if refused && !self.was_answered {
            return Err(KeyRefused(error));
        }
        self.worker.activities.failed(&error);
        self.worker.activities.set(Activity::Waiting);
        self.failed += 1;
        let asked = error.retry_after().unwrap_or_default().min(LONGEST_ASKED);
        let wait = asked + self.backoff(self.failed);
        tracing::warn!(%error, failed = self.failed, wait_ms = wait.as_millis(), "a poll failed");
        Ok(wait)
    }
}

/// When to ask again, if the server says it. No answer silences a worker for good.
fn again(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(LONGEST_ASKED)
}

/// The jobs of an answer: a list when more than one was asked for, else the fields of the only one.
fn jobs(answer: PollResponse) -> Vec<ClaimedJob> {
    if let Some(jobs) = answer.jobs {
        return jobs;
    }
    let Some(job_id) = answer.job_id else { return Vec::new() };
    let (Some(content_type), Some(lease)) = (answer.content_type, answer.lease) else {
        tracing::error!(job_id, "the server gave a job without a lease; it is too old for this converter");
        return Vec::new();
    };
    vec![ClaimedJob {
        job_id,
        source_file_url: answer.source_file_url.unwrap_or_default(),
        content_type,
        task_options: answer.task_options.unwrap_or_default(),
        lease,
    }]
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a job broke off; it comes back when its lease ends");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_silences_a_worker_for_good() {
        assert_eq!(again(30), Duration::from_secs(30));
        assert_eq!(again(u64::MAX), LONGEST_ASKED);
    }
}
