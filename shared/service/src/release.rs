use api::result::{ReleaseRequest, ReleaseResponse};

use crate::{Caller, Error, Service, progress::cut};

impl Service {
    /// A worker gives a job back.
    ///
    /// # Errors
    /// No job, a stale lease, or the store.
    pub async fn release(
        &self,
        caller: &Caller,
        job_id: &str,
        lease_token: Option<&str>,
        request: &ReleaseRequest,
    ) -> Result<ReleaseResponse, Error> {
        let job = self.job(caller, job_id).await?;
        let credential = caller.credential(lease_token);
        let (now, jitter) = (self.now(), self.world.jitter());
        let reason = request.reason.as_deref().map(|reason| cut(reason, 500)).unwrap_or_default();
        let attempt = job.attempt_number();
        let job = self.change(job, |job| job.release(&credential, now, jitter)).await?;
        tracing::info!(job_id = %job.id, attempt, reason, "released");
        Ok(ReleaseResponse { status: job.status().to_string() })
    }
}
