//! Where a job's source comes from: an upload, a file under one of this machine's source roots, or a URL.

use std::{
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions, OpenOptionsExt},
};
use domain::{ContentType, FileName, Source};
use sha2::{Digest, Sha256};
use store::StorageKey;
use thiserror::Error as ThisError;
use uuid::Uuid;

use crate::{Caller, Error, Service, uploads::whole};

/// The largest file that is copied from a source root: what S3 takes in one request.
const LARGEST_COPY: u64 = 5 << 30;

/// The folders whose files may be named by absolute path when a job is created. Empty means none may.
///
/// A file is opened beneath its root without following a link out of it, and copied from that open file, so what is
/// converted is what was there at the creation.
#[derive(Clone, Debug, Default)]
pub struct SourceRoots(Vec<Root>);

#[derive(Clone, Debug)]
struct Root {
    path: PathBuf,
    dir: Arc<Dir>,
}

/// A source root that cannot be used.
#[derive(Debug, ThisError)]
#[error("source root {path} cannot be opened: {source}")]
pub struct RootError {
    /// The root.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// Why a named file is not taken.
#[derive(Debug, PartialEq, Eq)]
enum NotTaken {
    Outside,
    Missing,
    NoFile,
    TooLarge,
    Denied,
}

impl SourceRoots {
    /// Opens every root.
    ///
    /// # Errors
    /// [`RootError`] names the first that cannot be opened.
    pub fn open(roots: &[PathBuf]) -> Result<Self, RootError> {
        let open = |path: &PathBuf| {
            let dir = Dir::open_ambient_dir(path, ambient_authority())?;
            Ok(Root { path: path.clone(), dir: Arc::new(dir) })
        };
        roots
            .iter()
            .map(|path| open(path).map_err(|source| RootError { path: path.clone(), source }))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Opens a regular file beneath one of the roots.
    fn file(&self, path: &Path) -> Result<std::fs::File, NotTaken> {
        let beneath = |root: &Root| {
            path.strip_prefix(&root.path).ok().map(|rest| (Arc::clone(&root.dir), rest.to_owned()))
        };
        let (dir, rest) = self.0.iter().find_map(beneath).ok_or(NotTaken::Outside)?;
        // The root itself is there, and is no file.
        let rest = if rest.as_os_str().is_empty() { PathBuf::from(".") } else { rest };
        // Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(rustix_nonblock());
        let file = dir.open_with(&rest, &options).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NotTaken::Missing,
            // What leads out of the root is refused by the operating system or by cap-std as a permission.
            io::ErrorKind::PermissionDenied => NotTaken::Denied,
            _ => NotTaken::NoFile,
        })?;
        let file = file.into_std();
        let metadata = file.metadata().map_err(|_| NotTaken::NoFile)?;
        if !metadata.is_file() {
            return Err(NotTaken::NoFile);
        }
        if metadata.len() > LARGEST_COPY {
            return Err(NotTaken::TooLarge);
        }
        Ok(file)
    }
}

/// `O_NONBLOCK` as the C library of Linux and of the BSDs spell it.
fn rustix_nonblock() -> i32 {
    if cfg!(target_os = "linux") { 0o4000 } else { 0x4 }
}

impl NotTaken {
    fn message(&self) -> &'static str {
        match self {
            Self::Outside => {
                "names a local file outside the folders of MORAG_SOURCE_ROOTS; upload it instead"
            }
            Self::Missing => "names a local file that does not exist",
            Self::NoFile => "names something that is not a regular file",
            Self::TooLarge => "names a local file of more than 5 GiB; upload it instead",
            Self::Denied => {
                "names a local file that may not be read, or a link that leads out of its source root"
            }
        }
    }
}

const FIELD: &str = "source_file_path";

impl Service {
    /// The object that `path` names, copied into the handoff first where it is not there yet. `fallback_id` names the
    /// copy, so that the same creation makes the same copy.
    pub(crate) async fn source(
        &self,
        caller: &Caller,
        path: &str,
        content_type: &ContentType,
        fallback_id: Uuid,
    ) -> Result<Source, Error> {
        let is_url = path.starts_with("http://") || path.starts_with("https://");
        if is_url {
            return self.source_of_url(caller, path, content_type, fallback_id).await;
        }
        if Path::new(path).is_absolute() {
            return self.source_of_file(caller, path, fallback_id).await;
        }
        let missing = || {
            Error::field(
                FIELD,
                "names no uploaded file; name the source_file_path that POST /uploads answered, after uploading to it",
            )
        };
        let key: StorageKey = path.parse().map_err(|_| missing())?;
        match &key {
            StorageKey::Source { tenant, name, .. } if *tenant == caller.tenant => {
                self.stored_source(&key, name).await?.ok_or_else(missing)
            }
            StorageKey::Source { .. } | StorageKey::Options { .. } | StorageKey::Result { .. } => {
                Err(missing())
            }
        }
    }

