use std::io;
use std::path::{Path, PathBuf};

use crate::objects::ObjectError;

/// Why the engines could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the data folder open.
    #[error(
        "the data folder {} is in use by another process; stop that process, or choose another data folder",
        folder.display()
    )]
    Locked {
        /// The data folder.
        folder: PathBuf,
    },

    /// A file or folder could not be read or made.
    #[error("cannot open {}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },

    /// The DynamoDB engine could not open its file.
    #[error("cannot open the DynamoDB tables in {}", path.display())]
    DynamoDb {
        /// The engine's file.
        path: PathBuf,
        /// What the engine answered.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The S3 engine could not open its file.
    #[error("cannot open the object database {}", path.display())]
    Objects {
        /// The engine's file.
        path: PathBuf,
        /// What SQLite answered.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The object database was written by a newer version of this program.
    #[error("{} has format {found}, and this version knows formats up to {known}; use a newer version", path.display())]
    Newer {
        /// The engine's file.
        path: PathBuf,
        /// The file's format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },

    /// The file of the S3 credentials holds something else.
    #[error("{} does not hold S3 credentials; restore it, or remove it to have new ones made", path.display())]
    Credentials {
        /// The credentials' file.
        path: PathBuf,
    },
}

impl OpenError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    pub(crate) fn objects(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Objects { path, source: source.into() }
    }
}

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
#[error("cannot sweep {what}")]
pub struct SweepError {
    what: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl SweepError {
    pub(crate) fn dynamodb(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { what: "the DynamoDB tables", source: source.into() }
    }
}

impl From<ObjectError> for SweepError {
    fn from(source: ObjectError) -> Self {
        Self { what: "the objects", source: source.into() }
    }
}
