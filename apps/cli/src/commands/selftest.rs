use std::{
    io::{self, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use api::{
    Kind,
    create::{CreateJobRequest, CreateJobResponse},
    manage::CancelRequest,
    poll::{Download, PollRequest, PollResponse},
    progress::ProgressRequest,
    result::{ResultRequest, ResultResponse},
    status::StatusResponse,
};
use clap::Args;
use client::{Client, Error, Lease, Uploaded, retrying};
use domain::ContentType;
use rand::RngCore;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Session, TRIES};
use crate::{failure::Failure, output::Output};

#[derive(Args, Debug)]
pub(crate) struct SelftestArgs {
    /// The size of the source in bytes; one above 64 MiB travels in parts
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    size: u64,
}

/// How often the job is polled for. Between two polls the server says how long to wait, or a second passes.
const POLLS: u32 = 20;
/// The longest pause between two polls, whatever the server says.
const LONGEST_PAUSE: u64 = 5;
/// How long the server may wait with its answer when there is no job yet, in seconds.
const WAIT: u64 = 5;
/// The limits of the test's jobs, in seconds. Whatever happens to this program, they are over soon.
const LIMIT: u64 = 300;

pub(crate) async fn run(session: &Session<'_>, args: &SelftestArgs) -> Result<(), Failure> {
    let trial = Trial::new(session.client()?)?;
    let mut steps = Steps { output: session.output, done: Vec::new() };
    if let Err(stop) = trial.run(session, &mut steps, args.size).await {
        trial.clean_up(session).await;
        if let Stop::Output(failure) = stop {
            return Err(failure);
        }
    }
    // An older server does not know the call; a worker that is not heard of again is forgotten anyway.
    let _ = trial.client.leave(&trial.name).await;
    steps.end()
}

/// One step, and how it went.
#[derive(Debug, Serialize)]
struct Step {
    name: &'static str,
    ok: bool,
    milliseconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The steps so far. Each is told at once to a person, and all together to a program.
struct Steps<'a> {
    output: &'a Output,
    done: Vec<Step>,
}

/// Why the test does not go on.
enum Stop {
    /// A step failed, and was noted.
    Failed,
    /// Nobody can be told how it goes.
    Output(Failure),
}

impl Steps<'_> {
    async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, Stop> {
        let begun = Instant::now();
        let result = work.await;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let error = result.as_ref().err().cloned();
        let step = Step { name, ok: error.is_none(), milliseconds, error };
        self.output.line(&step.line()).map_err(Stop::Output)?;
        self.done.push(step);
        result.map_err(|_| Stop::Failed)
    }

    fn end(self) -> Result<(), Failure> {
        let failed = self.done.iter().filter(|step| !step.ok).count();
        self.output.value(&json!({"ok": failed == 0, "steps": self.done}))?;
        if failed == 0 { Ok(()) } else { Err(Failure::Checks { failed }) }
    }
}

impl Step {
    fn line(&self) -> String {
        let outcome = if self.ok { "ok" } else { "failed" };
        let error = self.error.as_ref().map(|error| format!("  {error}")).unwrap_or_default();
        format!("{:<18}  {outcome:<6}  {:>6} ms{error}", self.name, self.milliseconds)
    }
}

/// What one run uses and expects. Everything in it is of its own, so that it meets no other job or worker.
struct Trial {
    client: Client,
    name: String,
    content_type: ContentType,
    job_ids: Mutex<Vec<String>>,
}

impl Trial {
    fn new(client: Client) -> Result<Self, Failure> {
        let random = Uuid::new_v4().simple().to_string();
        let name = format!("selftest-{}", random.get(..12).unwrap_or(&random));
        let content_type = format!("x-{name}")
            .parse()
            .map_err(|error: domain::InvalidValue| Failure::Local(error.to_string()))?;
        Ok(Self { client, name, content_type, job_ids: Mutex::default() })
    }