    async fn stored_source(&self, key: &StorageKey, name: &FileName) -> Result<Option<Source>, Error> {
        let Some(object) = self.store.handoff.head(&key.to_string()).await? else { return Ok(None) };
        whole(FIELD, &object)?;
        Ok(Some(Source {
            key: key.to_string(),
            name: name.clone(),
            size_bytes: object.size_bytes,
            etag: object.etag,
            sha256: object.sha256,
        }))
    }

    /// A page's or video's URL becomes a text object, which is what the original's converter expects to download.
    async fn source_of_url(
        &self,
        caller: &Caller,
        url: &str,
        content_type: &ContentType,
        fallback_id: Uuid,
    ) -> Result<Source, Error> {
        match content_type {
            ContentType::Web | ContentType::Youtube | ContentType::Custom(_) => {}
            ContentType::Audio | ContentType::Video | ContentType::Document | ContentType::Image => {
                return Err(Error::field(
                    FIELD,
                    format!("is a URL, and {content_type} jobs convert files; upload the file instead"),
                ));
            }
        }
        if url.len() > 8192 || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Error::field(
                FIELD,
                "is a URL with spaces or control characters, or longer than 8192 bytes",
            ));
        }
        let name = FileName::from_client("url.txt");
        let key =
            StorageKey::Source { tenant: caller.tenant.clone(), upload: fallback_id, name: name.clone() };
        let body = Bytes::copy_from_slice(url.as_bytes());
        let sha256 = Sha256::digest(&body).into();
        self.store.handoff.put(&key, body, &sha256).await?;
        self.copied(&key, &name, sha256).await
    }

    async fn source_of_file(&self, caller: &Caller, path: &str, fallback_id: Uuid) -> Result<Source, Error> {
        let roots = self.rules.source_roots.clone();
        let wanted = PathBuf::from(path);
        let name = FileName::from_client(path);
        let hashed = tokio::task::spawn_blocking(move || {
            let mut file = roots.file(&wanted)?;
            let hashed = hash(&mut file).map_err(|_| NotTaken::NoFile)?;
            Ok::<_, NotTaken>((file, hashed))
        })
        .await
        .map_err(|error| Error::Internal(error.to_string()))?;
        let (file, (size_bytes, sha256)) = hashed.map_err(|reason| Error::field(FIELD, reason.message()))?;
        let key =
            StorageKey::Source { tenant: caller.tenant.clone(), upload: fallback_id, name: name.clone() };
        if !self.store.handoff.put_file(&key, file.into(), size_bytes, &sha256).await? {
            return Err(Error::field(
                FIELD,
                "names a local file that changed while it was copied; try again",
            ));
        }
        self.copied(&key, &name, sha256).await
    }

    /// The copy, which must be of what is there now and not of what an earlier try found.
    async fn copied(&self, key: &StorageKey, name: &FileName, sha256: [u8; 32]) -> Result<Source, Error> {
        let stored = self.stored_source(key, name).await?;
        let stored = stored.ok_or_else(|| Error::Internal(format!("{key} was written and is not there")))?;
        if stored.sha256.is_some_and(|there| there != sha256) {
            return Err(Error::field(
                FIELD,
                "was something else when this Idempotency-Key was used first; use a new key",
            ));
        }
        Ok(stored)
    }
}

/// The size and SHA-256 of an open file, which is then back at its beginning.
fn hash(file: &mut std::fs::File) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    file.rewind()?;
    Ok((size, hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_are_opened_beneath_their_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/in.txt"), "in").unwrap();
        std::fs::write(folder.path().join("out.txt"), "out").unwrap();
        symlink("sub/in.txt", root.join("inner")).unwrap();
        symlink("../out.txt", root.join("outer")).unwrap();
        symlink(folder.path(), root.join("up")).unwrap();
        let roots = SourceRoots::open(std::slice::from_ref(&root)).unwrap();
        let open = |name: &str| roots.file(&root.join(name)).map(|_| ());
        assert_eq!(open("sub/in.txt"), Ok(()));
        assert_eq!(open("inner"), Ok(()));
        assert_eq!(open("outer"), Err(NotTaken::Denied));
        assert_eq!(open("up/out.txt"), Err(NotTaken::Denied));
        assert_eq!(open("../out.txt"), Err(NotTaken::Denied));
        assert_eq!(open("sub"), Err(NotTaken::NoFile));
        assert_eq!(open("none"), Err(NotTaken::Missing));
        assert_eq!(roots.file(Path::new("/etc/passwd")).map(|_| ()), Err(NotTaken::Outside));
        assert_eq!(SourceRoots::default().file(&root.join("inner")).map(|_| ()), Err(NotTaken::Outside));
    }

    #[test]
    fn a_named_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
        assert!(status.success());
        let roots = SourceRoots::open(&[folder.path().to_owned()]).unwrap();
        assert_eq!(roots.file(&folder.path().join("pipe")).map(|_| ()), Err(NotTaken::NoFile));
    }

    #[test]
    fn a_missing_root_is_named() {
        let error = SourceRoots::open(&[PathBuf::from("/does/not/exist")]).unwrap_err();
        assert!(error.to_string().starts_with("source root /does/not/exist cannot be opened"));
    }
}
