//! The built-in converters, with the real tools that they use.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy takes helpers of tests for code"
)]

mod audio;
mod doctor;
mod document;
mod examples;
mod hostile_media;
mod image;
mod video;
mod web;
mod whisper;
mod youtube;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use domain::ContentType;
use remote_converter::{
    builtin,
    contain::Walls,
    convert::{ConvertError, Converted, Source, convert},
    converters::Converters,
    descriptions,
    egress::Egress,
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

/// Converters of these tests reach the servers of these tests.
fn walls() -> Walls {
    Walls::new(Vec::new(), Egress::new(vec!["127.0.0.0/8".parse().unwrap()], &["127.0.0.1".to_owned()]))
}

struct Bench {
    parent: tempfile::TempDir,
    folders: Folders,
    converters: Converters,
}

impl Bench {
    async fn new(content_type: ContentType) -> Self {
        Self::open(content_type, |_, _| Vec::new()).await
    }

    /// With descriptions of the operator's own, which `own` writes to the folder that it is given first; the second is
    /// that of the built-in scripts. It returns their paths.
    async fn open(content_type: ContentType, own: impl Fn(&Path, &Path) -> Vec<PathBuf>) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let folders = Folders::open(&parent.path().join("temp")).unwrap();
        let built_in = builtin::materialise(folders.root()).unwrap();
        let mut paths = own(parent.path(), &built_in);
        paths.push(built_in);
        let all = descriptions::load(&paths).unwrap();
        let converters = Converters::check(all, &[content_type], python(), &folders, walls()).await;
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
            walls: &self.converters.walls,
        };
        let mut seen = Vec::new();
        let mut on_line = |line: &str| seen.extend(progress::parse_line(line).map(|event| event.percentage));
        let result = convert(description, source, &CancellationToken::new(), &mut on_line).await;
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

/// The recording of a clip.
fn clip(index: usize) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    root.join("tests/data/speech").join(CLIPS[index].0)
}

/// Runs the ffmpeg that the converters use.
fn ffmpeg<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) {
    let script = "import imageio_ffmpeg, subprocess, sys; \
                  subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), '-v', 'error', *sys.argv[1:]], check=True)";
    let made = Command::new(python()).args(["-c", script]).args(arguments).status().unwrap();
    assert!(made.success());
}

/// Makes a sound file of a clip.
fn encoded(index: usize, target: &Path) {
    ffmpeg([OsStr::new("-i"), clip(index).as_os_str(), "-b:a".as_ref(), "64k".as_ref(), target.as_os_str()]);
}

/// What a built-in script did that was run without this program around it.
struct Ran {
    code: Option<i32>,
    said: String,
    result: Option<Value>,
}

/// Runs a built-in script as its description has it, but nothing contains it.
fn run_script(script: &str, input: &Path, options: &Value) -> Ran {
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("options.json"), options.to_string()).unwrap();
    let ran = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin").join(script))
        .arg("--input")
        .arg(input)
        .args(["--output", "output", "--options", "options.json"])
        .current_dir(work.path())
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    let result = std::fs::read(work.path().join("output")).ok();
    Ran {
        code: ran.status.code(),
        said: String::from_utf8_lossy(&said).into_owned(),
        result: result.map(|bytes| serde_json::from_slice(&bytes).unwrap()),
    }
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

/// Recognised text may differ in spaces.
fn says_text(content: &str, lines: &[&str]) {
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    for line in lines {
        assert!(bare(content).contains(&bare(line)), "{line}: {content}");
    }
}
