//! A job as a row: nothing of it is lost, and what no transition produces is not read.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    ContentType, Credential, FileName, Job, LeaseTerms, Limits, Priority, Progress, ResultRef, Source, State,
    Submission, Submitted, TaskOptions, Timestamp,
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use store::Replacement;

use crate::support::{
    Item, Place, at, claimed, failure, half, job_with, legacy, native, new_job, pk, size, submitted, success,
    why,
};

#[derive(Clone, Debug)]
enum Step {
    /// With a lease of this many seconds; without, a client of the original system.
    Claim(Option<u64>),
    Say(u8, String, Option<String>),
    Complete,
    Fail(String, bool),
    Release,
    Lapse,
    Cancel(bool),
    Retry,
    /// The clock goes to this many milliseconds after the moment when the job is due; or after now.
    Due(u64),
    Wait(u64),
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::option::weighted(0.8, 20..3600_u64).prop_map(Step::Claim),
        3 => (0..=100_u8, ".{0,40}", prop::option::of(".{0,9}")).prop_map(|(p, m, s)| Step::Say(p, m, s)),
        1 => Just(Step::Complete),
        2 => (".{0,40}", prop::bool::weighted(0.7)).prop_map(|(error, again)| Step::Fail(error, again)),
        1 => Just(Step::Release),
        2 => Just(Step::Lapse),
        1 => prop::bool::weighted(0.3).prop_map(Step::Cancel),
        1 => Just(Step::Retry),
        3 => (0..2_u64).prop_map(Step::Due),
        1 => (0..700_000_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

fn any_job() -> impl Strategy<Value = Job> {
    let content_type = prop_oneof![
        prop::sample::select(ContentType::KNOWN.to_vec()),
        "x-[a-z0-9-]{1,48}".prop_map(|name| name.parse().unwrap()),
    ];
    let options = prop_oneof![
        Just(TaskOptions::Stored),
        Just(TaskOptions::Inline("{}".to_owned())),
        ".{0,99}".prop_map(|text| TaskOptions::Inline(serde_json::json!({ "text": text }).to_string())),
    ];
    let limits = (1..90_000_u64, 1..90_000_u64, prop::option::of(1..90_000_u64), 0..=20_u32).prop_map(
        |(queue, run, total, max_retries)| Limits {
            queue: Duration::from_secs(queue),
            run: Duration::from_secs(run),
            total: total.map(Duration::from_secs),
            max_retries,
        },
    );
    let etag = prop_oneof!["\"[0-9a-f]{32}\"", "\"[0-9a-fA-F]{32}\"", "\"[0-9a-f]{32}-[0-9]\"", ".{0,40}"];
    let name = prop_oneof!["[a-z]{1,20}\\.mp3", ".{1,120}"];
    let source = (name, any::<u64>(), etag, prop::option::of(any::<[u8; 32]>())).prop_map(
        |(name, size_bytes, etag, sha256)| Source {
            key: format!("sources/t/00000000-0000-0000-0000-000000000001/{name}"),
            name: FileName::from_client(&name),
            size_bytes,
            etag,
            sha256,
        },
    );
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)];
    let webhook = prop::option::of("https?://[a-z]{1,20}(/[a-z0-9?=&]{0,40})?");
    let rest = (priority, ".{1,60}", prop::option::of(any::<[u8; 32]>()), webhook);
    (content_type, options, limits, source, rest).prop_map(
        |(content_type, task_options, limits, source, (priority, task_id, request_hash, webhook))| {
            job_with(|spec| {
                spec.content_type = content_type;
                spec.ingestion_task_id = task_id;
                spec.source = source;
                spec.task_options = task_options;
                spec.limits = limits;
                spec.priority = priority;
                spec.request_hash = request_hash;
                spec.webhook = webhook.map(|url| url.parse().unwrap());
            })
        },
    )
}

