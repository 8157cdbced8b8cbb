//! The original's remote converter and this one on one queue.

#![allow(clippy::unwrap_used, reason = "what a helper meets unexpectedly is a failed test")]

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use system_tests::{Client, ConverterProgram, JOBS, Site, python};

const COUNT: usize = 30;

struct Original(Child);

impl Original {
    fn start(url: &str, key: &str) -> Self {
        let mut command = python("legacy/worker.py");
        command.args([url, "original", "x-copy"]).env("MORAG_API_KEY", key);
        Self(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap())
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn create(client: &Client, number: usize) -> String {
    let source = client.upload(&format!("{number}.txt"), format!("text {number}").as_bytes()).await;
    let job = json!({"source_file_path": source, "content_type": "x-copy", "ingestion_task_id": "t"});
    client.post(JOBS, &job).await.ok()["job_id"].as_str().unwrap().to_owned()
}

/// The job's status when it has ended.
async fn ended(client: &Client, id: &str) -> Value {
    loop {
        let status = client.get(&format!("{JOBS}/{id}/status")).await.ok();
        if status["status"] != "pending" && status["status"] != "processing" {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_share_a_queue_and_each_job_ends_once() {
    let site = Site::with(|_| {}).await;
    let client = site.client("default", &["ingest", "worker"]).await;
    let url = site.gateway.public_url.clone();
    let home = tempfile::tempdir().unwrap();
    // Slow enough that the other one gets its share.
    let description = "name: copy\ncontent_types: [x-copy]\ncommand: [sh, -c, 'sleep 0.1; cat \"$1\"', sh, '{input}']\n\
                       result: {format: markdown, from: stdout}\n";
    std::fs::write(home.path().join("copy.yaml"), description).unwrap();
    let settings = format!(
        "worker_id: this\napi_base_url: {url}\ncontent_types: [x-copy]\npoll_interval: 1\ntemp_dir: temp\n\
         converters: [copy.yaml]\nmax_concurrent_jobs: 2\n"
    );
    let mut jobs = Vec::new();
    for number in 0..COUNT {
        jobs.push(create(&client, number).await);
    }
    let key = client.key().to_owned();
    let _original = Original::start(&url, &key);
    let mut converter = ConverterProgram::start(home.path(), &settings, &[("MORAG_API_KEY", &key)]);

    let mut by_this = 0;
    for (number, job) in jobs.iter().enumerate() {
        let status = ended(&client, job).await;
        assert_eq!((&status["status"], &status["retry_count"]), (&json!("completed"), &json!(0)), "{status}");
        assert_eq!(status["attempts"].as_array().unwrap().len(), 1, "{status}");
        let result = client.get(&client.get(&format!("{JOBS}/{job}/result")).await.location()).await.json();
        assert_eq!(result["content"].as_str().unwrap().trim(), format!("text {number}"));
        by_this += usize::from(status["worker_id"] == "this");
        assert!(status["worker_id"] == "this" || status["worker_id"] == "original", "{status}");
    }
    assert!(by_this > 0 && by_this < COUNT, "{by_this} of {COUNT} were done by this one");
    converter.signal("TERM");
    assert_eq!(converter.ended().code(), Some(0), "{}", converter.log());
}
