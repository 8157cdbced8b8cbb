//! Where the source of a job is that is still to be done.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

/// The local file that a job file names, or why there is none.
pub(super) fn locate(named: &str, sources: Option<&Path>) -> Result<PathBuf, String> {
    let path = Path::new(named);
    let found = match (path.is_absolute(), sources) {
        (true, _) => path.to_owned(),
        (false, Some(sources)) => below(sources, path)?,
        (false, None) => {
            return Err(format!(
                "Its source {named} is named relative to some folder; say which with --sources DIR."
            ));
        }
    };
    match fs::metadata(&found) {
        Ok(metadata) if metadata.is_file() => Ok(found),
        Ok(_) => Err(format!("Its source {} is no regular file.", found.display())),
        Err(error) => Err(missing(&found, &error)),
    }
}

/// A file in the folder, also when links are followed.
fn below(sources: &Path, named: &Path) -> Result<PathBuf, String> {
    let leads_out =
        || format!("Its source {} leads out of the folder that --sources names.", named.display());
    let plain = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    if !named.components().all(plain) {
        return Err(leads_out());
    }
    let whole = |path: &Path| path.canonicalize().map_err(|error| missing(path, &error));
    let (folder, found) = (whole(sources)?, whole(&sources.join(named))?);
    if found.starts_with(&folder) { Ok(found) } else { Err(leads_out()) }
}

fn missing(path: &Path, error: &io::Error) -> String {
    format!(
        "The job is still to be done and its source {} cannot be used ({error}); put the file there and import again.",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_absolutely_or_below_a_folder() {
        let folder = tempfile::TempDir::new().unwrap();
        let sources = folder.path().canonicalize().unwrap();
        fs::create_dir(sources.join("a")).unwrap();
        let file = sources.join("a/talk.mp3");
        fs::write(&file, "sound").unwrap();
        assert_eq!(locate(file.to_str().unwrap(), None), Ok(file.clone()));
        assert_eq!(locate("a/talk.mp3", Some(&sources)), Ok(file.clone()));
        assert_eq!(locate("./a/talk.mp3", Some(&sources)), Ok(file));
        for (named, sources, words) in [
            ("a/talk.mp3", None, "--sources DIR"),
            ("a/other.mp3", Some(sources.as_path()), "other.mp3 cannot be used"),
            ("/missing/talk.mp3", Some(sources.as_path()), "/missing/talk.mp3 cannot be used"),
            ("../talk.mp3", Some(sources.as_path()), "leads out"),
            ("a", Some(sources.as_path()), "no regular file"),
        ] {
            let why = locate(named, sources).unwrap_err();
            assert!(why.contains(words), "{named}: {why}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_not_followed() {
        let (sources, elsewhere) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        fs::write(elsewhere.path().join("secret"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), sources.path().join("link")).unwrap();
        let why = locate("link/secret", Some(sources.path())).unwrap_err();
        assert!(why.contains("leads out"), "{why}");
    }
}