/// What the job becomes by a step; itself when the step is refused.
fn step(job: &Job, step: &Step, worker: &mut (Credential, LeaseTerms), now: &mut Timestamp) -> Job {
    let moved = match step {
        Step::Claim(lease) => {
            let token = u8::try_from(job.revision % 251).unwrap();
            let claimant = lease.map_or_else(legacy, |seconds| {
                (native(token).0, LeaseTerms::Renewed(Duration::from_secs(seconds)))
            });
            if job.running().is_some() || job.due_at().is_none_or(|due| due > *now) {
                return job.clone();
            }
            if job.deadline().is_some_and(|deadline| deadline <= *now) {
                return job.clone();
            }
            *worker = claimant;
            Some(claimed(job, worker, *now))
        }
        Step::Say(percentage, message, stage) => {
            let progress =
                Progress { percentage: *percentage, message: message.clone(), stage: stage.clone() };
            job.heartbeat(&worker.0, Some(progress), *now).ok().map(|renewal| renewal.job)
        }
        Step::Complete => end(job, &worker.0, success(), *now),
        Step::Fail(error, retryable) => {
            let failed = Submission::Failed { error: error.clone(), retryable: *retryable };
            end(job, &worker.0, failed, *now)
        }
        Step::Release => job.release(&worker.0, *now, half()).ok().flatten(),
        Step::Lapse => job.lapse(*now, half()),
        Step::Cancel(takeover) => job.cancel(*takeover, *now).ok(),
        Step::Retry => job.retry(*now).ok(),
        Step::Due(millis) => {
            *now = job.due_at().unwrap_or(*now).max(*now).plus(Duration::from_millis(*millis));
            None
        }
        Step::Wait(millis) => {
            *now = now.plus(Duration::from_millis(*millis));
            None
        }
    };
    moved.unwrap_or_else(|| job.clone())
}

fn end(job: &Job, credential: &Credential, submission: Submission, now: Timestamp) -> Option<Job> {
    match job.submit(credential, submission, now, half()) {
        Ok(Submitted::Accepted(job)) => Some(*job),
        Ok(Submitted::Repeated(_)) | Err(_) => None,
    }
}

/// The job after each step of its history, itself first.
fn life(job: Job, steps: &[Step]) -> Vec<Job> {
    let (mut worker, mut now) = (legacy(), at(0));
    let mut life = vec![job];
    for one in steps {
        let after = step(&life[life.len() - 1], one, &mut worker, &mut now);
        if after != life[life.len() - 1] {
            life.push(after);
        }
    }
    life
}

/// What can be told apart of a job: its state, and how its attempts ended.
fn kinds(job: &Job) -> impl Iterator<Item = String> {
    let name = |debug: String| debug.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
    let state = match &job.state {
        State::Pending(pending) => format!("{:?}", pending.wait),
        State::Processing(running) => name(format!("{:?}", running.holder)),
        ended => name(format!("{ended:?}")),
    };
    job.attempts
        .iter()
        .map(move |attempt| format!("attempt {}", name(format!("{:?}", attempt.outcome))))
        .chain([state])
        .collect::<Vec<_>>()
        .into_iter()
}

/// Enough lives to meet every state and every end of an attempt; the same ones each time.
#[tokio::test]
async fn a_job_in_every_state_and_with_every_outcome_is_read_back_as_it_was_written() {
    let place = Place::new().await;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..120 {
        let job = any_job().new_tree(&mut runner).unwrap().current();
        let steps = history().new_tree(&mut runner).unwrap().current();
        let life = life(job, &steps);
        place.created(life[0].clone()).await;
        for change in life.windows(2) {
            let replaced = place.jobs.replace(&change[0], &change[1]).await.unwrap();
            assert_eq!(replaced, Replacement::Written);
            assert_eq!(place.read(&change[1]).await, change[1]);
            seen.extend(kinds(&change[1]));
        }
    }
    let expected = [
        "Turn",
        "Backoff",
        "Token",
        "Key",
        "Completed",
        "Failed",
        "Timeout",
        "Cancelled",
        "attempt Completed",
        "attempt Failed",
        "attempt TimedOut",
        "attempt Lapsed",
        "attempt NeverHeardOf",
        "attempt Released",
        "attempt Cancelled",
    ];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_job_that_can_be_reached_is_read_back_as_it_was_written(job in any_job(), steps in history()) {
        let life = life(job, &steps);
        let last = life[life.len() - 1].clone();
        let read = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let place = Place::new().await;
            place.created(last.clone()).await;
            place.read(&last).await
        });
        prop_assert_eq!(read, last);
    }
}

