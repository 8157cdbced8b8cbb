//! What the control plane is asked before a decision.

use std::time::Duration;

use api::{
    list::ListRequest,
    statistics::{QueueView, StatisticsRequest, StatisticsResponse},
    workers::{ListWorkersRequest, ListWorkersResponse},
};
use client::{Client, Error, RetryPolicy};
use domain::ContentType;
use tokio::time::{Instant, timeout};

use crate::{Decision, Figures, Reason, RemoteSettings, decision::Prospects};

/// How patiently a question is repeated that came too soon after others. Any other failure is an answer.
const THROTTLED: RetryPolicy =
    RetryPolicy { tries: 3, base: Duration::from_millis(500), cap: Duration::from_secs(1) };

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The key is not taken: what was said.
    Denied(String),
    /// The control plane is not there, or not in a state to answer: what went wrong.
    Away(String),
}

/// The answer to a question; `None` when an older server does not know it, or cannot answer it for this document.
type Answer<T> = Result<Option<T>, NoAnswer>;

/// Decides by the rules, and if these are for it by what the control plane tells. `within` is how much time there is.
pub(crate) async fn decide(
    client: &Client,
    settings: &RemoteSettings,
    content_type: &ContentType,
    requested: bool,
    within: Duration,
) -> Decision {
    let rules = settings.should_use_remote(content_type, requested);
    if !rules.is_remote() {
        return rules;
    }
    if within.is_zero() {
        return Decision::new(Reason::DeadlineExhausted, "No time is left for a remote conversion.", None);
    }
    let longest = settings.longest_question.min(within);
    let (workers, statistics) = match told(client, content_type, longest).await {
        Ok(told) => told,
        Err(no_answer) => return no_answer.into(),
    };
    let live_within_seconds = workers.as_ref().map_or(0, |workers| workers.live_within_seconds);
    let figures = figures(content_type, workers.as_ref(), statistics.as_ref(), within);
    Prospects { content_type, figures, live_within_seconds, within }.decide()
}

/// What the control plane tells of a type's workers and queue, within `longest` for both. The queue is not asked for when
/// nobody works on it, because that is decided then, and costs as much as claiming a job.
async fn told(
    client: &Client,
    content_type: &ContentType,
    longest: Duration,
) -> Result<(Option<ListWorkersResponse>, Option<StatisticsResponse>), NoAnswer> {
    let begun = Instant::now();
    let of_type = ListWorkersRequest { content_type: Some(content_type.clone()) };
    let workers = asked(longest, || client.list_workers(&of_type)).await?;
    if workers.as_ref().and_then(|workers| live(workers, content_type)) == Some(0) {
        return Ok((workers, None));
    }
    let left = longest.saturating_sub(begun.elapsed());
    let of_type = StatisticsRequest { content_type: Some(content_type.clone()) };
    let statistics = asked(left, || client.statistics_of(&of_type)).await?;
    Ok((workers, statistics))
}

/// The remote job that an earlier run of a task has created, if there is one. A server that cannot tell has none.
pub(crate) async fn earlier_job(
    client: &Client,
    longest: Duration,
    task_id: &str,
    content_type: &ContentType,
) -> Answer<String> {
    let request = ListRequest {
        ingestion_task_id: Some(task_id.to_owned()),
        content_type: Some(content_type.clone()),
        limit: Some(1),
        ..ListRequest::default()
    };
    let page = asked(longest, || client.list_jobs(&request)).await?;
    Ok(page.and_then(|page| page.jobs.into_iter().next()).map(|newest| newest.job_id))
}

/// Asks once, unless it is told that this was too soon.
async fn asked<T, C, F>(longest: Duration, mut call: C) -> Answer<T>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, Error>>,
{
    let asking = async {
        let mut failed = 0;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => error,
            };
            failed += 1;
            match THROTTLED.wait(failed, &error).filter(|_| error.status() == Some(429)) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return unanswered(&error),
            }
        }
    };
    let silent = || NoAnswer::Away(format!("it has not answered within {} s", longest.as_secs_f64().ceil()));
    timeout(longest, asking).await.unwrap_or_else(|_| Err(silent()))
}

fn unanswered<T>(error: &Error) -> Answer<T> {
    if is_denied(error) {
        return Err(NoAnswer::Denied(error.to_string()));
    }
    match error.status() {
        Some(400..=499) if !error.retryable() => Ok(None),
        _ => Err(NoAnswer::Away(error.to_string())),
    }
}

impl From<NoAnswer> for Decision {
    fn from(no_answer: NoAnswer) -> Self {
        let (reason, explanation) = match no_answer {
            NoAnswer::Denied(said) => {
                (Reason::Unauthorized, format!("The control plane does not take the API key: {said}"))
            }
            NoAnswer::Away(why) => (Reason::Unreachable, format!("The control plane cannot be asked: {why}")),
        };
        Self::new(reason, explanation, None)
    }
}

/// Whether the key is what a call failed by. API Gateway answers 403 in words of its own to paths that it does not know.
pub(crate) fn is_denied(error: &Error) -> bool {
    match error {
        Error::Refused { status, .. } => matches!(status, 401 | 403),
        Error::Unreadable { status, .. } => *status == 401,
        Error::Unreachable { .. }
        | Error::Untrusted { .. }
        | Error::TimedOut { .. }
        | Error::Transfer { .. }
        | Error::File { .. }
        | Error::Corrupt { .. }
        | Error::Invalid { .. } => false,
    }
}

/// How many live workers take a type; `None` when there may be some among those that were left out of the answer.
fn live(workers: &ListWorkersResponse, content_type: &ContentType) -> Option<u64> {
    let takes = |types: &[String]| types.iter().any(|taken| taken == content_type.as_str());
    let live = workers.workers.iter().filter(|worker| worker.live && takes(&worker.content_types)).count();
    (live > 0 || !workers.more).then_some(live as u64)
}

fn figures(
    content_type: &ContentType,
    workers: Option<&ListWorkersResponse>,
    statistics: Option<&StatisticsResponse>,
    within: Duration,
) -> Figures {
    let name = content_type.as_str();
    // A queue that nothing is known of is empty and not paused.
    let queue = statistics.map(|statistics| {
        let of_type = statistics.queues.iter().find(|queue| queue.content_type == name);
        of_type.cloned().unwrap_or_else(QueueView::default)
    });
    let run_time = queue.as_ref().and_then(|queue| queue.run_time);
    Figures {
        live_workers: workers.and_then(|workers| live(workers, content_type)),
        queue_depth: queue.as_ref().map(|queue| queue.waiting),
        running: queue.as_ref().map(|queue| queue.running),
        run_time_p50_seconds: run_time.map(|time| time.median_seconds),
        run_time_p90_seconds: run_time.map(|time| time.p90_seconds),
        expected_wait_seconds: None,
        deadline_seconds: within.as_secs(),
        paused: queue.as_ref().map(|queue| queue.paused),
    }
}