    async fn run(&self, session: &Session<'_>, steps: &mut Steps<'_>, size: u64) -> Result<(), Stop> {
        let (folder, uploaded) = steps.step("upload", self.upload(size)).await?;
        let job_id = steps.step("create", self.create(&uploaded, "first")).await?.job_id;
        session.resume_with(format!("To end the test's job: remote-jobs cancel {job_id}"));
        steps.step("status pending", self.expect_status(&job_id, "pending", None)).await?;
        let (lease, download) = steps.step("poll", self.poll(&job_id, &uploaded)).await?;
        steps.step("progress", self.progress(&lease)).await?;
        steps.step("wrong lease", self.wrong_lease(&job_id)).await?;
        steps.step("status processing", self.expect_status(&job_id, "processing", Some(50))).await?;
        steps.step("download", self.download(&lease, &download, folder.path())).await?;
        let first = steps.step("result", self.submit(&lease)).await?;
        steps.step("result repeated", self.submit_again(&lease, &first)).await?;
        steps.step("status completed", self.expect_status(&job_id, "completed", None)).await?;
        steps.step("fetch result", self.fetch(&job_id)).await?;
        let second = steps.step("create another", self.create(&uploaded, "second")).await?.job_id;
        steps.step("cancel", self.cancel(&second)).await
    }

    /// Ends what a failed step leaves behind, as far as that is possible.
    async fn clean_up(&self, session: &Session<'_>) {
        let job_ids = self.created().clone();
        for job_id in job_ids {
            match self.client.cancel(&job_id, &CancelRequest::default()).await {
                Ok(_) => session.output.note(&format!("The test's job {job_id} was cancelled.")),
                // A job that ended is where it should be.
                Err(error) if error.kind() == Some(Kind::Refused) => {}
                Err(error) => {
                    session.output.note(&format!("The test's job {job_id} was not cancelled: {error}"))
                }
            }
        }
    }