#[tokio::test]
async fn a_job_is_found_by_the_day_it_was_created_on_and_by_its_task_for_as_long_as_it_exists() {
    let place = Place::new().await;
    let worker = native(1);
    let job = job_with(|spec| spec.ingestion_task_id = "task#1 ä".to_owned());
    let job = place.created(job).await;
    let running = place.replaced(&job, claimed(&job, &worker, at(1))).await;
    let ended = place.replaced(&running, submitted(&running, &worker.0, success(), at(2))).await;
    assert_eq!(ended, place.read(&job).await);
    for (index, key, of_the_job) in [("by_day", "day", "t#2026-06-09"), ("by_task", "task", "t#task#1 ä")] {
        let row = place.row_of(&job).await;
        assert_eq!(row.get(key), Some(&text(of_the_job)));
        assert_eq!(keys_in(&place, index, key, of_the_job).await, [(pk(&job), job.created_at)]);
        assert_eq!(keys_in(&place, index, key, "u#task#1 ä").await, []);
    }
}

/// What an index has under a partition key.
async fn keys_in(place: &Place, index: &str, key: &str, value: &str) -> Vec<(String, Timestamp)> {
    let query = place.raw().query().table_name(place.table()).index_name(index);
    let query = query.key_condition_expression("#key = :value").expression_attribute_names("#key", key);
    let found = query.expression_attribute_values(":value", text(value)).send().await.unwrap();
    let of = |item: &Item| {
        let created_at = item["created_at"].as_n().unwrap().parse().unwrap();
        (item["pk"].as_s().unwrap().clone(), Timestamp(created_at))
    };
    found.items().iter().map(of).collect()
}

