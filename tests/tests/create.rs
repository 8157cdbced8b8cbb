//! `POST /`: new jobs.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use system_tests::{Answer, JOBS, Site, refusals, snapshot};

/// A creation with these fields in place of its own. Null leaves one out, as it does on the wire.
fn with(source: &str, fields: &Value) -> Value {
    let mut job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "task-1"});
    for (name, value) in fields.as_object().into_iter().flatten() {
        job[name] = value.clone();
    }
    job
}

#[tokio::test]
async fn a_job_is_created_from_an_upload() {
    let site = Site::start().await;
    let source = site.ingest.upload("talk.mp3", b"sound").await;
    let created = site.ingest.post(JOBS, &with(&source, &json!({}))).await;
    let status = site.status(created.ok()["job_id"].as_str().unwrap()).await;
    snapshot!(json!({"created": created.shown(), "status": status}));
}

#[tokio::test]
async fn every_field_counts() {
    let site = Site::start().await;
    let fields = json!({
        "task_options": {"language": "de", "chunk": 3},
        "timeout_seconds": 1200.0,
        "queue_timeout_seconds": 600,
        "total_timeout_seconds": 7200,
        "fallback_to_local": true,
        "priority": "high",
        "max_retries": 0,
    });
    let claim = site.claimed_job(&fields).await;
    let granted = claim.answer.ok();
    assert_eq!(granted["task_options"], fields["task_options"]);
    assert_eq!(granted["run_timeout_seconds"], 1200);
    assert_eq!(site.status(&claim.job_id).await["max_retries"], 0);
}

#[tokio::test]
async fn null_and_empty_mean_absent_and_unknown_fields_are_ignored() {
    let site = Site::start().await;
    let fields = json!({
        "task_options": null, "timeout_seconds": null, "queue_timeout_seconds": "", "priority": "",
        "fallback_to_local": null, "max_retries": "", "some_later_field": {"deep": [1]}, "webhook": 7,
    });
    let claim = site.claimed_job(&fields).await;
    let granted = claim.answer.ok();
    assert_eq!((&granted["task_options"], &granted["run_timeout_seconds"]), (&json!({}), &json!(3600)));
    assert_eq!(site.status(&claim.job_id).await["max_retries"], 3);
}

#[tokio::test]
async fn a_bad_creation_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    let source = site.ingest.upload("talk.mp3", b"sound").await;
    let place = site.ingest.place("late.mp3", b"never sent").await;
    let other = site.client("other", &["ingest"]).await.upload("theirs.mp3", b"theirs").await;
    let text = |body: &str| site.ingest.posting_text(JOBS, body);
    let field = |fields: Value| site.ingest.posting(JOBS, &with(&source, &fields));
    let options = json!({"task_options": {"text": "x".repeat(300 << 10)}});
    snapshot!(
        refusals([
            ("body: malformed", text("{\"source_file_path\": ")),
            ("body: NaN", text("{\"timeout_seconds\": NaN}")),
            ("body: no object", text("[1]")),
            ("body: none", site.ingest.request(reqwest::Method::POST, JOBS)),
            (
                "body: not JSON",
                site.ingest
                    .request(reqwest::Method::POST, JOBS)
                    .header("content-type", "text/plain")
                    .body("{}")
            ),
            ("body: too large", text(&format!("{{\"x\": \"{}\"}}", "x".repeat(1 << 20)))),
            ("source_file_path: missing", field(json!({"source_file_path": null}))),
            ("source_file_path: empty", field(json!({"source_file_path": ""}))),
            ("source_file_path: a number", field(json!({"source_file_path": 5}))),
            (
                "source_file_path: not uploaded yet",
                field(json!({"source_file_path": place["source_file_path"]}))
            ),
            ("source_file_path: another tenant's", field(json!({"source_file_path": other}))),
            ("source_file_path: relative", field(json!({"source_file_path": "talk.mp3"}))),
            (
                "source_file_path: out of its tenant",
                field(json!({"source_file_path": "sources/default/../x"}))
            ),
            ("source_file_path: local without roots", field(json!({"source_file_path": "/etc/passwd"}))),
            (
                "source_file_path: a URL of audio",
                field(json!({"source_file_path": "https://example.org/a.mp3"}))
            ),
            (
                "source_file_path: a URL with a space",
                field(json!({"source_file_path": "https://example.org/a b", "content_type": "web"}))
            ),
            ("content_type: missing", field(json!({"content_type": null}))),
            ("content_type: unknown", field(json!({"content_type": "music"}))),
            ("content_type: a list", field(json!({"content_type": ["audio"]}))),
            ("content_type: custom, upper case", field(json!({"content_type": "x-Own"}))),
            ("task_options: a list", field(json!({"task_options": [1]}))),
            ("task_options: a text", field(json!({"task_options": "fast"}))),
            ("task_options: too large", field(options)),
            ("ingestion_task_id: missing", field(json!({"ingestion_task_id": null}))),
            ("ingestion_task_id: a number", field(json!({"ingestion_task_id": 12}))),
            ("ingestion_task_id: two lines", field(json!({"ingestion_task_id": "a\nb"}))),
            ("ingestion_task_id: too long", field(json!({"ingestion_task_id": "x".repeat(256)}))),
            ("timeout_seconds: zero", field(json!({"timeout_seconds": 0}))),
            ("timeout_seconds: negative", field(json!({"timeout_seconds": -1}))),
            ("timeout_seconds: a fraction", field(json!({"timeout_seconds": 1.5}))),
            ("timeout_seconds: a text", field(json!({"timeout_seconds": "60"}))),
            ("timeout_seconds: two days", field(json!({"timeout_seconds": 172_800}))),
            ("queue_timeout_seconds: huge", field(json!({"queue_timeout_seconds": 1e300}))),
            ("total_timeout_seconds: a list", field(json!({"total_timeout_seconds": [60]}))),
            ("fallback_to_local: a text", field(json!({"fallback_to_local": "yes"}))),
            ("priority: unknown", field(json!({"priority": "urgent"}))),
            ("max_retries: too many", field(json!({"max_retries": 21}))),
        ])
        .await
    );
}

