//! The built-in converters, with the real tools that they use.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy takes helpers of tests for code"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use domain::ContentType;
use remote_converter::{
    builtin,
    convert::{ConvertError, Converted, Source, convert},
    converters::Converters,
    descriptions,
    folders::Folders,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The interpreter that has what `builtin/requirements.txt` names.
fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let named = std::env::var_os("MORAG_CONVERTER_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| root.join(".tools/venv/bin/python"));
    assert!(
        python.exists() || python.components().count() == 1,
        "{} is not there: run `make tools`, or name a Python that has builtin/requirements.txt in MORAG_CONVERTER_PYTHON",
        python.display()
    );
    python
}

struct Bench {
    parent: tempfile::TempDir,
    folders: Folders,
    converters: Converters,
}

impl Bench {
    async fn new(content_type: ContentType) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let folders = Folders::open(&parent.path().join("temp")).unwrap();
        let all = descriptions::load(&[builtin::materialise(folders.root()).unwrap()]).unwrap();
        let converters = Converters::check(all, &[content_type], python(), &folders).await;
        let converters = converters.unwrap_or_else(|error| panic!("run `make tools`: {error}"));
        Self { parent, folders, converters }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.parent.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What comes out, and the percentages on the way.
    async fn convert(
        &self,
        content_type: &ContentType,
        path: &Path,
        options: Value,
    ) -> (Result<Converted, ConvertError>, Vec<u8>) {
        let description = self.converters.choose(content_type, &path.display().to_string()).unwrap();
        let work = self.folders.work("work").unwrap();
        let options = options.as_object().cloned().unwrap_or_default();
        let source = Source {
            path,
            options: &options,
            folder: work.path(),
            python: &self.converters.python,
            deadline: Instant::now() + Duration::from_secs(300),
        };
        let mut seen = Vec::new();
        let mut on_progress = |event: progress::ProgressEvent| seen.push(event.percentage);
        let result = convert(description, source, &CancellationToken::new(), &mut on_progress).await;
        (result, seen)
    }

    async fn document(&self, path: &Path) -> Converted {
        let (result, seen) = self.convert(&ContentType::Document, path, json!({})).await;
        assert!(!seen.is_empty());
        result.unwrap()
    }

    async fn refusal(&self, content_type: &ContentType, path: &Path, options: Value) -> String {
        match self.convert(content_type, path, options).await.0 {
            Err(ConvertError::Failed { message, retryable: false }) => message,
            other => panic!("{other:?}"),
        }
    }
}

/// What the clips of `tests/data/speech` say.
const CLIPS: [(&str, &str); 2] = [
    (
        "sense_and_sensibility_01_austen_64kb-0870.wav",
        "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do for them",
    ),
    ("sense_and_sensibility_01_austen_64kb-0880.wav", "he was not an ill disposed young man"),
];

/// Makes a sound file of a clip by the ffmpeg that the audio converter uses.
fn encoded(clip: &str, target: &Path) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("tests/data/speech");
    let script = "import imageio_ffmpeg, subprocess, sys; subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), \
                  '-v', 'error', '-i', sys.argv[1], '-b:a', '64k', sys.argv[2]], check=True)";
    let made = Command::new(python()).args(["-c", script]).arg(data.join(clip)).arg(target).status().unwrap();
    assert!(made.success());
}

/// The share of `said` that `heard` has in the same order.
fn share_of_words(said: &str, heard: &str) -> f64 {
    let (said, heard): (Vec<&str>, Vec<&str>) =
        (said.split(' ').collect(), heard.split_whitespace().collect());
    let mut row = vec![0; heard.len() + 1];
    for word in &said {
        let before = row.clone();
        for (index, other) in heard.iter().enumerate() {
            row[index + 1] =
                if word == other { before[index] + 1 } else { row[index].max(before[index + 1]) };
        }
    }
    f64::from(row[heard.len()]) / said.len() as f64
}

