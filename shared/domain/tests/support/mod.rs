//! What the domain's tests share: one kind of job, and the workers that claim it.

use std::time::Duration;

use domain::{
    ContentType, Credential, FileName, Holder, Jitter, Job, JobId, LeaseTerms, Limits, Priority, Refused,
    ResultRef, Source, Spec, TaskOptions, Timestamp, TokenHash,
};

/// The moment `seconds` after the job was created.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp(1_750_000_000_000).plus(Duration::from_secs(seconds))
}

/// Half of the longest backoff: 15 s after the first retry, 30 s after the second.
pub(crate) fn half() -> Jitter {
    Jitter::new(0.5)
}

/// A document job created at `at(0)`: 300 s in the queue, 600 s per run, no total timeout, 3 retries.
pub(crate) fn new_job() -> Job {
    let spec = Spec {
        content_type: ContentType::Document,
        ingestion_task_id: "task-1".to_owned(),
        source: Source {
            key: "sources/t/1/report.pdf".to_owned(),
            name: FileName::from_client("report.pdf"),
            size_bytes: 1000,
            etag: "\"e\"".to_owned(),
            sha256: None,
        },
        task_options: TaskOptions::Inline("{}".to_owned()),
        limits: Limits {
            queue: Duration::from_secs(300),
            run: Duration::from_secs(600),
            total: None,
            max_retries: 3,
        },
        priority: Priority::Normal,
        request_hash: None,
        webhook: None,
    };
    let id: JobId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    Job::create(id, "t".parse().unwrap(), spec, at(0))
}

/// A result stored under `key`.
pub(crate) fn result(key: &str) -> ResultRef {
    ResultRef { key: key.to_owned(), size_bytes: 10, sha256: [1; 32] }
}

/// Who claims a job, and what its calls bring along.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Worker {
    pub(crate) credential: Credential,
    pub(crate) terms: LeaseTerms,
}

impl Worker {
    /// A worker that knows leases of 60 s. `token` tells its claims apart; all of them use the API key `k`.
    pub(crate) fn native(token: u16) -> Self {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&token.to_be_bytes());
        let credential = Credential { token: Some(TokenHash(hash)), key: "k".parse().unwrap() };
        Self { credential, terms: LeaseTerms::DEFAULT }
    }

    /// A client of the original system, which has nothing but its API key.
    pub(crate) fn legacy(key: &str) -> Self {
        let credential = Credential { token: None, key: key.parse().unwrap() };
        Self { credential, terms: LeaseTerms::WholeRun }
    }

    pub(crate) fn holder(&self) -> Holder {
        self.credential.token.map_or_else(|| Holder::Key(self.credential.key.clone()), Holder::Token)
    }

    pub(crate) fn claim(&self, job: &Job, now: Timestamp) -> Result<Job, Refused> {
        job.claim("gpu-1".parse().unwrap(), self.holder(), self.terms, now)
    }
}
