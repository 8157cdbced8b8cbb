use std::sync::Arc;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumMode, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketLifecycleInput,
    DeleteBucketLifecycleOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETagCondition, EncodingType, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput,
    HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output,
    ListPartsInput, ListPartsOutput, Object, ObjectStorageClass, Part, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput, PutObjectInput, PutObjectOutput, Range, StreamingBlob, Timestamp,
    UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::convert;
use crate::objects::{CompletedPart, Content, Found, Objects, UploadRef, base64};

/// The most keys of one listing, parts of one listing, and keys of one deletion.
const PAGE: i32 = 1000;

/// The operations that this system uses; the protocol's library answers the others with `NotImplemented`.
pub(super) struct Operations {
    objects: Arc<Objects>,
}

impl Operations {
    pub(super) fn new(objects: Arc<Objects>) -> Self {
        Self { objects }
    }
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let location = format!("/{}", request.input.bucket);
        self.objects.create_bucket(request.input.bucket).await?;
        Ok(S3Response::new(CreateBucketOutput { location: Some(location) }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.objects.require_bucket(request.input.bucket).await?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        convert::refuse_unsupported_put(&request.input)?;
        let declared = convert::declared_of_put(&request)?;
        let headers = convert::headers_of_put(&mut request.input)?;
        let PutObjectInput { bucket, key, body, if_match, if_none_match, .. } = request.input;
        let condition = convert::condition(if_match, if_none_match)?;
        let stored = self.objects.put(bucket, key, headers, condition, body, declared).await?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(convert::etag(stored.etag)),
            checksum_crc32: stored.checksums.checksum_crc32,
            checksum_crc32c: stored.checksums.checksum_crc32c,
            checksum_crc64nvme: stored.checksums.checksum_crc64nvme,
            checksum_sha1: stored.checksums.checksum_sha1,
            checksum_sha256: stored.checksums.checksum_sha256,
            ..Default::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        convert::refuse_version(input.version_id.as_deref())?;
        refuse_part_number(input.part_number)?;
        let mut found = self.objects.find(input.bucket, input.key).await?;
        Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        }
        .check(&found)?;
        let (start, length) = extent(input.range, found.size)?;
        let whole = input.range.is_none();
        let sha256 = checksum(&found, input.checksum_mode).filter(|_| whole);
        let metadata = convert::metadata_of(&mut found.headers);
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(body(found.content, start, length).await?),
            cache_control: found.headers.cache_control,
            checksum_type: sha256.as_ref().map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            checksum_sha256: sha256,
            content_disposition: found.headers.content_disposition,
            content_encoding: found.headers.content_encoding,
            content_language: found.headers.content_language,
            content_length: Some(convert::signed(length)),
            content_range: (!whole).then(|| format!("bytes {start}-{}/{}", start + length - 1, found.size)),
            content_type: Some(found.headers.content_type.unwrap_or_else(untyped)),
            e_tag: Some(convert::etag(found.etag)),
            last_modified: Some(convert::timestamp(found.modified_ms)),
            metadata,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        convert::refuse_version(input.version_id.as_deref())?;
        refuse_part_number(input.part_number)?;
        let mut found = self.objects.find(input.bucket, input.key).await?;
        Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        }
        .check(&found)?;
        let sha256 = checksum(&found, input.checksum_mode);
        let metadata = convert::metadata_of(&mut found.headers);
        let headers = found.headers;
        let content_type = input.response_content_type.or(headers.content_type).unwrap_or_else(untyped);
        let output = HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: input.response_cache_control.or(headers.cache_control),
            checksum_type: sha256.as_ref().map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            checksum_sha256: sha256,
            content_disposition: input.response_content_disposition.or(headers.content_disposition),
            content_encoding: input.response_content_encoding.or(headers.content_encoding),
            content_language: input.response_content_language.or(headers.content_language),
            content_length: Some(convert::signed(found.size)),
            content_type: Some(content_type),
            e_tag: Some(convert::etag(found.etag)),
            last_modified: Some(convert::timestamp(found.modified_ms)),
            metadata,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        convert::refuse_version(input.version_id.as_deref())?;
        let conditional = input.if_match.is_some()
            || input.if_match_size.is_some()
            || input.if_match_last_modified_time.is_some();
        if conditional {
            return Err(s3_error!(NotImplemented, "A conditional deletion is not supported here."));
        }
        self.objects.delete(input.bucket, vec![input.key]).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        let limit = usize::try_from(PAGE).unwrap_or_default();
        if delete.objects.is_empty() || delete.objects.len() > limit {
            return Err(s3_error!(MalformedXML, "One deletion names 1 to 1000 keys."));
        }
        for object in &delete.objects {
            convert::refuse_version(object.version_id.as_deref())?;
            if object.e_tag.is_some() || object.size.is_some() || object.last_modified_time.is_some() {
                return Err(s3_error!(NotImplemented, "A conditional deletion is not supported here."));
            }
        }
        let keys: Vec<_> = delete.objects.into_iter().map(|object| object.key).collect();
        self.objects.delete(bucket, keys.clone()).await?;
        let deleted = keys.into_iter().map(|key| DeletedObject { key: Some(key), ..Default::default() });
        let deleted = (delete.quiet != Some(true)).then(|| deleted.collect());
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(s3_error!(NotImplemented, "Listing by a delimiter is not supported here."));
        }
        let after = match &input.continuation_token {
            Some(token) => key_of(token)?,
            None => input.start_after.clone().unwrap_or_default(),
        };
        let max_keys = input.max_keys.unwrap_or(PAGE).min(PAGE);
        let limit = usize::try_from(max_keys)
            .map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative."))?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let (listed, more) = match limit {
            0 => (Vec::new(), false),
            _ => self.objects.list(input.bucket.clone(), prefix, after, limit).await?,
        };
        let encode = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL);
        let text = |text: String| if encode { convert::url_encoded(&text) } else { text };
        let next = listed.last().filter(|_| more).map(|last| hex::encode(&last.key));
        let contents: Vec<_> = listed
            .into_iter()
            .map(|listed| Object {
                key: Some(text(listed.key)),
                size: Some(listed.size),
                e_tag: Some(convert::etag(listed.etag)),
                last_modified: Some(convert::timestamp(listed.modified_ms)),
                storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix.map(text),
            max_keys: Some(max_keys),
            key_count: i32::try_from(contents.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(more),
            next_continuation_token: next,
            contents: Some(contents),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(text),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        convert::refuse_unsupported_upload(&request.input)?;
        let headers = convert::headers_of_upload(&mut request.input)?;
        let CreateMultipartUploadInput { bucket, key, checksum_algorithm, checksum_type, .. } = request.input;
        let id = self.objects.create_upload(bucket.clone(), key.clone(), headers).await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(id),
            checksum_algorithm,
            checksum_type,
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let declared = convert::declared_of_part(&request)?;
        let UploadPartInput { bucket, key, upload_id, part_number, body, .. } = request.input;
        if !(1..=10_000).contains(&part_number) {
            return Err(s3_error!(InvalidArgument, "Parts are numbered from 1 to 10000."));
        }
        let upload = UploadRef { id: upload_id, bucket, key };
        let stored = self.objects.put_part(upload, part_number, body, declared).await?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(convert::etag(stored.etag)),
            checksum_crc32: stored.checksums.checksum_crc32,
            checksum_crc32c: stored.checksums.checksum_crc32c,
            checksum_crc64nvme: stored.checksums.checksum_crc64nvme,
            checksum_sha1: stored.checksums.checksum_sha1,
            checksum_sha256: stored.checksums.checksum_sha256,
            ..Default::default()
        }))
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let upload =
            UploadRef { id: input.upload_id.clone(), bucket: input.bucket.clone(), key: input.key.clone() };
        let marker = input.part_number_marker.unwrap_or_default();
        let max_parts = input.max_parts.unwrap_or(PAGE).clamp(0, PAGE);
        let limit = usize::try_from(max_parts).unwrap_or_default();
        let mut parts = self.objects.parts(upload).await?;
        parts.retain(|part| part.number > marker);
        let more = parts.len() > limit;
        parts.truncate(limit);
        let next = parts.last().filter(|_| more).map(|part| part.number);
        let parts = parts.into_iter().map(|part| Part {
            part_number: Some(part.number),
            size: Some(convert::signed(part.size)),
            e_tag: Some(convert::etag(part.etag)),
            last_modified: Some(convert::timestamp(part.modified_ms)),
            checksum_sha256: Some(base64(&part.sha256)),
            ..Default::default()
        });
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            part_number_marker: input.part_number_marker,
            max_parts: Some(max_parts),
            is_truncated: Some(more),
            next_part_number_marker: next,
            parts: Some(parts.collect()),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let condition = convert::condition(input.if_match, input.if_none_match)?;
        let whole = [
            &input.checksum_crc32,
            &input.checksum_crc32c,
            &input.checksum_crc64nvme,
            &input.checksum_sha1,
            &input.checksum_sha256,
        ];
        if whole.into_iter().any(Option::is_some) {
            return Err(s3_error!(
                NotImplemented,
                "A checksum of all the parts together is not supported here."
            ));
        }
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let parts = parts
            .into_iter()
            .map(|part| {
                Ok(CompletedPart {
                    number: part
                        .part_number
                        .ok_or_else(|| s3_error!(MalformedXML, "A part has no number."))?,
                    etag: part.e_tag.map(s3s::dto::ETag::into_value),
                    sha256: part.checksum_sha256,
                })
            })
            .collect::<S3Result<Vec<_>>>()?;
        let size = input.mpu_object_size.map(u64::try_from).transpose();
        let size = size.map_err(|_| s3_error!(InvalidRequest, "The size is negative."))?;
        let upload = UploadRef { id: input.upload_id, bucket: input.bucket.clone(), key: input.key.clone() };
        let etag = self.objects.complete(upload, parts, size, condition).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, convert::url_encoded(&input.key))),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(convert::etag(etag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        self.objects.abort(UploadRef { id: upload_id, bucket, key }).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        let input = request.input;
        let given =
            input.lifecycle_configuration.map(|configuration| configuration.rules).unwrap_or_default();
        let rules = given.into_iter().map(convert::rule).collect::<S3Result<Vec<_>>>()?;
        if rules.is_empty() {
            return Err(s3_error!(MalformedXML, "A lifecycle configuration has at least one rule."));
        }
        self.objects.set_lifecycle(input.bucket, rules).await?;
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let rules = self.objects.lifecycle(request.input.bucket).await?;
        if rules.is_empty() {
            return Err(s3_error!(
                NoSuchLifecycleConfiguration,
                "The bucket has no lifecycle configuration."
            ));
        }
        let rules = rules.into_iter().map(convert::rule_of).collect();
        let output = GetBucketLifecycleConfigurationOutput { rules: Some(rules), ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn delete_bucket_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
        self.objects.set_lifecycle(request.input.bucket, Vec::new()).await?;
        Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
    }
}

fn refuse_part_number(number: Option<i32>) -> S3Result<()> {
    match number {
        Some(_) => Err(s3_error!(NotImplemented, "Reading one part is not supported here.")),
        None => Ok(()),
    }
}

fn untyped() -> String {
    "binary/octet-stream".to_owned()
}

/// The conditions of a read.
struct Conditions {
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// As RFC 9110 orders them: a condition on the time counts only if there is none of its kind on the ETag.
    fn check(self, found: &Found) -> S3Result<()> {
        let is =
            |condition: &ETagCondition| condition.as_etag().is_none_or(|etag| etag.value() == found.etag);
        // The header has whole seconds.
        let modified = convert::timestamp(found.modified_ms / 1000 * 1000);
        let unchanged = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => is(&condition),
            (None, Some(since)) => modified <= since,
            (None, None) => true,
        };
        if !unchanged {
            return Err(s3_error!(PreconditionFailed, "The object is not the one you named."));
        }
        let changed = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => !is(&condition),
            (None, Some(since)) => modified > since,
            (None, None) => true,
        };
        if changed { Ok(()) } else { Err(convert::not_modified(&found.etag)) }
    }
}

