use s3s::S3ErrorCode;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::Checksum;

use super::error::ObjectError;

/// What a client said of a body before sending it.
#[derive(Default)]
pub(crate) struct Declared {
    /// In bytes.
    pub(crate) length: u64,
    /// `Content-MD5`, in base64.
    pub(crate) md5: Option<String>,
    /// The `x-amz-checksum-*` headers, in base64.
    pub(crate) checksums: Checksum,
    /// Checksums that follow the body.
    pub(crate) trailer: Option<Trailer>,
}

/// Checksums that arrive after the body that they are of.
pub(crate) struct Trailer {
    /// The names of the headers to come, as `x-amz-trailer` announced them.
    pub(crate) names: String,
    pub(crate) headers: s3s::TrailingHeaders,
}

/// The digests of a body, computed as it arrives.
pub(super) struct Digests {
    length: u64,
    md5: Md5,
    sha256: Sha256,
    others: ChecksumHasher,
}

/// The digests of a body that was what its client declared.
pub(super) struct Verified {
    pub(super) md5: [u8; 16],
    pub(super) sha256: [u8; 32],
    /// Those that the client declared.
    pub(super) checksums: Checksum,
}

impl Digests {
    /// MD5 and SHA-256 are always computed, others if they are declared.
    pub(super) fn of(declared: &Declared) -> Self {
        let names = declared.trailer.as_ref().map_or("", |trailer| trailer.names.as_str());
        let announced = |name: &str| names.split(',').any(|given| given.trim().eq_ignore_ascii_case(name));
        let sums = &declared.checksums;
        Self {
            length: 0,
            md5: Md5::new(),
            sha256: Sha256::new(),
            others: ChecksumHasher {
                crc32: (sums.checksum_crc32.is_some() || announced("x-amz-checksum-crc32")).then(Crc32::new),
                crc32c: (sums.checksum_crc32c.is_some() || announced("x-amz-checksum-crc32c"))
                    .then(Crc32c::new),
                sha1: (sums.checksum_sha1.is_some() || announced("x-amz-checksum-sha1")).then(Sha1::new),
                crc64nvme: (sums.checksum_crc64nvme.is_some() || announced("x-amz-checksum-crc64nvme"))
                    .then(Crc64Nvme::new),
                sha256: None,
            },
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.md5.update(bytes);
        self.sha256.update(bytes);
        self.others.update(bytes);
    }

    /// Refuses a body that isn't what was declared.
    pub(super) fn verify(self, declared: Declared) -> Result<Verified, ObjectError> {
        if self.length != declared.length {
            return Err(incomplete());
        }
        let (md5, sha256) = (self.md5.finalize(), self.sha256.finalize());
        let mut computed = self.others.finalize();
        computed.checksum_sha256 = Some(base64(&sha256));
        same("Content-MD5", declared.md5.as_deref(), Some(&base64(&md5)))?;
        let checksums = with_trailer(declared.checksums, declared.trailer)?;
        let pairs = [
            ("CRC32", &checksums.checksum_crc32, &computed.checksum_crc32),
            ("CRC32C", &checksums.checksum_crc32c, &computed.checksum_crc32c),
            ("CRC64NVME", &checksums.checksum_crc64nvme, &computed.checksum_crc64nvme),
            ("SHA1", &checksums.checksum_sha1, &computed.checksum_sha1),
            ("SHA256", &checksums.checksum_sha256, &computed.checksum_sha256),
        ];
        for (name, declared, computed) in pairs {
            same(name, declared.as_deref(), computed.as_deref())?;
        }
        Ok(Verified { md5, sha256, checksums })
    }
}

/// Adds the checksums that followed the body to those that came before it.
fn with_trailer(mut checksums: Checksum, trailer: Option<Trailer>) -> Result<Checksum, ObjectError> {
    let Some(trailer) = trailer else { return Ok(checksums) };
    let headers = trailer.headers.take().ok_or_else(incomplete)?;
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let slots = [
        ("x-amz-checksum-crc32", &mut checksums.checksum_crc32),
        ("x-amz-checksum-crc32c", &mut checksums.checksum_crc32c),
        ("x-amz-checksum-crc64nvme", &mut checksums.checksum_crc64nvme),
        ("x-amz-checksum-sha1", &mut checksums.checksum_sha1),
        ("x-amz-checksum-sha256", &mut checksums.checksum_sha256),
    ];
    for (name, slot) in slots {
        *slot = value(name).or_else(|| slot.take());
    }
    Ok(checksums)
}

fn same(name: &str, declared: Option<&str>, computed: Option<&str>) -> Result<(), ObjectError> {
    if declared.is_none() || declared == computed {
        return Ok(());
    }
    Err(ObjectError::refused(
        S3ErrorCode::BadDigest,
        format!("The {name} you specified did not match what was received."),
    ))
}

pub(super) fn incomplete() -> ObjectError {
    ObjectError::refused(
        S3ErrorCode::IncompleteBody,
        "The body was not the number of bytes you declared, or not what you signed.",
    )
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
