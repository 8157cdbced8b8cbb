//! `PUT /{id}/result`, `POST /{id}/result-upload`, `POST /{id}/release` and `GET /{id}/result`.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Claim, JOBS, Site, refusals, sha256_hex, snapshot};

async fn submit(site: &Site, claim: &Claim, result: &Value) -> Answer {
    site.leased(claim, Method::PUT, "result", result).await
}

fn success() -> Value {
    json!({"success": true, "content": "# Talk", "metadata": {"pages": 1}, "processing_time": 1.5})
}

fn failure() -> Value {
    json!({"success": false, "error_message": "no speech found", "processing_time": 0.5})
}

#[tokio::test]
async fn a_result_completes_the_job_and_is_read_back() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    site.heartbeat(&claim).await.ok();
    let submitted = submit(&site, &claim, &success()).await;
    let redirect = site.ingest.get(&format!("{JOBS}/{}/result", claim.job_id)).await;
    let document = site.ingest.get(&redirect.location()).await;
    snapshot!(json!({
        "submitted": submitted.shown(),
        "status": site.status(&claim.job_id).await,
        "redirect": redirect.shown(),
        "document": document.shown(),
    }));
}

#[tokio::test]
async fn null_and_empty_mean_absent_and_unknown_fields_are_ignored() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let result = json!({
        "success": true, "content": "", "metadata": null, "error_message": null, "processing_time": null,
        "retryable": null, "result_key": "", "later": {"x": 1},
    });
    submit(&site, &claim, &result).await.ok();
    let redirect = site.ingest.get(&format!("{JOBS}/{}/result", claim.job_id)).await;
    let document = site.ingest.get(&redirect.location()).await.json();
    assert_eq!(document, json!({"content": "", "metadata": {}, "processing_time": null}));
}

#[tokio::test]
async fn a_failure_with_retries_left_goes_back_to_the_queue_after_a_backoff() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let submitted = submit(&site, &claim, &failure()).await;
    snapshot!(json!({"submitted": submitted.shown(), "status": site.status(&claim.job_id).await}));
    let poll = json!({"worker_id": "w", "content_types": ["audio"]});
    let early = site.worker.post(&format!("{JOBS}/poll"), &poll).await.ok();
    assert_eq!(early["job_id"], Value::Null);
    site.world.advance(Duration::from_secs(30));
    assert_eq!(site.claim("gpu-2").await.job_id, claim.job_id);
}

#[tokio::test]
async fn a_failure_that_no_retry_would_help_ends_the_job() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let submitted = submit(&site, &claim, &json!({"success": false, "retryable": false})).await;
    snapshot!(json!({"submitted": submitted.shown(), "status": site.status(&claim.job_id).await}));
}

#[tokio::test]
async fn a_repeated_submission_gets_its_first_answer() {
    let site = Site::start().await;
    for (result, opposite) in [(success(), failure()), (failure(), success())] {
        let claim = site.claimed_job(&json!({"max_retries": 1})).await;
        let first = submit(&site, &claim, &result).await.ok();
        let before = site.status(&claim.job_id).await;
        assert_eq!(submit(&site, &claim, &result).await.ok(), first);
        let name =
            if result["success"] == true { "failed after completed" } else { "completed after failed" };
        snapshot!(name, submit(&site, &claim, &opposite).await.refusal());
        assert_eq!(site.status(&claim.job_id).await, before, "a repetition changed something");
    }
}

#[tokio::test]
async fn a_repeated_failure_is_answered_the_same_while_another_attempt_runs() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let first = submit(&site, &claim, &failure()).await.ok();
    site.world.advance(Duration::from_secs(30));
    let second = site.claim("gpu-2").await;
    assert_eq!(submit(&site, &claim, &failure()).await.ok(), first);
    assert_eq!(site.status(&claim.job_id).await["status"], "processing");
    submit(&site, &second, &success()).await.ok();
    assert_eq!(submit(&site, &claim, &failure()).await.ok(), first);
    assert_eq!(site.status(&claim.job_id).await["status"], "completed");
}