    fn created(&self) -> MutexGuard<'_, Vec<String>> {
        self.job_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn upload(&self, size: u64) -> Result<(TempDir, Uploaded), String> {
        let folder = TempDir::new().map_err(|error| format!("No temporary folder can be made: {error}."))?;
        let path = folder.path().join("source.bin");
        let written = tokio::task::spawn_blocking({
            let path = path.clone();
            move || random_file(&path, size)
        });
        written
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| format!("No temporary file can be written: {error}."))?;
        let uploaded = self.client.upload_file(&path, "selftest.bin", &|_, _| ()).await.map_err(text)?;
        Ok((folder, uploaded))
    }

    async fn create(&self, uploaded: &Uploaded, which: &str) -> Result<CreateJobResponse, String> {
        let request = CreateJobRequest {
            source_file_path: uploaded.source_file_path.clone(),
            content_type: self.content_type.clone(),
            task_options: self.options(),
            ingestion_task_id: self.name.clone(),
            timeout_seconds: Some(LIMIT),
            queue_timeout_seconds: Some(LIMIT),
            total_timeout_seconds: None,
            fallback_to_local: None,
            priority: None,
            max_retries: Some(0),
            webhook_url: None,
        };
        let key = format!("{}-{which}", self.name);
        let created =
            retrying(&TRIES, || self.client.create_job(&request, Some(&key))).await.map_err(text)?;
        self.created().push(created.job_id.clone());
        same("status", &created.status, "pending")?;
        Ok(created)
    }

    fn options(&self) -> Map<String, Value> {
        Map::from_iter([("selftest".to_owned(), json!({"name": self.name, "text": TEXT}))])
    }

    async fn status(&self, job_id: &str) -> Result<StatusResponse, String> {
        retrying(&TRIES, || self.client.status(job_id)).await.map_err(text)
    }

    async fn expect_status(&self, job_id: &str, status: &str, percentage: Option<u8>) -> Result<(), String> {
        let job = self.status(job_id).await?;
        same("status", &job.status, status)?;
        same("task id", &job.ingestion_task_id, &self.name)?;
        match percentage {
            Some(percentage) => {
                same("percentage", &job.percentage, &percentage)?;
                same("message", job.progress_message.as_deref().unwrap_or_default(), TEXT)
            }
            None => Ok(()),
        }
    }

    /// Polls until the job comes. Only this run polls for its type, so nobody else can take it.
    async fn poll(&self, job_id: &str, uploaded: &Uploaded) -> Result<(Lease, Download), String> {
        let request = PollRequest {
            worker_id: self.name.clone(),
            content_types: vec![self.content_type.clone()],
            max_jobs: None,
            lease_seconds: Some(LIMIT),
            wait_seconds: Some(WAIT),
            ..PollRequest::default()
        };
        for _ in 0..POLLS {
            let answer = self.client.poll(&request).await.map_err(text)?;
            if answer.job_id.is_some() {
                return self.claimed(answer, job_id, uploaded);
            }
            let pause = answer.poll_again_in_seconds.unwrap_or(1).min(LONGEST_PAUSE);
            tokio::time::sleep(Duration::from_secs(pause)).await;
        }
        Err("The job does not come out of its queue; see the server's log, and that the queue is not paused."
            .to_owned())
    }

    fn claimed(
        &self,
        answer: PollResponse,
        job_id: &str,
        uploaded: &Uploaded,
    ) -> Result<(Lease, Download), String> {
        same("job", answer.job_id.as_deref().unwrap_or_default(), job_id)?;
        same("type", answer.content_type.as_deref().unwrap_or_default(), self.content_type.as_str())?;
        same("options", &answer.task_options.unwrap_or_default(), &self.options())?;
        let grant = answer.lease.ok_or("The server grants no lease; it may be the original one.")?;
        same("size", &grant.download.size_bytes, &uploaded.size_bytes)?;
        let sha256 = grant.download.sha256.as_deref().unwrap_or_default();
        same("SHA-256", sha256, &uploaded.sha256)?;
        Ok((Lease { job_id: job_id.to_owned(), token: grant.lease_token.into() }, grant.download))
    }

    async fn progress(&self, lease: &Lease) -> Result<(), String> {
        let request = progress_of(50);
        let answer = retrying(&TRIES, || self.client.report_progress(lease, &request)).await;
        same("cancelled", &answer.map_err(text)?.cancelled, &false)
    }

    async fn wrong_lease(&self, job_id: &str) -> Result<(), String> {
        let lease = Lease { job_id: job_id.to_owned(), token: "wrong".into() };
        match self.client.report_progress(&lease, &progress_of(99)).await {
            Err(error) if error.kind() == Some(Kind::StaleLease) => Ok(()),
            Err(error) => Err(text(error)),
            Ok(_) => {
                Err("Progress under a wrong lease was accepted; take this server out of service.".to_owned())
            }
        }
    }

    /// The client compares the bytes with the SHA-256 of what was uploaded.
    async fn download(&self, lease: &Lease, download: &Download, folder: &Path) -> Result<(), String> {
        self.client.download(lease, download, &folder.join("downloaded.bin"), &|_, _| ()).await.map_err(text)
    }

    fn result(&self) -> ResultRequest {
        ResultRequest {
            success: true,
            content: Some(format!("# {}\n\n{TEXT}\n", self.name)),
            metadata: Some(self.options()),
            processing_time: Some(0.5),
            ..ResultRequest::default()
        }
    }

    async fn submit(&self, lease: &Lease) -> Result<ResultResponse, String> {
        let request = self.result();
        let answer = retrying(&TRIES, || self.client.submit_result(lease, &request)).await.map_err(text)?;
        same("status", &answer.status, "completed")?;
        Ok(answer)
    }

    async fn submit_again(&self, lease: &Lease, first: &ResultResponse) -> Result<(), String> {
        let again = self.submit(lease).await?;
        same("continuation", &again.ingestion_continued, &first.ingestion_continued)
    }

    async fn fetch(&self, job_id: &str) -> Result<(), String> {
        let document = retrying(&TRIES, || self.client.result(job_id)).await.map_err(text)?;
        let expected = self.result();
        same("content", &Some(document.content), &expected.content)?;
        // A server may add to the metadata.
        same("metadata", &document.metadata.get("selftest"), &self.options().get("selftest"))
    }

    async fn cancel(&self, job_id: &str) -> Result<(), String> {
        let request = CancelRequest::default();
        let job = retrying(&TRIES, || self.client.cancel(job_id, &request)).await.map_err(text)?;
        same("status", &job.status, "cancelled")?;
        self.expect_status(job_id, "cancelled", None).await
    }
}

