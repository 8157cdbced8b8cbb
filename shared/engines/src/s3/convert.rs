//! Between the protocol's types and the store's.

use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{
    AbortIncompleteMultipartUpload, Checksum, CreateMultipartUploadInput, ETag, ETagCondition,
    ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, Metadata, PutObjectInput,
    Timestamp, UploadPartInput,
};
use s3s::{S3Error, S3Request, S3Result, s3_error};

use crate::objects::{Condition, Declared, Headers, Rule, Trailer};

/// The largest body of one request: 5 GiB.
const LARGEST_BODY: i64 = 5 * 1024 * 1024 * 1024;

/// The largest user metadata: 2 KB, names and values together.
const LARGEST_METADATA: usize = 2048;

/// `None` if the request is one that this store carries out in full.
fn unless_asked<const N: usize>(asked: [(bool, &'static str); N]) -> S3Result<()> {
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(s3_error!(NotImplemented, "{what} is not supported here.")),
        None => Ok(()),
    }
}

/// Refuses what would be expected to have an effect and has none here.
pub(super) fn refuse_unsupported_put(input: &PutObjectInput) -> S3Result<()> {
    unless_asked([
        (input.acl.is_some() || input.grant_read.is_some() || input.grant_full_control.is_some(), "An ACL"),
        (input.expires.is_some(), "Expires"),
        (input.server_side_encryption.is_some() || input.sse_customer_algorithm.is_some(), "Encryption"),
        (input.object_lock_mode.is_some() || input.object_lock_legal_hold_status.is_some(), "Object lock"),
        (input.tagging.is_some(), "Tagging"),
        (input.website_redirect_location.is_some(), "A redirect"),
        (input.write_offset_bytes.is_some(), "Appending"),
    ])
}

/// Refuses what would be expected to have an effect and has none here.
pub(super) fn refuse_unsupported_upload(input: &CreateMultipartUploadInput) -> S3Result<()> {
    unless_asked([
        (input.acl.is_some() || input.grant_read.is_some() || input.grant_full_control.is_some(), "An ACL"),
        (input.expires.is_some(), "Expires"),
        (input.server_side_encryption.is_some() || input.sse_customer_algorithm.is_some(), "Encryption"),
        (input.object_lock_mode.is_some() || input.object_lock_legal_hold_status.is_some(), "Object lock"),
        (input.tagging.is_some(), "Tagging"),
        (input.website_redirect_location.is_some(), "A redirect"),
    ])
}

/// There is one version of each object.
pub(super) fn refuse_version(version: Option<&str>) -> S3Result<()> {
    unless_asked([(version.is_some_and(|version| version != "null"), "Versioning")])
}

pub(super) fn declared_of_put(request: &S3Request<PutObjectInput>) -> S3Result<Declared> {
    let input = &request.input;
    declared(
        request,
        input.content_length,
        input.content_md5.clone(),
        Checksum {
            checksum_crc32: input.checksum_crc32.clone(),
            checksum_crc32c: input.checksum_crc32c.clone(),
            checksum_crc64nvme: input.checksum_crc64nvme.clone(),
            checksum_sha1: input.checksum_sha1.clone(),
            checksum_sha256: input.checksum_sha256.clone(),
            checksum_type: None,
        },
    )
}

pub(super) fn declared_of_part(request: &S3Request<UploadPartInput>) -> S3Result<Declared> {
    let input = &request.input;
    declared(
        request,
        input.content_length,
        input.content_md5.clone(),
        Checksum {
            checksum_crc32: input.checksum_crc32.clone(),
            checksum_crc32c: input.checksum_crc32c.clone(),
            checksum_crc64nvme: input.checksum_crc64nvme.clone(),
            checksum_sha1: input.checksum_sha1.clone(),
            checksum_sha256: input.checksum_sha256.clone(),
            checksum_type: None,
        },
    )
}

fn declared<T>(
    request: &S3Request<T>,
    length: Option<i64>,
    md5: Option<String>,
    checksums: Checksum,
) -> S3Result<Declared> {
    let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
    // A body in signed chunks is longer than what it carries.
    let length = header("x-amz-decoded-content-length").map_or(Ok(length), |text| text.parse().map(Some));
    let length = length.map_err(|_| s3_error!(InvalidRequest, "The length is not a number."))?;
    let length = length.ok_or_else(|| s3_error!(MissingContentLength))?;
    if length > LARGEST_BODY {
        return Err(s3_error!(EntityTooLarge, "One request carries 5 GiB at most."));
    }
    let length = u64::try_from(length).map_err(|_| s3_error!(InvalidRequest, "The length is negative."))?;
    let names = header("x-amz-trailer").unwrap_or_default().to_owned();
    let trailer = request.trailing_headers.clone().map(|headers| Trailer { names, headers });
    Ok(Declared { length, md5, checksums, trailer })
}

pub(super) fn headers_of_put(input: &mut PutObjectInput) -> S3Result<Headers> {
    Ok(Headers {
        content_type: input.content_type.take(),
        content_disposition: input.content_disposition.take(),
        content_encoding: without_aws_chunked(input.content_encoding.take()),
        content_language: input.content_language.take(),
        cache_control: input.cache_control.take(),
        metadata: metadata(input.metadata.take())?,
    })
}

pub(super) fn headers_of_upload(input: &mut CreateMultipartUploadInput) -> S3Result<Headers> {
    Ok(Headers {
        content_type: input.content_type.take(),
        content_disposition: input.content_disposition.take(),
        content_encoding: without_aws_chunked(input.content_encoding.take()),
        content_language: input.content_language.take(),
        cache_control: input.cache_control.take(),
        metadata: metadata(input.metadata.take())?,
    })
}

/// `aws-chunked` is how the request travelled, not what the object is.
fn without_aws_chunked(encoding: Option<String>) -> Option<String> {
    let encoding = encoding?;
    let kept: Vec<_> = encoding.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect();
    Some(kept.join(",")).filter(|kept| !kept.is_empty())
}

fn metadata(given: Option<Metadata>) -> S3Result<std::collections::BTreeMap<String, String>> {
    let given = given.unwrap_or_default();
    let size: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > LARGEST_METADATA {
        return Err(s3_error!(MetadataTooLarge, "User metadata is 2 KB at most."));
    }
    Ok(given.into_iter().collect())
}

pub(super) fn metadata_of(headers: &mut Headers) -> Option<Metadata> {
    let metadata = std::mem::take(&mut headers.metadata);
    (!metadata.is_empty()).then(|| metadata.into_iter().collect())
}

/// What a write requires of the object that it would replace.
pub(super) fn condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::None),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::Any), None) => Ok(Condition::Matches(None)),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::Matches(Some(etag.into_value()))),
        (_, Some(_)) => Err(s3_error!(NotImplemented, "If-None-Match of a write must be * and stand alone.")),
    }
}

