//! What the measurements have in common.

use std::{sync::Arc, time::Duration};

use api::{create::CreateJobRequest, poll::PollRequest};
use client::{ApiKey, BaseUrl, Client, Lease};
use domain::{
    ContentType, FileName, Job, JobId, Limits, Priority, Source, Spec, TaskOptions, Tenant, Timestamp,
};
use engines::Engines;
use gateway::{Config, Gateway, Keeps};
use service::{Caller, Rules, Service, SourceRoots, SystemWorld, WebhookNetworks};
use store::{Connection, Endpoint, Store};
use tempfile::TempDir;
use uuid::Uuid;

/// The use cases over engines in memory, and a caller who may do everything.
pub(crate) async fn service_in_memory() -> (Service, Caller) {
    let engines = Engines::in_memory().unwrap();
    let credentials = engines.s3_credentials();
    let credentials = (credentials.access_key_id().to_owned(), credentials.secret_access_key().to_owned());
    let at = |http| Endpoint::At {
        url: "http://127.0.0.1:8000".to_owned(),
        credentials: credentials.clone(),
        http: Some(http),
    };
    let store = Store::connect(&Connection {
        table: "remote-jobs".to_owned(),
        bucket: "remote-jobs".to_owned(),
        shards: 1,
        retention: Duration::from_secs(86_400),
        dynamodb: at(engines.dynamodb_http()),
        s3: at(engines.s3_http()),
    })
    .await;
    store.ensure().await.unwrap();
    let rules = Rules {
        run_timeouts: std::collections::BTreeMap::new(),
        other_run_timeout: Duration::from_secs(1800),
        longest_wait: Duration::ZERO,
        poll_again: Duration::from_secs(10),
        seen_every: Duration::from_secs(60),
        source_roots: SourceRoots::default(),
        webhook_networks: WebhookNetworks::default(),
    };
    let caller = Caller {
        tenant: "default".parse().unwrap(),
        key: "bench".parse().unwrap(),
        scopes: vec![api::Scope::Admin],
    };
    (Service::new(store, rules, Arc::new(SystemWorld)), caller)
}

/// A gateway with its data in a folder on the disk, and a client with its admin key.
pub(crate) async fn durable_gateway() -> (Gateway, Client, TempDir) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut config = Config::in_memory().unwrap();
    config.keeps = Keeps::Folder(folder.path().to_owned());
    let gateway = Gateway::start(config).await.unwrap();
    let key = std::fs::read_to_string(gateway.admin_key_file.as_ref().unwrap()).unwrap();
    let base: BaseUrl = gateway.public_url.parse().unwrap();
    let client = Client::new(base, Some(ApiKey::from(key.trim().to_owned())), "bench/0").unwrap();
    (gateway, client, folder)
}

/// A pending job that was never uploaded, for measurements that never read its source.
pub(crate) fn pending(now: Timestamp, number: u128) -> Job {
    let tenant: Tenant = "default".parse().unwrap();
    let spec = Spec {
        content_type: ContentType::Audio,
        ingestion_task_id: format!("task-{number}"),
        source: Source {
            key: format!("sources/default/{}/talk.mp3", Uuid::from_u128(number)),
            name: FileName::from_client("talk.mp3"),
            size_bytes: 1_000_000,
            etag: "\"0123456789abcdef0123456789abcdef\"".to_owned(),
            sha256: Some([7; 32]),
        },
        task_options: TaskOptions::Inline("{}".to_owned()),
        limits: Limits {
            queue: Duration::from_secs(86_400),
            run: Duration::from_secs(3600),
            total: None,
            max_retries: 3,
        },
        priority: Priority::Normal,
        request_hash: None,
        webhook: None,
    };
    Job::create(JobId(Uuid::now_v7()), tenant, spec, now)
}

pub(crate) fn create_request(source_file_path: &str, content_type: &ContentType) -> CreateJobRequest {
    serde_json::from_value(serde_json::json!({
        "source_file_path": source_file_path,
        "content_type": content_type.as_str(),
        "ingestion_task_id": "bench",
    }))
    .unwrap()
}

pub(crate) fn poll_request(worker: &str, content_type: ContentType) -> PollRequest {
    PollRequest {
        worker_id: worker.to_owned(),
        content_types: vec![content_type],
        max_jobs: None,
        lease_seconds: Some(60),
        wait_seconds: None,
        ..PollRequest::default()
    }
}

/// The lease that a poll's answer grants.
pub(crate) fn lease(response: &api::poll::PollResponse) -> Option<Lease> {
    let token = response.lease.as_ref()?.lease_token.clone();
    Some(Lease { job_id: response.job_id.clone()?, token: token.into() })
}
