//! `POST /`: a new job.

use std::time::Duration;

use api::create::{CreateJobRequest, PriorityName};
use domain::{ContentType, Limits, Priority, TaskOptions};
use serde_json::{Map, Value, json};
use store::StorageKey;

use crate::support::{
    Place, at, caller, caller_of, field, full_problem, options, polling, problem, request, sha256, success,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_new_job_waits_for_a_worker_with_the_usual_limits() {
    let place = Place::new().await;
    place.pass(5);
    let path = place.uploaded("report.pdf").await;
    let created = place.create(&caller(), &request(&path), None).await.unwrap();
    assert_eq!((created.status.as_str(), created.created_at), ("pending", at(5)));
    let job = place.job(&created.job_id).await;
    assert_eq!(
        job.spec.limits,
        Limits { queue: DAY, run: Duration::from_secs(600), total: None, max_retries: 3 }
    );
    assert_eq!((job.spec.priority, job.spec.request_hash), (Priority::Normal, None));
    assert_eq!(job.spec.task_options, TaskOptions::Inline("{}".to_owned()));
    assert_eq!(job.spec.source.key, path);
    assert_eq!((job.spec.source.size_bytes, job.spec.source.sha256), (5, Some(sha256(b"bytes"))));
    assert_eq!((job.tenant.as_str(), job.spec.ingestion_task_id.as_str()), ("t", "task-1"));
}

#[tokio::test]
async fn a_job_has_what_its_request_asks_for() {
    let place = Place::new().await;
    for (name, priority) in [
        (PriorityName::High, Priority::High),
        (PriorityName::Normal, Priority::Normal),
        (PriorityName::Low, Priority::Low),
    ] {
        let id = place
            .created_with(|request| {
                request.timeout_seconds = Some(24 * 3600);
                request.queue_timeout_seconds = Some(30 * 24 * 3600);
                request.total_timeout_seconds = Some(1);
                request.max_retries = Some(20);
                request.priority = Some(name);
                request.task_options = options(json!({"language": "de"}));
            })
            .await;
        let job = place.job(&id).await;
        let total = Some(Duration::from_secs(1));
        assert_eq!(job.spec.limits, Limits { queue: 30 * DAY, run: DAY, total, max_retries: 20 });
        assert_eq!(job.spec.priority, priority);
        assert_eq!(job.spec.task_options, TaskOptions::Inline(r#"{"language":"de"}"#.to_owned()));
    }
}

#[tokio::test]
async fn a_job_whose_caller_would_convert_locally_waits_five_minutes_unless_it_says_otherwise() {
    let place = Place::new().await;
    for (fallback, asked, seconds) in
        [(Some(true), None, 300), (Some(false), None, 24 * 3600), (Some(true), Some(7), 7)]
    {
        let id = place
            .created_with(|request| {
                request.fallback_to_local = fallback;
                request.queue_timeout_seconds = asked;
            })
            .await;
        assert_eq!(place.job(&id).await.spec.limits.queue, Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn one_attempt_runs_as_long_as_the_setting_of_its_type_says() {
    let place = Place::new().await;
    for (name, seconds) in [("document", 600), ("audio", 1800), ("x-own", 1800)] {
        let id = place.created_with(|request| request.content_type = name.parse().unwrap()).await;
        assert_eq!(place.job(&id).await.spec.limits.run, Duration::from_secs(seconds), "{name}");
    }
}

#[tokio::test]
async fn spans_and_retries_have_bounds() {
    let place = Place::new().await;
    let good = place.request().await;
    let refused = async |change: fn(&mut CreateJobRequest)| {
        let mut bad = good.clone();
        change(&mut bad);
        problem(place.create(&caller(), &bad, None).await)
    };
    let run = field("timeout_seconds", "must be 1 to 86400 seconds");
    assert_eq!(refused(|r| r.timeout_seconds = Some(0)).await, run);
    assert_eq!(refused(|r| r.timeout_seconds = Some(86_401)).await, run);
    let queue = field("queue_timeout_seconds", "must be 1 to 2592000 seconds");
    assert_eq!(refused(|r| r.queue_timeout_seconds = Some(0)).await, queue);
    assert_eq!(refused(|r| r.queue_timeout_seconds = Some(2_592_001)).await, queue);
    let total = field("total_timeout_seconds", "must be 1 to 2592000 seconds");
    assert_eq!(refused(|r| r.total_timeout_seconds = Some(0)).await, total);
    assert_eq!(refused(|r| r.total_timeout_seconds = Some(2_592_001)).await, total);
    let retries = field("max_retries", "must be 0 to 20");
    assert_eq!(refused(|r| r.max_retries = Some(21)).await, retries);
    assert_eq!(refused(|r| r.max_retries = Some(u64::MAX)).await, retries);
    let task = field("ingestion_task_id", "must be 1 to 255 characters without control characters");
    assert_eq!(refused(|r| r.ingestion_task_id = "ä".repeat(256)).await, task);
    assert_eq!(refused(|r| r.ingestion_task_id = "a\nb".to_owned()).await, task);
    let long = place.created_with(|r| r.ingestion_task_id = "ä".repeat(255)).await;
    assert_eq!(place.job(&long).await.spec.ingestion_task_id.chars().count(), 255);
}

#[tokio::test]
async fn only_an_uploaded_file_of_the_tenants_own_is_taken() {
    let place = Place::new().await;
    let never = StorageKey::Source {
        tenant: "t".parse().unwrap(),
        upload: uuid::Uuid::from_u128(7),
        name: domain::FileName::from_client("a.pdf"),
    };
    let foreign = place.uploaded_by("u", "a.pdf").await;
    let id = place.created_with(|r| r.task_options = options(json!({"long": "x".repeat(999)}))).await;
    let own_options = format!("options/t/{id}.json");
    for path in ["", "report.pdf", "../a", &never.to_string(), &foreign, &own_options] {
        assert_eq!(
            problem(place.create(&caller(), &request(path), None).await),
            field(
                "source_file_path",
                "names no uploaded file; name the source_file_path that POST /uploads answered, after uploading to it"
            ),
            "{path}"
        );
    }
}

#[tokio::test]
async fn large_task_options_are_kept_beside_the_row_and_handed_on_unchanged() {
    let place = Place::new().await;
    // `{"o":"…"}` has 8 characters besides the text.
    for (length, stored) in [(248, false), (249, true), (100_000, true)] {
        let wanted = options(json!({"o": "x".repeat(length)}));
        let id = place.created_with(|request| request.task_options = wanted.clone()).await;
        let kept = matches!(place.job(&id).await.spec.task_options, TaskOptions::Stored);
        assert_eq!(kept, stored, "{length}");
        let answer = place.poll(&caller(), &polling("document"), true).await.unwrap();
        assert_eq!((answer.job_id, answer.task_options), (Some(id), Some(wanted)));
    }
}

#[tokio::test]
async fn task_options_have_a_bound() {
    let place = Place::new().await;
    let mut most = place.request().await;
    most.task_options = options(json!({"o": "x".repeat((256 << 10) - 8)}));
    let mut more = most.clone();
    more.task_options = options(json!({"o": "x".repeat((256 << 10) - 7)}));
    assert!(place.create(&caller(), &most, None).await.is_ok());
    assert_eq!(
        problem(place.create(&caller(), &more, None).await),
        field("task_options", "must be at most 256 KiB of JSON")
    );
}

#[tokio::test]
async fn without_an_idempotency_key_every_creation_is_another_job() {
    let place = Place::new().await;
    let request = place.request().await;
    let first = place.create(&caller(), &request, None).await.unwrap();
    let second = place.create(&caller(), &request, None).await.unwrap();
    assert_ne!(first.job_id, second.job_id);
}

#[tokio::test]
async fn the_same_request_under_the_same_idempotency_key_is_the_same_job() {
    let place = Place::new().await;
    let mut request = place.request().await;
    request.task_options = options(json!({"o": "x".repeat(999)}));
    let first = place.create(&caller(), &request, Some("key 1")).await.unwrap();
    // Also after the clock went on, from another upload of the same file, and once the job has ended.
    place.pass(60);
    request.source_file_path = place.uploaded("report.pdf").await;
    let second = place.create(&caller(), &request, Some("key 1")).await.unwrap();
    assert_eq!((&second.job_id, &second.created_at), (&first.job_id, &at(0)));
    let held = place.claim().await;
    place.submit(&held, &success("text")).await.unwrap();
    let third = place.create(&caller(), &request, Some("key 1")).await.unwrap();
    assert_eq!((&third.job_id, third.status.as_str()), (&first.job_id, "completed"));
    assert_eq!(place.try_claim().await, None);
}

#[tokio::test]
async fn options_in_another_order_are_the_same_request() {
    let place = Place::new().await;
    let mut request = place.request().await;
    let spelled = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
    request.task_options = spelled(r#"{"b": [{"y": 1, "x": 2}], "a": {"d": 3, "c": 4}}"#);
    let first = place.create(&caller(), &request, Some("k")).await.unwrap();
    request.task_options = spelled(r#"{"a": {"c": 4, "d": 3}, "b": [{"x": 2, "y": 1}]}"#);
    assert_eq!(place.create(&caller(), &request, Some("k")).await.unwrap().job_id, first.job_id);
}

#[tokio::test]
async fn another_request_under_the_same_idempotency_key_is_refused() {
    let place = Place::new().await;
    let first = place.request().await;
    let id = place.create(&caller(), &first, Some("k")).await.unwrap().job_id;
    let mut second = first.clone();
    second.task_options = options(json!({"language": "de"}));
    let mismatch = (
        422,
        "idempotency-mismatch".to_owned(),
        format!("This Idempotency-Key created job {id} by another request; use a new key for a new job."),
    );
    assert_eq!(full_problem(place.create(&caller(), &second, Some("k")).await), mismatch);
    // Of another tenant, or under another key, it is another job.
    let other = request(&place.uploaded_by("u", "report.pdf").await);
    assert_ne!(place.create(&caller_of("u", "k"), &other, Some("k")).await.unwrap().job_id, id);
    assert_ne!(place.create(&caller(), &second, Some("l")).await.unwrap().job_id, id);
}

#[tokio::test]
async fn a_repeated_creation_is_answered_also_when_its_source_is_gone() {
    let place = Place::new().await;
    let request = place.request().await;
    let first = place.create(&caller(), &request, Some("k")).await.unwrap();
    place.expire_objects().await;
    let again = place.create(&caller(), &request, Some("k")).await.unwrap();
    assert_eq!(again.job_id, first.job_id);
    let mut other = request.clone();
    other.max_retries = Some(0);
    assert_eq!(problem(place.create(&caller(), &other, Some("k")).await).0, 422);
    let (status, text) = problem(place.create(&caller(), &request, Some("another")).await);
    assert_eq!((status, text.starts_with("`source_file_path` names no uploaded file")), (422, true));
    assert_eq!(problem(place.create(&caller(), &request, None).await).0, 422);
}

#[tokio::test]
async fn a_creation_that_is_sent_many_times_at_once_makes_one_job() {
    let place = Place::new().await;
    let request = place.request().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (service, request) = (place.service.clone(), request.clone());
        tasks.spawn(async move { service.create(&caller(), &request, Some("k")).await.unwrap().job_id });
    }
    let mut ids = tasks.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(place.claim().await.id, ids[0]);
    assert_eq!(place.try_claim().await, None);
}

#[tokio::test]
async fn an_idempotency_key_is_printable_ascii() {
    let place = Place::new().await;
    let request = place.request().await;
    let long = "k".repeat(256);
    for key in ["", "a\nb", "schlüssel", &long] {
        assert_eq!(
            problem(place.create(&caller(), &request, Some(key)).await),
            field("Idempotency-Key", "must be 1 to 255 printable ASCII characters"),
            "{key:?}"
        );
    }
    assert!(place.create(&caller(), &request, Some(&long[1..])).await.is_ok());
}

#[tokio::test]
async fn a_job_of_any_type_is_found_by_who_converts_that_type() {
    let place = Place::new().await;
    for content_type in ContentType::KNOWN {
        let id = place.created_with(|request| request.content_type = content_type.clone()).await;
        let answer = place.poll(&caller(), &polling(content_type.as_str()), true).await.unwrap();
        assert_eq!(answer.job_id, Some(id), "{content_type}");
    }
}
