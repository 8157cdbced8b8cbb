use std::time::Duration;

use api::{
    create::{CreateJobRequest, CreateJobResponse},
    events::WebhookSecretResponse,
    list::{ListRequest, ListResponse},
    manage::{CancelRequest, DeleteResponse, ManageResponse, RetryRequest},
    result::ResultDocument,
    statistics::{StatisticsRequest, StatisticsResponse},
    status::{StatusRequest, StatusResponse},
    uploads::{
        AbortUploadRequest, AbortUploadResponse, CompleteUploadRequest, CompleteUploadResponse,
        CreateUploadRequest, SignPartsRequest, SignPartsResponse, UploadResponse,
    },
    workers::{ListWorkersRequest, ListWorkersResponse},
};

use super::{WEBHOOK_SECRET, WORKERS, job, jobs, upload};
use crate::{
    Client, Error,
    client::{CALL, Call, LONG_CALL},
    transfer,
};

/// How long creating a job may take: the server may have to copy a source of its own disk first.
const CREATE: Duration = LONG_CALL;

impl Client {
    /// Asks for a place to upload a source to. The same key has the same place.
    ///
    /// # Errors
    /// As of any call.
    pub async fn create_upload(
        &self,
        request: &CreateUploadRequest,
        idempotency_key: Option<&str>,
    ) -> Result<UploadResponse, Error> {
        self.submit(Call::post(jobs("/uploads"), request).idempotent(idempotency_key)).await
    }

    /// Asks for URLs of parts, at most [`SignPartsRequest::MOST_PARTS`].
    ///
    /// # Errors
    /// As of any call.
    pub async fn sign_upload_parts(
        &self,
        upload_id: &str,
        request: &SignPartsRequest,
    ) -> Result<SignPartsResponse, Error> {
        self.submit(Call::post(upload(upload_id, "/parts"), request)).await
    }

    /// Puts the uploaded parts together.
    ///
    /// # Errors
    /// As of any call.
    pub async fn complete_upload(
        &self,
        upload_id: &str,
        request: &CompleteUploadRequest,
    ) -> Result<CompleteUploadResponse, Error> {
        self.submit(Call::post(upload(upload_id, "/complete"), request).within(LONG_CALL)).await
    }

    /// Gives a multipart upload up.
    ///
    /// # Errors
    /// As of any call.
    pub async fn abort_upload(
        &self,
        upload_id: &str,
        request: &AbortUploadRequest,
    ) -> Result<AbortUploadResponse, Error> {
        self.submit(Call::post(upload(upload_id, "/abort"), request)).await
    }

    /// Creates a job. It may be repeated under the same idempotency key, and only then.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::IdempotencyMismatch`] when the key was used for another request.
    pub async fn create_job(
        &self,
        request: &CreateJobRequest,
        idempotency_key: Option<&str>,
    ) -> Result<CreateJobResponse, Error> {
        self.submit(Call::post(jobs(""), request).idempotent(idempotency_key).within(CREATE)).await
    }

    /// Where a job stands.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::NotFound`] when there is no such job for this key's tenant.
    pub async fn status(&self, job_id: &str) -> Result<StatusResponse, Error> {
        self.get(&job(job_id, "/status")).await
    }

    /// Where a job stands: once it has ended, else after `wait_seconds`, at most 20. A server that holds no call open
    /// answers at once; then and only then `poll_again_in_seconds` is above 0.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn status_within(&self, job_id: &str, wait_seconds: u64) -> Result<StatusResponse, Error> {
        let request = StatusRequest { wait_seconds: Some(wait_seconds) };
        let limit = CALL + Duration::from_secs(wait_seconds);
        self.get_with(&job(job_id, "/status"), &request, limit).await
    }

    /// A page of the tenant's jobs, the newest first.
    ///
    /// # Errors
    /// As of any call.
    pub async fn list_jobs(&self, request: &ListRequest) -> Result<ListResponse, Error> {
        self.get_with(&jobs(""), request, CALL).await
    }

    /// What waits, runs and has ended lately.
    ///
    /// # Errors
    /// As of any call.
    pub async fn statistics(&self) -> Result<StatisticsResponse, Error> {
        self.get(&jobs("/statistics")).await
    }

    /// As [`Client::statistics`], of the queues that are asked for. A server that is older than this tells of all.
    ///
    /// # Errors
    /// As of any call.
    pub async fn statistics_of(&self, request: &StatisticsRequest) -> Result<StatisticsResponse, Error> {
        self.get_with(&jobs("/statistics"), request, CALL).await
    }

    /// The tenant's workers.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::NotFound`] of a server that is older than this call.
    pub async fn list_workers(&self, request: &ListWorkersRequest) -> Result<ListWorkersResponse, Error> {
        self.get_with(WORKERS, request, CALL).await
    }

    /// What a job became: its result document, read whole into memory.
    ///
    /// # Errors
    /// As of any call, and as of a transfer; [`api::Kind::Refused`] while the job is not completed.
    pub async fn result(&self, job_id: &str) -> Result<ResultDocument, Error> {
        transfer::result_document(self, &job(job_id, "/result")).await
    }

    /// Ends a job.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::Refused`] when the job ended before.
    pub async fn cancel(&self, job_id: &str, request: &CancelRequest) -> Result<ManageResponse, Error> {
        self.submit(Call::post(job(job_id, "/cancel"), request)).await
    }

    /// Deletes an ended job with its files.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::Refused`] while the job has not ended, [`api::Kind::NotFound`] when it is gone
    /// already.
    pub async fn delete_job(&self, job_id: &str) -> Result<DeleteResponse, Error> {
        self.delete(&job(job_id, "")).await
    }

    /// What the tenant's events are signed with.
    ///
    /// # Errors
    /// As of any call.
    pub async fn webhook_secret(&self) -> Result<WebhookSecretResponse, Error> {
        self.get(WEBHOOK_SECRET).await
    }

    /// Sends an ended job back to its queue.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::Refused`] when the job's state does not admit it,
    /// [`api::Kind::SourceExpired`] when its source is gone.
    pub async fn retry(&self, job_id: &str) -> Result<ManageResponse, Error> {
        self.submit(Call::post(job(job_id, "/retry"), &RetryRequest {})).await
    }
}
