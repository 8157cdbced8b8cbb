//! What each function's role allows against what its code does: no more and no less.

use std::collections::{BTreeMap, BTreeSet};

use api::{Access, Function, ROUTES};
use domain::Tried;
use serde_json::{Value, json};
use std::time::Duration;
use system_tests::{BUCKET, JOBS, sha256_hex};

use crate::{
    scene::{Grant, Scene},
    yaml::{of_type, properties, texts},
};

const NONE: Value = Value::Null;

/// What one policy of a role allows.
fn policy(function: &str, name: &str) -> BTreeSet<Grant> {
    let role = properties(function)["Role"].as_str().unwrap().strip_suffix(".Arn").unwrap().to_owned();
    let policies = properties(&role)["Policies"].as_array().unwrap();
    let policy = policies.iter().find(|policy| policy["PolicyName"] == name).unwrap();
    grants(&policy["PolicyDocument"])
}

fn grants(document: &Value) -> BTreeSet<Grant> {
    let mut all = BTreeSet::new();
    for statement in document["Statement"].as_array().unwrap() {
        // One that a condition decides on is `[condition, statement, nothing]`.
        let statement = statement.get(1).unwrap_or(statement);
        assert_eq!(statement["Effect"], "Allow");
        for resource in texts(&statement["Resource"]) {
            all.extend(texts(&statement["Action"]).into_iter().map(|action| (action, resource.clone())));
        }
    }
    all
}

fn functions() -> impl Iterator<Item = &'static str> {
    of_type("AWS::Serverless::Function").map(|(name, _)| name)
}