#[tokio::test]
async fn a_late_worker_whose_job_was_taken_over_changes_nothing() {
    let site = Site::start().await;
    let late = site.claimed_job(&json!({})).await;
    site.heartbeat(&late).await.ok();
    site.world.advance(Duration::from_secs(61));
    let taker = site.claim("gpu-2").await;
    assert_eq!(taker.job_id, late.job_id);
    let before = site.status(&late.job_id).await;
    let none = Value::Null;
    let upload = json!({"size_bytes": 4, "sha256": sha256_hex(b"late")});
    let calls = [
        ("progress", Method::PUT, json!({"percentage": 99, "message": "late"})),
        ("result", Method::PUT, success()),
        ("result", Method::PUT, failure()),
        ("result-upload", Method::POST, upload),
        ("release", Method::POST, json!({})),
        ("download", Method::GET, none),
    ];
    let mut answers = serde_json::Map::new();
    for (verb, method, body) in calls {
        let answer = site.leased(&late, method, verb, &body).await;
        answers.insert(format!("{verb} {}", body["success"]).replace(" null", ""), answer.refusal());
    }
    snapshot!(answers);
    assert_eq!(site.status(&late.job_id).await, before, "a late worker changed the job");
    site.heartbeat(&taker).await.ok();
    assert_eq!(submit(&site, &taker, &success()).await.ok()["status"], "completed");
}

#[tokio::test]
async fn a_late_worker_whose_job_nobody_took_still_holds_it() {
    let site = Site::start().await;
    let late = site.claimed_job(&json!({})).await;
    site.heartbeat(&late).await.ok();
    site.world.advance(Duration::from_secs(61));
    site.gateway.service.sweep(tokio::time::Instant::now() + Duration::from_secs(60)).await.unwrap();
    assert_eq!(site.status(&late.job_id).await["status"], "pending");
    assert_eq!(submit(&site, &late, &success()).await.ok()["status"], "completed");
}

#[tokio::test]
async fn a_large_result_is_uploaded_first() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let document = json!({"content": "# Long", "metadata": {}, "processing_time": 2.0}).to_string();
    let upload = json!({"size_bytes": document.len(), "sha256": sha256_hex(document.as_bytes())});
    let place = site.leased(&claim, Method::POST, "result-upload", &upload).await;
    let put = site.worker.presigned(&place.ok()["put"], document.clone()).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let result = json!({"success": true, "result_key": place.ok()["source_file_path"]});
    let submitted = submit(&site, &claim, &result).await;
    snapshot!(json!({"place": place.shown(), "submitted": submitted.shown()}));
    let redirect = site.ingest.get(&format!("{JOBS}/{}/result", claim.job_id)).await;
    assert_eq!(site.ingest.get(&redirect.location()).await.text(), document);
}

#[tokio::test]
async fn a_very_large_result_is_uploaded_in_parts() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let bytes = vec![b'x'; (64 << 20) + 1];
    let large = json!({"size_bytes": bytes.len(), "sha256": "cd".repeat(32)});
    let place = site.leased(&claim, Method::POST, "result-upload", &large).await.ok();
    let upload = |parts: Value| {
        json!({
            "source_file_path": place["source_file_path"],
            "multipart_upload_id": place["multipart"]["multipart_upload_id"],
            "parts": parts,
        })
    };
    let part = json!({"part_number": 1, "size_bytes": bytes.len(), "sha256": sha256_hex(&bytes)});
    let signed = site.leased(&claim, Method::POST, "result-upload/parts", &upload(json!([part]))).await;
    let put = site.worker.presigned(&signed.ok()["parts"][0], bytes.clone()).await;
    let part = json!({"part_number": 1, "etag": put.header("etag"), "sha256": sha256_hex(&bytes)});
    let completed = site.leased(&claim, Method::POST, "result-upload/complete", &upload(json!([part]))).await;
    let aborted = site.leased(&claim, Method::POST, "result-upload/abort", &upload(Value::Null)).await;
    snapshot!(json!({
        "signed": signed.shown(), "completed": completed.shown(), "aborted after that": aborted.shown(),
    }));
    let result = json!({"success": true, "result_key": place["source_file_path"]});
    assert_eq!(submit(&site, &claim, &result).await.ok()["status"], "completed");
}

