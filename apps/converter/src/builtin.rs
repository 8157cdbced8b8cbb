//! The converters that come with this program: their descriptions and scripts, carried inside it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

macro_rules! carried {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../builtin/", $name)))),*] };
}

/// The files of `builtin/`. Of the descriptions for a type the first usable one is taken, in the order of their names.
const FILES: &[(&str, &str)] = carried![
    "archives.py",
    "audio-1-faster-whisper.yaml",
    "audio-2-whisper-cpp.yaml",
    "audio-3-pocketsphinx.yaml",
    "audio_pocketsphinx.py",
    "audio_whisper.py",
    "audio_whisper_cpp.py",
    "converting.py",
    "document.py",
    "document.yaml",
    "document_converters.py",
    "document_office.py",
    "document_pdf.py",
    "image.py",
    "image.yaml",
    "media.py",
    "recognition.py",
    "speech.py",
    "subtitles.py",
    "tables.py",
    "transcript.py",
    "video.py",
    "video.yaml",
    "web.py",
    "web.yaml",
    "youtube.py",
    "youtube.yaml",
];

/// What the built-in converters need of Python.
const REQUIREMENTS: (&str, &str) = ("requirements.txt", include_str!("../builtin/requirements.txt"));

/// The Python packages that the built-in converters need, as pip reads them.
#[must_use]
pub fn requirements() -> &'static str {
    REQUIREMENTS.1
}

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
        fs::write(folder.join("speech.py"), "changed").unwrap();
        assert_eq!(materialise(parent.path()).unwrap(), folder);
        assert!(fs::read_to_string(folder.join("speech.py")).unwrap().contains("RECOGNISERS"));
        assert!(!parent.path().join("builtin-0.0.0").exists());

        let all = crate::descriptions::load(std::slice::from_ref(&folder)).unwrap();
        let first = |content_type: ContentType, name: &str| {
            all.iter().find(|one| one.takes(&content_type, name)).map(|one| one.name.as_str())
        };
        for name in ["a.PDF", "a.docx", "a.csv", "README"] {
            assert_eq!(first(ContentType::Document, name), Some("document-markitdown"), "{name}");
        }
        assert_eq!(first(ContentType::Document, "a.zip"), None);
        assert_eq!(first(ContentType::Image, "a.png"), Some("image-ocr"));
        assert_eq!(first(ContentType::Web, "url"), Some("web-trafilatura"));
        assert_eq!(first(ContentType::Audio, "a.mp3"), Some("audio-faster-whisper"));
        assert_eq!(first(ContentType::Video, "a.mkv"), Some("video-ffmpeg"));
        assert_eq!(first(ContentType::Youtube, "a.txt"), Some("youtube-yt-dlp"));
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