#[tokio::test]
async fn speech_becomes_a_transcript() {
    let bench = Bench::new(ContentType::Audio).await;
    for (clip, said) in CLIPS {
        let mp3 = bench.parent.path().join("clip.mp3");
        let _ = std::fs::remove_file(&mp3);
        encoded(clip, &mp3);
        let (result, seen) = bench.convert(&ContentType::Audio, &mp3, json!({"language": "en"})).await;
        let converted = result.unwrap();
        let share = share_of_words(said, &converted.content);
        println!("{clip}: {:.0} % of the words", share * 100.0);
        assert!(share >= 0.6, "{share}: {}", converted.content);
        assert!(converted.content.starts_with("# Transcript\n\n[00:00] "), "{}", converted.content);
        assert!(seen.len() >= 2 && seen.is_sorted() && seen.last() >= Some(&90), "{seen:?}");

        let metadata = converted.metadata;
        let duration = metadata["duration_seconds"].as_f64().unwrap();
        assert!(duration > 2.5 && duration < 7.5);
        assert_eq!(metadata["language"], "en-us");
        assert_eq!(metadata["recogniser"], "pocketsphinx");
        assert!(metadata["recogniser_version"].is_string());
        assert_eq!(metadata["converter"], "audio-pocketsphinx");
    }
}

#[tokio::test]
async fn what_is_said_in_a_video_becomes_a_transcript() {
    let bench = Bench::new(ContentType::Video).await;
    let video = bench.parent.path().join("clip.mp4");
    encoded(CLIPS[1].0, &video);
    let converted = bench.convert(&ContentType::Video, &video, json!({})).await.0.unwrap();
    assert!(share_of_words(CLIPS[1].1, &converted.content) >= 0.6, "{}", converted.content);
}

#[tokio::test]
async fn what_is_no_speech_is_refused_with_a_reason() {
    let bench = Bench::new(ContentType::Audio).await;
    let secret = bench.parent.path().join("secret.mp3");
    encoded(CLIPS[1].0, &secret);
    let playlist = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{}\n#EXT-X-ENDLIST\n",
        secret.display()
    );
    let concat = format!("ffconcat version 1.0\nfile '{}'\n", secret.display());
    for (name, bytes) in [
        ("list.m3u8", playlist.as_bytes()),
        ("list.mp3", playlist.as_bytes()),
        ("concat.mp3", concat.as_bytes()),
        ("text.mp3", b"just a text".as_slice()),
        ("empty.mp3", b"".as_slice()),
    ] {
        let refusal = bench.refusal(&ContentType::Audio, &bench.file(name, bytes), json!({})).await;
        assert!(refusal.contains("ffmpeg cannot decode"), "{name}: {refusal}");
    }
    let silence = bench.file("silence.wav", wav(&vec![0; 16_000]));
    let refusal = bench.refusal(&ContentType::Audio, &silence, json!({})).await;
    assert!(refusal.contains("No speech"), "{refusal}");
    let refusal = bench.refusal(&ContentType::Audio, &secret, json!({"language": "de"})).await;
    assert!(refusal.contains("English only"), "{refusal}");
}

/// A sound file of 16-bit samples at 8 kHz.
fn wav(samples: &[u8]) -> Vec<u8> {
    let length = u32::try_from(samples.len()).unwrap();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
    bytes.extend(length.to_le_bytes());
    bytes.extend(samples);
    bytes
}

#[tokio::test]
async fn text_is_passed_through_as_it_is() {
    let bench = Bench::new(ContentType::Document).await;
    let text = "\u{feff}  # A  title #\r\n\r\n<b>not html</b> & caf\u{e9} \u{1f600}\n\n\ttail \n\n";
    for name in ["a.md", "a.txt", "noextension"] {
        let converted = bench.document(&bench.file(name, text)).await;
        assert_eq!(converted.content, text, "{name}");
        assert_eq!(converted.metadata["encoding"], "utf-8");
        assert_eq!(converted.metadata["converter"], "document-markitdown");
    }
    let converted = bench.document(&bench.file("b.md", "intro\n\n# A  title #\n")).await;
    assert_eq!(converted.metadata["title"], "A title");

    let latin = bench.document(&bench.file("latin.txt", b"caf\xe9 cr\xe8me, d\xe9j\xe0 vu")).await;
    assert_eq!(latin.content, "caf\u{e9} cr\u{e8}me, d\u{e9}j\u{e0} vu");
    let wide: Vec<u8> = "\u{feff}wide \u{e9}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(bench.document(&bench.file("wide.txt", wide)).await.content, "wide \u{e9}");
}

