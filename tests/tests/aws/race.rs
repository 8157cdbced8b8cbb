//! Many at the same time.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures::future::join_all;
use serde_json::json;
use system_tests::{Answer, Client, JOBS};

use crate::{
    LOOK, PATIENCE,
    tenant::{Tenant, answer},
};

const JOBS_CREATED: usize = 40;
const WORKERS: usize = 8;

/// Polls until all jobs are given out, and notes each one that it is given.
async fn work(worker: Client, name: usize, claimed: Arc<Mutex<Vec<String>>>) {
    let end = tokio::time::Instant::now() + PATIENCE;
    let poll = json!({"worker_id": format!("gpu-{name}"), "content_types": ["audio"], "lease_seconds": 600});
    while claimed.lock().unwrap().len() < JOBS_CREATED {
        assert!(
            tokio::time::Instant::now() < end,
            "only {} jobs were given out",
            claimed.lock().unwrap().len()
        );
        let granted = answer(worker.posting(&format!("{JOBS}/poll"), &poll)).await.ok();
        let Some(id) = granted["job_id"].as_str() else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        claimed.lock().unwrap().push(id.to_owned());
        let progress = worker.request(reqwest::Method::PUT, &format!("{JOBS}/{id}/progress"));
        let progress = progress.header("Lease-Token", granted["lease_token"].as_str().unwrap());
        let heard = answer(progress.json(&json!({"percentage": 1, "message": "mine"}))).await;
        assert_eq!(heard.status, 200, "it is given out once, so nobody else holds it: {}", heard.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_jobs_that_are_created_at_once_is_claimed_once() {
    let tenant = Tenant::new().await;
    let source = tenant.upload("talk.mp3", b"sound").await;
    let job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "t"});
    let claimed = Arc::new(Mutex::new(Vec::new()));
    let workers =
        (0..WORKERS).map(|name| tokio::spawn(work(tenant.worker.clone(), name, Arc::clone(&claimed))));
    let workers: Vec<_> = workers.collect();
    let creating = (0..JOBS_CREATED).map(|number| {
        // Only under a key of its own may a creation be repeated that was answered that now is no time for it.
        let request = tenant.ingest.posting(JOBS, &job).header("Idempotency-Key", number.to_string());
        async move { answer(request).await.ok()["job_id"].as_str().unwrap().to_owned() }
    });
    let created: BTreeSet<String> = join_all(creating).await.into_iter().collect();
    assert_eq!(created.len(), JOBS_CREATED);
    for worker in workers {
        worker.await.unwrap();
    }
    let claimed = claimed.lock().unwrap().clone();
    assert_eq!((claimed.len(), claimed.into_iter().collect::<BTreeSet<_>>()), (JOBS_CREATED, created));
}

/// What two workers submit for one lease is one result.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_submissions_at_once_one_is_the_result() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    let path = format!("{JOBS}/{}/result", claim.job_id);
    let submitting = (0..6).map(|number| {
        let result = json!({"success": true, "content": format!("text {number}")});
        let request = tenant.worker.request(reqwest::Method::PUT, &path).header("Lease-Token", &claim.token);
        answer(request.json(&result))
    });
    let answers: Vec<Answer> = join_all(submitting).await;
    assert!(answers.iter().all(|answer| answer.ok()["status"] == "completed"));
    let first = tenant.result(&claim.job_id).await;
    assert_eq!(tenant.result(&claim.job_id).await, first);
    assert_eq!(tenant.status(&claim.job_id).await["attempts"].as_array().unwrap().len(), 1);
}
