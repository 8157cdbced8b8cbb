use std::{collections::BTreeMap, time::Duration};

use aws_config::{Region, SdkConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{RequestChecksumCalculation, ResponseChecksumValidation},
    error::{ProvideErrorMetadata, SdkError},
    operation::put_object::PutObjectError,
    presigning::{PresignedRequest, PresigningConfig},
    primitives::ByteStream,
    types::{
        AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
        ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration,
        Delete, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, ObjectIdentifier,
    },
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use domain::FileName;
use tokio::{fs::File, io::AsyncReadExt};

use crate::{
    StorageKey, StoreError,
    connect::{OPERATION, SLOWEST, time_for, time_to_make},
};

/// How long S3 may take to put the parts of an upload together.
const COMPLETING: Duration = Duration::from_secs(18);

/// The bucket through which files travel, by presigned URLs between it and whoever holds the URL.
#[derive(Clone, Debug)]
pub struct Handoff {
    client: Client,
    bucket: String,
}

/// A request that anyone can make who has it. Its URL is a secret.
#[derive(Clone)]
pub struct Presigned {
    /// The HTTP method.
    pub method: String,
    /// The URL, signature included.
    pub url: String,
    /// Headers that the signature covers and that must be sent.
    pub headers: BTreeMap<String, String>,
}

impl std::fmt::Debug for Presigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presigned({} {}?…)", self.method, self.url.split('?').next().unwrap_or_default())
    }
}

/// What is known of a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its ETag, quotes included.
    pub etag: String,
    /// Its SHA-256: verified by the object store, or for a multipart object declared by whoever began the upload.
    pub sha256: Option<[u8; 32]>,
    /// The size that a multipart upload was announced with. S3 signs the sizes of the parts, and not their sum.
    pub announced_bytes: Option<u64>,
}

impl Object {
    /// Whether it is as large as was announced.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.announced_bytes.is_none_or(|announced| announced == self.size_bytes)
    }
}

/// A part to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// A part that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPart {
    /// From 1.
    pub number: u32,
    /// The ETag of its upload.
    pub etag: String,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// The metadata entry that carries a multipart object's SHA-256, for which S3 keeps only a hash of hashes.
const WHOLE_SHA256: &str = "sha256";

/// The metadata entry that carries the size a multipart upload was announced with.
const WHOLE_SIZE: &str = "size";

/// The most objects that S3 deletes in one request.
const MOST_DELETED: usize = 1000;

/// How long sources, task options and results stay. Longer than any retry of a job that is kept for 30 days.
const OBJECT_DAYS: i32 = 45;

/// How long an upload that was begun and not completed keeps its parts.
const UNFINISHED_UPLOAD_DAYS: i32 = 2;

