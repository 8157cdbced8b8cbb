//! What DynamoDB charges, by its own count.

use std::collections::HashMap;

use api::{
    create::CreateJobRequest, list::ListRequest, poll::PollRequest, result::ReleaseRequest,
    statistics::StatisticsRequest, status::StatusRequest, workers::ListWorkersRequest,
};
use aws_sdk_dynamodb::types::AttributeValue;
use domain::Progress;
use serde_json::json;

use crate::{
    backend::other_dynamodb,
    support::{Held, Place, caller, failure, options, polling, polling_as, progress, request, success},
};

/// What the original's ingestion asks for.
fn usual_options() -> serde_json::Map<String, serde_json::Value> {
    options(json!({
        "document_id": null, "replace_existing": false, "webhook_url": "", "metadata": {},
        "use_docling": false, "chunk_size": null, "chunk_overlap": null, "chunking_strategy": null,
        "store_in_vector_db": true, "remote": true, "remote_timeout": null, "fallback_to_local": true,
    }))
}

const LONG_NAME: &str = "2026-11-19 Quarterly all-hands meeting, second recording, final cut (1080p).pdf";

/// A counter of what each next thing costs in write units.
struct Writes<'a>(&'a Place, f64);

impl<'a> Writes<'a> {
    fn from_now(place: &'a Place) -> Self {
        Self(place, place.store().meter.units().write)
    }

    fn since(&mut self) -> f64 {
        let now = self.0.store().meter.units().write;
        let spent = now - self.1;
        self.1 = now;
        spent
    }
}

/// A job as the original's ingestion creates it.
async fn typical(place: &Place) -> String {
    let path = place.uploaded(LONG_NAME).await;
    place.create(&caller(), &typical_request(&path), None).await.unwrap().job_id
}

fn typical_request(path: &str) -> CreateJobRequest {
    CreateJobRequest {
        task_options: usual_options(),
        ingestion_task_id: uuid::Uuid::now_v7().to_string(),
        ..request(path)
    }
}

async fn say(place: &Place, held: &Held) {
    let said = progress(50, &"m".repeat(200));
    place.report_progress(&caller(), &held.id, held.token(), &said).await.unwrap();
}

#[tokio::test]
async fn a_life_of_one_attempt_costs_ten_write_units() {
    let place = Place::with_known_worker().await;
    let mut writes = Writes::from_now(&place);
    // The second of them counts in a row that is there.
    for _ in 0..2 {
        place.created().await;
        assert_eq!(writes.since(), 4.0, "created: the row and three indexes");
        let held = place.claim().await;
        assert_eq!(writes.since(), 3.0, "claimed: the row, and one entry of an index in place of another");
        place.submit(&held, &success("text")).await.unwrap();
        assert_eq!(writes.since(), 3.0, "finished: the row, an entry less, and the statistics");
    }
}

#[tokio::test]
async fn priorities_cost_nothing() {
    use api::create::PriorityName::{High, Low, Normal};
    let place = Place::with_known_worker().await;
    let mut lives = Vec::new();
    for priority in [High, Normal, Low] {
        let before = place.store().meter.units();
        let id = place.created_with(|request| request.priority = Some(priority)).await;
        let held = place.claim().await;
        assert_eq!(held.id, id);
        place.submit(&held, &success("text")).await.unwrap();
        let after = place.store().meter.units();
        lives.push((after.write - before.write, after.read - before.read));
    }
    assert!(lives.iter().all(|life| *life == lives[0]) && lives[0].0 == 10.0, "{lives:?}");
}

#[tokio::test]
async fn a_heartbeat_of_a_typical_job_costs_one_write_unit_and_three_when_it_renews_the_lease() {
    let place = Place::new().await;
    let id = typical(&place).await;
    let held = place.claim().await;
    assert_eq!(held.id, id);
    heartbeats(&place, &held).await;
    let Progress { message, .. } = place.job(&id).await.progress.unwrap();
    assert_eq!(message.len(), 200);
}

async fn heartbeats(place: &Place, held: &Held) {
    let mut writes = Writes::from_now(place);
    say(place, held).await;
    assert_eq!(writes.since(), 3.0, "the first sign of life");
    for _ in 0..5 {
        place.pass(4);
        say(place, held).await;
        assert_eq!(writes.since(), 1.0, "a heartbeat after {} s", place.clock());
    }
    place.pass(1);
    say(place, held).await;
    assert_eq!(writes.since(), 3.0, "the renewal");
}