/// A row that was changed behind the store's back: what it was of, the change, and why it is not read.
type Tampering = (fn() -> Job, fn(&mut Item), &'static str);

const TAMPERINGS: &[Tampering] = &[
    // What the domain forbids.
    (new_job, |row| set(row, "rev", number(0)), "revision 0"),
    (new_job, |row| set(row, "opened_at", number(5)), "opened before it was created"),
    (new_job, |row| set(row, "continued_by", text("local")), "continued locally and not ended"),
    (
        completed,
        |row| set(row, "continued_by", text("local")),
        "both completed remotely and continued locally",
    ),
    (completed, |row| set(row, "attempts", list([])), "completed attempts do not fit the status"),
    (completed, a_later_attempt, "completed by an attempt that is not the last"),
    (failed, |row| repeat_attempts(row, 101), "more attempts than a job can have"),
    (backing_off, |row| repeat_attempts(row, 100), "more attempts than a job can have"),
    // What no transition writes.
    (new_job, |row| set(row, "status", text("processing")), STATUS),
    (new_job, |row| set(row, "status", text("completed")), STATUS),
    (new_job, |row| drop(row.remove("pending")), STATUS),
    (running, |row| set(row, "status", text("pending")), STATUS),
    (running, |row| set(row, "pending", map([("since", number(1))])), STATUS),
    (completed, |row| set(row, "status", text("failed")), STATUS),
    (completed, |row| drop(row.remove("end")), STATUS),
    (completed, |row| drop(inside(row, "end").remove("result")), STATUS),
    (failed, |row| drop(inside(row, "end").remove("error")), STATUS),
    (failed, |row| set(row, "status", text("cancelled")), STATUS),
    (timed_out, |row| drop(inside(row, "end").remove("error")), STATUS),
    (cancelled, |row| set(inside(row, "end"), "error", text("why")), STATUS),
    (running, |row| drop(inside(row, "running").remove("term")), LEASE),
    (running, |row| drop(inside(row, "running").remove("token")), LEASE),
    (running, |row| set(inside(row, "running"), "api_key", text("k")), LEASE),
    (running_without_a_token, |row| set(inside(row, "running"), "term", number(60)), LEASE),
    (failed, |row| drop(attempt(row).remove("token")), LEASE),
    (failed, |row| drop(attempt(row).remove("error")), OUTCOME),
    (failed, |row| drop(attempt(row).remove("then")), OUTCOME),
    (failed, |row| set(attempt(row), "then", text("timeout")), OUTCOME),
    (failed, |row| set(attempt(row), "outcome", text("lapsed")), OUTCOME),
    (completed, |row| set(attempt(row), "error", text("why")), OUTCOME),
    (
        optioned,
        |row| set(row, "options_stored", AttributeValue::Bool(true)),
        "options both inline and stored",
    ),
    (
        new_job,
        |row| set(inside(row, "source"), "key", text("sources/t/1")),
        "a source has an upload's id or a key",
    ),
    (new_job, |row| drop(inside(row, "source").remove("upload")), "a source has an upload's id or a key"),
    (new_job, |row| set(inside(row, "source"), "tag", bytes(16)), "a source has one ETag"),
    (new_job, |row| drop(inside(row, "source").remove("etag")), "a source has one ETag"),
    // The index and the row.
    (running, |row| drop(row.remove("due_at")), "a lease without an end"),
    (running, |row| set(row, "due_at", number(1 << 60)), INDEX),
    (new_job, |row| set(row, "due_at", number(1)), INDEX),
    (new_job, |row| set(row, "deadline", number(1)), INDEX),
    (running, |row| drop(row.remove("deadline")), INDEX),
    (completed, |row| set(row, "deadline", number(1)), INDEX),
    // Whose job it is, and when it was created, is in the keys of the other indexes.
    (new_job, |row| set(row, "task", text("task-1")), "a task without a tenant"),
    (new_job, |row| set(row, "task", text("A/B#task-1")), "a task of no tenant"),
    (new_job, |row| set(row, "task", text("u#task-1")), DAY),
    (new_job, |row| set(row, "day", text("t#2026-01-01")), DAY),
    // What is no value of its type.
    (new_job, |row| drop(row.remove("task")), "missing field `task`"),
    (new_job, |row| set(row, "webhook", text("ftp://h")), "must be an http:// or https:// URL"),
    (new_job, |row| set(row, "type", text("music")), "is not a content type"),
    (new_job, |row| set(row, "status", text("paused")), "unknown variant `paused`"),
    (new_job, |row| set(row, "priority", text("normal")), "unknown variant `normal`"),
    (new_job, |row| set(row, "continued_by", text("remote")), "unknown variant `remote`"),
    (new_job, |row| set(row, "rev", number(-1)), ""),
    (new_job, |row| set(row, "request", bytes(31)), ""),
    (running, |row| set(inside(row, "running"), "token", bytes(33)), ""),
    (running, |row| set(inside(row, "running"), "worker", text("a\nb")), "without control characters"),
    (failed, |row| set(attempt(row), "outcome", text("lost")), "unknown variant `lost`"),
];

const STATUS: &str = "the status and what belongs to it do not fit";
const LEASE: &str = "a lease is held by a token with a term or by an API key";
const OUTCOME: &str = "an attempt's outcome and what belongs to it do not fit";
const DAY: &str = "the day is not the one the job was created on";
const INDEX: &str = "the due index does not say what the state says";

#[tokio::test]
async fn what_no_transition_produces_is_not_read() {
    let place = Place::new().await;
    for (at, (make, tamper, expected)) in TAMPERINGS.iter().enumerate() {
        let job = place.created(make()).await;
        let mut row = place.row_of(&job).await;
        let before = row.clone();
        tamper(&mut row);
        assert_ne!(row, before, "change {at} changes nothing");
        place.put_row(row).await;
        let (kind, cause) = why(place.jobs.get(job.id).await);
        assert_eq!(kind, "unreadable", "change {at}: {cause}");
        assert!(cause.contains(expected), "change {at}: {cause}");
    }
}

#[tokio::test]
async fn what_is_in_the_way_of_a_write_is_checked_as_what_is_read() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    let mut row = place.row_of(&job).await;
    set(&mut row, "rev", number(0));
    place.put_row(row).await;
    let (kind, cause) = why(place.jobs.replace(&job, &claimed(&job, &native(1), at(1))).await);
    assert_eq!((kind, cause.as_str()), ("unreadable", "inconsistent job: revision 0"));
}

#[tokio::test]
async fn attributes_of_a_later_version_are_passed_over() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    let mut row = place.row_of(&job).await;
    set(&mut row, "colour", text("blue"));
    place.put_row(row).await;
    assert_eq!(place.read(&job).await, job);
}

fn running() -> Job {
    claimed(&new_job(), &native(1), at(1))
}

fn running_without_a_token() -> Job {
    claimed(&new_job(), &legacy(), at(1))
}

fn completed() -> Job {
    submitted(&running(), &native(1).0, success(), at(2))
}

