//! A worker that falls silent.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{SCHEDULED, tenant::Tenant, until};

/// The one who looks only reads: what ends the attempt is the sweep of the schedule.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_lapses_is_swept_by_the_schedule_alone_and_the_job_runs_again() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    tenant.heartbeat(&claim).await.ok();
    let returned = until("the schedule's sweep returns the job", SCHEDULED, async || {
        let status = tenant.status(&claim.job_id).await;
        (status["status"] == "pending").then_some(status)
    })
    .await;
    assert_eq!(returned["attempts"][0]["outcome"], "lapsed", "{returned}");
    let again = until("the job's backoff ends", Duration::from_secs(120), async || {
        let polled = tenant.poll().await.ok();
        polled["job_id"].is_string().then_some(polled)
    })
    .await;
    assert_eq!((&again["job_id"], &again["attempt"]), (&json!(claim.job_id), &json!(2)));
    assert_ne!(again["lease_token"], json!(claim.token));
    let late =
        tenant.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "late"})).await;
    assert_eq!(late.problem().0, 409, "the first worker holds it no more");
}

/// As above for who only waits: nobody polls at all, and the job's own limit is what ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_worker_takes_is_ended_by_the_schedule_alone() {
    let tenant = Tenant::new().await;
    let job = tenant.job(&json!({"queue_timeout_seconds": 1})).await;
    let ended = until("the schedule's sweep ends the job", SCHEDULED, async || {
        let status = tenant.status(&job).await;
        (status["status"] == "timeout").then_some(status)
    })
    .await;
    assert!(ended["error_message"].is_string(), "{ended}");
}
