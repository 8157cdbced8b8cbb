//! Several gateways over one DynamoDB table and one S3 bucket, as on premises: `gateway --aws`.

#![allow(clippy::unwrap_used, reason = "what a test meets unexpectedly is a failed test")]

use std::path::Path;

use engines::Engines;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Client, EngineServer, GatewayProgram, JOBS, Receiver, binary, free_port};
use tokio::process::Command;

/// DynamoDB and S3 on loopback, and the variables that lead there.
struct Aws {
    server: EngineServer,
    variables: Vec<(String, String)>,
}

impl Aws {
    async fn new() -> Self {
        // The engines answer on this thread, which must not wait for a compiler.
        tokio::task::spawn_blocking(|| ["gateway", "remote-jobs"].map(binary)).await.unwrap();
        let engines = Engines::in_memory().unwrap();
        let (id, secret) = {
            let key = engines.s3_credentials();
            (key.access_key_id().to_owned(), key.secret_access_key().to_owned())
        };
        let server = EngineServer::start(engines).await;
        let variables = [
            ("AWS_ENDPOINT_URL", server.url()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", id),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("MORAG_TABLE", "jobs".to_owned()),
            ("MORAG_BUCKET", "handoff".to_owned()),
            ("MORAG_WEBHOOK_NETWORKS", "127.0.0.0/8".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { server, variables }
    }

    /// The variables, with this one changed.
    fn with<'a>(&'a self, name: &str, value: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for variable in &mut variables {
            if variable.0 == name {
                variable.1 = value;
            }
        }
        variables
    }

    async fn gateway(&self, arguments: &[&str]) -> GatewayProgram {
        let (variables, arguments) = (self.variables.clone(), arguments.join(" "));
        // A thread of its own, because the server of the engines answers on this one.
        let started = tokio::task::spawn_blocking(move || {
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            GatewayProgram::on_aws(&arguments.split_terminator(' ').collect::<Vec<_>>(), &variables)
        });
        started.await.unwrap()
    }

    /// What a gateway that is not meant to start says.
    async fn refusal(&self, name: &str, value: &str) -> String {
        let variables: Vec<(String, String)> = self
            .with(name, value)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (code, said) = tokio::task::spawn_blocking(move || {
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            GatewayProgram::refusal_on_aws(&[], &variables)
        })
        .await
        .unwrap();
        assert_eq!(code, Some(1), "{said}");
        said
    }

    /// A key, made by command line in the table.
    async fn key(&self, scope: &str) -> String {
        let made = Command::new(binary("remote-jobs"))
            .args(["keys", "create", "test", "--scope", scope, "--table", "jobs"])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .await
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap().trim_end().to_owned()
    }
}

async fn create(client: &Client, fields: &Value) -> String {
    let source = client.upload("talk.mp3", b"sound").await;
    let mut job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "task-1"});
    job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    client.post(JOBS, &job).await.ok()["job_id"].as_str().unwrap().to_owned()
}

/// Polls until there is a job, held open meanwhile.
async fn poll(client: &Client) -> Value {
    let poll = json!({"worker_id": "gpu", "content_types": ["audio"], "wait_seconds": 20});
    let granted = client.post(&format!("{JOBS}/poll"), &poll).await.ok();
    assert!(granted["job_id"].is_string(), "{granted}");
    granted
}

async fn submit(client: &Client, granted: &Value) {
    let (id, token) = (granted["job_id"].as_str().unwrap(), granted["lease_token"].as_str().unwrap());
    let result = json!({"success": true, "content": "# Text"});
    client.leased(Method::PUT, &format!("{JOBS}/{id}/result"), token, &result).await.ok();
}