/// Characters of one to four bytes, a quote and a backslash: what careless encoding breaks.
const TEXT: &str = "Plain, größer, 漢字, 😀, \"quoted\" \\ done";

fn progress_of(percentage: u64) -> ProgressRequest {
    ProgressRequest {
        percentage,
        message: TEXT.to_owned(),
        timestamp: None,
        stage: Some("selftest".to_owned()),
    }
}

fn random_file(path: &Path, size: u64) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    let mut buffer = [0; 65_536];
    let mut left = size;
    while left > 0 {
        rand::rng().fill_bytes(&mut buffer);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        file.write_all(buffer.get(..count).unwrap_or_default())?;
        left -= count as u64;
    }
    Ok(())
}

fn same<F, E>(what: &str, found: &F, expected: &E) -> Result<(), String>
where
    F: PartialEq<E> + std::fmt::Debug + ?Sized,
    E: std::fmt::Debug + ?Sized,
{
    if found == expected {
        Ok(())
    } else {
        Err(format!("The {what} is {found:?} and should be {expected:?}."))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where errors are mapped")]
fn text(error: Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Captured;

    fn trial() -> Trial {
        Trial::new(Client::new("http://localhost:1".parse().unwrap(), None, "t/0").unwrap()).unwrap()
    }

    fn uploaded() -> Uploaded {
        Uploaded { source_file_path: "p".into(), size_bytes: 3, sha256: "aa".into() }
    }

    #[test]
    fn every_run_has_a_type_of_its_own() {
        let (a, b) = (trial(), trial());
        assert!(a.content_type.as_str().starts_with("x-selftest-"));
        assert_ne!(a.content_type, b.content_type);
    }

    #[test]
    fn a_claim_is_compared_with_what_was_created() {
        let trial = trial();
        let answer = |size: u64, job: &str| -> PollResponse {
            serde_json::from_value(json!({
                "job_id": job, "source_file_url": "u", "content_type": trial.content_type,
                "task_options": trial.options(), "lease_token": "t", "attempt": 1, "lease_expires_in_seconds": 60,
                "report_every_seconds": 15, "run_timeout_seconds": 300,
                "download": {"url": "http://h/o", "filename": "f", "size_bytes": size, "sha256": "aa",
                    "etag": "e", "expires_in_seconds": 60},
            }))
            .unwrap()
        };
        let (lease, download) = trial.claimed(answer(3, "j"), "j", &uploaded()).unwrap();
        assert_eq!((lease.job_id.as_str(), download.size_bytes), ("j", 3));
        assert_eq!(
            trial.claimed(answer(4, "j"), "j", &uploaded()).unwrap_err(),
            "The size is 4 and should be 3."
        );
        assert!(trial.claimed(answer(3, "k"), "j", &uploaded()).unwrap_err().contains("job"));
        let original = PollResponse { lease: None, ..answer(3, "j") };
        assert!(trial.claimed(original, "j", &uploaded()).unwrap_err().contains("no lease"));
    }

    #[test]
    fn random_files_have_their_size() {
        let folder = TempDir::new().unwrap();
        for size in [0, 1, 65_536, 65_537] {
            let path = folder.path().join("f");
            random_file(&path, size).unwrap();
            assert_eq!(path.metadata().unwrap().len(), size);
        }
    }

    #[tokio::test]
    async fn a_failed_step_ends_it_and_decides_the_exit_code() {
        let out = Captured::default();
        let output = Output::captured(false, false, out.clone(), Captured::default());
        let mut steps = Steps { output: &output, done: Vec::new() };
        assert!(steps.step("good", async { Ok(1) }).await.is_ok());
        assert!(matches!(steps.step("bad", async { Err::<(), _>("Why.".into()) }).await, Err(Stop::Failed)));
        assert_eq!(steps.end().unwrap_err().code(), 8);
        let lines: Vec<String> = out.text().lines().map(str::to_owned).collect();
        assert!(
            lines[0].starts_with("good                ok  ") && lines[1].ends_with("ms  Why."),
            "{lines:?}"
        );
    }
}
