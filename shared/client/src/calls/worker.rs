use std::time::Duration;

use api::{
    poll::{PollRequest, PollResponse},
    progress::{ProgressRequest, ProgressResponse},
    result::{ReleaseRequest, ReleaseResponse, ResultRequest, ResultResponse},
    uploads::{
        AbortUploadRequest, AbortUploadResponse, CompleteUploadRequest, CompleteUploadResponse,
        CreateResultUploadRequest, SignPartsRequest, SignPartsResponse, UploadResponse,
    },
    workers::LeaveResponse,
};

use super::{WORKERS, job, jobs};
use crate::{
    Client, Error, Lease, PresignedUrl,
    base_url::segment,
    client::{CALL, Call, LONG_CALL},
};

/// How long submitting a result may take: its text may be some megabytes over a slow line.
const SUBMIT: Duration = Duration::from_secs(120);

impl Client {
    /// Asks for work, waiting for it as long as the request says and 30 seconds for the answer to arrive.
    ///
    /// It should not be repeated blindly: when the answer to a claim is lost, the job comes back by itself.
    ///
    /// # Errors
    /// As of any call.
    pub async fn poll(&self, request: &PollRequest) -> Result<PollResponse, Error> {
        let limit = CALL + Duration::from_secs(request.wait_seconds.unwrap_or(0));
        self.submit(Call::post(jobs("/poll"), request).within(limit)).await
    }

    /// Reports progress, which also renews the lease.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn report_progress(
        &self,
        lease: &Lease,
        request: &ProgressRequest,
    ) -> Result<ProgressResponse, Error> {
        self.submit(Call::put(job(&lease.job_id, "/progress"), request).lease(lease)).await
    }

    /// Asks for a place to upload a large result to.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn create_result_upload(
        &self,
        lease: &Lease,
        request: &CreateResultUploadRequest,
    ) -> Result<UploadResponse, Error> {
        self.submit(Call::post(job(&lease.job_id, "/result-upload"), request).lease(lease)).await
    }

    /// Asks for URLs of parts, at most [`SignPartsRequest::MOST_PARTS`].
    ///
    /// # Errors
    /// As of any call; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn sign_result_parts(
        &self,
        lease: &Lease,
        request: &SignPartsRequest,
    ) -> Result<SignPartsResponse, Error> {
        self.submit(Call::post(job(&lease.job_id, "/result-upload/parts"), request).lease(lease)).await
    }

    /// Puts the uploaded parts of a result together.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn complete_result_upload(
        &self,
        lease: &Lease,
        request: &CompleteUploadRequest,
    ) -> Result<CompleteUploadResponse, Error> {
        let path = job(&lease.job_id, "/result-upload/complete");
        self.submit(Call::post(path, request).lease(lease).within(LONG_CALL)).await
    }

    /// Gives a multipart upload of a result up.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn abort_result_upload(
        &self,
        lease: &Lease,
        request: &AbortUploadRequest,
    ) -> Result<AbortUploadResponse, Error> {
        self.submit(Call::post(job(&lease.job_id, "/result-upload/abort"), request).lease(lease)).await
    }

    /// Submits a result or a failure. Repeating it under the same lease gives the same answer.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn submit_result(
        &self,
        lease: &Lease,
        request: &ResultRequest,
    ) -> Result<ResultResponse, Error> {
        self.submit(Call::put(job(&lease.job_id, "/result"), request).lease(lease).within(SUBMIT)).await
    }

    /// Gives a job back to its queue.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn release(&self, lease: &Lease, request: &ReleaseRequest) -> Result<ReleaseResponse, Error> {
        self.submit(Call::post(job(&lease.job_id, "/release"), request).lease(lease)).await
    }

    /// Says that a worker stops, so that nobody counts on it any more. It does not give its jobs back.
    ///
    /// # Errors
    /// As of any call.
    pub async fn leave(&self, worker_id: &str) -> Result<LeaveResponse, Error> {
        self.delete(&format!("{WORKERS}/{}", segment(worker_id))).await
    }

    /// A new URL of the source.
    ///
    /// # Errors
    /// As of any call; [`api::Kind::StaleLease`] when the job is another worker's now.
    pub async fn download_url(&self, lease: &Lease) -> Result<PresignedUrl, Error> {
        self.redirect(&job(&lease.job_id, "/download"), Some(lease)).await
    }
}
