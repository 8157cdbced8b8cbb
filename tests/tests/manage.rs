//! `POST /{id}/cancel` and `POST /{id}/retry`.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, JOBS, Site, refusals, snapshot};

async fn cancel(site: &Site, job: &str, body: &Value) -> Answer {
    site.ingest.post(&format!("{JOBS}/{job}/cancel"), body).await
}

async fn retry(site: &Site, job: &str) -> Answer {
    Answer::to(site.ingest.request(Method::POST, &format!("{JOBS}/{job}/retry"))).await
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_and_sent_back() {
    let site = Site::start().await;
    let job = site.job(&json!({})).await;
    let cancelled = cancel(&site, &job, &json!({})).await;
    let status = site.status(&job).await;
    assert_eq!(
        cancel(&site, &job, &json!({})).await.ok(),
        cancelled.ok(),
        "cancelling again changes nothing"
    );
    snapshot!(json!({
        "cancelled": cancelled.shown(), "status": status, "retried": retry(&site, &job).await.shown(),
    }));
    assert_eq!(site.claim("gpu-1").await.job_id, job);
}

#[tokio::test]
async fn a_call_without_a_body_is_one_without_fields() {
    let site = Site::start().await;
    let job = site.job(&json!({})).await;
    let cancelled = Answer::to(site.ingest.request(Method::POST, &format!("{JOBS}/{job}/cancel"))).await;
    assert_eq!(cancelled.ok()["status"], "cancelled");
    let job = site.job(&json!({})).await;
    let fields = json!({"takeover": null, "because": "unknown fields are ignored"});
    assert_eq!(cancel(&site, &job, &fields).await.ok().get("continued_by"), None);
}

#[tokio::test]
async fn a_running_job_is_cancelled() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let cancelled = cancel(&site, &claim.job_id, &json!({})).await;
    let result = site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await;
    snapshot!(json!({
        "cancelled": cancelled.shown(),
        "status": site.status(&claim.job_id).await,
        "the worker's result": result.refusal(),
    }));
}

#[tokio::test]
async fn a_job_that_was_taken_over_stays_ended() {
    let site = Site::start().await;
    let mut answers = serde_json::Map::new();
    for state in ["pending", "processing", "failed", "cancelled"] {
        let job = site.job(&json!({})).await;
        match state {
            "pending" => {}
            "processing" => assert_eq!(site.claim("gpu-1").await.job_id, job),
            "failed" => {
                let claim = site.claim("gpu-1").await;
                let failed = json!({"success": false, "retryable": false});
                site.leased(&claim, Method::PUT, "result", &failed).await.ok();
            }
            _ => drop(cancel(&site, &job, &json!({})).await.ok()),
        }
        let taken = cancel(&site, &job, &json!({"takeover": true})).await.ok();
        assert_eq!(cancel(&site, &job, &json!({"takeover": true})).await.ok(), taken, "asked again");
        answers
            .insert(state.to_owned(), json!({"taken": taken, "retried": retry(&site, &job).await.refusal()}));
    }
    snapshot!(answers);
}

#[tokio::test]
async fn a_completed_job_can_be_neither_cancelled_nor_taken_over_nor_retried() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    site.leased(&claim, Method::PUT, "result", &json!({"success": true, "content": "x"})).await.ok();
    snapshot!(json!({
        "cancelled": cancel(&site, &claim.job_id, &json!({})).await.refusal(),
        "taken over": cancel(&site, &claim.job_id, &json!({"takeover": true})).await.refusal(),
        "retried": retry(&site, &claim.job_id).await.refusal(),
    }));
    assert_eq!(site.status(&claim.job_id).await["status"], "completed");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_why() {
    let site = Site::start().await;
    let waiting = site.job(&json!({})).await;
    let other = site.client("other", &["ingest"]).await;
    let post = |client: &system_tests::Client, id: &str, verb: &str| {
        client.request(Method::POST, &format!("{JOBS}/{id}/{verb}"))
    };
    let failed = {
        let claim = site.claim("gpu-1").await;
        let failed = json!({"success": false, "retryable": false});
        site.leased(&claim, Method::PUT, "result", &failed).await.ok();
        claim.job_id
    };
    assert_eq!(failed, waiting);
    let waiting = site.job(&json!({})).await;
    snapshot!(
        refusals([
            ("cancel: malformed", site.ingest.posting_text(&format!("{JOBS}/{waiting}/cancel"), "{")),
            ("cancel: not JSON", post(&site.ingest, &waiting, "cancel").body("takeover=true")),
            (
                "cancel: takeover a text",
                post(&site.ingest, &waiting, "cancel").json(&json!({"takeover": "yes"}))
            ),
            ("cancel: one that failed", post(&site.ingest, &failed, "cancel")),
            ("cancel: another tenant's", post(&other, &waiting, "cancel")),
            ("cancel: no UUID", post(&site.ingest, "job-17", "cancel")),
            ("retry: one that waits", post(&site.ingest, &waiting, "retry")),
            ("retry: another tenant's", post(&other, &failed, "retry")),
            ("retry: no UUID", post(&site.ingest, "job-17", "retry")),
        ])
        .await
    );
    assert_eq!(site.status(&waiting).await["status"], "pending");
}
