//! What DynamoDB charges, by its own count.

use api::result::ReleaseRequest;
use domain::Progress;
use serde_json::json;

use crate::{
    backend::other_dynamodb,
    support::{Held, Place, caller, failure, options, polling, progress, request, success},
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
    let mut request = request(&path);
    request.task_options = usual_options();
    request.ingestion_task_id = uuid::Uuid::now_v7().to_string();
    place.create(&caller(), &request, None).await.unwrap().job_id
}

async fn say(place: &Place, held: &Held) {
    let said = progress(50, &"m".repeat(200));
    place.report_progress(&caller(), &held.id, held.token(), &said).await.unwrap();
}

#[tokio::test]
async fn a_life_of_one_attempt_costs_seven_write_units() {
    let place = Place::new().await;
    let mut writes = Writes::from_now(&place);
    place.created().await;
    assert_eq!(writes.since(), 2.0, "created");
    let held = place.claim().await;
    assert_eq!(writes.since(), 3.0, "claimed");
    place.submit(&held, &success("text")).await.unwrap();
    assert_eq!(writes.since(), 2.0, "finished");
}

#[tokio::test]
async fn a_heartbeat_of_a_typical_job_costs_one_write_unit_and_three_when_it_renews_the_lease() {
    let place = Place::new().await;
    let id = typical(&place).await;
    let held = place.claim().await;
    assert_eq!(held.id, id);
    let mut writes = Writes::from_now(&place);
    say(&place, &held).await;
    assert_eq!(writes.since(), 3.0, "the first sign of life");
    for _ in 0..5 {
        place.pass(4);
        say(&place, &held).await;
        assert_eq!(writes.since(), 1.0, "a heartbeat after {} s", place.clock());
    }
    place.pass(1);
    say(&place, &held).await;
    assert_eq!(writes.since(), 3.0, "the renewal");
    let Progress { message, .. } = place.job(&id).await.progress.unwrap();
    assert_eq!(message.len(), 200);
}

#[tokio::test]
async fn a_typical_life_with_heartbeats_stays_below_ten_write_units_but_for_its_heartbeats() {
    let place = Place::new().await;
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
    place.status(&caller(), &held.id).await.unwrap();
    assert_eq!(place.store().meter.units().read - before, 2.0);
}
