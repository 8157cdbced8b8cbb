use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{
    rfc3339,
    statistics::{EndedView, QueueView, RunTimeView, StatisticsRequest, StatisticsResponse},
};
use domain::{Bucket, ContentType, Day, Job, Outcome, RunTimes, Status, Tenant, Timestamp};
use store::{DayCounts, Depth, Depths, Ended};

use crate::{Caller, Error, Service};

/// How long an end may be held up by its being counted.
const LONGEST_COUNT: Duration = Duration::from_secs(2);
/// Over how many days conversions are looked at, the last one included.
const DAYS: usize = 14;
/// How long what was read of past conversions is good for.
const FRESH: Duration = Duration::from_secs(60);
/// Of how many queues past conversions are remembered at once.
const MOST_QUEUES: usize = 256;
const HOUR: Duration = Duration::from_secs(3600);

type Queue = (Tenant, ContentType);

/// How long conversions took lately, by queue, and when that was read.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<HashMap<Queue, (Timestamp, Arc<RunTimes>)>>);

impl History {
    fn get(&self, queue: &Queue, now: Timestamp) -> Option<Arc<RunTimes>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, run_times) = known.get(queue)?;
        is_fresh(*read_at, now).then(|| Arc::clone(run_times))
    }

    fn put(&self, queue: Queue, now: Timestamp, run_times: &Arc<RunTimes>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_QUEUES {
            known.retain(|_, (read_at, _)| is_fresh(*read_at, now));
        }
        // What does not fit is read again.
        if known.len() < MOST_QUEUES || known.contains_key(&queue) {
            known.insert(queue, (now, Arc::clone(run_times)));
        }
    }
}

/// A clock that was set back makes nothing fresh.
fn is_fresh(read_at: Timestamp, now: Timestamp) -> bool {
    read_at <= now && now.since(read_at) < FRESH
}

