//! A place to upload to, in one request or in parts: a source for a job, or a result for an attempt.

use std::time::Duration;

use api::uploads::{
    AbortUploadRequest, AbortUploadResponse, CompleteUploadRequest, CompleteUploadResponse,
    CreateResultUploadRequest, CreateUploadRequest, Multipart, PartToSign, PresignedRequest,
    SignPartsRequest, SignPartsResponse, UploadResponse, UploadedPart,
};
use domain::{FileName, JobId};
use store::{Object, Part, Presigned, SignedPart, StorageKey};
use uuid::Uuid;

use crate::{Caller, Error, Service};

/// Above this a file is uploaded in parts.
const SINGLE_PUT: u64 = 64 << 20;
/// The size of a part, as long as [`MOST_PARTS`] of it hold the file.
const PART: u64 = 64 << 20;
/// Half of what S3 takes, so that the call that lists all parts fits into a body of 1 MiB.
const MOST_PARTS: u64 = 5_000;
/// S3's limit for a part.
const LARGEST_PART: u64 = 5 << 30;
/// S3's limit for an object.
const LARGEST_FILE: u64 = 5 << 40;
/// How long an upload's URL is valid. A URL that has run out is answered anew at any time.
const VALID: Duration = Duration::from_secs(3600);

/// Whose upload a call for parts means.
#[derive(Clone, Copy, Debug)]
pub enum UploadTarget<'a> {
    /// The source upload with this id.
    Source(&'a str),
    /// The result of this job, for the attempt that this lease token proves.
    Result {
        /// The job's id.
        job_id: &'a str,
        /// The `Lease-Token` header.
        lease_token: Option<&'a str>,
    },
}

impl Service {
    /// A place to upload a source to. Under the same idempotency key it is the same place.
    ///
    /// # Errors
    /// A field that does not fit, or the store.
    pub async fn create_upload(
        &self,
        caller: &Caller,
        request: &CreateUploadRequest,
        idempotency_key: Option<&str>,
    ) -> Result<UploadResponse, Error> {
        let upload = match idempotency_key {
            Some(key) => JobId::upload_of_idempotency_key(&caller.tenant, checked_idempotency_key(key)?),
            None => Uuid::now_v7(),
        };
        let name = FileName::from_client(&request.filename);
        let key = StorageKey::Source { tenant: caller.tenant.clone(), upload, name };
        self.begin_upload(upload.to_string(), &key, request.size_bytes, &request.sha256).await
    }

    /// A place to upload a large result to, good for this attempt.
    ///
    /// # Errors
    /// No job, a stale lease, a field that does not fit, or the store.
    pub async fn create_result_upload(
        &self,
        caller: &Caller,
        job_id: &str,
        lease_token: Option<&str>,
        request: &CreateResultUploadRequest,
    ) -> Result<UploadResponse, Error> {
        let job = self.held_job(caller, job_id, lease_token).await?;
        let key = StorageKey::Result {
            tenant: job.tenant.clone(),
            job: job.id,
            attempt: job.attempt_number(),
            sha256: request.sha256,
        };
        self.begin_upload(job.id.to_string(), &key, request.size_bytes, &request.sha256).await
    }

    /// URLs for parts of an upload.
    ///
    /// # Errors
    /// A key that was not answered for this upload, a stale lease, a field that does not fit, or the store.
    pub async fn sign_parts(
        &self,
        caller: &Caller,
        target: UploadTarget<'_>,
        request: &SignPartsRequest,
    ) -> Result<SignPartsResponse, Error> {
        let key = self.upload_key(caller, target, &request.source_file_path).await?;
        if request.parts.is_empty() || request.parts.len() > SignPartsRequest::MOST_PARTS {
            return Err(Error::field(
                "parts",
                format!("must name 1 to {} parts", SignPartsRequest::MOST_PARTS),
            ));
        }
        let mut parts = Vec::with_capacity(request.parts.len());
        for (at, part) in request.parts.iter().enumerate() {
            let part = checked_part(at, part)?;
            let signed =
                self.store.handoff.presign_part(&key, &request.multipart_upload_id, &part, VALID).await?;
            parts.push(presigned_request(signed, VALID));
        }
        Ok(SignPartsResponse { parts })
    }

