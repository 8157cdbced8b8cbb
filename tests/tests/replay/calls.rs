//! Calls, by either kind of API.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use runtime::LogFormat;
use serde_json::{Value, json};
use system_tests::JOBS;

use crate::scene::{Scene, answered, context};

/// What all tests log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

static LINES: LazyLock<Lines> = LazyLock::new(|| {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = runtime::log_lines(LogFormat::Json, None, move || writer.clone()).unwrap();
    tracing::dispatcher::set_global_default(subscriber).unwrap();
    lines
});

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_job_is_found_whatever_api_gateway_puts_before_its_path() {
    let scene = Scene::new().await;
    for name in [
        "http-api/status",
        "http-api/named-stage",
        "http-api/custom-domain",
        "http-api/encoded-job-id",
        "rest-api/status",
        "rest-api/custom-domain-base-path",
        "rest-api/stage-named-like-a-path",
        "rest-api/encoded-job-id",
    ] {
        let status = scene.replay(name).await.ok();
        assert_eq!(status["job_id"], scene.values["JOB_ID"], "{name}");
    }
    // The query came along.
    let status = scene.replay("rest-api/status").await.ok();
    assert!(status["poll_again_in_seconds"].is_number(), "{status}");
}

#[tokio::test]
async fn a_parameter_is_taken_as_it_was_meant() {
    let scene = Scene::new().await;
    assert_eq!(scene.replay("http-api/encoded-parameter").await.problem(404), "Job a b/ü?#% not found");
    let event = scene.replay("rest-api/encoded-event-id").await.problem(404);
    assert!(event.contains("no/such event"), "{event}");
    let paused = scene.replay("rest-api/encoded-queue").await.ok();
    assert_eq!(paused["content_type"], "x-scans", "{paused}");
}

#[tokio::test]
async fn a_body_may_come_as_base64_or_not_at_all() {
    let scene = Scene::new().await;
    for name in ["http-api/upload-base64", "rest-api/upload-base64"] {
        let place = scene.replay(name).await.ok();
        assert!(place["source_file_path"].is_string(), "{name}: {place}");
    }
    assert_eq!(scene.replay("rest-api/cancel-null-body").await.ok()["status"], "cancelled");
    let again = scene.created(&json!({})).await;
    let scene = Scene { values: scene.values.into_iter().chain([("JOB_ID", again)]).collect(), ..scene };
    assert_eq!(scene.replay("http-api/cancel-without-body").await.ok()["status"], "cancelled");
}

#[tokio::test]
async fn a_query_is_decoded_once_and_the_last_of_several_values_counts() {
    for name in ["http-api/poll-query", "rest-api/poll-multi-value"] {
        let scene = Scene::new().await;
        let job = scene.replay(name).await.ok();
        assert_eq!(job["job_id"], scene.values["JOB_ID"], "{name}");
        let path = format!("{JOBS}/{}/status", scene.values["JOB_ID"]);
        let status = scene.functions.call("GET", &path, "", &Value::Null).await.ok();
        assert_eq!(status["worker_id"], "gpu+1 & co", "{name}");
    }
}

#[tokio::test]
async fn what_a_worker_sends_under_its_lease_is_accepted() {
    let mut scene = Scene::new().await;
    let (id, token) = scene.claimed().await;
    scene.values.extend([("HELD_ID", id.clone()), ("LEASE_TOKEN", token)]);
    let source = scene.replay("http-api/download").await;
    assert_eq!((source.status, source.body.as_str()), (307, ""));
    assert!(source.headers["location"].contains("X-Amz-Signature="));
    scene.replay("http-api/progress").await.ok();
    let path = format!("{JOBS}/{id}/status");
    let status = scene.functions.call("GET", &path, "", &Value::Null).await.ok();
    assert_eq!(status["progress_message"], "halb fertig – 40 %");
    assert_eq!(scene.replay("http-api/submit-failure").await.ok()["status"], "failed");
}

#[tokio::test]
async fn a_result_is_redirected_to_unless_it_is_lost() {
    let mut scene = Scene::new().await;
    let (id, token) = scene.claimed().await;
    let result = json!({"success": true, "content": "text"});
    scene.functions.call("PUT", &format!("{JOBS}/{id}/result"), &token, &result).await.ok();
    scene.values.insert("DONE_ID", id);
    for name in ["http-api/result", "rest-api/result"] {
        let answer = scene.replay(name).await;
        assert_eq!((answer.status, answer.body.as_str()), (307, ""), "{name}");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(answer.headers["location"].contains("X-Amz-Signature="));
    }
    let location = scene.replay("rest-api/result").await.headers["location"].clone();
    let key = location.split(&format!("/{}/", system_tests::BUCKET)).nth(1).unwrap();
    scene.functions.lose(key.split('?').next().unwrap()).await;
    let lost = scene.replay("http-api/result").await.problem(404);
    assert!(lost.contains("not stored any more"), "{lost}");
}

#[tokio::test]
async fn a_slash_too_many_creates_a_job_or_leads_to_the_path_without_it() {
    let scene = Scene::new().await;
    for name in
        ["http-api/trailing-slash-create", "http-api/named-stage-default-route", "rest-api/trailing-slash"]
    {
        let refused = scene.replay(name).await.problem(422);
        assert!(refused.contains("is missing"), "{name}: it is read as a creation: {refused}");
    }
    let moved = scene.replay("http-api/trailing-slash-status").await;
    assert_eq!((moved.status, moved.body.as_str()), (308, ""));
    assert_eq!(moved.headers["location"], "../status?wait_seconds=5");
}

#[tokio::test]
async fn what_no_function_serves_is_refused_as_everything_else_is() {
    let scene = Scene::new().await;
    let unknown = scene.replay("http-api/unknown-path").await.problem(404);
    assert_eq!(unknown, "There is no /api/v1/jobs/%3Cx%20y%3E; GET /docs shows what there is.");
    scene.replay("http-api/trailing-slash-gateway-only").await.problem(404);
    let method = scene.replay("http-api/unknown-method").await;
    method.problem(405);
    assert_eq!(method.headers["allow"], "GET");
}

#[tokio::test]
async fn without_a_key_nothing_is_asked_of_table_or_bucket() {
    let scene = Scene::new().await;
    scene.functions.recorder.take();
    for name in ["http-api/without-key", "rest-api/without-key"] {
        let refused = scene.replay(name).await;
        refused.problem(401);
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
    for name in ["http-api/trailing-slash-status", "http-api/unknown-path", "http-api/unknown-method"] {
        scene.replay(name).await;
    }
    assert!(scene.functions.recorder.take().is_empty());
}

#[tokio::test]
async fn a_calls_line_names_its_job_and_is_found_from_lambdas_lines_and_the_trace() {
    let lines = LINES.clone();
    let scene = Scene::new().await;
    let mut of_this = context(Duration::from_secs(20));
    of_this.request_id = "f6f6f6f6-0000-4000-8000-000000000000".to_owned();
    answered(scene.functions.app().await, &scene.event("http-api/status"), of_this.clone()).await.ok();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line = text.lines().find(|line| line.contains(&of_this.request_id)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["message"], &line["status"]), (&json!("call"), &json!(200)));
    assert_eq!(line["span"]["lambda_request_id"], of_this.request_id);
    assert_eq!(line["span"]["trace_id"], "1-5759e988-bd862e3fe1be46a994272793");
    assert_eq!(line["span"]["job_id"], scene.values["JOB_ID"]);
    assert!(line["span"]["request_id"].is_string(), "{line}");
}
