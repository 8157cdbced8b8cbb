//! What a file is, by its extension; for extensions that say nothing, by its first bytes.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use domain::ContentType;
use thiserror::Error;
use url::{Host, Url};

/// How many bytes of a file's beginning are looked at.
const HEAD: u64 = 64;

const AUDIO: &[&str] = &[
    "aac", "aif", "aiff", "amr", "flac", "m4a", "m4b", "mka", "mp2", "mp3", "oga", "ogg", "opus", "wav",
    "wma",
];
const VIDEO: &[&str] = &[
    "3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv", "vob", "webm",
    "wmv",
];
const DOCUMENT: &[&str] = &[
    "adoc", "csv", "doc", "docm", "docx", "eml", "epub", "htm", "html", "ipynb", "json", "markdown", "md",
    "mobi", "odp", "ods", "odt", "org", "pdf", "ppt", "pptx", "rst", "rtf", "tex", "tsv", "txt", "xhtml",
    "xls", "xlsm", "xlsx", "xml",
];
const IMAGE: &[&str] = &[
    "avif", "bmp", "gif", "heic", "heif", "jfif", "jp2", "jpeg", "jpg", "png", "svg", "tif", "tiff", "webp",
];

/// The hosts whose pages are videos, with everything below `youtube.com`.
const SHORT_LINKS: &str = "youtu.be";
const YOUTUBE: &str = "youtube.com";

