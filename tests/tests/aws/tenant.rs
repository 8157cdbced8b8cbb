//! Somebody who uses the stack, and whom no other test knows.

use std::process::Command;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use system_tests::{Answer, Claim, Client, JOBS, binary, sha256_hex};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{LOOK, PATIENCE, SCHEDULED, deployment::Deployment, until};

/// A tenant with a key for each side.
pub(crate) struct Tenant {
    pub(crate) deployment: Deployment,
    pub(crate) name: String,
    /// Uploads, creates, reads and ends jobs.
    pub(crate) ingest: Client,
    /// Takes and runs jobs.
    pub(crate) worker: Client,
}

/// The answer to a request, which is repeated for as long as it is answered that now is no time for it.
pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = Answer::to(request.try_clone().unwrap()).await;
        if !matches!(answer.status, 429 | 503) || Instant::now() > end {
            return answer;
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Tenant {
    /// A new one of the stack of `STACK_OUTPUTS`.
    pub(crate) async fn new() -> Self {
        Self::of(Deployment::find().await).await
    }

    /// A new one of this stack.
    pub(crate) async fn of(deployment: Deployment) -> Self {
        let name = format!("test-{}", Uuid::new_v4().simple());
        let (ingest, worker) =
            tokio::join!(key(&deployment, &name, &["ingest"]), key(&deployment, &name, &["worker"]));
        Self { deployment, name, ingest, worker }
    }

    /// A client with a key of this tenant with these scopes.
    pub(crate) async fn client(&self, scopes: &[&str]) -> Client {
        key(&self.deployment, &self.name, scopes).await
    }

    /// Ends the key of a client by the command line.
    pub(crate) async fn revoke(&self, client: &Client) {
        let id = client.key().split_once('.').unwrap().0;
        table_keys(&["--json", "keys", "--table", &self.deployment.table, "revoke", id]).await;
    }

    /// Creates an audio job of a small upload, with these fields besides, and gives its id.
    pub(crate) async fn job(&self, fields: &Value) -> String {
        let source = self.upload("talk.mp3", b"sound").await;
        let mut job =
            json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "task-1"});
        job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let created = answer(self.ingest.posting(JOBS, &job)).await.ok();
        created["job_id"].as_str().unwrap().to_owned()
    }

    /// Uploads a file and gives the `source_file_path` to name in a job.
    pub(crate) async fn upload(&self, filename: &str, bytes: &[u8]) -> String {
        let file = json!({"filename": filename, "size_bytes": bytes.len(), "sha256": sha256_hex(bytes)});
        let place = answer(self.ingest.posting(&format!("{JOBS}/uploads"), &file)).await.ok();
        let put = self.ingest.presigned(&place["put"], bytes.to_vec()).await;
        assert_eq!(put.status, 200, "{}", put.text());
        place["source_file_path"].as_str().unwrap().to_owned()
    }

    /// Polls once for audio, under a lease of 20 seconds.
    pub(crate) async fn poll(&self) -> Answer {
        let poll = json!({"worker_id": "gpu-1", "content_types": ["audio"], "lease_seconds": 20});
        answer(self.worker.posting(&format!("{JOBS}/poll"), &poll)).await
    }

    /// Takes the next audio job, as soon as a poll is given one.
    pub(crate) async fn claim(&self) -> Claim {
        until("a poll is given a job", PATIENCE, async || {
            let answer = self.poll().await;
            let granted = answer.ok();
            let job_id = granted["job_id"].as_str()?.to_owned();
            Some(Claim { job_id, token: granted["lease_token"].as_str()?.to_owned(), answer })
        })
        .await
    }

    /// Creates a job and takes it.
    pub(crate) async fn claimed_job(&self, fields: &Value) -> Claim {
        let job = self.job(fields).await;
        let claim = self.claim().await;
        assert_eq!(claim.job_id, job);
        claim
    }

    /// Makes a call on a claimed job under its lease, with a JSON body unless it is null.
    pub(crate) async fn leased(&self, claim: &Claim, method: Method, verb: &str, body: &Value) -> Answer {
        let path = format!("{JOBS}/{}/{verb}", claim.job_id);
        let request = self.worker.request(method, &path).header("Lease-Token", &claim.token);
        answer(if body.is_null() { request } else { request.json(body) }).await
    }

    /// Reports 10 % under a claim.
    pub(crate) async fn heartbeat(&self, claim: &Claim) -> Answer {
        self.leased(claim, Method::PUT, "progress", &json!({"percentage": 10, "message": "at it"})).await
    }

    /// Makes a call of the ingestion side on a job.
    pub(crate) async fn managed(&self, method: Method, job: &str, verb: &str) -> Answer {
        answer(self.ingest.request(method, format!("{JOBS}/{job}/{verb}").trim_end_matches('/'))).await
    }

    /// Where a job stands.
    pub(crate) async fn status(&self, job: &str) -> Value {
        self.managed(Method::GET, job, "status").await.ok()
    }

    /// Waits until a job has this status, and gives all of it. A converter that missed a hint hears of it again by the
    /// schedule.
    pub(crate) async fn has_status(&self, job: &str, status: &str) -> Value {
        until(&format!("the job is {status}"), SCHEDULED, async || {
            let found = self.status(job).await;
            (found["status"] == status).then_some(found)
        })
        .await
    }

    /// What a job became, fetched where its redirect leads.
    pub(crate) async fn result(&self, job: &str) -> Value {
        let redirect = self.managed(Method::GET, job, "result").await;
        self.ingest.get(&redirect.location()).await.ok()
    }
}

/// A client with a new key, made by the command line in the stack's table.
async fn key(deployment: &Deployment, tenant: &str, scopes: &[&str]) -> Client {
    let mut arguments =
        vec!["--json", "keys", "--table", &deployment.table, "create", "test", "--tenant", tenant];
    arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let made = table_keys(&arguments).await;
    Client::new(&deployment.base).keyed(made["api_key"].as_str().unwrap())
}

/// What the command line answered as JSON that needs no server but the table.
async fn table_keys(arguments: &[&str]) -> Value {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let run = move || Command::new(binary("remote-jobs")).args(&arguments).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "remote-jobs: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