/// The SHA-256 of the whole object in base64, if it was asked for and is known.
fn checksum(found: &Found, mode: Option<ChecksumMode>) -> Option<String> {
    mode.filter(|mode| mode.as_str() == ChecksumMode::ENABLED)
        .and_then(|_| found.sha256.map(|sha256| base64(&sha256)))
}

/// Where a range of an object of `size` bytes begins and how long it is.
fn extent(range: Option<Range>, size: u64) -> S3Result<(u64, u64)> {
    let Some(range) = range else { return Ok((0, size)) };
    match range.check(size) {
        Ok(range) if !range.is_empty() => Ok((range.start, range.end - range.start)),
        Ok(_) | Err(_) => {
            let mut error = s3_error!(InvalidRange, "The range is not within the object.");
            if let Ok(value) = http::HeaderValue::from_str(&format!("bytes */{size}")) {
                error.set_headers(http::HeaderMap::from_iter([(http::header::CONTENT_RANGE, value)]));
            }
            Err(error)
        }
    }
}

async fn body(content: Content, start: u64, length: u64) -> S3Result<StreamingBlob> {
    match content {
        Content::Inline(bytes) => {
            let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
            let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(bytes.len());
            Ok(StreamingBlob::from(Body::from(bytes.slice(start..end))))
        }
        Content::Blobs(segments) => Ok(StreamingBlob::new(segments.stream(start, length).await?)),
    }
}

/// The key that a listing continues after.
fn key_of(token: &str) -> S3Result<String> {
    let bytes = hex::decode(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token is not one of mine."))
}