pub(super) fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(ms.try_into().unwrap_or_default()))
}

pub(super) fn etag(value: String) -> ETag {
    ETag::Strong(value)
}

/// A size or count as the protocol's types have it.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Takes a lifecycle rule in if this store can do all that it says.
pub(super) fn rule(given: LifecycleRule) -> S3Result<Rule> {
    let filter = given.filter.unwrap_or_default();
    let expiration = given.expiration.unwrap_or_default();
    unless_asked([
        (given.transitions.is_some() || given.noncurrent_version_transitions.is_some(), "A transition"),
        (given.noncurrent_version_expiration.is_some(), "Versioning"),
        (expiration.date.is_some(), "Expiration at a date"),
        (expiration.expired_object_delete_marker.is_some(), "A delete marker"),
        (filter.and.is_some() || filter.tag.is_some(), "A filter by more than a prefix"),
        (filter.object_size_greater_than.is_some(), "A filter by more than a prefix"),
        (filter.object_size_less_than.is_some(), "A filter by more than a prefix"),
    ])?;
    let rule = Rule {
        id: given.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        enabled: given.status.as_str() == ExpirationStatus::ENABLED,
        prefix: filter.prefix.or(given.prefix).unwrap_or_default(),
        expiration_days: expiration.days,
        abort_days: given.abort_incomplete_multipart_upload.and_then(|abort| abort.days_after_initiation),
    };
    let days = [rule.expiration_days, rule.abort_days];
    if days.iter().flatten().any(|days| *days < 1) || days == [None, None] {
        return Err(s3_error!(InvalidArgument, "A rule must say after how many days, 1 or more."));
    }
    Ok(rule)
}

pub(super) fn rule_of(rule: Rule) -> LifecycleRule {
    let status = if rule.enabled { ExpirationStatus::ENABLED } else { ExpirationStatus::DISABLED };
    LifecycleRule {
        id: Some(rule.id),
        status: ExpirationStatus::from_static(status),
        filter: Some(LifecycleRuleFilter { prefix: Some(rule.prefix), ..Default::default() }),
        expiration: rule
            .expiration_days
            .map(|days| LifecycleExpiration { days: Some(days), ..Default::default() }),
        abort_incomplete_multipart_upload: rule
            .abort_days
            .map(|days| AbortIncompleteMultipartUpload { days_after_initiation: Some(days) }),
        noncurrent_version_expiration: None,
        noncurrent_version_transitions: None,
        prefix: None,
        transitions: None,
    }
}

/// Percent-encodes a key as listings do on request, because XML cannot carry every character.
pub(super) fn url_encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// S3's answer to a read whose condition did not hold.
pub(super) fn not_modified(etag: &str) -> S3Error {
    let mut error = s3_error!(NotModified);
    if let Ok(value) = http::HeaderValue::from_str(&format!("\"{etag}\"")) {
        error.set_headers(http::HeaderMap::from_iter([(http::header::ETAG, value)]));
    }
    error
}
