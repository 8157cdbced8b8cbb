//! The converters that come with this program: their descriptions and scripts, carried inside it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The files of `builtin/`.
const FILES: [(&str, &str); 5] = [
    ("audio.yaml", include_str!("../builtin/audio.yaml")),
    ("audio.py", include_str!("../builtin/audio.py")),
    ("converting.py", include_str!("../builtin/converting.py")),
    ("document.yaml", include_str!("../builtin/document.yaml")),
    ("document.py", include_str!("../builtin/document.py")),
];

/// What the built-in converters need of Python.
const REQUIREMENTS: (&str, &str) = ("requirements.txt", include_str!("../builtin/requirements.txt"));

const PREFIX: &str = "builtin-";

/// Writes the built-in converters to a folder under `parent`, and removes those of other versions.
///
/// # Errors
/// When the files cannot be written.
pub fn materialise(parent: &Path) -> io::Result<PathBuf> {
    let own = format!("{PREFIX}{}", env!("CARGO_PKG_VERSION"));
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            // The own one too: what somebody changed there must not run.
            fs::remove_dir_all(entry.path())?;
        }
    }
    let folder = parent.join(own);
    // Whatever the umask is, nobody else may put a script there.
    DirBuilder::new().mode(0o700).create(&folder)?;
    for (name, text) in FILES.iter().chain([&REQUIREMENTS]) {
        fs::write(folder.join(name), text)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use domain::ContentType;

    use super::*;

    #[test]
    fn every_built_in_description_is_right_and_finds_its_script() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("builtin-0.0.0")).unwrap();
        let folder = materialise(parent.path()).unwrap();
        fs::write(folder.join("audio.py"), "changed").unwrap();
        assert_eq!(materialise(parent.path()).unwrap(), folder);
        assert!(fs::read_to_string(folder.join("audio.py")).unwrap().contains("pocketsphinx"));
        assert!(!parent.path().join("builtin-0.0.0").exists());

        let all = crate::descriptions::load(std::slice::from_ref(&folder)).unwrap();
        assert_eq!(
            all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
            ["audio-pocketsphinx", "document-markitdown"]
        );
        let document = |name: &str| all[1].takes(&ContentType::Document, name);
        assert!(document("a.PDF") && document("a.csv") && document("README") && !document("a.docx"));
        assert!(all[0].takes(&ContentType::Video, "a.mkv") && all[0].takes(&ContentType::Audio, "a.mp3"));
        for description in all {
            let line = description.check_line(parent.path(), Path::new("python3")).unwrap();
            assert!(Path::new(&line[1]).exists(), "{line:?}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_carried() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
        let known: Vec<&str> = FILES.iter().chain([&REQUIREMENTS]).map(|(name, _)| *name).collect();
        for entry in fs::read_dir(source).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name == "__pycache__" || known.contains(&name.as_str()), "{name} is not carried");
        }
    }
}
