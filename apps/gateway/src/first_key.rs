use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use api::Scope;
use service::Service;

use crate::{Keeps, StartError};

/// The file in the data folder that holds the admin key.
const FILE: &str = "admin-key";

/// Makes an admin key if its file is not there: at the first start, or after somebody removed it to get a new one.
/// In memory the key itself is given back. On AWS none is made: of several processes each would make one.
pub(crate) async fn ensure(
    service: &Service,
    keeps: &Keeps,
) -> Result<(Option<PathBuf>, Option<String>), StartError> {
    let data_dir = match keeps {
        Keeps::Memory => None,
        Keeps::Folder(folder) => Some(folder.as_path()),
        Keeps::Aws { .. } => return Ok((None, None)),
    };
    let file = data_dir.map(|dir| dir.join(FILE));
    if let Some(file) = file.as_ref().filter(|file| file.exists()) {
        return Ok((Some(file.clone()), None));
    }
    let failed = |reason: String| StartError::AdminKey { path: file.clone().unwrap_or_default(), reason };
    let tenant = "default".parse().map_err(|error: domain::InvalidValue| failed(error.0))?;
    let key = service
        .keys()
        .make("admin of the first start", tenant, &[Scope::Admin])
        .await
        .map_err(|error| failed(error.to_string()))?;
    match (&file, data_dir) {
        (Some(file), Some(dir)) => write(dir, file, &key.text).map_err(|error| failed(error.to_string()))?,
        _ => return Ok((None, Some(key.text))),
    }
    Ok((file, None))
}

/// Written beside and renamed, so that a crash leaves no half of a key.
fn write(dir: &Path, file: &Path, key: &str) -> io::Result<()> {
    let beside = file.with_extension("new");
    // One left by a crash may be readable to others.
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writeln!(open, "{key}")?;
    open.sync_all()?;
    fs::rename(&beside, file)?;
    File::open(dir)?.sync_all()
}
