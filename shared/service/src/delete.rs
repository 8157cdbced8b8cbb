use api::manage::DeleteResponse;
use domain::{Job, JobId, TaskOptions, Timestamp};
use store::{Deletion, Replacement, Shelf, StorageKey};

use crate::{Caller, Error, Service};

/// How many jobs of the same ingestion task are looked at for one that needs the same source.
const MOST_JOBS: u32 = 100;
/// How often a deletion is tried of a job that others keep changing.
const MOST_ROUNDS: usize = 16;

impl Service {
    /// Removes an ended job with everything that is stored of it: its results, its task options, and its source unless
    /// another job of the same ingestion task names the same one. An event that has not been delivered yet stays.
    ///
    /// # Errors
    /// No job, a job that has not ended, or the store.
    pub async fn delete(&self, caller: &Caller, job_id: &str) -> Result<DeleteResponse, Error> {
        let mut job = self.job(caller, job_id).await?;
        let mut deleted_objects = 0;
        for _ in 0..MOST_ROUNDS {
            job.may_be_deleted().map_err(|refused| Error::Refused(job.id, refused))?;
            if let Some(fenced) = fenced(&job, self.now()) {
                match self.write(&job, &fenced).await? {
                    Replacement::Written => job = fenced,
                    Replacement::Lost(Some(now)) => {
                        job = *now;
                        continue;
                    }
                    Replacement::Lost(None) => return Err(Error::NoJob(job.id.to_string())),
                }
            }
            // The objects go first: whoever dies in between leaves a row by which the call can be repeated, and not objects
            // that nothing names any more.
            let objects = self.objects_of(&job).await?;
            self.store.handoff.delete(&objects).await?;
            deleted_objects += objects.len() as u64;
            match self.store.jobs.delete(&job).await? {
                Deletion::Deleted => {
                    tracing::info!(job_id = %job.id, deleted_objects, "deleted");
                    return Ok(DeleteResponse { job_id: job.id.to_string(), deleted_objects });
                }
                Deletion::Lost(now) => job = *now,
            }
        }
        Err(Error::Contended(job.id))
    }

    /// The keys of all objects that are there and go with the job.
    async fn objects_of(&self, job: &Job) -> Result<Vec<String>, Error> {
        let handoff = &self.store.handoff;
        let mut objects = handoff.list(&StorageKey::results_of(&job.tenant, job.id)).await?;
        let options = StorageKey::Options { tenant: job.tenant.clone(), job: job.id }.to_string();
        if job.spec.task_options == TaskOptions::Stored && handoff.head(&options).await?.is_some() {
            objects.push(options);
        }
        let source = &job.spec.source.key;
        if self.is_tenants_source(job)
            && handoff.head(source).await?.is_some()
            && !self.is_shared(job).await?
        {
            objects.push(source.clone());
        }
        Ok(objects)
    }

    fn is_tenants_source(&self, job: &Job) -> bool {
        match job.spec.source.key.parse() {
            Ok(StorageKey::Source { tenant, .. }) => tenant == job.tenant,
            Ok(StorageKey::Options { .. } | StorageKey::Result { .. }) | Err(_) => false,
        }
    }

    /// Whether another job may need the same source. Jobs made of one upload usually belong to one ingestion task, which is
    /// cheap to look through; those of other tasks are not looked for. Where a task has too many jobs to look at all, the
    /// source is left to the bucket's lifecycle.
    async fn is_shared(&self, job: &Job) -> Result<bool, Error> {
        let shelf = Shelf::Task { id: &job.spec.ingestion_task_id, day: None };
        let stretch = self.store.jobs.listed(&job.tenant, shelf, None, MOST_JOBS).await?;
        let others: Vec<JobId> =
            stretch.places.iter().map(|place| place.id).filter(|id| *id != job.id).collect();
        let too_many = stretch.more;
        let others = self.store.jobs.get_many(&others).await?;
        // One that cannot be read may be one that needs it.
        Ok(too_many || others.iter().any(|other| other.as_ref().map_or(true, |other| needs(other, job))))
    }
}

/// The job fenced off from being sent back to its queue while its objects are deleted, as by a caller who converts
/// locally. `None` when it cannot be sent back anyhow.
fn fenced(job: &Job, now: Timestamp) -> Option<Job> {
    job.retry(now).ok()?;
    job.cancel(true, now).ok()
}

/// Whether `other` may still convert the source of `job`: it has not ended, or it can be sent back to its queue.
fn needs(other: &Job, job: &Job) -> bool {
    other.spec.source.key == job.spec.source.key
        && (other.ending().is_none() || other.retry(other.updated_at).is_ok())
}