impl Handoff {
    pub(crate) fn new(config: &SdkConfig, bucket: String) -> Self {
        // Path style wherever the endpoint is not AWS's own, because no DNS resolves bucket names there. Checksums
        // only where they are asked for: by default the SDK bakes the CRC32 of an empty body into a presigned PUT.
        let config = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(
                config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some(),
            )
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self { client: Client::from_conf(config), bucket }
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// A PUT of exactly these bytes, which replaces nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the request cannot be signed.
    pub async fn presign_put(
        &self,
        key: &StorageKey,
        size_bytes: u64,
        sha256: &[u8; 32],
        valid: Duration,
    ) -> Result<Presigned, StoreError> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key.to_string())
            .content_length(signed_size(size_bytes))
            .checksum_sha256(BASE64.encode(sha256))
            .if_none_match("*")
            .presigned(presigning(valid)?)
            .await
            .map(|request| presigned(&request))
            .map_err(|error| StoreError::of("presign put", error))
    }

    /// A GET that anyone can make who has it, with the name to save the object under.
    ///
    /// # Errors
    /// [`StoreError`] when the request cannot be signed.
    pub async fn presign_get(
        &self,
        key: &str,
        name: &FileName,
        valid: Duration,
    ) -> Result<Presigned, StoreError> {
        self.client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .response_content_disposition(format!("attachment; filename=\"{name}\""))
            .presigned(presigning(valid)?)
            .await
            .map(|request| presigned(&request))
            .map_err(|error| StoreError::of("presign get", error))
    }

    /// What is stored under `key`, if anything.
    ///
    /// # Errors
    /// [`StoreError`] when the object store does not answer.
    pub async fn head(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let sent = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        match sent {
            Ok(output) => Ok(Some(Object {
                size_bytes: output.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                etag: output.e_tag().unwrap_or_default().to_owned(),
                sha256: output.checksum_sha256().and_then(plain_sha256).or_else(|| {
                    let mut hash = [0; 32];
                    let text = output.metadata()?.get(WHOLE_SHA256)?;
                    hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
                }),
                announced_bytes: output.metadata().and_then(|entries| entries.get(WHOLE_SIZE)?.parse().ok()),
            })),
            Err(SdkError::ServiceError(service)) if service.err().is_not_found() => Ok(None),
            Err(error) => Err(StoreError::of("head object", error)),
        }
    }

    /// Writes an object unless one is there already under this key, which then stays as it is.
    ///
    /// # Errors
    /// [`StoreError`] when the object store does not answer.
    pub async fn put(&self, key: &StorageKey, body: Bytes, sha256: &[u8; 32]) -> Result<(), StoreError> {
        let size_bytes = body.len() as u64;
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key.to_string())
            .content_type("application/json")
            .checksum_sha256(BASE64.encode(sha256))
            .body(ByteStream::from(body))
            .if_none_match("*")
            .customize()
            .config_override(aws_sdk_s3::config::Config::builder().timeout_config(time_for(size_bytes)))
            .send()
            .await
            .map(|_| ())
            .or_else(already_there)
    }

    /// As [`Handoff::put`], from an open file of `size_bytes` whose SHA-256 the store verifies. Up to 5 GiB, S3's
    /// limit for one request.
    ///
    /// # Errors
    /// [`StoreError`] when the object store does not answer. False when the file changed since it was hashed.
    pub async fn put_file(
        &self,
        key: &StorageKey,
        file: File,
        size_bytes: u64,
        sha256: &[u8; 32],
    ) -> Result<bool, StoreError> {
        if file.metadata().await.is_ok_and(|metadata| metadata.len() < size_bytes) {
            return Ok(false);
        }
        let body = ByteStream::read_from()
            .file(file)
            .length(aws_sdk_s3::primitives::Length::Exact(size_bytes))
            .build()
            .await
            .map_err(|error| StoreError::Rejected {
                operation: "read source file",
                code: None,
                message: None,
                cause: error.to_string(),
            })?;
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.to_string())
            .content_length(signed_size(size_bytes))
            .checksum_sha256(BASE64.encode(sha256))
            .body(body)
            .if_none_match("*")
            .customize()
            .config_override(aws_sdk_s3::config::Config::builder().timeout_config(time_for_file(size_bytes)))
            .send()
            .await;
        match sent {
            Err(SdkError::ServiceError(service))
                if matches!(service.err().code(), Some("BadDigest" | "IncompleteBody")) =>
            {
                Ok(false)
            }
            Err(error) => already_there(error).map(|()| true),
            Ok(_) => Ok(true),
        }
    }

    /// Reads a whole object of at most `most` bytes. `None` when it is gone.
    ///
    /// # Errors
    /// [`StoreError`] when it is larger, or the object store does not answer.
    pub async fn get(&self, key: &str, most: u64) -> Result<Option<Bytes>, StoreError> {
        let sent = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let output = match sent {
            Ok(output) => output,
            Err(SdkError::ServiceError(service)) if service.err().is_no_such_key() => return Ok(None),
            Err(error) => return Err(StoreError::of("get object", error)),
        };
        let unreadable = |cause: String| StoreError::Unreadable { what: format!("object {key:?}"), cause };
        let unavailable = |cause: String| StoreError::Unavailable { operation: "get object", cause };
        let mut body = Vec::new();
        // The SDK's own timeouts end where the body begins.
        let mut reading = output.body.into_async_read().take(most + 1);
        tokio::time::timeout(OPERATION, reading.read_to_end(&mut body))
            .await
            .map_err(|elapsed| unavailable(elapsed.to_string()))?
            .map_err(|error| unavailable(error.to_string()))?;
        if body.len() as u64 > most {
            return Err(unreadable(format!("it is larger than {most} bytes")));
        }
        Ok(Some(body.into()))
    }

    /// The keys of all objects whose keys begin with `prefix`.
    ///
    /// # Errors
    /// [`StoreError`] when the object store does not answer.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| StoreError::of("list objects", error))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        Ok(keys)
    }

    /// Deletes objects. One that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError`] when the object store does not answer, or does not delete one of them. Others may be gone.
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for keys in keys.chunks(MOST_DELETED) {
            let named = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
            let named = named.collect::<Result<_, _>>().map_err(built)?;
            let delete = Delete::builder().set_objects(Some(named)).quiet(true).build().map_err(built)?;
            let output = self
                .client
                .delete_objects()
                .bucket(&self.bucket)
                .delete(delete)
                .send()
                .await
                .map_err(|error| StoreError::of("delete objects", error))?;
            if let Some(error) = output.errors().first() {
                return Err(StoreError::Unavailable {
                    operation: "delete objects",
                    cause: format!("{error:?}"),
                });
            }
        }
        Ok(())
    }

    /// Begins an upload in parts and gives the object store's id for it.
    ///
    /// # Errors
    /// [`StoreError`] when the object store does not answer.
    pub async fn begin_multipart(
        &self,
        key: &StorageKey,
        size_bytes: u64,
        sha256: &[u8; 32],
    ) -> Result<String, StoreError> {
        let output = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key.to_string())
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .metadata(WHOLE_SHA256, hex::encode(sha256))
            .metadata(WHOLE_SIZE, size_bytes.to_string())
            .send()
            .await
            .map_err(|error| StoreError::of("begin multipart upload", error))?;
        output.upload_id.ok_or_else(|| StoreError::Unreadable {
            what: "a new multipart upload".to_owned(),
            cause: "it has no id".to_owned(),
        })
    }

    /// A PUT of exactly this part.
    ///
    /// # Errors
    /// [`StoreError`] when the request cannot be signed.
    pub async fn presign_part(
        &self,
        key: &StorageKey,
        multipart_id: &str,
        part: &Part,
        valid: Duration,
    ) -> Result<Presigned, StoreError> {
        self.client
            .upload_part()
            .bucket(&self.bucket)
            .key(key.to_string())
            .upload_id(multipart_id)
            .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
            .content_length(signed_size(part.size_bytes))
            .checksum_sha256(BASE64.encode(part.sha256))
            .presigned(presigning(valid)?)
            .await
            .map(|request| presigned(&request))
            .map_err(|error| StoreError::of("presign part", error))
    }

    /// Puts the parts together. `Ok(Err(reason))` when the object store does not take them: a part is missing or
    /// is not what was said, or the upload is gone.
    ///
    /// # Errors
    /// [`StoreError`] when the object store does not answer.
    pub async fn complete_multipart(
        &self,
        key: &StorageKey,
        multipart_id: &str,
        parts: &[SignedPart],
    ) -> Result<Result<(), String>, StoreError> {
        let parts = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
                .e_tag(&part.etag)
                .checksum_sha256(BASE64.encode(part.sha256))
                .build()
        });
        let sent = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key.to_string())
            .upload_id(multipart_id)
            // Two uploads under one idempotency key may run at once; the one that is complete first counts.
            .if_none_match("*")
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build())
            .customize()
            .config_override(aws_sdk_s3::config::Config::builder().timeout_config(time_to_complete()))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(Ok(())),
            Err(error) => refused_multipart("complete multipart upload", error).map(Err),
        }
    }

    /// Gives an upload up, with all its parts. One that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError`] when the object store does not answer.
    pub async fn abort_multipart(&self, key: &StorageKey, multipart_id: &str) -> Result<(), StoreError> {
        let sent = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key.to_string())
            .upload_id(multipart_id)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => refused_multipart("abort multipart upload", error).map(|_| ()),
        }
    }

    /// Makes the bucket if it is not there, with the lifecycle that bounds it: on one machine and in tests.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be made.
    pub async fn ensure(&self) -> Result<(), StoreError> {
        match self
            .client
            .create_bucket()
            .bucket(&self.bucket)
            .set_create_bucket_configuration(self.location())
            .customize()
            .config_override(aws_sdk_s3::config::Config::builder().timeout_config(time_to_make()))
            .send()
            .await
        {
            Ok(_) => {}
            Err(SdkError::ServiceError(service))
                if service.err().is_bucket_already_owned_by_you()
                    || service.err().is_bucket_already_exists() => {}
            Err(error) => return Err(StoreError::of("create bucket", error)),
        }
        self.client
            .put_bucket_lifecycle_configuration()
            .bucket(&self.bucket)
            .lifecycle_configuration(lifecycle()?)
            .customize()
            .config_override(aws_sdk_s3::config::Config::builder().timeout_config(time_to_make()))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| StoreError::of("set lifecycle", error))
    }

    /// Whether the bucket answers.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let sent = self.client.list_objects_v2().bucket(&self.bucket).max_keys(1).send().await;
        sent.map(|_| ()).map_err(|error| StoreError::of("look at the bucket", error))
    }

    /// Where a new bucket is to be: S3 wants to be told in every region but its oldest.
    fn location(&self) -> Option<CreateBucketConfiguration> {
        let region = self.client.config().region().map(Region::as_ref).filter(|name| *name != "us-east-1")?;
        let constraint = BucketLocationConstraint::from(region);
        Some(CreateBucketConfiguration::builder().location_constraint(constraint).build())
    }
}

