//! The jobs: what is submitted, and what must come out.

use std::{path::Path, time::Duration};

use api::create::CreateJobRequest;
use client::{Client, RetryPolicy, retrying};
use rand::{Rng, rngs::StdRng};
use serde_json::json;

/// How patient the ingestion side is: two minutes at least, through every restart of the gateway.
pub(crate) const PATIENT: RetryPolicy =
    RetryPolicy { tries: 300, base: Duration::from_millis(100), cap: Duration::from_secs(1) };

/// What all jobs are of.
pub(crate) const CONTENT_TYPES: [&str; 2] = ["x-alpha", "x-beta"];

/// A job as its creator knows it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Under which it is created, and its file uploaded.
    pub(crate) key: String,
    /// What only its source says.
    pub(crate) token: String,
    source: String,
    /// How many bytes its result is filled up with.
    padding: usize,
    request: CreateJobRequest,
    /// The id that its creation was answered with.
    pub(crate) id: String,
}

impl Job {
    /// A job of some length that is not created yet.
    pub(crate) fn plan(dice: &mut StdRng, key: String) -> Self {
        let seconds = if dice.random_bool(0.2) { 4.0..8.0 } else { 0.05..1.5 };
        let priority = ["high", "normal", "low"][dice.random_range(0..3)];
        let seconds = dice.random_range(seconds);
        Self::planned(dice, key, seconds, priority)
    }

    /// A job that goes before others and takes long enough to be seen running.
    pub(crate) fn plan_long(dice: &mut StdRng, key: String) -> Self {
        Self::planned(dice, key, 8.0, "high")
    }

    fn planned(dice: &mut StdRng, key: String, seconds: f64, priority: &str) -> Self {
        let token = hex::encode(dice.random::<[u8; 16]>());
        let filling = "filling\n".repeat(dice.random_range(0..5000));
        // A few results are too large to be submitted in one request.
        let padding = if dice.random_bool(0.05) { 1_500_000 } else { dice.random_range(0..2000) };
        // A few options are too large for the job's own record.
        let note = "n".repeat(if dice.random_bool(0.1) { 500 } else { 5 });
        let steps = dice.random_range(1..5);
        let request = json!({
            "source_file_path": "",
            "content_type": CONTENT_TYPES[dice.random_range(0..2)],
            "ingestion_task_id": key,
            "priority": priority,
            "max_retries": 20,
            "task_options": {"steps": steps, "pause": seconds / f64::from(steps), "padding": padding, "note": note},
        });
        Self {
            source: format!("token: {token}\n{filling}"),
            token,
            padding,
            request: serde_json::from_value(request).unwrap(),
            key,
            id: String::new(),
        }
    }

    /// Uploads its source and creates it, as often as it takes, and notes its id.
    pub(crate) async fn create(&mut self, client: &Client, scratch: &Path) {
        let file = scratch.join(&self.key);
        std::fs::write(&file, &self.source).unwrap();
        let upload = || client.upload_file_as(&file, "source.txt", &self.key, &|_, _| ());
        let uploaded = retrying(&PATIENT, upload).await.unwrap();
        self.request.source_file_path = uploaded.source_file_path;
        self.id = self.create_again(client).await;
    }

    /// Creates it under the same key, and gives the id that is answered.
    pub(crate) async fn create_again(&self, client: &Client) -> String {
        let create = || client.create_job(&self.request, Some(&self.key));
        retrying(&PATIENT, create).await.unwrap().job_id
    }

    /// What its result must be.
    pub(crate) fn content(&self) -> String {
        format!("# Source {}\n{}", self.token, "x".repeat(self.padding))
    }
}
