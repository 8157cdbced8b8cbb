//! The embedded DynamoDB and S3 engines of "one machine" mode.
//!
//! Both live in one data folder of one process. The AWS SDK reaches them without a socket, through the HTTP clients
//! that [`Engines::dynamodb_http`] and [`Engines::s3_http`] hand out; S3 requests from the network are answered by
//! [`Engines::serve_s3`], which verifies their signatures.
//!
//! What was acknowledged is on the disk: both engines commit with an fsync before they answer.

mod credentials;
mod dynamodb;
mod error;
mod folder;
mod objects;
mod s3;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use bytes::Bytes;

pub use credentials::S3Credentials;
pub use error::{OpenError, SweepError};
pub use s3s::Body as S3Body;

use dynamodb::DynamoDb;
use folder::Folder;
use objects::Objects;
use s3::S3;

/// Both engines over one data folder. Clones share it.
///
/// The folder's lock, the writer's thread and the temporary folder of [`Engines::in_memory`] live until the last
/// clone, the last HTTP client made here and the last response body still being read are gone.
#[derive(Clone)]
pub struct Engines {
    inner: Arc<Inner>,
}

struct Inner {
    dynamodb: Arc<DynamoDb>,
    objects: Arc<Objects>,
    s3: S3,
    credentials: S3Credentials,
}

/// What one [`Engines::sweep`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// DynamoDB items whose time to live had passed.
    pub expired_items: usize,
    /// Objects that a lifecycle rule had expired.
    pub expired_objects: usize,
    /// Multipart uploads that a lifecycle rule had given up.
    pub aborted_uploads: usize,
    /// Files of interrupted uploads, which nothing referred to.
    pub removed_files: usize,
}

impl Engines {
    /// Opens the engines in `dir`, creating what is missing, and takes the folder's exclusive lock.
    ///
    /// Files that an earlier process left half-written are removed.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] if another process (or other engines of this one) has the folder open; otherwise what
    /// could not be opened, by path.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let folder = Arc::new(Folder::lock(dir)?);
        let dynamodb = DynamoDb::open(Arc::clone(&folder))?;
        Self::assemble(dynamodb, &folder)
    }

    /// Opens engines for tests and trials: DynamoDB in memory, objects in a temporary folder that is removed with
    /// the last clone. Nothing waits for the disk.
    ///
    /// # Errors
    ///
    /// What could not be created, by path.
    pub fn in_memory() -> Result<Self, OpenError> {
        let folder = Arc::new(Folder::temporary()?);
        let dynamodb = DynamoDb::in_memory(Arc::clone(&folder))?;
        Self::assemble(dynamodb, &folder)
    }

    fn assemble(dynamodb: DynamoDb, folder: &Arc<Folder>) -> Result<Self, OpenError> {
        let credentials = S3Credentials::load_or_create(folder)?;
        let objects = Arc::new(Objects::open(folder)?);
        let s3 = S3::new(&objects, &credentials);
        Ok(Self { inner: Arc::new(Inner { dynamodb: Arc::new(dynamodb), objects, s3, credentials }) })
    }

    /// An HTTP client for the AWS SDK that answers DynamoDB's JSON calls in this process.
    ///
    /// Region, credentials and endpoint of the SDK's configuration may be anything: no signature is verified, as
    /// nobody outside the process can make such a call. It must be used within a Tokio runtime.
    #[must_use]
    pub fn dynamodb_http(&self) -> SharedHttpClient {
        dynamodb::http_client(Arc::clone(&self.inner.dynamodb))
    }

    /// An HTTP client for the AWS SDK that hands S3 calls to the S3 service in this process, streaming bodies in
    /// both directions.
    ///
    /// Signatures are verified as they are on the network, so the SDK must be configured with
    /// [`Engines::s3_credentials`] and `force_path_style`. It must be used within a Tokio runtime.
    #[must_use]
    pub fn s3_http(&self) -> SharedHttpClient {
        s3::http_client(self.inner.s3.clone())
    }

    /// The key that S3 requests must be signed with; made at random once per data folder.
    #[must_use]
    pub fn s3_credentials(&self) -> &S3Credentials {
        &self.inner.credentials
    }

    /// Answers one S3 request (path style) that came over the network.
    ///
    /// Never fails: what is unsigned, forged or expired is answered with 403, an operation outside the ones this
    /// system uses with 501. The request's `Host` must be the one that the client signed. If the request's body ends
    /// in an error, nothing of it is stored.
    pub async fn serve_s3<B>(&self, request: http::Request<B>) -> http::Response<S3Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.inner.s3.answer(request).await
    }

    /// Housekeeping, to be called on a timer: deletes DynamoDB items past their time to live, applies the buckets'
    /// lifecycle rules, and removes files that nothing refers to and nobody wrote to for an hour.
    ///
    /// `now_ms` is the time in milliseconds since 1970. DynamoDB's time to live goes by the system's clock instead,
    /// because its engine takes no other. It may run beside anything else, itself included.
    ///
    /// # Errors
    ///
    /// The first thing that failed; what was removed until then stays removed.
    pub async fn sweep(&self, now_ms: i64) -> Result<Swept, SweepError> {
        let expired_items = dynamodb::sweep(Arc::clone(&self.inner.dynamodb)).await?;
        let swept = self.inner.objects.sweep(now_ms).await?;
        Ok(Swept { expired_items, ..swept })
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engines").field("folder", &self.inner.objects.folder().path()).finish_non_exhaustive()
    }
}