/// S3 may take minutes over many parts, and an attempt that is given up would be followed by one that finds the upload
/// busy or gone. So an attempt may take all the time that a call of the API leaves beside what is asked before and after,
/// and only what fails sooner is tried again.
fn time_to_complete() -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(COMPLETING).operation_timeout(COMPLETING).build()
}

/// How long a file may take, which is copied on one machine only, where no function's time bounds it.
fn time_for_file(size_bytes: u64) -> TimeoutConfig {
    let time = Duration::from_secs(30 + size_bytes / SLOWEST);
    TimeoutConfig::builder().operation_attempt_timeout(time).operation_timeout(time).build()
}

fn already_there(error: SdkError<PutObjectError, HttpResponse>) -> Result<(), StoreError> {
    match error {
        SdkError::ServiceError(service) if service.err().code() == Some("PreconditionFailed") => Ok(()),
        error => Err(StoreError::of("put object", error)),
    }
}

/// What S3 says of a multipart upload that a client described wrongly is the client's to know.
fn refused_multipart<E>(
    operation: &'static str,
    error: SdkError<E, HttpResponse>,
) -> Result<String, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let reason = match &error {
        SdkError::ServiceError(service) => match service.err().code() {
            Some("PreconditionFailed") => Some("another upload to the same place was complete first"),
            Some("InvalidPart" | "InvalidPartOrder") => {
                Some("a part is missing, or is not what was uploaded")
            }
            Some("EntityTooSmall") => Some("a part that is not the last is smaller than 5 MiB"),
            Some("NoSuchUpload") => Some("there is no such upload; it was completed, aborted or has expired"),
            Some("BadDigest" | "InvalidRequest") => Some("a part's SHA-256 is not what was signed"),
            _ => None,
        },
        _ => None,
    };
    reason.map(str::to_owned).ok_or_else(|| StoreError::of(operation, error))
}