    /// Puts an upload's parts together.
    ///
    /// # Errors
    /// As [`Service::sign_parts`], and parts that the object store does not take.
    pub async fn complete_upload(
        &self,
        caller: &Caller,
        target: UploadTarget<'_>,
        request: &CompleteUploadRequest,
    ) -> Result<CompleteUploadResponse, Error> {
        let key = self.upload_key(caller, target, &request.source_file_path).await?;
        if !(1..=MOST_PARTS).contains(&(request.parts.len() as u64)) {
            return Err(Error::field(
                "parts",
                format!("must name every uploaded part, 1 to {MOST_PARTS} of them"),
            ));
        }
        let parts: Vec<SignedPart> =
            request.parts.iter().enumerate().map(uploaded_part).collect::<Result<_, _>>()?;
        let completed =
            self.store.handoff.complete_multipart(&key, &request.multipart_upload_id, &parts).await?;
        // An upload that is already complete is gone as an upload and there as an object: a lost answer, asked again.
        match (self.store.handoff.head(&key.to_string()).await?, completed) {
            (Some(object), _) => Ok(CompleteUploadResponse {
                source_file_path: key.to_string(),
                size_bytes: object.size_bytes,
            }),
            (None, Err(reason)) => Err(Error::field("parts", format!("cannot be put together: {reason}"))),
            (None, Ok(())) => Err(Error::Internal(format!("{key} was completed and is not there"))),
        }
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// As [`Service::sign_parts`].
    pub async fn abort_upload(
        &self,
        caller: &Caller,
        target: UploadTarget<'_>,
        request: &AbortUploadRequest,
    ) -> Result<AbortUploadResponse, Error> {
        let key = self.upload_key(caller, target, &request.source_file_path).await?;
        self.store.handoff.abort_multipart(&key, &request.multipart_upload_id).await?;
        Ok(AbortUploadResponse { aborted: true })
    }

    async fn begin_upload(
        &self,
        upload_id: String,
        key: &StorageKey,
        size_bytes: u64,
        sha256: &[u8; 32],
    ) -> Result<UploadResponse, Error> {
        if size_bytes > LARGEST_FILE {
            return Err(Error::field("size_bytes", "is more than 5 TiB, the most that one object can hold"));
        }
        let mut response = UploadResponse {
            upload_id,
            source_file_path: key.to_string(),
            uploaded: false,
            put: None,
            multipart: None,
        };
        if let Some(object) = self.store.handoff.head(&response.source_file_path).await? {
            if object.size_bytes != size_bytes || object.sha256.is_some_and(|there| there != *sha256) {
                return Err(Error::field(
                    "sha256",
                    "is not that of the file already uploaded under this Idempotency-Key",
                ));
            }
            response.uploaded = true;
        } else if size_bytes <= SINGLE_PUT {
            let put = self.store.handoff.presign_put(key, size_bytes, sha256, VALID).await?;
            response.put = Some(presigned_request(put, VALID));
        } else {
            let part_size_bytes = PART.max(size_bytes.div_ceil(MOST_PARTS));
            response.multipart = Some(Multipart {
                multipart_upload_id: self.store.handoff.begin_multipart(key, size_bytes, sha256).await?,
                part_size_bytes,
                part_count: u32::try_from(size_bytes.div_ceil(part_size_bytes)).unwrap_or(u32::MAX),
            });
        }
        Ok(response)
    }

    /// The key that a call for parts names, if it is one that the target was given.
    async fn upload_key(
        &self,
        caller: &Caller,
        target: UploadTarget<'_>,
        path: &str,
    ) -> Result<StorageKey, Error> {
        let foreign = || Error::field("source_file_path", "is not what this upload was answered with");
        let key: StorageKey = path.parse().map_err(|_| foreign())?;
        let fits = match (&key, target) {
            (StorageKey::Source { tenant, upload, .. }, UploadTarget::Source(id)) => {
                *tenant == caller.tenant && upload.to_string() == id
            }
            (StorageKey::Result { job: of, attempt, .. }, UploadTarget::Result { job_id, lease_token }) => {
                let job = self.held_job(caller, job_id, lease_token).await?;
                *of == job.id && *attempt == job.attempt_number()
            }
            (StorageKey::Source { .. } | StorageKey::Options { .. } | StorageKey::Result { .. }, _) => false,
        };
        if fits { Ok(key) } else { Err(foreign()) }
    }

    /// The caller's job, which it also holds the lease of.
    pub(crate) async fn held_job(
        &self,
        caller: &Caller,
        job_id: &str,
        lease_token: Option<&str>,
    ) -> Result<domain::Job, Error> {
        let job = self.job(caller, job_id).await?;
        job.holds(&caller.credential(lease_token)).map_err(|refused| Error::Refused(job.id, refused))?;
        Ok(job)
    }
}

/// An idempotency key that can be one.
pub(crate) fn checked_idempotency_key(key: &str) -> Result<&str, Error> {
    if (1..=255).contains(&key.len()) && key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        Ok(key)
    } else {
        Err(Error::field("Idempotency-Key", "must be 1 to 255 printable ASCII characters"))
    }
}

/// Refuses what was put together of parts and is not as large as was announced.
pub(crate) fn whole(field: &str, object: &Object) -> Result<(), Error> {
    match object.announced_bytes {
        Some(announced) if !object.is_whole() => Err(Error::field(
            field,
            format!(
                "names an upload of {} bytes that was announced as {announced}; upload it again, under another Idempotency-Key if it had one",
                object.size_bytes
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

fn checked_part(at: usize, part: &PartToSign) -> Result<Part, Error> {
    if part.size_bytes == 0 || part.size_bytes > LARGEST_PART {
        return Err(Error::field(&format!("parts[{at}].size_bytes"), "must be 1 byte to 5 GiB"));
    }
    Ok(Part { number: part_number(at, part.part_number)?, size_bytes: part.size_bytes, sha256: part.sha256 })
}

fn uploaded_part((at, part): (usize, &UploadedPart)) -> Result<SignedPart, Error> {
    Ok(SignedPart {
        number: part_number(at, part.part_number)?,
        etag: part.etag.clone(),
        sha256: part.sha256,
    })
}

fn part_number(at: usize, number: u64) -> Result<u32, Error> {
    u32::try_from(number).ok().filter(|number| (1..=MOST_PARTS).contains(&u64::from(*number))).ok_or_else(
        || Error::field(&format!("parts[{at}].part_number"), format!("must be 1 to {MOST_PARTS}")),
    )
}

fn presigned_request(presigned: Presigned, valid: Duration) -> PresignedRequest {
    PresignedRequest {
        method: presigned.method,
        url: presigned.url,
        headers: presigned.headers,
        expires_in_seconds: valid.as_secs(),
    }
}
