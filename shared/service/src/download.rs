use crate::{Caller, Error, Service};

impl Service {
    /// A new URL of the source, for the worker that holds the lease.
    ///
    /// # Errors
    /// No job, a stale lease, a source that is gone, or the store.
    pub async fn download(
        &self,
        caller: &Caller,
        job_id: &str,
        lease_token: Option<&str>,
    ) -> Result<String, Error> {
        let job = self.held_job(caller, job_id, lease_token).await?;
        if self.store.handoff.head(&job.spec.source.key).await?.is_none() {
            return Err(Error::SourceExpired(job.id));
        }
        self.download_url(&job).await
    }
}
