use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::folder::{Folder, sync_folder};

/// The key that requests to the S3 engine are signed with. Its secret is never part of `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct S3Credentials {
    access_key_id: String,
    secret_access_key: String,
}

impl S3Credentials {
    /// The public half of the key, which presigned URLs carry.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The secret half of the key.
    #[must_use]
    pub fn secret_access_key(&self) -> &str {
        &self.secret_access_key
    }

    /// Reads the folder's credentials, or makes them if there are none.
    pub(crate) fn load_or_create(folder: &Folder) -> Result<Self, OpenError> {
        let path = folder.path().join("s3-credentials.json");
        match fs::read(&path) {
            Ok(text) => {
                keep_private(&path).map_err(OpenError::file(&path))?;
                serde_json::from_slice(&text).map_err(|_| OpenError::Credentials { path })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let credentials = Self::random();
                credentials.write(&path, folder.path()).map_err(OpenError::file(&path))?;
                Ok(credentials)
            }
            Err(error) => Err(OpenError::file(&path)(error)),
        }
    }

    fn random() -> Self {
        let id: [u8; 10] = rand::random();
        let secret: [u8; 30] = rand::random();
        Self { access_key_id: hex::encode_upper(id), secret_access_key: STANDARD_NO_PAD.encode(secret) }
    }

    /// Writes the file whole or not at all; a temporary file has mode 0600 from its first byte.
    fn write(&self, path: &Path, folder: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".s3-credentials").tempfile_in(folder)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(folder)
    }
}

/// Takes a file that was copied or restored with a wider mode back to its owner alone.
fn keep_private(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}
