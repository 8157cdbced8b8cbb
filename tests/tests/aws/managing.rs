//! What the ingestion side and an operator do with jobs.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::JOBS;

use crate::{
    SCHEDULED,
    tenant::{Tenant, answer},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_learns_of_a_cancellation_by_its_next_heartbeat() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    assert_eq!(tenant.heartbeat(&claim).await.ok()["cancelled"], false);
    let cancelled = tenant.managed(Method::POST, &claim.job_id, "cancel").await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(tenant.heartbeat(&claim).await.ok()["cancelled"], true);
    let late = tenant.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await;
    assert_eq!(late.problem().0, 409);
    assert_eq!(tenant.status(&claim.job_id).await["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_failed_for_good_is_sent_back_by_hand_and_completes() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    let failure = json!({"success": false, "error_message": "kein Ton", "retryable": false});
    assert_eq!(tenant.leased(&claim, Method::PUT, "result", &failure).await.ok()["status"], "failed");
    let failed = tenant.status(&claim.job_id).await;
    assert_eq!(failed["error_message"], "kein Ton", "{failed}");
    assert_eq!(tenant.managed(Method::POST, &claim.job_id, "retry").await.ok()["status"], "pending");
    let again = tenant.claim().await;
    assert_eq!((&again.job_id, &again.answer.ok()["attempt"]), (&claim.job_id, &json!(2)));
    let result = json!({"success": true, "content": "text"});
    tenant.leased(&again, Method::PUT, "result", &result).await.ok();
    assert_eq!(tenant.result(&claim.job_id).await["content"], "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_converts_locally_instead_is_the_only_one_who_continues() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    let take = tenant.ingest.posting(&format!("{JOBS}/{}/cancel", claim.job_id), &json!({"takeover": true}));
    assert_eq!(answer(take).await.ok()["continued_by"], "local");
    assert_eq!(tenant.managed(Method::POST, &claim.job_id, "retry").await.problem().0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_leaves_no_object_and_no_row() {
    let tenant = Tenant::new().await;
    // Options of this size are an object of their own.
    let options = json!({"prompt": "x".repeat(20_000)});
    let claim = tenant.claimed_job(&json!({"task_options": options})).await;
    assert_eq!(claim.answer.ok()["task_options"], options);
    assert_eq!(tenant.managed(Method::DELETE, &claim.job_id, "").await.problem().0, 409, "it runs");
    let result = json!({"success": true, "content": "text"});
    tenant.leased(&claim, Method::PUT, "result", &result).await.ok();
    assert_eq!(tenant.deployment.objects_of(&tenant.name).await.len(), 3, "source, options and result");
    let deleted = tenant.managed(Method::DELETE, &claim.job_id, "").await.ok();
    assert_eq!(deleted["deleted_objects"], 3);
    assert_eq!(tenant.deployment.objects_of(&tenant.name).await, Vec::<String>::new());
    assert_eq!(tenant.managed(Method::GET, &claim.job_id, "status").await.problem().0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_page_by_page_once_each() {
    let tenant = Tenant::new().await;
    let mut created = BTreeSet::new();
    for number in 0..5 {
        created.insert(tenant.job(&json!({"ingestion_task_id": format!("Aufgabe {}", number % 2)})).await);
    }
    let listed = async |query: &str| {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("{JOBS}?limit=2&{query}&cursor={cursor}");
            let page = answer(tenant.ingest.request(Method::GET, &path)).await.ok();
            let jobs = page["jobs"].as_array().unwrap();
            ids.extend(jobs.iter().map(|job| job["job_id"].as_str().unwrap().to_owned()));
            match page.get("cursor").and_then(Value::as_str) {
                Some(next) => next.clone_into(&mut cursor),
                None => return ids,
            }
        }
    };
    // An index follows its table.
    let all = until("all jobs are listed", SCHEDULED, async || {
        let ids = listed("").await;
        (ids.len() >= created.len()).then_some(ids)
    })
    .await;
    assert_eq!((all.len(), all.into_iter().collect::<BTreeSet<_>>()), (5, created));
    assert_eq!(listed("ingestion_task_id=Aufgabe%201").await.len(), 2);
    assert_eq!(listed("ingestion_task_id=Aufgabe+0&status=pending").await.len(), 3);
    assert_eq!(listed("status=failed").await.len(), 0);
}

/// The numbers are those of a sweep, and nobody but the schedule sweeps here.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_tell_what_the_last_scheduled_sweep_counted() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    tenant.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "text"})).await.ok();
    tenant.job(&json!({})).await;
    tenant.job(&json!({"content_type": "x-own"})).await;
    let audio = until("a sweep has counted", SCHEDULED, async || {
        let path = format!("{JOBS}/statistics");
        let statistics = answer(tenant.ingest.request(Method::GET, &path)).await.ok();
        let queues = statistics["queues"].as_array()?.clone();
        let of = |kind: &str| queues.iter().find(|queue| queue["content_type"] == kind).cloned();
        let counted = of("x-own").is_some_and(|queue| queue["waiting"] == 1);
        of("audio").filter(|queue| counted && queue["waiting"] == 1)
    })
    .await;
    assert_eq!(audio["ended_24h"]["completed"], 1, "{audio}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_gives_nothing_out_until_it_is_resumed() {
    let tenant = Tenant::new().await;
    let admin = tenant.client(&["admin"]).await;
    let job = tenant.job(&json!({})).await;
    answer(admin.posting("/api/v1/queues/audio/pause", &json!({}))).await.ok();
    assert_eq!(tenant.poll().await.ok()["job_id"], Value::Null);
    answer(admin.posting("/api/v1/queues/audio/resume", &json!({}))).await.ok();
    assert_eq!(tenant.claim().await.job_id, job);
}
