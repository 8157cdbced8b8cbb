//! Idle workers wait for hints: who is woken by what, and who is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test meets unexpectedly is a failed test")]

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{Called, Functions, JOBS, Seen, sha256_hex};

const NONE: Value = Value::Null;

/// What a worker of these types is answered that can wait for hints.
async fn poll(functions: &Functions, content_types: &[&str]) -> Value {
    poll_with(functions, content_types, &json!({"hints": true})).await.ok()
}

async fn poll_with(functions: &Functions, content_types: &[&str], fields: &Value) -> Called {
    let mut request = json!({"worker_id": "gpu-1", "content_types": content_types});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    functions.call("POST", &format!("{JOBS}/poll"), "", &request).await
}

/// Where a worker waits that has found nothing.
async fn place(functions: &Functions, content_types: &[&str]) -> String {
    let answer = poll(functions, content_types).await;
    assert!(answer["job_id"].is_null(), "{answer}");
    answer["hint_url"].as_str().unwrap().to_owned()
}

/// Uploads a file and creates a job of it.
async fn create(functions: &Functions, content_type: &str, fields: &Value) -> Called {
    let file = json!({"filename": "a.bin", "size_bytes": 5, "sha256": sha256_hex(b"bytes")});
    let upload = functions.call("POST", &format!("{JOBS}/uploads"), "", &file).await.ok();
    functions.presigned(&upload["put"], b"bytes").await;
    let mut job = json!({
        "source_file_path": upload["source_file_path"], "content_type": content_type, "ingestion_task_id": "t",
    });
    job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    functions.call("POST", JOBS, "", &job).await
}

/// Takes the next job, which there must be: its path, and its lease.
async fn claim(functions: &Functions, content_type: &str) -> (String, String) {
    let answer = poll(functions, &[content_type]).await;
    let id = answer["job_id"].as_str().unwrap();
    (format!("{JOBS}/{id}"), answer["lease_token"].as_str().unwrap().to_owned())
}

fn queue_calls(seen: &[Seen]) -> Vec<&str> {
    let of_queues = |seen: &&Seen| matches!(seen.operation.as_str(), "CreateQueue" | "SendMessage");
    seen.iter().filter(of_queues).map(|seen| seen.operation.as_str()).collect()
}

#[tokio::test]
async fn a_job_that_is_created_wakes_one_worker_of_each_class_that_serves_it() {
    let functions = Functions::new().await;
    let both = place(&functions, &["image", "audio"]).await;
    let same = place(&functions, &["audio", "image"]).await;
    let audio = place(&functions, &["audio"]).await;
    let video = place(&functions, &["video"]).await;
    assert_eq!(functions.queues.names().len(), 3, "{:?}", functions.queues.names());
    assert!(functions.queues.names().iter().all(|name| name.starts_with("stack-hints-") && name.len() <= 80));
    create(&functions, "audio", &json!({})).await.ok();
    assert_eq!(functions.queues.received(&same), 1);
    assert_eq!(functions.queues.received(&both), 0, "it is the same queue, and a hint is for one worker");
    assert_eq!(functions.queues.received(&audio), 1);
    assert_eq!(functions.queues.received(&video), 0, "it may not do that job");
}

#[tokio::test]
async fn no_hint_crosses_tenants() {
    let functions = Functions::new().await;
    let ours = place(&functions, &["audio"]).await;
    let theirs = place(&functions.of_tenant("other").await, &["audio"]).await;
    create(&functions, "audio", &json!({})).await.ok();
    assert_eq!((functions.queues.received(&theirs), functions.queues.received(&ours)), (0, 1));
}

#[tokio::test]
async fn a_worker_that_waits_is_asked_back_late_and_one_that_cannot_is_answered_as_before() {
    let functions = Functions::new().await;
    let first = poll(&functions, &["audio"]).await;
    // The index may not tell yet of what became due before the place was known.
    assert_eq!(
        (&first["poll_again_in_seconds"], &first["hint_url_expires_in_seconds"]),
        (&10.into(), &900.into())
    );
    assert_eq!(poll(&functions, &["audio"]).await["poll_again_in_seconds"], 300);
    let plain = poll_with(&functions, &["audio"], &json!({})).await.ok();
    let mut fields: Vec<&String> = plain.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        ["content_type", "job_id", "poll_again_in_seconds", "source_file_url", "task_options"]
    );
    assert_eq!(plain["poll_again_in_seconds"], 10);
    // A client of the original system is given nothing that it does not know, whatever it asks for.
    let query = format!("{JOBS}/poll?worker_id=w&content_types=audio&hints=true&idle_seconds=900");
    let original = functions.call("GET", &query, "", &NONE).await.ok();
    assert_eq!(original.as_object().unwrap().len(), 4, "{original}");
}

