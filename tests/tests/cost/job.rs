//! The life of a job, lived through the functions and counted.

use std::time::Duration;

use domain::Tried;
use serde_json::{Value, json};
use service::{Courier, Message};
use system_tests::{Functions, JOBS, sha256_hex};

use crate::{
    inputs::{Inputs, Job},
    spent::Spent,
};

/// What is uploaded in the place of a source: how large it is changes no count.
const SOURCE: &[u8] = b"a source";

/// A step of a life: what it is, how often it comes, and what was spent on all of it.
pub(crate) struct Step {
    pub(crate) what: &'static str,
    pub(crate) times: u32,
    pub(crate) spent: Spent,
}

struct Life<'a> {
    inputs: &'a Inputs,
    functions: Functions,
    steps: Vec<Step>,
}

/// Takes every message.
pub(crate) struct Takes;

#[async_trait::async_trait]
impl Courier for Takes {
    async fn carry(&self, _: &Message) -> Tried {
        Tried::Taken
    }
}

/// The steps of a job that is asked about, created, claimed, reported on and ended, with a webhook that is told.
pub(crate) async fn steps(inputs: &Inputs, job: &Job) -> Vec<Step> {
    let mut life = Life { inputs, functions: Functions::new().await, steps: Vec::new() };
    // A tenant's secret is made once, by whoever asks for it first.
    life.functions.call("GET", "/api/v1/webhook-secret", "", &Value::Null).await.ok();
    // A worker waits already, and is told of the job by a hint.
    life.functions.call("POST", &format!("{JOBS}/poll"), "", &poll(job)).await.ok();
    life.ask(job).await;
    let source = life.upload(job).await;
    let claimed = life.create_and_claim(job, &source).await;
    let path = format!("{JOBS}/{}", claimed["job_id"].as_str().unwrap());
    let token = claimed["lease_token"].as_str().unwrap();
    life.download(job);
    life.heartbeats(job, &path, token, &claimed).await;
    life.end(job, &path, token).await;
    life.steps
}

fn poll(job: &Job) -> Value {
    json!({
        "worker_id": "gpu-1", "content_types": [job.content_type.as_str()], "lease_seconds": 60, "hints": true,
    })
}

/// What was spent on all steps.
pub(crate) fn whole(steps: &[Step]) -> Spent {
    let mut whole = Spent::default();
    steps.iter().for_each(|step| whole += &step.spent);
    whole
}

impl Life<'_> {
    fn step(&mut self, what: &'static str, times: u32, spent: Spent) {
        self.steps.push(Step { what, times, spent });
    }

    /// Makes a call, notes it as a step, and gives its answer.
    async fn call(
        &mut self,
        what: &'static str,
        method: &str,
        path: &str,
        lease: &str,
        body: &Value,
    ) -> Value {
        let called = self.functions.call(method, path, lease, body).await;
        let spent = Spent::call(self.inputs, &called);
        self.step(what, 1, spent);
        called.ok()
    }

    /// The ingestion side asks, before it uploads anything, whether somebody would convert it soon.
    async fn ask(&mut self, job: &Job) {
        let of_type = format!("content_type={}", job.content_type.as_str());
        let workers = format!("/api/v1/remote-workers?{of_type}");
        let known = self.call("the ingestion side asks for workers", "GET", &workers, "", &Value::Null).await;
        assert_eq!(known["workers"][0]["live"], true);
        let queue = format!("{JOBS}/statistics?{of_type}");
        self.call("and how long the queue is", "GET", &queue, "", &Value::Null).await;
    }

    async fn upload(&mut self, job: &Job) -> String {
        let file = json!({
            "filename": format!("{}.bin", job.name), "size_bytes": SOURCE.len(), "sha256": sha256_hex(SOURCE),
        });
        let place = self.call("a place to upload to", "POST", &format!("{JOBS}/uploads"), "", &file).await;
        self.functions.presigned(&place["put"], SOURCE).await;
        self.step("the source is uploaded", 1, Spent { s3_puts: 1.0, ..Spent::default() });
        place["source_file_path"].as_str().unwrap().to_owned()
    }

    async fn create_and_claim(&mut self, job: &Job, source: &str) -> Value {
        let wanted = json!({
            "source_file_path": source, "content_type": job.content_type.as_str(),
            "ingestion_task_id": "0193a5c2-7f3e-7c5a-9d5e-2f6f3a0c1b11",
            "task_options": {"use_docling": false, "store_in_vector_db": true, "fallback_to_local": true},
            "webhook_url": "https://ingest.example.org/api/v1/remote-jobs/webhook",
        });
        self.call("the job is created", "POST", JOBS, "", &wanted).await;
        let poll = poll(job);
        self.call("a poll claims it", "POST", &format!("{JOBS}/poll"), "", &poll).await
    }

    fn download(&mut self, job: &Job) {
        let leaves = if self.inputs.workload.worker_is_outside { job.source_bytes } else { 0.0 };
        self.step(
            "the source is downloaded",
            1,
            Spent { s3_gets: 1.0, file_bytes: leaves, ..Spent::default() },
        );
    }

    /// The worker reports as often as it is told to, for as long as the conversion takes.
    async fn heartbeats(&mut self, job: &Job, path: &str, token: &str, claimed: &Value) {
        let every = |answer: &Value| answer["report_every_seconds"].as_u64().unwrap();
        let (mut spent, mut times, mut elapsed) = (Spent::default(), 0, 0);
        let mut pause = every(claimed);
        while elapsed + pause < job.run_seconds {
            self.functions.world.advance(Duration::from_secs(pause));
            elapsed += pause;
            let progress =
                json!({"percentage": 100 * elapsed / job.run_seconds, "message": "Converting the source"});
            let called = self.functions.call("PUT", &format!("{path}/progress"), token, &progress).await;
            spent += &Spent::call(self.inputs, &called);
            times += 1;
            pause = every(&called.ok());
        }
        self.step("heartbeats", times, spent);
    }

    async fn end(&mut self, job: &Job, path: &str, token: &str) {
        let result = json!({"success": true, "content": "t".repeat(job.result_bytes)});
        self.call("the result is submitted", "PUT", &format!("{path}/result"), token, &result).await;
        let poll = poll(job);
        self.call("the next poll finds nothing", "POST", &format!("{JOBS}/poll"), "", &poll).await;
        let (delivered, seen, units) = self.functions.deliver(&Takes).await;
        assert_eq!(delivered.delivered, 1);
        let mut told = Spent::invocation(self.inputs, "deliver-events", &seen, units);
        // The receiver's answer is waited for as well.
        let alone = Spent::invocation(self.inputs, "deliver-events", &[], store::Units::default());
        let mut waiting = Spent::default();
        waiting.runs(self.inputs, "deliver-events", self.inputs.workload.webhook_ms);
        told.gb_seconds += waiting.gb_seconds - alone.gb_seconds;
        self.step("the webhook is told", 1, told);
        for _ in 0..self.inputs.workload.status_calls {
            self.call("a status is asked for", "GET", &format!("{path}/status"), "", &Value::Null).await;
        }
        self.call("the result is asked for", "GET", &format!("{path}/result"), "", &Value::Null).await;
        self.step("the result is taken", 1, Spent { s3_gets: 1.0, ..Spent::default() });
    }
}
