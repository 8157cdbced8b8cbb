use std::time::Duration;

use api::{
    create::{CreateJobRequest, CreateJobResponse},
    manage::{CancelRequest, ManageResponse, RetryRequest},
    result::ResultDocument,
    status::StatusResponse,
    uploads::{
        AbortUploadRequest, AbortUploadResponse, CompleteUploadRequest, CompleteUploadResponse,
        CreateUploadRequest, SignPartsRequest, SignPartsResponse, UploadResponse,
    },
};

use super::{job, jobs, upload};
use crate::{
    Client, Error,
    client::{Call, LONG_CALL},
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

    /// Sends an ended job back to its queue.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::Refused`] when the job's state does not admit it,
    /// [`api::Kind::SourceExpired`] when its source is gone.
    pub async fn retry(&self, job_id: &str) -> Result<ManageResponse, Error> {
        self.submit(Call::post(job(job_id, "/retry"), &RetryRequest {})).await
    }
}