#[tokio::test]
async fn html_becomes_markdown() {
    let bench = Bench::new(ContentType::Document).await;
    let page = "<!doctype html><html><head><meta charset=utf-8><title>The &amp; title</title>\
                <script>alert(1)</script><style>b{}</style></head><body><h1>Heading</h1>\
                <p>Some <b>bold</b> caf\u{e9} and <a href='https://x.example/y'>a link</a>.</p>\
                <ul><li>one</li><li>two</li></ul>\
                <table><tr><th>a</th></tr><tr><td>1</td></tr></table></body></html>";
    for name in ["page.html", "page.htm", "page"] {
        let converted = bench.document(&bench.file(name, page)).await;
        let text = &converted.content;
        for part in [
            "# Heading",
            "**bold** caf\u{e9}",
            "[a link](https://x.example/y)",
            "* one\n* two",
            "| a |\n| --- |\n| 1 |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("alert") && !text.contains("b{}"), "{text}");
        assert_eq!(converted.metadata["title"], "The & title");
    }
}

#[tokio::test]
async fn a_pdf_becomes_markdown() {
    let bench = Bench::new(ContentType::Document).await;
    let file = bench.file("report.pdf", pdf(&["Hello from page one", "The second page"]));
    let converted = bench.document(&file).await;
    assert!(converted.content.contains("Hello from page one"), "{}", converted.content);
    assert!(converted.content.contains("The second page") && !converted.content.contains('\u{c}'));
    assert_eq!(converted.metadata["pages"], 2);
    assert_eq!(converted.metadata["title"], "Annual Report");
}

#[tokio::test]
async fn documents_without_text_are_refused_with_a_reason() {
    let bench = Bench::new(ContentType::Document).await;
    let whole = pdf(&["text"]);
    for (name, bytes, why) in [
        ("scan.pdf", pdf(&[""]), "scan"),
        ("cut.pdf", whole[..200].to_vec(), "cannot be read"),
        ("picture.pdf", b"\x89PNG\r\n\x1a\n\0\0\0".to_vec(), "neither text nor HTML nor PDF"),
        ("empty.txt", b" \n".to_vec(), "no text"),
        ("empty.html", b"<html></html>".to_vec(), "no text"),
    ] {
        let refusal = bench.refusal(&ContentType::Document, &bench.file(name, bytes), json!({})).await;
        assert!(refusal.contains(why), "{name}: {refusal}");
    }
}

/// A PDF with a line of text on each page.
fn pdf(pages: &[&str]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|index| format!("{} 0 R", 4 + 2 * index)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    for (index, text) in pages.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] \
             /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>",
            5 + 2 * index
        ));
        let drawn =
            if text.is_empty() { String::new() } else { format!("BT /F1 24 Tf 72 700 Td ({text}) Tj ET") };
        objects.push(format!("<< /Length {} >>\nstream\n{drawn}\nendstream", drawn.len()));
    }
    objects.push("<< /Title (Annual Report) >>".to_owned());
    let mut file = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(file.len());
        file += &format!("{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let table = file.len();
    file += &format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for place in places {
        file += &format!("{place:010} 00000 n \n");
    }
    let (size, info) = (objects.len() + 1, objects.len());
    file += &format!("trailer\n<< /Size {size} /Root 1 0 R /Info {info} 0 R >>\nstartxref\n{table}\n%%EOF\n");
    file.into_bytes()
}
