//! Paths, queries and bodies, as an API Gateway hands them on.

use reqwest::{Method, Url, header::CONTENT_TYPE};
use serde_json::{Value, json};
use system_tests::{Answer, JOBS};

use crate::{
    PATIENCE,
    tenant::{Tenant, answer},
    until,
};

/// A REST API refuses by itself what it has no route for, and says nothing of methods.
fn assert_refused(tenant: &Tenant, answer: &Answer, status: u16) {
    if tenant.deployment.is_rest() {
        assert!([403, 404, 405].contains(&answer.status), "{} {}", answer.status, answer.text());
    } else {
        assert_eq!(answer.problem().0, status, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_is_not_found() {
    let tenant = Tenant::new().await;
    for path in ["/", "/nowhere", "/api/v2/remote-jobs", "/api/v1/remote-jobs/x/y/z", "/health/x"] {
        assert_refused(&tenant, &answer(tenant.ingest.request(Method::GET, path)).await, 404);
    }
    // The gateway of one machine has these calls, and AWS has not.
    assert_refused(&tenant, &answer(tenant.ingest.request(Method::GET, "/api/v1/keys")).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_the_right_ones() {
    let tenant = Tenant::new().await;
    for (method, path, allowed) in [
        (Method::DELETE, "/api/v1/remote-jobs/poll", "GET, POST"),
        (Method::PATCH, "/api/v1/remote-jobs", "POST, GET"),
        (Method::PUT, "/health", "GET"),
    ] {
        let refused = answer(tenant.ingest.request(method, path)).await;
        assert_refused(&tenant, &refused, 405);
        if !tenant.deployment.is_rest() {
            assert_eq!(refused.header("allow"), allowed, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anyone_may_read_is_served() {
    let tenant = Tenant::new().await;
    for (path, kind, text) in [
        ("/health", "application/json", "version"),
        ("/openapi.json", "application/json", "/api/v1/remote-jobs/{job_id}/status"),
        ("/docs", "text/html", "<html"),
    ] {
        let served = answer(tenant.ingest.anonymous().request(Method::GET, path)).await;
        assert_eq!(served.status, 200, "{path}");
        assert!(served.header("content-type").starts_with(kind), "{path}: {:?}", served.headers);
        assert!(served.text().contains(text), "{path}: {}", served.text());
    }
}

/// An HTTP API has no routes that end in a slash, so a redirect leads from there to the same call without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trailing_slash_changes_nothing() {
    let tenant = Tenant::new().await;
    let job = tenant.job(&json!({})).await;
    let poll = json!({"worker_id": "gpu-1", "content_types": ["x-own"]});
    for (method, path, query, body) in [
        (Method::GET, "/health".to_owned(), "", None),
        (Method::GET, format!("{JOBS}/poll"), "?worker_id=w&content_types=x-own", None),
        (Method::POST, format!("{JOBS}/poll"), "", Some(&poll)),
        (Method::POST, format!("{JOBS}/{job}/cancel"), "", None),
        (Method::DELETE, format!("{JOBS}/{job}"), "", None),
    ] {
        let client = if path.ends_with("poll") { &tenant.worker } else { &tenant.ingest };
        let call = |path: &str| {
            let request = client.request(method.clone(), path);
            answer(if let Some(body) = body { request.json(body) } else { request })
        };
        let mut answered = call(&format!("{path}/{query}")).await;
        if answered.status == 308 {
            let from = Url::parse(&format!("{}{path}/{query}", tenant.deployment.base)).unwrap();
            let to = from.join(answered.header("location")).unwrap();
            assert_eq!(to.as_str(), format!("{}{path}{query}", tenant.deployment.base));
            answered = call(&format!("{path}{query}")).await;
        }
        assert_eq!(answered.status, 200, "{method} {path}/: {}", answered.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn path_parameters_may_be_encoded() {
    let tenant = Tenant::new().await;
    let job = tenant.job(&json!({})).await;
    let status = tenant.managed(Method::GET, &job.replace('-', "%2D"), "status").await;
    assert_eq!(status.ok()["job_id"], json!(job));
    for id in ["%2E%2E", "a%2Fb", "%F0%9F%98%80", "%25", "a%20b"] {
        assert_refused(&tenant, &tenant.managed(Method::GET, id, "status").await, 404);
    }
    let admin = tenant.client(&["admin"]).await;
    answer(admin.posting("/api/v1/queues/x%2Down/pause", &json!({}))).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_may_be_encoded() {
    let tenant = Tenant::new().await;
    let job = tenant.job(&json!({})).await;
    let poll = format!("{JOBS}/poll?worker_id=K%C3%BCche+1%20%26&content_types=video%2Caudio&max_jobs=1");
    let polled = until("a poll gives the job", PATIENCE, async || {
        let polled = answer(tenant.worker.request(Method::GET, &poll)).await.ok();
        polled["job_id"].is_string().then_some(polled)
    })
    .await;
    assert_eq!(polled["job_id"], json!(job));
    assert_eq!(tenant.status(&job).await["worker_id"], "Küche 1 &");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_fit_are_refused_with_what_is_wrong() {
    let tenant = Tenant::new().await;
    let post = |body: Vec<u8>, kind: &str| {
        answer(tenant.ingest.request(Method::POST, JOBS).header(CONTENT_TYPE, kind).body(body))
    };
    let json = "application/json";
    // An API Gateway may have put another character in the place of what is no UTF-8.
    let no_text = post(b"{\"ingestion_task_id\": \"\xff\xfe\"}".to_vec(), json).await;
    assert!([400, 422].contains(&no_text.problem().0), "{}", no_text.text());
    assert_eq!(post(b"{".to_vec(), json).await.problem().0, 400, "no JSON");
    assert_eq!(post(b"{}".to_vec(), "application/octet-stream").await.problem().0, 415, "not sent as JSON");
    let missing = post(b"{}".to_vec(), json).await;
    assert_eq!(missing.problem().0, 422);
    assert_eq!(missing.json()["errors"][0]["field"], "source_file_path", "{}", missing.text());
    let large = json!({"ingestion_task_id": "x".repeat(1 << 20)}).to_string();
    assert_eq!(post(large.into_bytes(), json).await.problem().0, 413);
    // An API Gateway may have said for the caller that no body is JSON.
    let nothing = answer(tenant.ingest.request(Method::POST, JOBS)).await;
    assert!([400, 415, 422].contains(&nothing.problem().0), "{}", nothing.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_of_some_megabytes_is_taken_inline() {
    let tenant = Tenant::new().await;
    let claim = tenant.claimed_job(&json!({})).await;
    let text = "Zeile mit Umlauten: äöü\n".repeat(100_000);
    let result = json!({"success": true, "content": text});
    assert_eq!(tenant.leased(&claim, Method::PUT, "result", &result).await.ok()["status"], "completed");
    assert!(tenant.result(&claim.job_id).await["content"] == Value::String(text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_request_id_comes_back() {
    let tenant = Tenant::new().await;
    let request = tenant.ingest.request(Method::GET, "/health").header("X-Request-Id", "order-17");
    assert_eq!(answer(request).await.header("x-request-id"), "order-17");
}
