//! `GET /poll` and `POST /poll`: a worker asks for work.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, JOBS, Site, refusals, snapshot};

const POLL: &str = "/api/v1/remote-jobs/poll";
/// What the original's converter sends.
const ORIGINAL: &str = "/api/v1/remote-jobs/poll?worker_id=gpu-1&content_types=audio,video&max_jobs=1";

#[tokio::test]
async fn there_is_nothing_to_do() {
    let site = Site::start().await;
    snapshot!(json!({
        "original": site.worker.get(ORIGINAL).await.shown(),
        "native": site.worker.post(POLL, &json!({"worker_id": "w", "content_types": ["audio"]})).await.shown(),
        "several": site.worker
            .post(POLL, &json!({"worker_id": "w", "content_types": ["audio"], "max_jobs": 5}))
            .await
            .shown(),
    }));
}

#[tokio::test]
async fn a_client_of_the_original_is_given_a_job() {
    let site = Site::start().await;
    site.job(&json!({"task_options": {"language": "de"}})).await;
    snapshot!(site.worker.get(ORIGINAL).await.shown());
}

#[tokio::test]
async fn a_native_worker_is_given_a_job_and_a_lease() {
    let site = Site::start().await;
    snapshot!(site.claimed_job(&json!({"task_options": {"language": "de"}})).await.answer.shown());
}

#[tokio::test]
async fn a_query_that_names_a_lease_is_native() {
    let site = Site::start().await;
    site.job(&json!({})).await;
    let answer = site.worker.get(&format!("{ORIGINAL}&lease_seconds=120")).await.ok();
    assert!(answer["lease_token"].is_string(), "{answer}");
    let path = format!("{JOBS}/{}/progress", answer["job_id"].as_str().unwrap());
    let progress = json!({"percentage": 1, "message": "m"});
    let token = answer["lease_token"].as_str().unwrap();
    let renewed = site.worker.leased(Method::PUT, &path, token, &progress).await.ok();
    assert_eq!(renewed["lease_expires_in_seconds"], 120);
}

#[tokio::test]
async fn several_jobs_are_given_at_once() {
    let site = Site::start().await;
    for _ in 0..3 {
        site.job(&json!({})).await;
    }
    let poll = json!({"worker_id": "w", "content_types": "audio, video", "max_jobs": 2});
    let answer = site.worker.post(POLL, &poll).await;
    let jobs = answer.ok()["jobs"].as_array().unwrap().clone();
    assert_eq!(jobs.len(), 2);
    assert_ne!(jobs[0]["job_id"], jobs[1]["job_id"]);
    assert_eq!(jobs[0]["job_id"], answer.ok()["job_id"], "the first is also where a lone one is");
    snapshot!(answer.shown());
}