impl Service {
    /// Counts a job that has ended, as well as can be: one that cannot be counted has ended all the same.
    pub(crate) async fn count_end(&self, job: &Job) {
        let Some(ending) = job.ending() else { return };
        let ended = Ended {
            tenant: &job.tenant,
            content_type: &job.spec.content_type,
            at: ending.at,
            status: job.status(),
            conversion: conversion(job),
        };
        let counted = tokio::time::timeout(LONGEST_COUNT, self.store.statistics.count(&ended)).await;
        let cause = match counted {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        tracing::warn!(job_id = %job.id, cause, "not counted");
    }

    /// What waits, runs and has ended lately. About ten read units for one type, and seven for each of them all.
    ///
    /// # Errors
    /// The store.
    pub async fn statistics(
        &self,
        caller: &Caller,
        request: &StatisticsRequest,
    ) -> Result<StatisticsResponse, Error> {
        let (tenant, now) = (&caller.tenant, self.now());
        let (counted, pauses) = self.counted(tenant, request.content_type.as_ref()).await?;
        let depths = self.depths(tenant).await?;
        let days = self.store.statistics.days(tenant, &counted, &last_days(now)).await?;
        let mut types = BTreeSet::from_iter(counted);
        if request.content_type.is_none() {
            types.extend(pauses.iter().cloned());
            types.extend(depths.iter().flat_map(|depths| depths.queues.keys().cloned()));
        }
        let queues = types.iter().filter_map(|content_type| {
            let of_type: Vec<_> = days.iter().filter(|day| day.content_type == *content_type).collect();
            let depth = depths.as_ref().and_then(|depths| depths.queues.get(content_type));
            let paused = pauses.contains(content_type);
            let seen = paused || depth.is_some() || !of_type.is_empty();
            seen.then(|| view(content_type, paused, depth, &of_type, now))
        });
        let queues = queues.collect();
        Ok(StatisticsResponse { as_of: depths.map(|depths| rfc3339(depths.seen_at)), queues })
    }

    /// The types of which ends may have been counted, and those whose queue is paused, or `only` one type.
    async fn counted(
        &self,
        tenant: &Tenant,
        only: Option<&ContentType>,
    ) -> Result<(Vec<ContentType>, BTreeSet<ContentType>), Error> {
        let Some(only) = only else {
            let looked_up = self.store.statistics.types(tenant).await?;
            let counted = ContentType::KNOWN.into_iter().chain(looked_up.custom).collect();
            return Ok((counted, looked_up.paused));
        };
        let paused = self.store.queues.is_paused(tenant, only).await?;
        Ok((vec![only.clone()], paused.then(|| only.clone()).into_iter().collect()))
    }

    /// What the last complete sweep saw of a tenant's queues. A tenant without live jobs leaves no row, or an older one.
    async fn depths(&self, tenant: &Tenant) -> Result<Option<Depths>, Error> {
        let swept_at = self.store.sweeps.last().await?.seen_at;
        let seen = self.store.sweeps.depths(tenant).await?.filter(|depths| Some(depths.seen_at) >= swept_at);
        Ok(seen.or_else(|| swept_at.map(|seen_at| Depths { seen_at, queues: BTreeMap::new() })))
    }

    /// When a running job will probably be done. A history that cannot be read does not keep the status from being told.
    pub(crate) async fn estimated_completion(&self, job: &Job) -> Option<Timestamp> {
        job.running()?;
        let history = self.history(&job.tenant, &job.spec.content_type).await;
        let history = history.inspect_err(|error| tracing::warn!(cause = %error, "no history"));
        history.unwrap_or_default().estimated_completion(job, self.now())
    }

    /// How long conversions of a queue took in the last days: seven read units at most, once a minute.
    async fn history(&self, tenant: &Tenant, content_type: &ContentType) -> Result<Arc<RunTimes>, Error> {
        let (queue, now) = ((tenant.clone(), content_type.clone()), self.now());
        if let Some(known) = self.history.get(&queue, now) {
            return Ok(known);
        }
        let only = std::slice::from_ref(content_type);
        let days = self.store.statistics.days(tenant, only, &last_days(now)).await?;
        let run_times = Arc::new(run_times(&days.iter().collect::<Vec<_>>()));
        self.history.put(queue, now, &run_times);
        Ok(run_times)
    }
}

/// The bucket of the conversion that a completed job ended with.
fn conversion(job: &Job) -> Option<Bucket> {
    let last = job.attempts.last().filter(|attempt| attempt.outcome == Outcome::Completed)?;
    Some(Bucket::of(job.spec.source.size_bytes, last.ended_at.since(last.started_at)))
}

fn last_days(now: Timestamp) -> Vec<Day> {
    std::iter::successors(Some(now.day()), |day| Some(day.before())).take(DAYS).collect()
}

fn run_times(days: &[&DayCounts]) -> RunTimes {
    let mut run_times = RunTimes::default();
    days.iter().for_each(|day| run_times.merge(&day.run_times));
    run_times
}

fn view(
    content_type: &ContentType,
    paused: bool,
    depth: Option<&Depth>,
    days: &[&DayCounts],
    now: Timestamp,
) -> QueueView {
    let depth = depth.copied().unwrap_or_default();
    let run_times = run_times(days);
    // To the millisecond, and not less than it was.
    let millis = |time: Duration| (time.as_secs_f64() * 1000.0).ceil() / 1000.0;
    let seconds = |percent| run_times.percentile(percent).map_or(0.0, millis);
    QueueView {
        content_type: content_type.to_string(),
        paused,
        waiting: depth.waiting,
        oldest_waiting_seconds: depth.oldest.map(|oldest| now.since(oldest).as_secs()),
        backing_off: depth.backing_off,
        running: depth.running,
        ended_24h: ended_lately(days, now),
        run_time: (run_times.conversions() > 0).then(|| RunTimeView {
            conversions: run_times.conversions(),
            median_seconds: seconds(50),
            p90_seconds: seconds(90),
        }),
    }
}

/// What ended in the hour that has begun and the 23 before it.
fn ended_lately(days: &[&DayCounts], now: Timestamp) -> EndedView {
    let mut ended = EndedView::default();
    for day in days {
        for ((hour, status), count) in &day.ended {
            let hour_ends = day.day.begin().plus(HOUR * (u32::from(*hour) + 1));
            if now.since(hour_ends) >= HOUR * 23 {
                continue;
            }
            match status {
                Status::Completed => ended.completed += count,
                Status::Failed => ended.failed += count,
                Status::Timeout => ended.timeout += count,
                Status::Cancelled => ended.cancelled += count,
                Status::Pending | Status::Processing => {}
            }
        }
    }
    ended
}
