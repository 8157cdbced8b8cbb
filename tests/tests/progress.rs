//! `PUT /{id}/progress`: progress, which is also the heartbeat.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use system_tests::{Answer, Claim, JOBS, Site, refusals, snapshot};

fn report(site: &Site, claim: &Claim) -> RequestBuilder {
    site.worker
        .request(Method::PUT, &format!("{JOBS}/{}/progress", claim.job_id))
        .header("Lease-Token", &claim.token)
}

#[tokio::test]
async fn progress_is_recorded_and_shown() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let progress = json!({
        "percentage": 75, "message": "Processing audio", "timestamp": "2025-01-01T12:00:00", "stage": "decode",
    });
    let answer = Answer::to(report(&site, &claim).json(&progress)).await;
    snapshot!(json!({"answer": answer.shown(), "status": site.status(&claim.job_id).await}));
}

#[tokio::test]
async fn percentages_and_messages_are_taken_as_python_spells_them() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let long = "ä".repeat(1000);
    for (body, percentage, message) in [
        (json!({"percentage": 75.0, "message": "three quarters"}), 75, "three quarters".to_owned()),
        (json!({"percentage": 0, "message": null}), 0, String::new()),
        (json!({"percentage": 1, "message": "", "unknown": [1], "stage": null}), 1, String::new()),
        (json!({"percentage": 100, "message": long}), 100, format!("{}…", "ä".repeat(499))),
    ] {
        Answer::to(report(&site, &claim).json(&body)).await.ok();
        let status = site.status(&claim.job_id).await;
        assert_eq!(
            (&status["percentage"], &status["progress_message"]),
            (&json!(percentage), &json!(message))
        );
        assert_eq!(status["status"], "processing", "only a result completes a job");
    }
}

#[tokio::test]
async fn bad_progress_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let text =
        |body: &str| report(&site, &claim).header("content-type", "application/json").body(body.to_owned());
    let json = |body: Value| report(&site, &claim).json(&body);
    snapshot!(
        refusals([
            ("body: malformed", text("{\"percentage\": 75")),
            ("body: not JSON", report(&site, &claim).body("75")),
            ("percentage: 101", json(json!({"percentage": 101, "message": "m"}))),
            ("percentage: -1", json(json!({"percentage": -1, "message": "m"}))),
            ("percentage: a fraction", json(json!({"percentage": 75.5, "message": "m"}))),
            ("percentage: NaN", text("{\"percentage\": NaN, \"message\": \"m\"}")),
            ("percentage: Infinity", text("{\"percentage\": Infinity, \"message\": \"m\"}")),
            ("percentage: a text", json(json!({"percentage": "75", "message": "m"}))),
            ("percentage: NaN as a text", json(json!({"percentage": "NaN", "message": "m"}))),
            ("percentage: missing", json(json!({"message": "m"}))),
            ("message: a number", json(json!({"percentage": 1, "message": 7}))),
            ("stage: a list", json(json!({"percentage": 1, "message": "m", "stage": []}))),
        ])
        .await
    );
    assert_eq!(site.status(&claim.job_id).await["percentage"], 0);
}

#[tokio::test]
async fn a_heartbeat_renews_the_lease() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let mut left = Vec::new();
    for seconds in [15, 15, 15, 15] {
        site.world.advance(Duration::from_secs(seconds));
        left.push(site.heartbeat(&claim).await.ok()["lease_expires_in_seconds"].clone());
    }
    assert_eq!(left, [60, 45, 60, 45], "renewed by the first sign of life, then at less than two thirds");
}

#[tokio::test]
async fn a_cancelled_worker_is_told_to_stop() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    site.ingest.post(&format!("{JOBS}/{}/cancel", claim.job_id), &json!({})).await.ok();
    snapshot!(site.heartbeat(&claim).await.shown());
}

#[tokio::test]
async fn who_does_not_hold_the_lease_is_refused() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    site.heartbeat(&claim).await.ok();
    let other = site.client("other", &["worker"]).await;
    let path = format!("{JOBS}/{}/progress", claim.job_id);
    let body = json!({"percentage": 99, "message": "not mine"});
    let put = |path: &str| site.worker.request(Method::PUT, path).json(&body);
    let unknown = format!("{JOBS}/0b8f3c5e-0000-7000-8000-000000000000/progress");
    snapshot!(
        refusals([
            ("no token", put(&path)),
            ("another token", put(&path).header("Lease-Token", "x".repeat(43))),
            (
                "another tenant's job",
                other.request(Method::PUT, &path).json(&body).header("Lease-Token", &claim.token)
            ),
            ("an unknown job", put(&unknown)),
            ("an id that is no UUID", put(&format!("{JOBS}/job-17/progress"))),
        ])
        .await
    );
    let status = site.status(&claim.job_id).await;
    assert_eq!((&status["percentage"], &status["progress_message"]), (&json!(10), &json!("at it")));
}

#[tokio::test]
async fn an_attempt_that_ran_too_long_is_told_so() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({"timeout_seconds": 30})).await;
    site.heartbeat(&claim).await.ok();
    site.world.advance(Duration::from_secs(31));
    snapshot!(site.heartbeat(&claim).await.shown());
}

#[tokio::test]
async fn a_client_of_the_original_reports_without_a_token() {
    let site = Site::start().await;
    let job = site.job(&json!({})).await;
    site.worker.get(&format!("{JOBS}/poll?worker_id=w&content_types=audio&max_jobs=1")).await.ok();
    let put = |client: &system_tests::Client| {
        client.request(Method::PUT, &format!("{JOBS}/{job}/progress")).json(&json!({
            "percentage": 52, "message": "Audio processing: Initializing", "timestamp": "2025-01-01T12:00:00Z",
        }))
    };
    let colleague = site.client("default", &["worker"]).await;
    snapshot!(json!({
        "the key that polled": Answer::to(put(&site.worker)).await.shown(),
        "another key": Answer::to(put(&colleague)).await.refusal(),
    }));
}
