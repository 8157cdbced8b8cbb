use api::{
    import::{ImportRequest, ImportResponse},
    moment,
    result::ResultDocument,
};
use domain::{
    FileName, Imported, Job, JobId, Limits, Priority, ResultRef, Source, Spec, Status, Timestamp, WorkerId,
};
use store::{Creation, StorageKey};

use crate::{
    Caller, Error, Service,
    create::{INLINE_OPTIONS, QUEUE, checked_retries, checked_task_id, options_text},
    progress::cut,
    result::LONGEST_ERROR,
    transition::note,
};

impl Service {
    /// Takes over a job of the original system under the id that it has there. Importing it again changes nothing. Nobody
    /// is told of an end that it had there.
    ///
    /// # Errors
    /// A field that does not fit, an id that is another tenant's job, or the store.
    pub async fn import(&self, caller: &Caller, request: &ImportRequest) -> Result<ImportResponse, Error> {
        let id: JobId =
            request.job_id.parse().map_err(|error: domain::InvalidValue| Error::field("job_id", error.0))?;
        if let Some(existing) = self.store.jobs.get(id).await? {
            return answer(caller, &existing, false);
        }
        let created_at = moment_of("created_at", &request.created_at)?;
        // Every field is checked before the options are stored, which a mended request could not replace. A result is stored
        // under its hash.
        let imported = self.imported(caller, request, id, created_at).await?;
        let spec = self.imported_spec(caller, request, id).await?;
        let times = (created_at, self.now());
        let job = Job::import(id, caller.tenant.clone(), spec, imported, times, caller.key.clone());
        match self.store.jobs.create(&job).await? {
            Creation::Created => {
                note(&job);
                self.announce(&job).await;
                answer(caller, &job, true)
            }
            Creation::Exists(existing) => answer(caller, &existing, false),
        }
    }

    async fn imported_spec(
        &self,
        caller: &Caller,
        request: &ImportRequest,
        id: JobId,
    ) -> Result<Spec, Error> {
        let max_retries = checked_retries(request.max_retries)?;
        checked_task_id(&request.ingestion_task_id)?;
        let options = options_text(&request.task_options)?;
        let source = match request.status {
            Status::Pending | Status::Processing => {
                self.source(caller, &request.source_file_path, &request.content_type, id.0).await?
            }
            Status::Completed | Status::Failed | Status::Timeout | Status::Cancelled => {
                history_source(caller, &request.source_file_path, id)
            }
        };
        Ok(Spec {
            content_type: request.content_type.clone(),
            ingestion_task_id: request.ingestion_task_id.clone(),
            source,
            task_options: self.task_options(caller, id, options, INLINE_OPTIONS).await?,
            limits: Limits {
                queue: QUEUE,
                run: self.rules.run_timeout(&request.content_type),
                total: None,
                max_retries,
            },
            priority: Priority::Normal,
            request_hash: None,
            webhook: None,
        })
    }

    async fn imported(
        &self,
        caller: &Caller,
        request: &ImportRequest,
        id: JobId,
        created_at: Timestamp,
    ) -> Result<Imported, Error> {
        let started_at = maybe_moment("started_at", request.started_at.as_deref())?.unwrap_or(created_at);
        let at = maybe_moment("completed_at", request.completed_at.as_deref())?.unwrap_or(started_at);
        let worker = worker(request.worker_id.as_deref())?;
        let error = request.error_message.as_deref().unwrap_or("the original system did not say why");
        let error = cut(error, LONGEST_ERROR);
        Ok(match request.status {
            Status::Pending | Status::Processing => Imported::Open { retries: spent(request.retry_count)? },
            Status::Completed => {
                let document = request.result_data.as_ref();
                let document = document
                    .ok_or_else(|| Error::field("result_data", "is missing, and the job is completed"))?;
                let result = self.imported_result(caller, id, document).await?;
                Imported::Completed { worker, started_at, at, result }
            }
            Status::Failed => Imported::Failed { at, error },
            Status::Timeout => Imported::Timeout { at, error },
            Status::Cancelled => Imported::Cancelled { at },
        })
    }

    /// Stores what the job was converted into, before the job names it.
    async fn imported_result(
        &self,
        caller: &Caller,
        job: JobId,
        document: &ResultDocument,
    ) -> Result<ResultRef, Error> {
        let tenant = caller.tenant.clone();
        self.put_result(document, |sha256| StorageKey::Result { tenant, job, attempt: 1, sha256 }).await
    }
}

/// What history says of a source: its name. No upload made this key, so nothing is there, and a retry by hand says so.
fn history_source(caller: &Caller, path: &str, id: JobId) -> Source {
    let name = FileName::from_client(path);
    let key = StorageKey::Source { tenant: caller.tenant.clone(), upload: id.0, name: name.clone() };
    Source { key: key.to_string(), name, size_bytes: 0, etag: String::new(), sha256: None }
}

fn answer(caller: &Caller, job: &Job, imported: bool) -> Result<ImportResponse, Error> {
    // Whoever asks learns that the id is taken, and nothing of the job.
    if job.tenant != caller.tenant {
        return Err(Error::NoJob(job.id.to_string()));
    }
    Ok(ImportResponse { job_id: job.id.to_string(), status: job.status().to_string(), imported })
}

fn moment_of(field: &str, text: &str) -> Result<Timestamp, Error> {
    moment(text).ok_or_else(|| {
        Error::field(field, "must be a time, 2026-01-31T23:59:59.123Z or, in UTC, without the Z")
    })
}

fn maybe_moment(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    text.map(|text| moment_of(field, text)).transpose()
}

fn worker(name: Option<&str>) -> Result<WorkerId, Error> {
    name.unwrap_or("unknown")
        .parse()
        .map_err(|error: domain::InvalidValue| Error::field("worker_id", error.0))
}

fn spent(retries: Option<u64>) -> Result<u32, Error> {
    u32::try_from(retries.unwrap_or(0))
        .map_err(|_| Error::field("retry_count", "must be a number of retries"))
}
