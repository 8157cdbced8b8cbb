//! A job as one row, and a row as the job it was. What no transition produces is refused here.
//!
//! Every heartbeat pays for the whole row, by the kilobyte and names included. So what follows from other attributes
//! is left out, and so is what has its usual value.

use std::time::Duration;

use domain::{
    Attempt, ContentType, FileName, Holder, Inconsistent, Job, JobId, KeyId, LeaseTerms, Limits, Outcome,
    Pending, Priority, Progress, ResultRef, Running, Source, Spec, State, Status, TaskOptions, Tenant,
    Timestamp, TokenHash, Wait, WebhookUrl, WorkerId,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use uuid::Uuid;

use crate::{StorageKey, StoreError, dynamodb::Item, table::Layout};

/// The table's attributes. Times are milliseconds, spans seconds.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    pk: String,
    #[serde(flatten)]
    due: DueRow,
    /// For DynamoDB's TTL, in seconds. Present once the job has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    /// The partition of the `by_day` index: the tenant and the day of `created_at`.
    day: String,
    /// The partition of the `by_task` index: the tenant and the ingestion service's id.
    task: String,
    #[serde(rename = "type")]
    content_type: ContentType,
    source: SourceRow,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    options_stored: bool,
    limits: LimitsRow,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<PriorityRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<ByteArray<32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookUrl>,
    created_at: Timestamp,
    /// Absent when it is `created_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opened_at: Option<Timestamp>,
    #[serde(rename = "updated")]
    updated_at: Timestamp,
    #[serde(rename = "rev")]
    revision: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptRow>,
    #[serde(default, skip_serializing_if = "is_zero")]
    retries: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    free_returns: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    continued_by: Option<ContinuedBy>,
    status: StatusRow,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<PendingRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    running: Option<RunningRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<EndRow>,
}

/// The attributes of the `due` index.
#[derive(Debug, Default, Serialize, Deserialize)]
struct DueRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
}

