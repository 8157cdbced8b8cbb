//! How soon a job starts that comes when every worker is idle.

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::JOBS;

use crate::{PATIENCE, programs::Scene, until};

/// How many jobs are measured, one after the other.
const JOBS_MEASURED: usize = 24;
/// What half of the jobs must start within.
const MEDIAN: Duration = Duration::from_secs(1);

fn milliseconds(job: &Value, later: &str, earlier: &str) -> i64 {
    let at = |pointer: &str| -> jiff::Timestamp {
        job.pointer(pointer).unwrap().as_str().unwrap().parse().unwrap()
    };
    at(later).duration_since(at(earlier)).as_millis().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_starts_within_a_second_although_nobody_polls_in_a_hurry() {
    let scene = Scene::start("x-own", "cat \"$1\"").await;
    let tenant = &scene.tenant;
    // The worker waits as soon as it was told twice that there is nothing; the second time until five minutes later.
    let poll = json!({"worker_id": "other", "content_types": ["x-own"], "hints": true});
    until("workers wait for hints", PATIENCE, async || {
        let answer = tenant.worker.post(&format!("{JOBS}/poll"), &poll).await.ok();
        (answer["poll_again_in_seconds"].as_u64()? >= 300 && answer["hint_url"].is_string()).then_some(())
    })
    .await;
    let mut waits = Vec::new();
    for _ in 0..JOBS_MEASURED {
        let id = tenant.job(&json!({"content_type": "x-own"})).await;
        let job = tenant.has_status(&id, "completed").await;
        waits.push(milliseconds(&job, "/attempts/0/started_at", "/created_at"));
    }
    waits.sort_unstable();
    let (median, most) = (waits[JOBS_MEASURED / 2], waits[JOBS_MEASURED - 1]);
    println!(
        "created to started over {JOBS_MEASURED} jobs: p50 {median} ms, p95 {} ms, most {most} ms",
        waits[JOBS_MEASURED * 95 / 100]
    );
    assert!(u128::try_from(median).unwrap() < MEDIAN.as_millis(), "{waits:?}");
    let log = scene.converter.log();
    let hinted = log.matches(r#""message":"hinted""#).count();
    assert!(hinted >= JOBS_MEASURED / 2, "{hinted} of {JOBS_MEASURED} by a hint: {log}");
    assert!(!log.contains("X-Amz-Signature"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_reaches_who_waits_for_that_type_and_nobody_else() {
    let scene = Scene::start("x-other", "cat \"$1\"").await;
    let tenant = &scene.tenant;
    let place = async |content_types: &[&str]| {
        let poll = json!({"worker_id": "other", "content_types": content_types, "hints": true});
        let answer = tenant.worker.post(&format!("{JOBS}/poll"), &poll).await.ok();
        answer["hint_url"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let (audio, video) = (place(&["audio"]).await, place(&["video"]).await);
    tenant.job(&json!({})).await;
    let (heard, not) = tokio::join!(tenant.worker.get(&audio), tenant.worker.get(&video));
    assert_eq!((heard.status, not.status), (200, 200), "{} {}", heard.text(), not.text());
    assert!(heard.text().contains("MessageId"), "{}", heard.text());
    assert!(!not.text().contains("MessageId"), "{}", not.text());
}