/// Why it cannot be told what something is.
#[derive(Debug, Error)]
pub enum DetectError {
    /// The file cannot be read.
    #[error("Cannot read the file {}: {source}; check that it exists and its permissions.", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Neither its extension nor its first bytes say it.
    #[error("It cannot be told what {} is", .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// It is no URL of a page.
    #[error("{url:?} {problem}")]
    NoUrl {
        /// What there is in its place.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The type of a local file, by its extension or else by its first bytes.
///
/// # Errors
/// [`DetectError::Unknown`] when neither says it, [`DetectError::File`] when the file cannot be read.
pub fn content_type(path: &Path) -> Result<ContentType, DetectError> {
    if let Some(known) = by_extension(path) {
        return Ok(known);
    }
    let head = head(path).map_err(|source| DetectError::File { path: path.to_owned(), source })?;
    by_bytes(&head).ok_or_else(|| DetectError::Unknown { path: path.to_owned() })
}

/// The type of what a URL leads to: a video of YouTube, or else a web page.
///
/// # Errors
/// [`DetectError::NoUrl`] when it is no `http` or `https` URL with a host, or has spaces or control characters, which no
/// server and no converter takes.
pub fn content_type_of_url(url: &str) -> Result<ContentType, DetectError> {
    let no_url = |problem| DetectError::NoUrl { url: url.to_owned(), problem };
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(no_url(
            "has spaces or control characters, which a URL cannot have; write a space as %20",
        ));
    }
    // The parser is content with fewer slashes, and others are not.
    let parsed = Url::parse(url).ok().filter(|_| is_url(url));
    let host = parsed.as_ref().and_then(Url::host);
    match host.ok_or_else(|| no_url("is not an http:// or https:// URL"))? {
        Host::Domain(host) if is_youtube(host) => Ok(ContentType::Youtube),
        Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => Ok(ContentType::Web),
    }
}

fn is_youtube(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let below =
        |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    below(YOUTUBE) || below(SHORT_LINKS)
}

/// Whether an argument is a URL rather than a file.
#[must_use]
pub fn is_url(argument: &str) -> bool {
    let lower = argument.get(..8).unwrap_or(argument).to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// A URL as the control plane takes it, which knows its scheme in small letters only.
pub(crate) fn with_small_scheme(url: &str) -> String {
    match url.split_once(':') {
        Some((scheme, rest)) => format!("{}:{rest}", scheme.to_ascii_lowercase()),
        None => url.to_owned(),
    }
}

fn by_extension(path: &Path) -> Option<ContentType> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    [
        (AUDIO, ContentType::Audio),
        (VIDEO, ContentType::Video),
        (DOCUMENT, ContentType::Document),
        (IMAGE, ContentType::Image),
    ]
    .into_iter()
    .find_map(|(extensions, found)| extensions.contains(&extension.as_str()).then_some(found))
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// How files begin that are of one type whatever follows.
const BEGINNINGS: &[(&[u8], ContentType)] = &[
    (b"%PDF-", ContentType::Document),
    (b"{\\rtf", ContentType::Document),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", ContentType::Document),
    (b"ID3", ContentType::Audio),
    (b"fLaC", ContentType::Audio),
    (b"OggS", ContentType::Audio),
    (b"#!AMR", ContentType::Audio),
    (b"\x1A\x45\xDF\xA3", ContentType::Video),
    (b"FLV\x01", ContentType::Video),
    (b"\x00\x00\x01\xBA", ContentType::Video),
    (b"\x89PNG\r\n\x1A\n", ContentType::Image),
    (b"\xFF\xD8\xFF", ContentType::Image),
    (b"GIF87a", ContentType::Image),
    (b"GIF89a", ContentType::Image),
    (b"II*\0", ContentType::Image),
    (b"MM\0*", ContentType::Image),
];

fn by_bytes(head: &[u8]) -> Option<ContentType> {
    let begins = BEGINNINGS.iter().find(|(bytes, _)| head.starts_with(bytes));
    begins
        .map(|(_, found)| found.clone())
        .or_else(|| by_container(head))
        .or_else(|| by_zip(head))
        .or_else(|| by_html(head))
        .or_else(|| is_mpeg_audio(head).then_some(ContentType::Audio))
}

/// Containers that say a few bytes later what they contain.
fn by_container(head: &[u8]) -> Option<ContentType> {
    match (head.get(..4)?, head.get(4..8)?, head.get(8..12)?) {
        (b"RIFF", _, b"WAVE") | (b"FORM", _, b"AIFF" | b"AIFC") => Some(ContentType::Audio),
        (b"RIFF", _, b"AVI ") => Some(ContentType::Video),
        (b"RIFF", _, b"WEBP") => Some(ContentType::Image),
        (_, b"ftyp", b"M4A " | b"M4B ") => Some(ContentType::Audio),
        (_, b"ftyp", b"heic" | b"heix" | b"mif1" | b"avif") => Some(ContentType::Image),
        (_, b"ftyp", _) => Some(ContentType::Video),
        _ => None,
    }
}

/// Office and e-book files are ZIP archives with a known first entry. Any other archive may hold anything.
fn by_zip(head: &[u8]) -> Option<ContentType> {
    let first_entry = head.strip_prefix(b"PK\x03\x04")?.get(26..)?;
    let known = [b"[Content_Types].xml".as_slice(), b"mimetype", b"_rels/"];
    known.iter().any(|name| first_entry.starts_with(name)).then_some(ContentType::Document)
}

fn by_html(head: &[u8]) -> Option<ContentType> {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    (text.starts_with(b"<!doctype html") || text.starts_with(b"<html")).then_some(ContentType::Document)
}

/// An MPEG audio frame: eleven set bits, then a version, a layer and a bit rate that exist.
fn is_mpeg_audio(head: &[u8]) -> bool {
    let [0xFF, second, third, ..] = head else { return false };
    let (version, layer, bit_rate) = (second >> 3 & 3, second >> 1 & 3, third >> 4);
    second & 0xE0 == 0xE0 && version != 1 && (layer != 0 || second & 0xF6 == 0xF0) && bit_rate != 15
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(name: &str, bytes: &[u8]) -> Result<ContentType, DetectError> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        content_type(&path)
    }

    #[test]
    fn known_extensions_decide_without_a_look_inside() {
        for (name, expected) in [
            ("/missing/talk.mp3", "audio"),
            ("/missing/TALK.WAV", "audio"),
            ("film.mkv", "video"),
            ("paper.v2.pdf", "document"),
            ("notes.md", "document"),
            ("photo.JPeG", "image"),
        ] {
            assert_eq!(content_type(Path::new(name)).unwrap().as_str(), expected, "{name}");
        }
    }

    #[test]
    fn extensions_are_sorted_and_of_one_type() {
        let all: Vec<&str> = [AUDIO, VIDEO, DOCUMENT, IMAGE].concat();
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!([AUDIO, VIDEO, DOCUMENT, IMAGE].iter().all(|list| list.is_sorted()));
    }

    #[test]
    fn unknown_extensions_are_looked_into() {
        let zip = |entry: &str| [b"PK\x03\x04".as_slice(), &[0; 26], entry.as_bytes(), &[0; 40]].concat();
        for (bytes, expected) in [
            (b"%PDF-1.7 rest".to_vec(), "document"),
            (zip("[Content_Types].xml"), "document"),
            (zip("mimetypeapplication/epub+zip"), "document"),
            (b"  <!DOCTYPE HTML><p>".to_vec(), "document"),
            (b"ID3\x04rest".to_vec(), "audio"),
            (b"\xFF\xFB\x90\x64rest".to_vec(), "audio"),
            (b"\xFF\xF1\x50\x80rest".to_vec(), "audio"),
            (b"RIFF\0\0\0\0WAVEfmt ".to_vec(), "audio"),
            (b"\0\0\0\x20ftypM4A rest".to_vec(), "audio"),
            (b"\0\0\0\x20ftypisom rest".to_vec(), "video"),
            (b"\x1A\x45\xDF\xA3rest".to_vec(), "video"),
            (b"RIFF\0\0\0\0AVI LIST".to_vec(), "video"),
            (b"\xFF\xD8\xFF\xE0rest".to_vec(), "image"),
            (b"\0\0\0\x20ftypheicrest".to_vec(), "image"),
            (b"RIFF\0\0\0\0WEBPVP8 ".to_vec(), "image"),
        ] {
            for name in ["file", "file.bin"] {
                assert_eq!(detected(name, &bytes).unwrap().as_str(), expected, "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_told_names_the_file() {
        let zip = [b"PK\x03\x04".as_slice(), &[0; 26], b"photos/1.raw", &[0; 40]].concat();
        for bytes in [b"".as_slice(), b"\0", b"plain words", b"\xFF\xFF\xFF\xFF", &zip] {
            let error = detected("file.dat", bytes).unwrap_err();
            assert!(matches!(error, DetectError::Unknown { .. }) && error.to_string().contains("file.dat"));
        }
        let error = content_type(Path::new("/missing/file")).unwrap_err();
        assert!(matches!(error, DetectError::File { .. }) && error.to_string().contains("/missing/file"));
    }

    #[test]
    fn a_url_leads_to_a_video_or_to_a_page() {
        for (url, expected) in [
            ("https://www.youtube.com/watch?v=a", "youtube"),
            ("HTTPS://YouTube.com/shorts/a", "youtube"),
            ("http://m.youtube.com/watch?v=a", "youtube"),
            ("https://music.youtube.com/watch?v=a", "youtube"),
            ("https://youtu.be/a", "youtube"),
            ("https://youtu.be./a", "youtube"),
            ("https://example.com/talk.mp3", "web"),
            ("https://notyoutube.com/", "web"),
            ("https://youtube.com.example.org/", "web"),
            ("https://example.com/?u=https://youtube.com/", "web"),
            ("http://127.0.0.1:8000/youtube.com", "web"),
            ("http://[::1]/", "web"),
        ] {
            assert_eq!(content_type_of_url(url).unwrap().as_str(), expected, "{url}");
        }
        for (none, why) in [
            ("", "is not an http:// or https:// URL"),
            ("talk.mp3", "is not an http:// or https:// URL"),
            ("ftp://youtube.com/a", "is not an http:// or https:// URL"),
            ("https://", "is not an http:// or https:// URL"),
            ("https:youtube.com/a", "is not an http:// or https:// URL"),
            ("file:///etc/passwd", "is not an http:// or https:// URL"),
            ("youtube.com/a", "is not an http:// or https:// URL"),
            ("https://example.com/a b", "has spaces or control characters"),
            (" https://example.com/", "has spaces or control characters"),
            ("https://example.com/\n", "has spaces or control characters"),
            ("https://exa\tmple.com/", "has spaces or control characters"),
            ("https://example.com/\u{7f}", "has spaces or control characters"),
        ] {
            let error = content_type_of_url(none).unwrap_err();
            assert!(matches!(error, DetectError::NoUrl { .. }), "{none}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn urls_are_told_from_files() {
        assert!(is_url("https://example.com/a") && is_url("HTTP://x"));
        assert!(!is_url("talk.mp3") && !is_url("http.txt") && !is_url("") && !is_url("ümläut.mp3"));
    }
}