/// `upload` and `name` say the key of an upload's object; any other key is written out. `tag` is an `etag` that is a
/// quoted MD5, without its quotes.
#[derive(Debug, Serialize, Deserialize)]
struct SourceRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<ByteArray<16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    name: FileName,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<ByteArray<16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<ByteArray<32>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LimitsRow {
    queue: u64,
    run: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    retries: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PriorityRow {
    High,
    Low,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ContinuedBy {
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StatusRow {
    Pending,
    Processing,
    Completed,
    Failed,
    Timeout,
    Cancelled,
}

#[derive(Debug, Serialize, Deserialize)]
struct PendingRow {
    since: Timestamp,
    #[serde(default, skip_serializing_if = "is_false")]
    backoff: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct RunningRow {
    worker: WorkerId,
    #[serde(flatten)]
    lease: LeaseRow,
    since: Timestamp,
    /// When the lease ends. Absent when that is `due_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// The worker has not been heard of since it claimed the job.
    #[serde(default, skip_serializing_if = "is_false")]
    unheard: bool,
}

/// Who holds a lease and for how long: a token with a term in seconds, or an API key for the whole run.
#[derive(Debug, Serialize, Deserialize)]
struct LeaseRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<ByteArray<32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    term: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key: Option<KeyId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AttemptRow {
    worker: WorkerId,
    #[serde(flatten)]
    lease: LeaseRow,
    since: Timestamp,
    until: Timestamp,
    outcome: OutcomeRow,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What a failure led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    then: Option<StatusRow>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OutcomeRow {
    Completed,
    Failed,
    TimedOut,
    Lapsed,
    NeverHeardOf,
    Released,
    Cancelled,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProgressRow {
    percent: u8,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndRow {
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<ResultRow>,
}

/// Without a key it is the one of the last attempt's result object.
#[derive(Debug, Serialize, Deserialize)]
struct ResultRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    size: u64,
    sha256: ByteArray<32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it by reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it by reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The partition key of a job's row.
pub(crate) fn pk(id: JobId) -> String {
    format!("job#{id}")
}

/// The job that a partition key names.
pub(crate) fn job_of_pk(pk: &str) -> Option<JobId> {
    pk.strip_prefix("job#")?.parse().ok()
}

/// The partition of the `by_day` index for what a tenant created on the day of `at`.
pub(crate) fn day_key(tenant: &Tenant, at: Timestamp) -> String {
    let day = at.day();
    format!("{tenant}#{day}")
}

/// The partition of the `by_task` index for one of a tenant's ingestion tasks.
pub(crate) fn task_key(tenant: &Tenant, task_id: &str) -> String {
    format!("{tenant}#{task_id}")
}

/// The row of `job`.
pub(crate) fn encode(job: &Job, layout: &Layout) -> Result<Item, StoreError> {
    serde_dynamo::to_item(row_of(job, layout))
        .map_err(|error| StoreError::Unreadable { what: format!("job {}", job.id), cause: error.to_string() })
}

/// The job that a row holds.
pub(crate) fn decode(item: Item) -> Result<Job, StoreError> {
    let name = item.get("pk").and_then(|pk| pk.as_s().ok()).cloned().unwrap_or_default();
    let unreadable = |cause: String| StoreError::Unreadable { what: format!("row {name:?}"), cause };
    let row: Row = serde_dynamo::from_item(item).map_err(|error| unreadable(error.to_string()))?;
    job_of(row).map_err(|error| unreadable(error.to_string()))
}

fn row_of(job: &Job, layout: &Layout) -> Row {
    let limits = &job.spec.limits;
    let (options, options_stored) = match &job.spec.task_options {
        TaskOptions::Inline(text) => ((text != "{}").then(|| text.clone()), false),
        TaskOptions::Stored => (None, true),
    };
    Row {
        pk: pk(job.id),
        due: DueRow { due_key: layout.due_key(job), due_at: job.due_at(), deadline: job.deadline() },
        // Counted from the last change: an imported job may have ended long ago elsewhere.
        expires_at: job.ending().map(|_| job.updated_at.plus(layout.retention).0 / 1000),
        day: day_key(&job.tenant, job.created_at),
        task: task_key(&job.tenant, &job.spec.ingestion_task_id),
        content_type: job.spec.content_type.clone(),
        source: source_row(job),
        options,
        options_stored,
        limits: LimitsRow {
            queue: limits.queue.as_secs(),
            run: limits.run.as_secs(),
            total: limits.total.map(|total| total.as_secs()),
            retries: limits.max_retries,
        },
        priority: match job.spec.priority {
            Priority::High => Some(PriorityRow::High),
            Priority::Normal => None,
            Priority::Low => Some(PriorityRow::Low),
        },
        request: job.spec.request_hash.map(ByteArray::new),
        webhook: job.spec.webhook.clone(),
        created_at: job.created_at,
        opened_at: (job.opened_at != job.created_at).then_some(job.opened_at),
        updated_at: job.updated_at,
        revision: job.revision,
        attempts: job.attempts.iter().map(attempt_row).collect(),
        retries: job.retries,
        free_returns: job.free_returns,
        progress: job.progress.as_ref().map(|progress| ProgressRow {
            percent: progress.percentage,
            message: progress.message.clone(),
            stage: progress.stage.clone(),
        }),
        continued_by: job.continued_locally.then_some(ContinuedBy::Local),
        status: status_row(job.status()),
        pending: match &job.state {
            State::Pending(pending) => {
                Some(PendingRow { since: pending.since, backoff: pending.wait == Wait::Backoff })
            }
            State::Processing(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Timeout { .. }
            | State::Cancelled { .. } => None,
        },
        running: job.running().map(|running| RunningRow {
            worker: running.worker.clone(),
            lease: lease_row(&running.holder, running.terms),
            since: running.started_at,
            until: Some(running.lease_ends_at).filter(|until| job.due_at() != Some(*until)),
            unheard: !running.confirmed,
        }),
        end: end_row(job),
    }
}

fn source_row(job: &Job) -> SourceRow {
    let source = &job.spec.source;
    let upload = match source.key.parse() {
        Ok(StorageKey::Source { tenant, upload, name }) => {
            Some(upload).filter(|_| tenant == job.tenant && name == source.name)
        }
        Ok(StorageKey::Options { .. } | StorageKey::Result { .. }) | Err(_) => None,
    };
    let tag = plain_etag(&source.etag);
    SourceRow {
        upload: upload.map(|upload| ByteArray::new(upload.into_bytes())),
        key: upload.is_none().then(|| source.key.clone()),
        name: source.name.clone(),
        size: source.size_bytes,
        tag: tag.map(ByteArray::new),
        etag: tag.is_none().then(|| source.etag.clone()),
        sha256: source.sha256.map(ByteArray::new),
    }
}

/// The bytes of an ETag that is 32 quoted hexadecimal digits, as that of every object of one part.
fn plain_etag(etag: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(etag.strip_prefix('"')?.strip_suffix('"')?, &mut bytes).ok()?;
    Some(bytes).filter(|bytes| quoted(bytes) == etag)
}

fn quoted(tag: &[u8; 16]) -> String {
    format!("\"{}\"", hex::encode(tag))
}

fn result_key(id: JobId, tenant: &Tenant, attempts: usize, sha256: [u8; 32]) -> String {
    StorageKey::Result { tenant: tenant.clone(), job: id, attempt: attempts, sha256 }.to_string()
}

fn end_row(job: &Job) -> Option<EndRow> {
    match &job.state {
        State::Pending(_) | State::Processing(_) => None,
        State::Completed { at, result } => Some(EndRow {
            at: *at,
            error: None,
            result: Some(ResultRow {
                key: Some(result.key.clone())
                    .filter(|key| *key != result_key(job.id, &job.tenant, job.attempts.len(), result.sha256)),
                size: result.size_bytes,
                sha256: ByteArray::new(result.sha256),
            }),
        }),
        State::Failed { at, error } | State::Timeout { at, error } => {
            Some(EndRow { at: *at, error: Some(error.clone()), result: None })
        }
        State::Cancelled { at } => Some(EndRow { at: *at, error: None, result: None }),
    }
}

fn lease_row(holder: &Holder, terms: LeaseTerms) -> LeaseRow {
    let term = match terms {
        LeaseTerms::Renewed(term) => Some(term.as_secs()),
        LeaseTerms::WholeRun => None,
    };
    match holder {
        Holder::Token(hash) => LeaseRow { token: Some(ByteArray::new(hash.0)), term, api_key: None },
        Holder::Key(key) => LeaseRow { token: None, term, api_key: Some(key.clone()) },
    }
}

fn attempt_row(attempt: &Attempt) -> AttemptRow {
    let (outcome, error, then) = match &attempt.outcome {
        Outcome::Completed => (OutcomeRow::Completed, None, None),
        Outcome::Failed { error, then } => (OutcomeRow::Failed, Some(error.clone()), Some(status_row(*then))),
        Outcome::TimedOut => (OutcomeRow::TimedOut, None, None),
        Outcome::Lapsed => (OutcomeRow::Lapsed, None, None),
        Outcome::NeverHeardOf => (OutcomeRow::NeverHeardOf, None, None),
        Outcome::Released => (OutcomeRow::Released, None, None),
        Outcome::Cancelled => (OutcomeRow::Cancelled, None, None),
    };
    AttemptRow {
        worker: attempt.worker.clone(),
        lease: lease_row(&attempt.holder, attempt.terms),
        since: attempt.started_at,
        until: attempt.ended_at,
        outcome,
        error,
        then,
    }
}

fn status_row(status: Status) -> StatusRow {
    match status {
        Status::Pending => StatusRow::Pending,
        Status::Processing => StatusRow::Processing,
        Status::Completed => StatusRow::Completed,
        Status::Failed => StatusRow::Failed,
        Status::Timeout => StatusRow::Timeout,
        Status::Cancelled => StatusRow::Cancelled,
    }
}

fn job_of(row: Row) -> Result<Job, Inconsistent> {
    let attempts = row.attempts.into_iter().map(attempt_of).collect::<Result<Vec<_>, _>>()?;
    let id = job_of_pk(&row.pk).ok_or(Inconsistent("the partition key is no job's"))?;
    let (tenant, task_id) = row.task.split_once('#').ok_or(Inconsistent("a task without a tenant"))?;
    let tenant: Tenant = tenant.parse().map_err(|_| Inconsistent("a task of no tenant"))?;
    if row.day != day_key(&tenant, row.created_at) {
        return Err(Inconsistent("the day is not the one the job was created on"));
    }
    let key_of_result = |sha256| result_key(id, &tenant, attempts.len(), sha256);
    let state = state_of(row.status, row.pending, row.running, row.end, row.due.due_at, key_of_result)?;
    let job = Job {
        id,
        spec: Spec {
            content_type: row.content_type,
            ingestion_task_id: task_id.to_owned(),
            source: source_of(row.source, &tenant)?,
            task_options: match (row.options, row.options_stored) {
                (None, true) => TaskOptions::Stored,
                (Some(text), false) => TaskOptions::Inline(text),
                (None, false) => TaskOptions::Inline("{}".to_owned()),
                (Some(_), true) => return Err(Inconsistent("options both inline and stored")),
            },
            limits: Limits {
                queue: Duration::from_secs(row.limits.queue),
                run: Duration::from_secs(row.limits.run),
                total: row.limits.total.map(Duration::from_secs),
                max_retries: row.limits.retries,
            },
            priority: match row.priority {
                Some(PriorityRow::High) => Priority::High,
                None => Priority::Normal,
                Some(PriorityRow::Low) => Priority::Low,
            },
            request_hash: row.request.map(ByteArray::into_array),
            webhook: row.webhook,
        },
        tenant,
        created_at: row.created_at,
        opened_at: row.opened_at.unwrap_or(row.created_at),
        updated_at: row.updated_at,
        revision: row.revision,
        attempts,
        retries: row.retries,
        free_returns: row.free_returns,
        progress: row.progress.map(|progress| Progress {
            percentage: progress.percent,
            message: progress.message,
            stage: progress.stage,
        }),
        continued_locally: matches!(row.continued_by, Some(ContinuedBy::Local)),
        state,
    };
    job.check()?;
    if row.due.due_at != job.due_at() || row.due.deadline != job.deadline() {
        return Err(Inconsistent("the due index does not say what the state says"));
    }
    Ok(job)
}

fn source_of(row: SourceRow, tenant: &Tenant) -> Result<Source, Inconsistent> {
    let key = match (row.upload, row.key) {
        (Some(upload), None) => StorageKey::Source {
            tenant: tenant.clone(),
            upload: Uuid::from_bytes(upload.into_array()),
            name: row.name.clone(),
        }
        .to_string(),
        (None, Some(key)) => key,
        _ => return Err(Inconsistent("a source has an upload's id or a key")),
    };
    let etag = match (row.tag, row.etag) {
        (Some(tag), None) => quoted(&tag),
        (None, Some(etag)) => etag,
        _ => return Err(Inconsistent("a source has one ETag")),
    };
    let sha256 = row.sha256.map(ByteArray::into_array);
    Ok(Source { key, name: row.name, size_bytes: row.size, etag, sha256 })
}

fn state_of(
    status: StatusRow,
    pending: Option<PendingRow>,
    running: Option<RunningRow>,
    end: Option<EndRow>,
    due_at: Option<Timestamp>,
    key_of_result: impl FnOnce([u8; 32]) -> String,
) -> Result<State, Inconsistent> {
    match (status, pending, running, end) {
        (StatusRow::Pending, Some(row), None, None) => Ok(State::Pending(Pending {
            since: row.since,
            wait: if row.backoff { Wait::Backoff } else { Wait::Turn },
        })),
        (StatusRow::Processing, None, Some(row), None) => {
            let (holder, terms) = lease_of(row.lease)?;
            Ok(State::Processing(Running {
                worker: row.worker,
                holder,
                started_at: row.since,
                terms,
                lease_ends_at: row.until.or(due_at).ok_or(Inconsistent("a lease without an end"))?,
                confirmed: !row.unheard,
            }))
        }
        (StatusRow::Completed, None, None, Some(EndRow { at, error: None, result: Some(result) })) => {
            let sha256 = result.sha256.into_array();
            let key = result.key.unwrap_or_else(|| key_of_result(sha256));
            Ok(State::Completed { at, result: ResultRef { key, size_bytes: result.size, sha256 } })
        }
        (StatusRow::Failed, None, None, Some(EndRow { at, error: Some(error), result: None })) => {
            Ok(State::Failed { at, error })
        }
        (StatusRow::Timeout, None, None, Some(EndRow { at, error: Some(error), result: None })) => {
            Ok(State::Timeout { at, error })
        }
        (StatusRow::Cancelled, None, None, Some(EndRow { at, error: None, result: None })) => {
            Ok(State::Cancelled { at })
        }
        _ => Err(Inconsistent("the status and what belongs to it do not fit")),
    }
}

fn lease_of(row: LeaseRow) -> Result<(Holder, LeaseTerms), Inconsistent> {
    match (row.token, row.term, row.api_key) {
        (Some(hash), Some(term), None) => {
            Ok((Holder::Token(TokenHash(hash.into_array())), LeaseTerms::Renewed(Duration::from_secs(term))))
        }
        (None, None, Some(key)) => Ok((Holder::Key(key), LeaseTerms::WholeRun)),
        _ => Err(Inconsistent("a lease is held by a token with a term or by an API key")),
    }
}

fn attempt_of(row: AttemptRow) -> Result<Attempt, Inconsistent> {
    let (holder, terms) = lease_of(row.lease)?;
    let outcome = match (row.outcome, row.error, row.then) {
        (OutcomeRow::Failed, Some(error), Some(StatusRow::Pending)) => {
            Outcome::Failed { error, then: Status::Pending }
        }
        (OutcomeRow::Failed, Some(error), Some(StatusRow::Failed)) => {
            Outcome::Failed { error, then: Status::Failed }
        }
        (OutcomeRow::Completed, None, None) => Outcome::Completed,
        (OutcomeRow::TimedOut, None, None) => Outcome::TimedOut,
        (OutcomeRow::Lapsed, None, None) => Outcome::Lapsed,
        (OutcomeRow::NeverHeardOf, None, None) => Outcome::NeverHeardOf,
        (OutcomeRow::Released, None, None) => Outcome::Released,
        (OutcomeRow::Cancelled, None, None) => Outcome::Cancelled,
        _ => return Err(Inconsistent("an attempt's outcome and what belongs to it do not fit")),
    };
    Ok(Attempt { worker: row.worker, holder, started_at: row.since, ended_at: row.until, terms, outcome })
}