#[tokio::test]
async fn a_worker_without_hints_is_asked_back_after_a_tenth_of_its_idleness_and_within_a_minute() {
    let functions = Functions::new().await;
    for (idle, again) in [(0, 10), (99, 10), (250, 25), (600, 60), (1_000_000, 60)] {
        let answer = poll_with(&functions, &["audio"], &json!({"idle_seconds": idle})).await.ok();
        assert_eq!(answer["poll_again_in_seconds"], again, "idle for {idle} s");
    }
}

#[tokio::test]
async fn the_place_is_made_and_written_when_it_is_new_or_old_and_not_at_every_poll() {
    let functions = Functions::new().await;
    let asked = async || {
        let called = poll_with(&functions, &["audio"], &json!({"hints": true})).await;
        let of_a_place = |seen: &&Seen| seen.operation == "PutItem" && seen.body.contains("hints#");
        let written = called.seen.iter().filter(of_a_place).count();
        (queue_calls(&called.seen).len(), written)
    };
    assert_eq!(asked().await, (1, 1));
    assert_eq!(asked().await, (0, 0));
    functions.world.advance(Duration::from_secs(300));
    assert_eq!(asked().await, (0, 0), "it is live for long enough still");
    functions.world.advance(Duration::from_secs(300));
    assert_eq!(asked().await, (1, 1));
}

#[tokio::test]
async fn nobody_is_hinted_who_has_not_asked_for_long() {
    let functions = Functions::new().await;
    let place = place(&functions, &["audio"]).await;
    functions.world.advance(Duration::from_secs(901));
    let created = create(&functions, "audio", &json!({})).await;
    assert_eq!(queue_calls(&created.seen), Vec::<&str>::new());
    assert_eq!(functions.queues.received(&place), 0);
}

#[tokio::test]
async fn at_most_eight_classes_of_a_tenant_wait_and_others_poll() {
    let functions = Functions::new().await;
    for number in 0..8 {
        place(&functions, &[&format!("x-{number}")]).await;
    }
    let ninth = poll_with(&functions, &["x-8"], &json!({"hints": true, "idle_seconds": 300})).await.ok();
    assert!(ninth.get("hint_url").is_none(), "{ninth}");
    assert_eq!(ninth["poll_again_in_seconds"], 30);
    assert_eq!(functions.queues.names().len(), 8);
    functions.world.advance(Duration::from_secs(901));
    place(&functions, &["x-8"]).await;
}

#[tokio::test]
async fn a_worker_with_room_for_several_jobs_takes_as_many_hints_at_once() {
    let functions = Functions::new().await;
    let fields = json!({"hints": true, "max_jobs": 3});
    let answer = poll_with(&functions, &["audio"], &fields).await.ok();
    let place = answer["hint_url"].as_str().unwrap();
    for _ in 0..4 {
        create(&functions, "audio", &json!({})).await.ok();
    }
    assert_eq!((functions.queues.received(place), functions.queues.received(place)), (3, 1));
}

#[tokio::test]
async fn a_short_backoff_is_hinted_at_when_it_ends_and_a_long_one_by_the_sweep_after_it() {
    let functions = Functions::new().await;
    let place = place(&functions, &["video", "audio"]).await;
    create(&functions, "audio", &json!({})).await.ok();
    assert_eq!(functions.queues.received(&place), 1);
    let failed = json!({"success": false, "error_message": "no", "retryable": true});
    // Backoffs are as long as they can be here: 30 seconds, a minute, two minutes.
    for backoff in [30, 60] {
        let (path, lease) = claim(&functions, "audio").await;
        functions.call("PUT", &format!("{path}/result"), &lease, &failed).await.ok();
        functions.world.advance(Duration::from_secs(backoff - 1));
        assert_eq!(functions.queues.received(&place), 0, "before {backoff} s");
        functions.world.advance(Duration::from_secs(2));
        assert_eq!(functions.queues.received(&place), 1, "after {backoff} s");
    }
    let (path, lease) = claim(&functions, "audio").await;
    let submitted = functions.call("PUT", &format!("{path}/result"), &lease, &failed).await;
    assert_eq!(queue_calls(&submitted.seen), Vec::<&str>::new(), "no queue keeps a hint for two minutes");
    functions.sweep().await;
    assert_eq!(functions.queues.received(&place), 0, "it is not due yet");
    functions.world.advance(Duration::from_secs(121));
    functions.sweep().await;
    assert_eq!(functions.queues.received(&place), 1);
    claim(&functions, "audio").await;
}