fn failed() -> Job {
    submitted(&running(), &native(1).0, failure(false), at(2))
}

fn backing_off() -> Job {
    submitted(&running(), &native(1).0, failure(true), at(2))
}

fn timed_out() -> Job {
    let job = new_job();
    job.lapse(job.deadline().unwrap(), half()).unwrap()
}

fn cancelled() -> Job {
    running().cancel(false, at(2)).unwrap()
}

fn optioned() -> Job {
    job_with(|spec| spec.task_options = TaskOptions::Inline(r#"{"a":1}"#.to_owned()))
}

fn a_later_attempt(row: &mut Item) {
    let mut later = attempt(row).clone();
    set(&mut later, "outcome", text("released"));
    let Some(AttributeValue::L(attempts)) = row.get_mut("attempts") else { panic!("no attempts") };
    attempts.push(AttributeValue::M(later));
}

fn repeat_attempts(row: &mut Item, count: usize) {
    let attempts = vec![AttributeValue::M(attempt(row).clone()); count];
    set(row, "attempts", AttributeValue::L(attempts));
}

/// The last attempt of a row.
fn attempt(row: &mut Item) -> &mut Item {
    let Some(AttributeValue::L(attempts)) = row.get_mut("attempts") else { panic!("no attempts") };
    let Some(AttributeValue::M(attempt)) = attempts.last_mut() else { panic!("no attempt") };
    attempt
}

fn inside<'a>(row: &'a mut Item, name: &str) -> &'a mut Item {
    let Some(AttributeValue::M(inside)) = row.get_mut(name) else { panic!("no {name}") };
    inside
}

fn set(row: &mut Item, name: &str, value: AttributeValue) {
    row.insert(name.to_owned(), value);
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn bytes(count: usize) -> AttributeValue {
    AttributeValue::B(vec![7; count].into())
}

fn list<const N: usize>(values: [AttributeValue; N]) -> AttributeValue {
    AttributeValue::L(values.into())
}

fn map<const N: usize>(values: [(&str, AttributeValue); N]) -> AttributeValue {
    AttributeValue::M(values.map(|(name, value)| (name.to_owned(), value)).into())
}

/// What the original's ingestion asks for.
const OPTIONS: &str = r#"{"document_id":null,"replace_existing":false,"webhook_url":"","metadata":{},"use_docling":false,"chunk_size":null,"chunk_overlap":null,"chunking_strategy":null,"store_in_vector_db":true,"remote":true,"remote_timeout":null,"fallback_to_local":true}"#;

#[tokio::test]
async fn a_heartbeat_of_a_typical_job_writes_less_than_a_kilobyte() {
    let place = Place::new().await;
    let name = "2026-11-19 Quarterly all-hands meeting, second recording, final cut (1080p).mp4";
    let name = FileName::from_client(name);
    let worker = native(1);
    let job = job_with(|spec| {
        spec.ingestion_task_id = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
        spec.source.key = format!("sources/default/00000000-0000-0000-0000-000000000001/{name}");
        spec.source.name = name;
        spec.source.size_bytes = 1 << 30;
        spec.source.etag = format!("\"{}\"", "0".repeat(32));
        spec.source.sha256 = Some([1; 32]);
        spec.task_options = TaskOptions::Inline(OPTIONS.to_owned());
    });
    let job = place.created(Job { tenant: "default".parse().unwrap(), ..job }).await;
    let created = size(&place.row_of(&job).await);
    let claimed = place.replaced(&job, claimed(&job, &worker, at(1))).await;
    let progress = Progress { percentage: 50, message: "m".repeat(200), stage: None };
    let told = claimed.heartbeat(&worker.0, Some(progress), at(2)).unwrap().job;
    let told = place.replaced(&claimed, told).await;
    let running = size(&place.row_of(&job).await);
    let key = format!("results/default/{}/1-{}.json", job.id, "03".repeat(32));
    let result = ResultRef { key, size_bytes: 1 << 20, sha256: [3; 32] };
    let ended = submitted(&told, &worker.0, Submission::Completed(result), at(3));
    let ended = size(&place.row_of(&place.replaced(&told, ended).await).await);
    println!("bytes of a typical job's row: {created} created, {running} running, {ended} ended");
    assert!(running <= 1024, "{running} bytes");
}