#[tokio::test]
async fn a_client_of_the_original_takes_one_job_however_many_it_asks_for() {
    let site = Site::start().await;
    let jobs = [site.job(&json!({})).await, site.job(&json!({})).await];
    site.worker.get(&ORIGINAL.replace("max_jobs=1", "max_jobs=2")).await.ok();
    let mut statuses = Vec::new();
    for job in &jobs {
        statuses.push(site.status(job).await["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(statuses, ["processing", "pending"]);
}

#[tokio::test]
async fn a_poll_that_is_held_is_answered_when_a_job_comes() {
    let site = Site::start().await;
    let worker = site.worker.clone();
    let held = tokio::spawn(async move {
        let poll = json!({"worker_id": "w", "content_types": ["audio"], "wait_seconds": 20});
        worker.post(POLL, &poll).await.ok()
    });
    let job = site.job(&json!({})).await;
    assert_eq!(held.await.unwrap()["job_id"], job.as_str());
}

#[tokio::test]
async fn a_worker_is_given_neither_other_types_nor_another_tenants_jobs() {
    let site = Site::start().await;
    site.job(&json!({})).await;
    let poll = |content_type: &str| json!({"worker_id": "w", "content_types": [content_type]});
    assert_eq!(site.worker.post(POLL, &poll("image")).await.ok()["job_id"], Value::Null);
    let other = site.client("other", &["worker"]).await;
    assert_eq!(other.post(POLL, &poll("audio")).await.ok()["job_id"], Value::Null);
    assert_ne!(site.worker.post(POLL, &poll("audio")).await.ok()["job_id"], Value::Null);
}

#[tokio::test]
async fn null_and_empty_mean_absent_and_unknown_fields_are_ignored() {
    let site = Site::start().await;
    site.job(&json!({})).await;
    let poll = json!({
        "worker_id": "w", "content_types": ["audio"], "max_jobs": null, "lease_seconds": "", "gpu": "4090",
    });
    let answer = site.worker.post(POLL, &poll).await.ok();
    assert!(answer["lease_token"].is_string() && answer.get("jobs").is_none(), "{answer}");
    let query = "worker_id=17&content_types=audio&max_jobs=&lease_seconds=&gpu=4090";
    let by_query = site.worker.get(&format!("{POLL}?{query}")).await.ok();
    assert_eq!(by_query.as_object().unwrap().len(), 4, "a client of the original: {by_query}");
}

#[tokio::test]
async fn a_bad_poll_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    site.job(&json!({})).await;
    let body = |fields: Value| {
        let mut poll = json!({"worker_id": "w", "content_types": ["audio"]});
        for (name, value) in fields.as_object().unwrap() {
            poll[name] = value.clone();
        }
        site.worker.posting(POLL, &poll)
    };
    let query = |query: &str| site.worker.request(Method::GET, &format!("{POLL}?{query}"));
    snapshot!(
        refusals([
            ("body: malformed", site.worker.posting_text(POLL, "{\"worker_id\": \"w\",}")),
            ("body: NaN", site.worker.posting_text(POLL, "{\"max_jobs\": NaN}")),
            ("body: none", site.worker.request(Method::POST, POLL)),
            ("body: not JSON", site.worker.request(Method::POST, POLL).body("worker_id=w")),
            ("worker_id: missing", body(json!({"worker_id": null}))),
            ("worker_id: a number", body(json!({"worker_id": 17}))),
            ("worker_id: a line break", body(json!({"worker_id": "a\nb"}))),
            ("worker_id: too long", body(json!({"worker_id": "w".repeat(256)}))),
            ("content_types: missing", body(json!({"content_types": null}))),
            ("content_types: an empty list", body(json!({"content_types": []}))),
            ("content_types: a list of nothing", body(json!({"content_types": [""]}))),
            ("content_types: unknown", body(json!({"content_types": ["audio", "music"]}))),
            ("content_types: a list of numbers", body(json!({"content_types": [1]}))),
            ("content_types: a number", body(json!({"content_types": 1}))),
            ("max_jobs: 0", body(json!({"max_jobs": 0}))),
            ("max_jobs: 10000", body(json!({"max_jobs": 10_000}))),
            ("max_jobs: a text", body(json!({"max_jobs": "2"}))),
            ("lease_seconds: 19", body(json!({"lease_seconds": 19}))),
            ("lease_seconds: 3601", body(json!({"lease_seconds": 3601}))),
            ("wait_seconds: 21", body(json!({"wait_seconds": 21}))),
            ("wait_seconds: negative", body(json!({"wait_seconds": -1}))),
            ("query: empty", query("")),
            ("query: no types", query("worker_id=w&content_types=")),
            ("query: only commas", query("worker_id=w&content_types=,,")),
            ("query: unknown type", query("worker_id=w&content_types=audio,music")),
            ("query: max_jobs 0", query("worker_id=w&content_types=audio&max_jobs=0")),
            ("query: max_jobs 10000", query("worker_id=w&content_types=audio&max_jobs=10000")),
            ("query: max_jobs two", query("worker_id=w&content_types=audio&max_jobs=two")),
            ("query: max_jobs -1", query("worker_id=w&content_types=audio&max_jobs=-1")),
        ])
        .await
    );
    let left = Answer::to(site.worker.request(Method::GET, ORIGINAL)).await.ok();
    assert!(left["job_id"].is_string(), "a refused poll took the job");
    assert_eq!(left["source_file_url"], format!("{JOBS}/{}/download", left["job_id"].as_str().unwrap()));
}
