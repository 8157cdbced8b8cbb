use api::result::{ResultDocument, ResultRequest, ResultResponse};
use bytes::Bytes;
use domain::{Job, ResultRef, Status, Submission, Submitted};
use sha2::{Digest, Sha256};
use store::StorageKey;

use crate::{Caller, Error, Service, progress::cut, uploads::whole};

/// The longest error message that is kept in the job, in characters. A longer log belongs into the result's metadata
/// or the worker's own log.
pub(crate) const LONGEST_ERROR: usize = 2000;

impl Service {
    /// Takes what an attempt came to. The result is stored before the job names it.
    ///
    /// # Errors
    /// No job, a stale lease, a field that does not fit, or the store.
    pub async fn submit_result(
        &self,
        caller: &Caller,
        job_id: &str,
        lease_token: Option<&str>,
        request: &ResultRequest,
    ) -> Result<ResultResponse, Error> {
        let job = self.job(caller, job_id).await?;
        let credential = caller.credential(lease_token);
        let refused = |refused| Error::Refused(job.id, refused);
        if let Some(first) = job.may_submit(&credential, request.success).map_err(refused)? {
            return Ok(answer(&job, first));
        }
        let submission = if request.success {
            Submission::Completed(self.store_result(&job, request).await?)
        } else {
            Submission::Failed {
                error: failure(request.error_message.as_deref()),
                retryable: request.retryable.unwrap_or(true),
            }
        };
        let (now, jitter) = (self.now(), self.world.jitter());
        let mut status = None;
        let changed = self
            .change(job, |job| match job.submit(&credential, submission.clone(), now, jitter)? {
                Submitted::Accepted(job) => Ok(Some(*job)),
                Submitted::Repeated(first) => {
                    status = Some(first);
                    Ok(None)
                }
            })
            .await?;
        Ok(answer(&changed, status.unwrap_or(changed.status())))
    }

    async fn store_result(&self, job: &Job, request: &ResultRequest) -> Result<ResultRef, Error> {
        match &request.result_key {
            Some(key) if request.content.is_none() => self.uploaded_result(job, key).await,
            Some(_) => Err(Error::field("result_key", "takes the place of `content`; send one of them")),
            None => self.inline_result(job, request).await,
        }
    }

    async fn inline_result(&self, job: &Job, request: &ResultRequest) -> Result<ResultRef, Error> {
        let document = ResultDocument {
            content: request.content.clone().unwrap_or_default(),
            metadata: request.metadata.clone().unwrap_or_default(),
            processing_time: request.processing_time,
        };
        self.put_result(&document, |sha256| result_key(job, sha256)).await
    }

    /// Stores a result document under the key that goes with its SHA-256.
    pub(crate) async fn put_result(
        &self,
        document: &ResultDocument,
        key: impl FnOnce([u8; 32]) -> StorageKey,
    ) -> Result<ResultRef, Error> {
        let body = serde_json::to_vec(document).map_err(|error| Error::Internal(error.to_string()))?;
        let sha256 = Sha256::digest(&body).into();
        let key = key(sha256);
        let size_bytes = body.len() as u64;
        self.store.handoff.put(&key, Bytes::from(body), &sha256).await?;
        Ok(ResultRef { key: key.to_string(), size_bytes, sha256 })
    }

    async fn uploaded_result(&self, job: &Job, path: &str) -> Result<ResultRef, Error> {
        let foreign =
            || Error::field("result_key", "is not what POST result-upload answered for this attempt");
        let StorageKey::Result { sha256, .. } = path.parse().map_err(|_| foreign())? else {
            return Err(foreign());
        };
        if path != result_key(job, sha256).to_string() {
            return Err(foreign());
        }
        let object = self.store.handoff.head(path).await?;
        let object =
            object.ok_or_else(|| Error::field("result_key", "names a result that was not uploaded"))?;
        if object.sha256.is_some_and(|there| there != sha256) {
            return Err(Error::field(
                "result_key",
                "names a result whose bytes are not those that were announced",
            ));
        }
        whole("result_key", &object)?;
        Ok(ResultRef { key: path.to_owned(), size_bytes: object.size_bytes, sha256 })
    }
}

fn result_key(job: &Job, sha256: [u8; 32]) -> StorageKey {
    StorageKey::Result { tenant: job.tenant.clone(), job: job.id, attempt: job.attempt_number(), sha256 }
}

fn failure(message: Option<&str>) -> String {
    cut(message.unwrap_or("the worker reported a failure without a message"), LONGEST_ERROR)
}

fn answer(job: &Job, status: Status) -> ResultResponse {
    // The event is in the same write as the end, so an end that was accepted is one that will be told.
    let ended = !matches!(status, Status::Pending | Status::Processing);
    ResultResponse { status: status.to_string(), ingestion_continued: ended && job.spec.webhook.is_some() }
}
