use api::manage::{CancelRequest, ManageResponse};
use domain::Job;

use crate::{Caller, Error, Service};

impl Service {
    /// Ends a job. A worker that runs it is told with its next heartbeat.
    ///
    /// # Errors
    /// No job, a job that has ended otherwise, or the store.
    pub async fn cancel(
        &self,
        caller: &Caller,
        job_id: &str,
        request: &CancelRequest,
    ) -> Result<ManageResponse, Error> {
        let job = self.job(caller, job_id).await?;
        let now = self.now();
        let job = self
            .change(job, |job| {
                let new = job.cancel(request.takeover, now)?;
                Ok((new != *job).then_some(new))
            })
            .await?;
        Ok(managed(&job))
    }
}

pub(crate) fn managed(job: &Job) -> ManageResponse {
    ManageResponse {
        job_id: job.id.to_string(),
        status: job.status().to_string(),
        continued_by: job.continued_locally.then(|| "local".to_owned()),
    }
}