#[tokio::test]
async fn each_role_allows_what_the_function_does_and_nothing_else() {
    let mut scene = Scene::new().await;
    sources(&mut scene).await;
    idle(&mut scene).await;
    jobs(&mut scene).await;
    results(&mut scene).await;
    ends(&mut scene).await;
    management(&mut scene).await;
    let callable = ROUTES.iter().filter(|route| route.function != Function::Gateway);
    for route in callable.filter(|route| route.access != Access::Public) {
        assert!(
            scene.called.contains(&(route.method.to_string(), route.path)),
            "nobody called {}",
            route.path
        );
    }
    let allowed: BTreeMap<String, BTreeSet<Grant>> =
        functions().map(|name| (name.to_owned(), policy(name, "calls"))).collect();
    let mut wrong = Vec::new();
    for (function, allowed) in &allowed {
        let needed = scene.needed.get(function).cloned().unwrap_or_default();
        wrong.extend(needed.difference(allowed).map(|grant| format!("{function} lacks {grant:?}")));
        wrong.extend(allowed.difference(&needed).map(|grant| format!("{function} does not need {grant:?}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_role_lets_lambda_do_its_part_and_nothing_else() {
    let grant = |action: &str, resource: &str| (action.to_owned(), resource.to_owned());
    for function in functions() {
        let logs = format!("{function}Logs.Arn");
        let mut expected = BTreeSet::from([
            grant("logs:CreateLogStream", &logs),
            grant("logs:PutLogEvents", &logs),
            grant("xray:PutTraceSegments", "*"),
            grant("xray:PutTelemetryRecords", "*"),
        ]);
        if properties(function).get("DeadLetterQueue").is_some() {
            expected.insert(grant("sqs:SendMessage", "DeadLetters.Arn"));
        }
        if function == properties("DeliverAtOnce")["FunctionName"] {
            let actions = ["DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"];
            expected
                .extend(actions.map(|action| grant(&format!("dynamodb:{action}"), "${Table.Arn}/stream/*")));
        }
        assert_eq!(policy(function, "platform"), expected, "{function}");
    }
}

#[test]
fn no_action_is_a_pattern_and_no_resource_is_everything() {
    let mut documents = Vec::new();
    for (role, properties) in of_type("AWS::IAM::Role") {
        let policies = properties["Policies"].as_array().unwrap();
        assert!(properties.get("ManagedPolicyArns").is_none(), "{role}");
        documents.extend(policies.iter().map(|policy| (role, &policy["PolicyDocument"])));
    }
    assert_eq!(of_type("AWS::IAM::RolePolicy").count(), 0);
    for (name, document) in documents {
        for (action, resource) in grants(document) {
            assert!(!action.contains('*'), "{name}: {action}");
            // X-Ray knows no resources.
            assert!(resource != "*" || action.starts_with("xray:"), "{name}: {action} on {resource}");
        }
    }
}

#[tokio::test]
async fn the_row_of_an_end_is_what_the_stream_tells_of() {
    let mut scene = Scene::new().await;
    let id = created(&mut scene).await;
    scene.call("POST", &format!("{JOBS}/{id}/cancel"), "", &json!({})).await.ok();
    assert_eq!(scene.written_with_jobs.len(), 1);
    let filter = &properties("DeliverAtOnce")["FilterCriteria"]["Filters"][0]["Pattern"];
    let pattern: Value = serde_json::from_str(filter.as_str().unwrap()).unwrap();
    let prefix = pattern["dynamodb"]["Keys"]["pk"]["S"][0]["prefix"].as_str().unwrap();
    assert!(scene.written_with_jobs[0].starts_with(prefix));
}

/// Uploads, whole and in parts.
async fn sources(scene: &mut Scene) {
    let uploads = format!("{JOBS}/uploads");
    let large = json!({"filename": "a.mp4", "size_bytes": 100 << 20, "sha256": sha256_hex(b"large")});
    let place = scene.call("POST", &uploads, "", &large).await.ok();
    in_parts(scene, &format!("{uploads}/{}", place["upload_id"].as_str().unwrap()), "", &place).await;
}

/// Parts of an upload are signed; they are not put together, because none was uploaded; it is given up.
async fn in_parts(scene: &mut Scene, path: &str, lease: &str, place: &Value) {
    let named = |fields: Value| {
        let mut request = json!({
            "source_file_path": place["source_file_path"],
            "multipart_upload_id": place["multipart"]["multipart_upload_id"],
        });
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        request
    };
    let sha256 = sha256_hex(b"part");
    let part = json!({"parts": [{"part_number": 1, "size_bytes": 64 << 20, "sha256": sha256}]});
    scene.call("POST", &format!("{path}/parts"), lease, &named(part)).await.ok();
    let uploaded = json!({"parts": [{"part_number": 1, "etag": "\"e\"", "sha256": sha256}]});
    scene.call("POST", &format!("{path}/complete"), lease, &named(uploaded)).await.refused(422);
    scene.call("POST", &format!("{path}/abort"), lease, &named(json!({}))).await.ok();
}

/// Uploads a file and gives its path.
async fn uploaded(scene: &mut Scene, filename: &str) -> String {
    let file = json!({"filename": filename, "size_bytes": 5, "sha256": sha256_hex(b"bytes")});
    let place = scene.call("POST", &format!("{JOBS}/uploads"), "", &file).await.ok();
    scene.presigned(&place["put"], b"bytes").await;
    place["source_file_path"].as_str().unwrap().to_owned()
}

/// Task options that no row takes.
fn large_options() -> Value {
    json!({"text": "o".repeat(20_000)})
}

async fn created_with(scene: &mut Scene, fields: Value) -> (String, String) {
    let source = uploaded(scene, "a.pdf").await;
    let mut job = json!({
        "source_file_path": source, "content_type": "document", "ingestion_task_id": "task-1",
        "webhook_url": "https://hooks.example/",
    });
    job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let made = scene.call("POST", JOBS, "", &job).await.ok();
    (made["job_id"].as_str().unwrap().to_owned(), source)
}

async fn created(scene: &mut Scene) -> String {
    created_with(scene, json!({})).await.0
}

async fn poll(scene: &mut Scene) -> Value {
    let poll = json!({"worker_id": "gpu-1", "content_types": ["document"], "max_jobs": 1});
    scene.call("POST", &format!("{JOBS}/poll"), "", &poll).await.ok()
}

/// A job that a worker holds: its path and its lease token.
async fn claimed(scene: &mut Scene) -> (String, String) {
    created(scene).await;
    let answer = poll(scene).await;
    (
        format!("{JOBS}/{}", answer["job_id"].as_str().unwrap()),
        answer["lease_token"].as_str().unwrap().to_owned(),
    )
}

fn imported(status: &str) -> Value {
    json!({
        "job_id": uuid::Uuid::new_v4().to_string(), "status": status, "content_type": "document",
        "source_file_path": "/was/there.pdf", "ingestion_task_id": "task-2", "created_at": "2026-01-01T00:00:00Z",
        "result_data": {"content": "text", "metadata": {}},
    })
}

/// An idle worker finds where to wait for hints.
async fn idle(scene: &mut Scene) {
    let waits = json!({"worker_id": "gpu-1", "content_types": ["document", "image"], "hints": true});
    let answer = scene.call("POST", &format!("{JOBS}/poll"), "", &waits).await.ok();
    assert!(answer["hint_url"].is_string(), "{answer}");
    // Polls meet a job whose worker dies again and again: from the second time on it waits, and others are told until when.
    let id = created(scene).await;
    for _ in 0..2 {
        let answer = poll(scene).await;
        let (path, token) = (format!("{JOBS}/{id}"), answer["lease_token"].as_str().unwrap());
        let progress = json!({"percentage": 10, "message": "at it"});
        scene.call("PUT", &format!("{path}/progress"), token, &progress).await.ok();
        scene.world.advance(Duration::from_secs(70));
    }
    assert!(poll(scene).await["job_id"].is_null());
    scene.call("POST", &format!("{JOBS}/{id}/cancel"), "", &json!({})).await.ok();
}

/// Jobs come into being, are claimed and reported on.
pub(crate) async fn jobs(scene: &mut Scene) {
    // Options too large for a row, a page's URL, and a source that is not there.
    let (stored, _) = created_with(scene, json!({"task_options": large_options()})).await;
    assert_eq!(poll(scene).await["job_id"], stored);
    let page =
        json!({"source_file_path": "https://a.example/", "content_type": "web", "ingestion_task_id": "t"});
    scene.call("POST", JOBS, "", &page).await.ok();
    let (_, gone) = created_with(scene, json!({})).await;
    scene.lose(&gone).await;
    let job = json!({"source_file_path": gone, "content_type": "document", "ingestion_task_id": "t"});
    scene.call("POST", JOBS, "", &job).await.refused(422);
    // A worker that is given the job whose source is gone is told so.
    let answer = poll(scene).await;
    let path = format!("{JOBS}/{}", answer["job_id"].as_str().unwrap());
    let token = answer["lease_token"].as_str().unwrap();
    assert_eq!(scene.call("GET", &format!("{path}/download"), token, &NONE).await.status / 100, 4);
    // A client of the original system asks by a query.
    let query = format!("{JOBS}/poll?worker_id=gpu-1&content_types=audio,video");
    scene.call("GET", &query, "", &NONE).await.ok();
    // Options that are gone are passed over.
    let (id, _) = created_with(scene, json!({"task_options": large_options()})).await;
    scene.lose(&format!("options/t/{id}.json")).await;
    assert!(poll(scene).await["job_id"].is_null());
    scene.call("POST", &format!("{JOBS}/{id}/cancel"), "", &json!({})).await.ok();
    // Jobs of the original system, ended and not.
    scene.call("POST", &format!("{JOBS}/import"), "", &imported("completed")).await.ok();
    let mut open = imported("pending");
    open["source_file_path"] = uploaded(scene, "b.pdf").await.into();
    open["content_type"] = "image".into();
    open["task_options"] = large_options();
    scene.call("POST", &format!("{JOBS}/import"), "", &open).await.ok();
    // Progress, as long as the job is held and afterwards.
    let (path, token) = claimed(scene).await;
    scene.call("GET", &format!("{path}/download"), &token, &NONE).await.ok();
    let progress = json!({"percentage": 10, "message": "at it"});
    scene.call("PUT", &format!("{path}/progress"), &token, &progress).await.ok();
    scene.call("GET", &format!("{path}/status"), "", &NONE).await.ok();
    scene.call("POST", &format!("{path}/cancel"), "", &json!({})).await.ok();
    scene.call("PUT", &format!("{path}/progress"), &token, &progress).await;
}

/// Jobs end by what their workers say.
async fn results(scene: &mut Scene) {
    let (path, token) = claimed(scene).await;
    scene
        .call("PUT", &format!("{path}/result"), &token, &json!({"success": true, "content": "text"}))
        .await
        .ok();
    scene.call("GET", &format!("{path}/status"), "", &NONE).await.ok();
    let url = scene.call("GET", &format!("{path}/result"), "", &NONE).await.ok();
    let key = url.as_str().unwrap().split(&format!("/{BUCKET}/")).nth(1).unwrap().split('?').next().unwrap();
    scene.lose(key).await;
    scene.call("GET", &format!("{path}/result"), "", &NONE).await.refused(404);
    let (path, token) = claimed(scene).await;
    // A large result in one request, announced and not uploaded, and in parts.
    let place = |size: u64| json!({"size_bytes": size, "sha256": sha256_hex(b"bytes")});
    let upload = format!("{path}/result-upload");
    let put = scene.call("POST", &upload, &token, &place(5)).await.ok();
    let submitted = json!({"success": true, "result_key": put["source_file_path"]});
    scene.call("PUT", &format!("{path}/result"), &token, &submitted).await.refused(422);
    let parts = scene.call("POST", &upload, &token, &place(100 << 20)).await.ok();
    in_parts(scene, &upload, &token, &parts).await;
    scene.presigned(&put["put"], b"bytes").await;
    scene.call("PUT", &format!("{path}/result"), &token, &submitted).await.ok();
    let (path, token) = claimed(scene).await;
    scene.call("POST", &format!("{path}/release"), &token, &json!({})).await.ok();
    scene.call("POST", &format!("{path}/cancel"), "", &json!({})).await.ok();
}

/// Jobs end because their time is over, and their webhooks are told.
pub(crate) async fn ends(scene: &mut Scene) {
    // One that a poll meets and one that a sweep meets: the limit of the whole job lies before that of its lease.
    for _ in 0..2 {
        created_with(scene, json!({"total_timeout_seconds": 60, "max_retries": 0})).await;
    }
    scene.world.advance(Duration::from_secs(120));
    while poll(scene).await["job_id"].is_string() {}
    created_with(scene, json!({"total_timeout_seconds": 60})).await;
    scene.world.advance(Duration::from_secs(120));
    scene.sweep().await;
    let delivered = scene.deliver(Tried::Refused("it is gone".to_owned())).await;
    assert!(delivered.dead > 0);
    let events = scene.call("GET", "/api/v1/events", "", &NONE).await.ok();
    let id = events["events"][0]["event_id"].as_str().unwrap();
    scene.call("POST", &format!("/api/v1/events/{id}/redrive"), "", &json!({})).await.ok();
    assert_eq!(scene.deliver(Tried::Taken).await.delivered, 1);
}

/// What an operator and the ingestion service do with jobs and queues.
async fn management(scene: &mut Scene) {
    for path in [
        JOBS.to_owned(),
        format!("{JOBS}?ingestion_task_id=task-1"),
        format!("{JOBS}/statistics"),
        "/api/v1/remote-workers".to_owned(),
        "/api/v1/webhook-secret".to_owned(),
    ] {
        scene.call("GET", &path, "", &NONE).await.ok();
    }
    scene.call("DELETE", "/api/v1/remote-workers/w", "", &NONE).await.ok();
    scene.call("POST", "/api/v1/webhook-secret/rotate", "", &json!({})).await.ok();
    for verb in ["pause", "resume"] {
        scene.call("POST", &format!("/api/v1/queues/document/{verb}"), "", &json!({})).await.ok();
    }
    // An ended job is sent back, ends again, is not sent back without its source, and is deleted.
    let (id, source) =
        created_with(scene, json!({"task_options": large_options(), "ingestion_task_id": "task-3"})).await;
    let path = format!("{JOBS}/{id}");
    scene.call("POST", &format!("{path}/cancel"), "", &json!({})).await.ok();
    scene.call("POST", &format!("{path}/retry"), "", &json!({})).await.ok();
    let mut answer = poll(scene).await;
    // Others of the queue come first.
    while answer["job_id"] != id {
        assert!(answer["job_id"].is_string());
        answer = poll(scene).await;
    }
    let token = answer["lease_token"].as_str().unwrap();
    scene
        .call("PUT", &format!("{path}/result"), token, &json!({"success": true, "content": "text"}))
        .await
        .ok();
    scene.call("DELETE", &path, "", &NONE).await.ok();
    let (id, source_of_another) = created_with(scene, json!({})).await;
    assert_ne!(source, source_of_another);
    scene.call("POST", &format!("{JOBS}/{id}/cancel"), "", &json!({})).await.ok();
    scene.lose(&source_of_another).await;
    assert_eq!(scene.call("POST", &format!("{JOBS}/{id}/retry"), "", &json!({})).await.status / 100, 4);
}