#[tokio::test]
async fn a_file_under_a_source_root_is_copied_as_it_is_at_the_creation() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Vortrag äöü.mp3");
    std::fs::write(&file, "as it was").unwrap();
    let site = Site::with_root(folder.path()).await;
    site.ingest.post(JOBS, &with(file.to_str().unwrap(), &json!({}))).await.ok();
    std::fs::write(&file, "changed since").unwrap();
    let claim = site.claim("gpu-1").await;
    let source = site.worker.get(claim.answer.ok()["download"]["url"].as_str().unwrap()).await;
    snapshot!(source.shown());
}

#[tokio::test]
async fn a_file_outside_the_source_roots_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(folder.path().join("outside.mp3"), "outside").unwrap();
    symlink("../outside.mp3", root.join("link.mp3")).unwrap();
    symlink(folder.path(), root.join("up")).unwrap();
    let site = Site::with_root(&root).await;
    let named =
        |name: &str| site.ingest.posting(JOBS, &with(&format!("{}/{name}", root.display()), &json!({})));
    snapshot!(
        refusals([
            ("another folder", site.ingest.posting(JOBS, &with("/etc/passwd", &json!({})))),
            ("dots out of the root", named("../outside.mp3")),
            ("a link out of the root", named("link.mp3")),
            ("a linked folder out of the root", named("up/outside.mp3")),
            ("no such file", named("none.mp3")),
            ("the root itself", named("")),
            ("a NUL in the name", named("a\0b.mp3")),
        ])
        .await
    );
}

#[tokio::test]
async fn a_url_becomes_a_text_for_the_worker_to_download() {
    let site = Site::start().await;
    for (content_type, url) in [
        ("web", "https://example.org/page?q=1"),
        ("youtube", "https://youtu.be/x"),
        ("x-own", "http://x.test/"),
    ] {
        site.ingest.post(JOBS, &with(url, &json!({"content_type": content_type}))).await.ok();
        let poll = json!({"worker_id": "w", "content_types": [content_type]});
        let claim = site.worker.post(&format!("{JOBS}/poll"), &poll).await.ok();
        assert_eq!(claim["download"]["filename"], "url.txt");
        let source = site.worker.get(claim["download"]["url"].as_str().unwrap()).await;
        assert_eq!(source.text(), url);
    }
}

#[tokio::test]
async fn a_repeated_creation_is_answered_with_the_same_job() {
    let site = Site::start().await;
    let source = site.ingest.upload("talk.mp3", b"sound").await;
    let create = |key: &str, fields: Value| {
        Answer::to(
            site.ingest.posting(JOBS, &with(&source, &fields)).header("Idempotency-Key", key.to_owned()),
        )
    };
    let first = create("order-1", json!({})).await.ok();
    site.claim("gpu-1").await;
    let second = create("order-1", json!({})).await.ok();
    assert_eq!(
        (&second["job_id"], &second["created_at"]),
        (&first["job_id"], &first["created_at"]),
        "another job"
    );
    assert_eq!((&first["status"], &second["status"]), (&json!("pending"), &json!("processing")));
    assert_ne!(create("order-2", json!({})).await.ok()["job_id"], first["job_id"]);
    snapshot!(json!({
        "another request": create("order-1", json!({"priority": "high"})).await.refusal(),
        "too long a key": create(&"k".repeat(256), json!({})).await.refusal(),
    }));
    let without = create("", json!({})).await.ok();
    assert_ne!(without["job_id"], create("", json!({})).await.ok()["job_id"], "an empty key is none");
}

#[tokio::test]
async fn an_idempotency_key_means_another_job_to_another_tenant() {
    let site = Site::start().await;
    let other = site.client("other", &["ingest"]).await;
    let mut jobs = Vec::new();
    for client in [&site.ingest, &other] {
        let source = client.upload("talk.mp3", b"sound").await;
        let request = client.posting(JOBS, &with(&source, &json!({}))).header("Idempotency-Key", "same");
        jobs.push(Answer::to(request).await.ok()["job_id"].clone());
    }
    assert_ne!(jobs[0], jobs[1]);
}