/// What a row weighs, by DynamoDB's rules.
fn weight(item: &HashMap<String, AttributeValue>) -> usize {
    item.iter().map(|(name, value)| name.len() + weight_of(value)).sum()
}

fn weight_of(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::N(number) => number.len().div_ceil(2) + 1,
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + weight_of(value)).sum::<usize>(),
        AttributeValue::M(item) => 3 + item.len() + weight(item),
        _ => 1,
    }
}

#[tokio::test]
async fn a_typical_row_stays_below_a_kilobyte() {
    let place = Place::new().await;
    let id = typical(&place).await;
    let held = place.claim().await;
    say(&place, &held).await;
    let row = async || {
        let key = AttributeValue::S(format!("job#{id}"));
        let got = place.raw().get_item().table_name(&place.backend.connection.table).key("pk", key);
        weight(&got.send().await.unwrap().item.unwrap())
    };
    let running = row().await;
    place.submit(&held, &success("text")).await.unwrap();
    let ended = row().await;
    println!("bytes of a typical job's row: {running} while it runs, {ended} with its result");
    assert!(running <= 1024 && ended <= 1024, "{running} and {ended}");
}

#[tokio::test]
async fn a_webhook_and_an_idempotency_key_make_no_heartbeat_dearer() {
    let place = Place::new().await;
    let path = place.uploaded(LONG_NAME).await;
    let mut wanted = typical_request(&path);
    wanted.webhook_url = Some("https://ingest.example.org/api/v1/remote-jobs/webhook".parse().unwrap());
    place.create(&caller(), &wanted, Some("ingestion-task-0193a5c2-report")).await.unwrap();
    let held = place.claim().await;
    heartbeats(&place, &held).await;
}

#[tokio::test]
async fn a_typical_life_with_heartbeats_stays_below_ten_write_units_but_for_its_heartbeats() {
    let place = Place::with_known_worker().await;
    let mut writes = Writes::from_now(&place);
    typical(&place).await;
    let held = place.claim().await;
    let mut life = writes.since();
    say(&place, &held).await;
    writes.since();
    place.submit(&held, &success("text")).await.unwrap();
    life += writes.since();
    println!("write units of a typical life without its heartbeats: {life}");
    assert!(life <= 10.0, "{life}");
}

#[tokio::test]
async fn what_ends_an_attempt_without_ending_the_job_costs_three_write_units() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let mut writes = Writes::from_now(&place);
    place.release(&caller(), &held.id, held.token(), &ReleaseRequest::default()).await.unwrap();
    assert_eq!(writes.since(), 3.0, "released");
    let held = place.claim().await;
    assert_eq!(writes.since(), 3.0, "claimed again");
    place.submit(&held, &failure(true)).await.unwrap();
    // The end of the backoff is in another part of the same index.
    assert_eq!(writes.since(), 3.0, "failed");
}

#[tokio::test]
async fn a_poll_that_finds_nothing_costs_one_read_unit_for_each_type() {
    let place = Place::new().await;
    for (types, units) in
        [("document", 1.0), ("audio,video", 2.0), ("audio,video,document,image,web,youtube", 6.0)]
    {
        // The first poll of a worker is noted.
        place.poll(&caller(), &polling(types), true).await.unwrap();
        let before = place.store().meter.units();
        place.poll(&caller(), &polling(types), true).await.unwrap();
        let after = place.store().meter.units();
        // DynamoDB Local counts nothing for a query that finds nothing; AWS, as the embedded engine, half a unit.
        let units = if other_dynamodb().is_some() { 0.0 } else { units };
        assert_eq!((after.read - before.read, after.write), (units, before.write), "{types}");
    }
}

#[tokio::test]
async fn a_call_reads_the_job_once() {
    let place = Place::new().await;
    let held = place.claimed().await;
    let before = place.store().meter.units().read;
    say(&place, &held).await;
    assert_eq!(place.store().meter.units().read - before, 1.0);
    place.status(&caller(), &held.id, StatusRequest::default()).await.unwrap();
    // 14 days of history, of which DynamoDB Local counts nothing when nothing is there.
    let history = if other_dynamodb().is_some() { 0.0 } else { 7.0 };
    assert_eq!(place.store().meter.units().read - before, 2.0 + history);
    for _ in 0..3 {
        place.status(&caller(), &held.id, StatusRequest::default()).await.unwrap();
    }
    assert_eq!(place.store().meter.units().read - before, 5.0 + history, "history is good for a minute");
}