#[tokio::test]
async fn a_bad_result_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    site.heartbeat(&claim).await.ok();
    let upload = json!({"size_bytes": 4, "sha256": sha256_hex(b"none")});
    let place = site.leased(&claim, Method::POST, "result-upload", &upload).await.ok();
    let key = &place["source_file_path"];
    let source = site.ingest.upload("x.txt", b"x").await;
    let to = |verb: &str| {
        let method = if verb == "result" { Method::PUT } else { Method::POST };
        let path = format!("{JOBS}/{}/{verb}", claim.job_id);
        site.worker.request(method, &path).header("Lease-Token", &claim.token)
    };
    let json = |body: Value| to("result").json(&body);
    let text = |body: String| to("result").header("content-type", "application/json").body(body);
    snapshot!(
        refusals([
            ("body: malformed", text("{\"success\": true, \"content\": \"…".to_owned())),
            ("body: not JSON", to("result").body("# Talk")),
            ("body: too large", text(format!("{{\"content\": \"{}\"}}", "x".repeat(64 << 20)))),
            ("success: missing", json(json!({"content": "# Talk"}))),
            ("success: a text", json(json!({"success": "yes"}))),
            ("content: a list", json(json!({"success": true, "content": ["# Talk"]}))),
            ("metadata: a text", json(json!({"success": true, "metadata": "pages"}))),
            ("processing_time: a text", json(json!({"success": true, "processing_time": "1.5"}))),
            ("processing_time: NaN", text("{\"success\": true, \"processing_time\": NaN}".to_owned())),
            ("retryable: a number", json(json!({"success": false, "retryable": 0}))),
            ("result_key: not uploaded", json(json!({"success": true, "result_key": key}))),
            ("result_key: a source", json(json!({"success": true, "result_key": source}))),
            ("result_key: dots", json(json!({"success": true, "result_key": "results/default/../../x"}))),
            ("result_key: and content", json(json!({"success": true, "result_key": key, "content": "x"}))),
            ("result-upload: no hash", to("result-upload").json(&json!({"size_bytes": 4}))),
            ("result-upload: negative", {
                let upload = json!({"size_bytes": -4, "sha256": sha256_hex(b"none")});
                to("result-upload").json(&upload)
            }),
            ("release: a number", to("release").json(&json!({"reason": 7}))),
        ])
        .await
    );
    assert_eq!(site.status(&claim.job_id).await["status"], "processing");
}

#[tokio::test]
async fn a_job_is_given_back_without_a_retry_spent() {
    let site = Site::start().await;
    let claim = site.claimed_job(&json!({})).await;
    let released =
        site.leased(&claim, Method::POST, "release", &json!({"reason": "shutting down", "later": 1})).await;
    let again = site.leased(&claim, Method::POST, "release", &json!({"reason": null})).await;
    snapshot!(json!({
        "released": released.shown(),
        "released again": again.ok(),
        "status": site.status(&claim.job_id).await,
    }));
    assert_eq!(site.claim("gpu-2").await.job_id, claim.job_id);
}

#[tokio::test]
async fn there_is_no_result_before_the_end_or_after_a_failure() {
    let site = Site::start().await;
    let other = site.client("other", &["ingest"]).await;
    let job = site.job(&json!({})).await;
    let result = |job: &str| site.ingest.request(Method::GET, &format!("{JOBS}/{job}/result"));
    let pending = Answer::to(result(&job)).await.refusal();
    let claim = site.claim("gpu-1").await;
    let processing = Answer::to(result(&job)).await.refusal();
    submit(&site, &claim, &json!({"success": false, "retryable": false})).await.ok();
    snapshot!(json!({
        "pending": pending,
        "processing": processing,
        "failed": Answer::to(result(&job)).await.refusal(),
        "another tenant's": other.get(&format!("{JOBS}/{job}/result")).await.refusal(),
        "no UUID": Answer::to(result("job-17")).await.refusal(),
    }));
}