fn lifecycle() -> Result<BucketLifecycleConfiguration, StoreError> {
    let prefixes = [StorageKey::SOURCES, StorageKey::OPTIONS, StorageKey::RESULTS];
    let rules = prefixes.iter().map(|prefix| {
        LifecycleRule::builder()
            .id(prefix.trim_end_matches('/'))
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(*prefix).build())
            .expiration(LifecycleExpiration::builder().days(OBJECT_DAYS).build())
            .abort_incomplete_multipart_upload(
                AbortIncompleteMultipartUpload::builder()
                    .days_after_initiation(UNFINISHED_UPLOAD_DAYS)
                    .build(),
            )
            .build()
    });
    BucketLifecycleConfiguration::builder()
        .set_rules(Some(rules.collect::<Result<_, _>>().map_err(built)?))
        .build()
        .map_err(built)
}

/// The SDK's builders fail on missing fields, which only a bug here leaves out.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn built(error: aws_sdk_s3::error::BuildError) -> StoreError {
    StoreError::Rejected { operation: "build request", code: None, message: None, cause: error.to_string() }
}

fn presigning(valid: Duration) -> Result<PresigningConfig, StoreError> {
    PresigningConfig::expires_in(valid).map_err(|error| StoreError::Rejected {
        operation: "presign",
        code: None,
        message: None,
        cause: error.to_string(),
    })
}

fn presigned(request: &PresignedRequest) -> Presigned {
    Presigned {
        method: request.method().to_owned(),
        url: request.uri().to_owned(),
        headers: request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

fn signed_size(size_bytes: u64) -> i64 {
    i64::try_from(size_bytes).unwrap_or(i64::MAX)
}

/// A checksum that is one SHA-256; of a multipart object S3 answers a hash of hashes, with the number of parts.
fn plain_sha256(base64: &str) -> Option<[u8; 32]> {
    BASE64.decode(base64).ok()?.try_into().ok()
}
