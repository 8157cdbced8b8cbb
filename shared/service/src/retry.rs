use api::manage::ManageResponse;

use crate::{Caller, Error, Service, cancel::managed};

impl Service {
    /// Sends an ended job back to its queue.
    ///
    /// # Errors
    /// No job, a job that cannot be retried, a source that is gone, or the store.
    pub async fn retry(&self, caller: &Caller, job_id: &str) -> Result<ManageResponse, Error> {
        let job = self.job(caller, job_id).await?;
        let now = self.now();
        job.retry(now).map_err(|refused| Error::Refused(job.id, refused))?;
        if self.store.handoff.head(&job.spec.source.key).await?.is_none() {
            return Err(Error::SourceExpired(job.id));
        }
        let job = self.change(job, |job| job.retry(now).map(Some)).await?;
        Ok(managed(&job))
    }
}
