use std::{
    collections::HashSet,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Writes a file so that it is there whole or not at all, whatever happens meanwhile.
pub(crate) fn whole(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    write(folder, path, text).map_err(|source| Failure::File { path: path.to_owned(), source })
}

fn write(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".remote-jobs-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    readable(file.path())?;
    file.persist(path)?;
    Ok(())
}

/// A temporary file is its owner's alone; a result is as readable as any new file that is not secret.
#[cfg(unix)]
fn readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The files of one command's results in a folder. No two of them have one name.
pub(crate) struct Folder {
    path: PathBuf,
    taken: HashSet<String>,
}

impl Folder {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(path).map_err(|source| Failure::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), taken: HashSet::new() })
    }

    /// The path of the result of `source`, a file or a URL: its name with `.md` for its extension.
    pub(crate) fn path_for(&mut self, source: &str) -> PathBuf {
        self.path_beside(source, |_| false)
    }

    /// The same, beside names that are taken by other results.
    pub(crate) fn path_beside(&mut self, source: &str, is_taken: impl Fn(&str) -> bool) -> PathBuf {
        let stem = stem(source);
        let mut name = format!("{stem}.md");
        let mut number = 2;
        while is_taken(&name) || !self.taken.insert(name.to_ascii_lowercase()) {
            name = format!("{stem}-{number}.md");
            number += 1;
        }
        self.path.join(name)
    }
}

fn stem(source: &str) -> String {
    if ingestion::detect::is_url(source) {
        let plain = source.split(['?', '#']).next().unwrap_or_default();
        let last = plain.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        return domain::FileName::from_client(last).to_string();
    }
    let stem = Path::new(source).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| "result".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_named_like_their_sources() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut results = Folder::create(&folder.path().join("new/one")).unwrap();
        let mut name =
            |source: &str| results.path_for(source).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name("a/talk.mp3"), "talk.md");
        assert_eq!(name("b/Talk.wav"), "Talk-2.md");
        assert_eq!(name("talk.mp4"), "talk-3.md");
        assert_eq!(name("https://example.com/a/article/?q=1"), "article.md");
        assert_eq!(name("https://example.com"), "example.com.md");
        assert_eq!(name(".."), "result.md");
        let beside = results.path_beside("a/new.mp3", |name| matches!(name, "new.md" | "new-2.md"));
        assert!(beside.ends_with("new-3.md"), "{}", beside.display());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.md");
        whole(&path, "first, and longer").unwrap();
        whole(&path, "second").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(whole(&folder.path().join("missing/a.md"), "").unwrap_err().code(), 7);
    }
}