#[tokio::test]
async fn a_job_goes_through_two_gateways_that_share_a_table() {
    let aws = Aws::new().await;
    let first = aws.gateway(&["--create"]).await;
    let second = aws.gateway(&[]).await;
    let key = aws.key("admin").await;
    let (one, two) = (Client::new(&first.url).keyed(&key), Client::new(&second.url).keyed(&key));

    let worker = two.clone();
    let polled = tokio::spawn(async move { poll(&worker).await });
    let mut receiver = Receiver::answering(200).await;
    let id = create(&one, &json!({"webhook_url": receiver.url("/ended")})).await;
    let granted = polled.await.unwrap();
    assert_eq!(granted["job_id"], id.as_str(), "the other gateway's poll comes to see the job");
    let source = granted["download"]["url"].as_str().unwrap();
    assert!(source.starts_with(&aws.server.url()), "{source}");
    assert_eq!(two.get(source).await.body, b"sound");

    let waiting = one.clone();
    let status = format!("{JOBS}/{id}/status?wait_seconds=20");
    let ended = tokio::spawn(async move { waiting.get(&status).await.ok() });
    submit(&two, &granted).await;
    assert_eq!(
        ended.await.unwrap()["status"],
        "completed",
        "the other gateway's waiter comes to see the end"
    );
    let result = one.get(&format!("{JOBS}/{id}/result")).await.location();
    assert_eq!(one.get(&result).await.json()["content"], "# Text");
    assert_eq!(receiver.next().await.json()["data"]["job_id"], id.as_str());
}

#[tokio::test]
async fn when_one_gateway_is_killed_the_other_goes_on_with_its_jobs() {
    let aws = Aws::new().await;
    let first = aws.gateway(&["--create"]).await;
    let second = aws.gateway(&[]).await;
    let key = aws.key("admin").await;
    let (one, two) = (Client::new(&first.url).keyed(&key), Client::new(&second.url).keyed(&key));
    let id = create(&one, &json!({})).await;
    let granted = poll(&one).await;
    drop(first);
    let token = granted["lease_token"].as_str().unwrap();
    let progress = json!({"percentage": 50, "message": "half"});
    two.leased(Method::PUT, &format!("{JOBS}/{id}/progress"), token, &progress).await.ok();
    submit(&two, &granted).await;
    assert_eq!(two.get(&format!("{JOBS}/{id}/status")).await.ok()["status"], "completed");
}

#[tokio::test]
async fn keys_are_the_tables_and_no_calls_of_the_gateway() {
    let aws = Aws::new().await;
    let gateway = aws.gateway(&["--create"]).await;
    let client = Client::new(&gateway.url);
    assert_eq!(client.get("/api/v1/keys").await.status, 401);
    let admin = client.keyed(&aws.key("admin").await);
    let (status, detail) = admin.get("/api/v1/keys").await.problem();
    assert_eq!(status, 404, "{detail}");
    assert!(detail.contains("remote-jobs keys --table"), "{detail}");
    // The bucket's name is nothing special here: S3 is elsewhere.
    assert_eq!(admin.get("/handoff/object").await.status, 404);
    let (code, said) = tokio::task::spawn_blocking(move || gateway.stop()).await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("jobs in table jobs, files in bucket handoff"), "{said}");
    assert!(!said.contains("admin key"), "{said}");
}

#[tokio::test]
async fn a_gateway_that_cannot_use_its_table_or_bucket_says_what_to_do() {
    let aws = Aws::new().await;
    let said = aws.refusal("MORAG_TABLE", "jobs").await;
    assert!(said.contains("there is no table jobs at ") && said.contains("AWS_REGION"), "{said}");
    drop(aws.gateway(&["--create"]).await);
    let said = aws.refusal("MORAG_BUCKET", "elsewhere").await;
    assert!(said.contains("there is no bucket elsewhere"), "{said}");
    let said = aws.refusal("AWS_REGION", "").await;
    assert!(said.contains("set AWS_REGION"), "{said}");
    let said = aws.refusal("AWS_SECRET_ACCESS_KEY", "wrong").await;
    assert!(said.contains("these AWS credentials are refused at"), "{said}");
    let closed = format!("http://127.0.0.1:{}", free_port());
    let said = aws.refusal("AWS_ENDPOINT_URL", &closed).await;
    assert!(said.contains("cannot be used now") && said.contains(&closed), "{said}");
}

#[test]
fn a_gateway_keeps_its_data_in_one_place() {
    let folder = Path::new("/nonexistent");
    for (arguments, said) in [(&["--aws"][..], "cannot be used with"), (&["--create"], "cannot be used with")]
    {
        let (code, text) = GatewayProgram::refusal(folder, arguments, &[]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(said), "{text}");
    }
    for unfit in [&["--public-url", "http://192.0.2.1"][..], &["--no-auth"]] {
        let (code, text) = GatewayProgram::refusal_on_aws(unfit, &[]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("cannot be used with") && text.contains(unfit[0]), "{text}");
    }
}