#[tokio::test]
async fn a_sweep_gives_hints_again_of_what_waits_but_for_paused_queues() {
    let functions = Functions::new().await;
    let audio = place(&functions, &["audio"]).await;
    let video = place(&functions, &["video"]).await;
    functions.queues.set_down(true);
    for _ in 0..12 {
        create(&functions, "audio", &json!({})).await.ok();
    }
    create(&functions, "video", &json!({})).await.ok();
    functions.queues.set_down(false);
    functions.call("POST", "/api/v1/queues/video/pause", "", &json!({})).await.ok();
    assert_eq!(functions.queues.received(&audio), 0);
    assert!(functions.sweep().await.0.complete);
    let received = (0..20).map(|_| functions.queues.received(&audio)).sum::<usize>();
    assert_eq!((received, functions.queues.received(&video)), (10, 0));
    functions.call("POST", "/api/v1/queues/video/resume", "", &json!({})).await.ok();
    assert_eq!(functions.queues.received(&video), 1, "who resumes a queue wakes its workers");
}

#[tokio::test]
async fn a_sweep_hints_last_and_one_tenants_queue_that_takes_none_keeps_none_from_the_others() {
    let functions = Functions::new().await;
    let mut tenants = Vec::new();
    for name in ["a", "b", "c"] {
        let tenant = functions.of_tenant(name).await;
        let place = place(&tenant, &["audio"]).await;
        create(&tenant, "audio", &json!({})).await.ok();
        assert_eq!(functions.queues.received(&place), 1);
        tenants.push(place);
    }
    for broken in &tenants[..2] {
        functions.queues.break_queue(broken);
    }
    let (swept, seen, _) = functions.sweep().await;
    assert!(swept.complete);
    assert_eq!(functions.queues.received(&tenants[2]), 1);
    let writes = |seen: &Seen| matches!(seen.operation.as_str(), "PutItem" | "UpdateItem");
    let first_hint = seen.iter().position(|seen| seen.operation == "SendMessage").unwrap();
    assert!(seen.iter().any(writes) && !seen[first_hint..].iter().any(writes), "a slow SQS costs no record");
}

#[tokio::test]
async fn a_worker_that_has_a_place_asks_again_before_that_is_over_however_late_others_do() {
    let mut functions = Functions::new().await;
    functions.poll_again = Duration::from_secs(3600);
    for when in ["it is new", "it is known"] {
        assert_eq!(poll(&functions, &["audio"]).await["poll_again_in_seconds"], 300, "{when}");
    }
    let plain = poll_with(&functions, &["audio"], &json!({})).await.ok();
    assert_eq!(plain["poll_again_in_seconds"], 3600);
}

#[tokio::test]
async fn what_a_sweep_takes_from_a_dead_worker_wakes_another() {
    let functions = Functions::new().await;
    create(&functions, "audio", &json!({})).await.ok();
    claim(&functions, "audio").await;
    let place = place(&functions, &["audio"]).await;
    functions.world.advance(Duration::from_secs(90));
    assert_eq!(functions.sweep().await.0.returned, 1);
    assert!(functions.queues.received(&place) >= 1);
}

#[tokio::test]
async fn hints_that_cannot_be_given_fail_no_call() {
    let functions = Functions::new().await;
    functions.queues.set_down(true);
    let answer = poll(&functions, &["audio"]).await;
    assert!(answer.get("hint_url").is_none() && answer["poll_again_in_seconds"] == 10, "{answer}");
    functions.queues.set_down(false);
    place(&functions, &["audio"]).await;
    functions.queues.set_down(true);
    let created = create(&functions, "audio", &json!({})).await;
    assert!(queue_calls(&created.seen).contains(&"SendMessage"));
    assert_eq!(created.ok()["status"], "pending");
    assert!(functions.sweep().await.0.complete);
    let (path, lease) = claim(&functions, "audio").await;
    functions.call("POST", &format!("{path}/release"), &lease, &json!({})).await.ok();
}

#[tokio::test]
async fn what_an_idle_worker_and_a_job_cost() {
    let functions = Functions::new().await;
    place(&functions, &["audio", "video"]).await;
    // As every other poll of such a worker, this is none at which it is noted.
    let idle = poll_with(&functions, &["audio", "video"], &json!({"hints": true, "idle_seconds": 300})).await;
    // The key, the tenant's hints, and for each type what returns and what waits.
    assert_eq!((idle.units.read, idle.units.write), (1.0 + 1.0 + 2.0, 0.0));
    let created = create(&functions, "audio", &json!({})).await;
    let hints = created.seen.iter().filter(|seen| seen.operation == "GetItem").count();
    assert_eq!((hints, queue_calls(&created.seen)), (2, vec!["SendMessage"]), "the key and the hints");
}
