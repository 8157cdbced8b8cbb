//! A client of the original system, unchanged.

use serde_json::{Value, json};
use system_tests::python;

use crate::tenant::Tenant;

#[tokio::test(flavor = "multi_thread")]
async fn a_converter_of_the_original_takes_a_job_and_completes_it() {
    let tenant = Tenant::new().await;
    let job = tenant.job(&json!({"task_options": {"language": null}})).await;
    let both = tenant.client(&["ingest", "worker"]).await;
    let mut command = python("legacy/client.py");
    command.arg(&tenant.deployment.base).env("MORAG_API_KEY", both.key());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let day: Value = serde_json::from_slice(&output.stdout).unwrap();
    let polled = &day["poll"]["body"];
    let path = format!("/api/v1/remote-jobs/{job}/download");
    assert_eq!(
        polled,
        &json!({
            "job_id": job, "source_file_url": path, "content_type": "audio", "task_options": {"language": null},
        }),
        "the four fields of the original and no token"
    );
    let download = &day["download"];
    assert_eq!((&download["status"], &download["content"]), (&200.into(), &"sound".into()), "{download}");
    assert_eq!((&download["redirects"], &download["filename"]), (&json!([307]), &"talk.mp3".into()));
    assert_eq!(day["progress"]["body"]["success"], true);
    assert_eq!(day["status while it runs"]["body"]["percentage"], 52);
    assert_eq!(day["result"]["body"]["status"], "completed");
    assert_eq!(day["status at the end"]["body"]["status"], "completed");
    assert_eq!(tenant.result(&job).await["content"], "# Talk");
}

/// As the original's ingestion service does, whose path ends with a slash.
#[tokio::test(flavor = "multi_thread")]
async fn an_ingestion_service_of_the_original_creates_a_job() {
    let tenant = Tenant::new().await;
    let source = tenant.upload("Vortrag 1.mp3", b"sound").await;
    let job = json!({
        "source_file_path": source, "content_type": "audio", "ingestion_task_id": "task-1",
        "task_options": {"webhook_url": "https://ingestion.example/hook", "language": null},
    });
    let request = tenant.ingest.posting("/api/v1/remote-jobs/", &job);
    let created = crate::tenant::answer(request).await.ok();
    assert_eq!(created["status"], "pending");
    assert_eq!(tenant.claim().await.job_id, created["job_id"].as_str().unwrap());
}