#[tokio::test]
async fn a_page_of_a_list_costs_a_read_unit_for_each_job_and_little_more() {
    let place = Place::new().await;
    for _ in 0..60 {
        typical(&place).await;
    }
    let before = place.store().meter.units();
    let page = place.list(&caller(), &ListRequest::default()).await.unwrap();
    let after = place.store().meter.units();
    assert_eq!((page.jobs.len(), page.cursor.is_some()), (50, true));
    let read = after.read - before.read;
    println!("read units of a page of 50 jobs: {read}");
    assert!(read <= 52.0 && after.write == before.write, "{read}");
}

#[tokio::test]
async fn statistics_of_a_tenant_with_nothing_cost_less_than_fifty_read_units() {
    let place = Place::new().await;
    let before = place.store().meter.units();
    place.statistics(&caller(), &Default::default()).await.unwrap();
    let after = place.store().meter.units();
    let read = after.read - before.read;
    println!("read units of the statistics of the six known types: {read}");
    assert!(read < 50.0 && after.write == before.write, "{read}");
}

#[tokio::test]
async fn statistics_of_one_type_cost_ten_read_units() {
    let place = Place::new().await;
    let before = place.store().meter.units();
    let request = StatisticsRequest { content_type: Some("audio".parse().unwrap()) };
    place.statistics(&caller(), &request).await.unwrap();
    let after = place.store().meter.units();
    let read = after.read - before.read;
    println!("read units of the statistics of one type: {read}");
    assert!(read <= 10.0 && after.write == before.write, "{read}");
}

#[tokio::test]
async fn a_worker_costs_two_write_units_when_it_is_new_and_then_one_now_and_again() {
    let place = Place::new().await;
    let mut writes = Writes::from_now(&place);
    for native in [true, false] {
        let request = PollRequest { worker_id: format!("native: {native}"), ..polling("document,audio") };
        let poll = async || drop(place.poll(&caller(), &request, native).await.unwrap());
        poll().await;
        assert_eq!(writes.since(), 2.0, "the row, and its entry in an index");
        for _ in 0..5 {
            place.pass(11);
            poll().await;
            assert_eq!(writes.since(), 0.0, "it was noted less than a minute ago");
        }
        place.pass(5);
        poll().await;
        assert_eq!(writes.since(), 1.0, "the row");
    }
    // The index is written anew once a day: one entry less, another one more.
    place.pass(24 * 3600);
    place.poll(&caller(), &polling("document"), true).await.unwrap();
    writes.since();
    place.pass(24 * 3600);
    place.poll(&caller(), &polling("document"), true).await.unwrap();
    assert_eq!(writes.since(), 3.0);
}

#[tokio::test]
async fn a_list_of_workers_costs_half_a_read_unit_for_each_and_one_for_each_job_that_runs() {
    let place = Place::new().await;
    for at in 0..100 {
        place.poll(&caller(), &polling_as(&format!("worker-{at}"), "document"), true).await.unwrap();
    }
    place.created().await;
    place.poll(&caller(), &polling_as("worker-0", "document"), true).await.unwrap();
    let before = place.store().meter.units();
    let known = place.list_workers(&caller(), &ListWorkersRequest::default()).await.unwrap();
    let after = place.store().meter.units();
    assert_eq!((known.workers.len(), known.workers[0].running_jobs.len()), (100, 1));
    let read = after.read - before.read;
    println!("read units of a list of 100 workers, of which one runs a job: {read}");
    assert!(read <= 55.0 && after.write == before.write, "{read}");
    // A longer list is good for some seconds, because somebody may ask before each job.
    place.poll(&caller(), &polling_as("one more", "document"), true).await.unwrap();
    for (passed, is_read) in [(0, true), (9, false), (1, true)] {
        place.pass(passed);
        let before = place.store().meter.units().read;
        place.list_workers(&caller(), &ListWorkersRequest::default()).await.unwrap();
        assert_eq!(place.store().meter.units().read > before, is_read, "after {passed} s more");
    }
}
