//! Descriptions of converters: what a converter takes, the command that it is, and its limits.
//!
//! A description is a YAML file:
//!
//! ```yaml
//! name: my-converter
//! content_types: [audio]
//! accepts:                      # optional
//!   extensions: [mp3, wav]      # optional: take only sources whose name ends so; "" is no extension
//! requires: ["{python}", "{here}/mine.py", "--check"]  # optional: run once at start, with 60 s; 0 means usable
//! install: "pip install mine"   # optional: said when `requires` fails
//! command: ["{python}", "{here}/mine.py", "{input}", "{output}"]
//! result: {format: json, from: file}     # json or markdown; file or stdout
//! limits:                       # optional, and each of them
//!   timeout_seconds: 3600       # of this command, beside the job's own limit
//!   max_output_bytes: 67108864  # of the result; by default 64 MiB
//!   memory_bytes: 4294967296    # of address space, for each process
//! environment: [HF_TOKEN]       # optional: variables to hand on, besides PATH, HOME, the locale and the GPU's
//! ```
//!
//! # What a command must do
//!
//! - It is started without a shell, in a work folder of its own and a process group of its own, with nothing to read
//!   on its standard input. The folder and everything in the group are gone when it ends.
//! - In its arguments, `{input}` stands for the source's path, whose name has the extension that the source was
//!   submitted with; `{output}` for the path where the result is expected; `{options}` for a JSON file with the job's
//!   `task_options`, an object; `{work}` for the work folder; `{python}` for the setting of that name; and `{here}`
//!   for the folder of the description. `TMPDIR` is the work folder too.
//! - Lines on its standard output and standard error are its log. Those in one of the formats of the crate
//!   `progress`, such as `Processing progress: Recognising (40%)`, are forwarded. With `from: stdout`, standard
//!   output is the result instead.
//! - The result is Markdown in UTF-8, or the JSON object `{"content": "…", "metadata": {…}}`, where `metadata` may be
//!   missing.
//! - It exits with 0 when it worked, with 65 when no further attempt at this source can work (damaged, protected,
//!   not of this type), and with anything else when another attempt may. The end of its log goes along as the reason.

use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use domain::ContentType;
use serde::Deserialize;

/// The exit code by which a command says that no further attempt can work.
pub const BAD_INPUT: i32 = 65;

/// A converter.
#[derive(Clone, Debug)]
pub struct Description {
    /// What it is called in logs and in a result's metadata.
    pub name: String,
    /// What it converts.
    pub content_types: Vec<ContentType>,
    /// The extensions that it takes, in lower case and without a dot; an empty one for names without. All when there
    /// are none.
    pub extensions: Vec<String>,
    /// The command that tells whether it is usable here.
    pub requires: Option<Vec<Argument>>,
    /// How to make it usable.
    pub install: Option<String>,
    /// The command.
    pub command: Vec<Argument>,
    /// How its result is read.
    pub result: ResultSource,
    /// What it may use.
    pub limits: Limits,
    /// The environment variables that it gets besides the usual ones.
    pub environment: Vec<String>,
    /// The folder that its file is in.
    pub here: PathBuf,
}

/// How a result is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultSource {
    /// What it is.
    pub format: Format,
    /// Where it is.
    pub from: Origin,
}

/// What a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The text itself.
    Markdown,
    /// An object with the text and what is known about it.
    Json,
}

/// Where a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// On standard output.
    Stdout,
    /// In the file `{output}`.
    File,
}

/// What a command may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The time it may take, in seconds.
    pub timeout_seconds: Option<u64>,
    /// The size of its result.
    pub max_output_bytes: u64,
    /// The address space of each of its processes.
    pub memory_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout_seconds: None, max_output_bytes: 64 << 20, memory_bytes: None }
    }
}

/// Why a description cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("The converter description {} {problem}", .path.display())]
pub struct DescriptionError {
    /// Its file, or the folder of such files.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// What the placeholders of a command stand for.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The source.
    pub input: &'a Path,
    /// Where the result goes.
    pub output: &'a Path,
    /// The job's options.
    pub options: &'a Path,
    /// The work folder.
    pub work: &'a Path,
    /// The interpreter of the setting `python`.
    pub python: &'a Path,
}

/// One argument of a command, with placeholders in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

/// A placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Input,
    Output,
    Options,
    Work,
    Python,
    Here,
}

impl Place {
    const ALL: [(&'static str, Self); 6] = [
        ("input", Self::Input),
        ("output", Self::Output),
        ("options", Self::Options),
        ("work", Self::Work),
        ("python", Self::Python),
        ("here", Self::Here),
    ];
}

impl Argument {
    /// Placeholders are words in braces; braces around anything else stand for themselves.
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut kept = String::new();
        while let Some(open) = rest.find('{') {
            let (before, after) = (&rest[..open], &rest[open + 1..]);
            kept.push_str(before);
            let word_end = after.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(after.len());
            if word_end == 0 || !after[word_end..].starts_with('}') {
                kept.push('{');
                rest = after;
                continue;
            }
            let word = &after[..word_end];
            let known = Place::ALL.iter().find(|(name, _)| *name == word);
            let (_, place) = known.ok_or_else(|| {
                let names: Vec<String> = Place::ALL.iter().map(|(name, _)| format!("{{{name}}}")).collect();
                format!("has the unknown placeholder {{{word}}}; there are {}", names.join(" "))
            })?;
            pieces.push(Piece::Text(std::mem::take(&mut kept)));
            pieces.push(Piece::Place(*place));
            rest = &after[word_end + 1..];
        }
        kept.push_str(rest);
        pieces.push(Piece::Text(kept));
        Ok(Self(pieces))
    }

    fn names(&self, place: Place) -> bool {
        self.0.contains(&Piece::Place(place))
    }

    fn fill(&self, here: &Path, places: &Places<'_>) -> OsString {
        let mut filled = OsString::new();
        for piece in &self.0 {
            filled.push(match piece {
                Piece::Text(text) => text.as_ref(),
                Piece::Place(Place::Input) => places.input.as_os_str(),
                Piece::Place(Place::Output) => places.output.as_os_str(),
                Piece::Place(Place::Options) => places.options.as_os_str(),
                Piece::Place(Place::Work) => places.work.as_os_str(),
                Piece::Place(Place::Python) => places.python.as_os_str(),
                Piece::Place(Place::Here) => here.as_os_str(),
            });
        }
        filled
    }
}

impl Description {
    /// Reads one description. `here` is the folder of its file.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the file's name.
    pub fn parse(text: &str, here: &Path) -> Result<Self, String> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| format!("is not right: {error}"))?;
        let description = Self {
            name: file.name.trim().to_owned(),
            content_types: file.content_types,
            extensions: file.accepts.extensions.iter().map(|text| extension(text)).collect(),
            requires: file.requires.map(|words| arguments(&words, "requires")).transpose()?,
            install: file.install,
            command: arguments(&file.command, "command")?,
            result: file.result,
            limits: file.limits,
            environment: file.environment,
            here: here.to_owned(),
        };
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<(), String> {
        let command_names = |place| self.command.iter().any(|argument| argument.names(place));
        let requires_names = |place| self.requires.iter().flatten().any(|argument| argument.names(place));
        let zero = self.limits.timeout_seconds == Some(0) || self.limits.max_output_bytes == 0;
        if self.name.is_empty() {
            return Err("has an empty `name`".to_owned());
        }
        if self.content_types.is_empty() {
            return Err("names no content type in `content_types`".to_owned());
        }
        if !command_names(Place::Input) {
            return Err("does not use {input} in its `command`, so it would not see the source".to_owned());
        }
        if self.result.from == Origin::File && !command_names(Place::Output) {
            return Err("takes its result from a file but does not use {output} in its `command`".to_owned());
        }
        if [Place::Input, Place::Output, Place::Options].into_iter().any(requires_names) {
            return Err(
                "uses a placeholder of a job in `requires`, which runs before there is one".to_owned()
            );
        }
        if zero || self.limits.memory_bytes.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            return Err(format!(
                "has limits under which nothing runs: `memory_bytes` is at least {LEAST_MEMORY}, the others at least 1"
            ));
        }
        Ok(())
    }

    /// Whether it takes a source of this type and name.
    #[must_use]
    pub fn takes(&self, content_type: &ContentType, filename: &str) -> bool {
        let ending = Path::new(filename).extension().and_then(|text| text.to_str()).unwrap_or_default();
        let named = || self.extensions.contains(&extension(ending));
        self.content_types.contains(content_type) && (self.extensions.is_empty() || named())
    }

    /// The command's words, for these places.
    #[must_use]
    pub fn command_line(&self, places: &Places<'_>) -> Vec<OsString> {
        self.command.iter().map(|argument| argument.fill(&self.here, places)).collect()
    }

    /// The words of the command that tells whether it is usable, if there is one.
    #[must_use]
    pub fn check_line(&self, work: &Path, python: &Path) -> Option<Vec<OsString>> {
        // Only the work folder and Python can be named there; the rest is never used.
        let places = Places { input: work, output: work, options: work, work, python };
        Some(self.requires.as_ref()?.iter().map(|argument| argument.fill(&self.here, &places)).collect())
    }
}

/// Below this not even an interpreter starts.
const LEAST_MEMORY: u64 = 16 << 20;

fn extension(text: &str) -> String {
    text.trim().trim_start_matches('.').to_ascii_lowercase()
}

fn arguments(words: &[String], field: &str) -> Result<Vec<Argument>, String> {
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(format!("names no program in `{field}`"));
    }
    let parse = |word: &String| Argument::parse(word).map_err(|problem| format!("{problem} (in `{field}`)"));
    words.iter().map(parse).collect()
}

/// Reads descriptions: files, and the `*.yaml` and `*.yml` files of folders in the order of their names.
///
/// # Errors
/// [`DescriptionError`] for the first that cannot be read or is wrong, and for two of the same name.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Description>, DescriptionError> {
    let mut all = Vec::new();
    let mut named: HashMap<String, PathBuf> = HashMap::new();
    for path in paths {
        for file in files(path)? {
            let description = load_file(&file)?;
            if let Some(other) = named.insert(description.name.clone(), file.clone()) {
                let problem = format!("has the same name {:?} as {}", description.name, other.display());
                return Err(DescriptionError { path: file, problem });
            }
            all.push(description);
        }
    }
    Ok(all)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, DescriptionError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error| unreadable(path, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn load_file(path: &Path) -> Result<Description, DescriptionError> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let here = path.parent().unwrap_or(Path::new("/"));
    Description::parse(&text, here).map_err(|problem| DescriptionError { path: path.to_owned(), problem })
}

fn unreadable(path: &Path, error: &std::io::Error) -> DescriptionError {
    DescriptionError { path: path.to_owned(), problem: format!("cannot be read: {error}") }
}

/// A description as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    content_types: Vec<ContentType>,
    #[serde(default)]
    accepts: Accepts,
    requires: Option<Vec<String>>,
    install: Option<String>,
    command: Vec<String>,
    result: ResultSource,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    environment: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Accepts {
    extensions: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name: mine
content_types: [audio, x-mine]
accepts: {extensions: [.MP3, wav]}
requires: ["{python}", "-c", "import sys"]
install: do it
command: ["{python}", "{here}/a.py", "--in={input}", "{output}", "{options}", "{work}", "{}", "{not a place}", "{{input}}"]
result: {format: json, from: file}
limits: {timeout_seconds: 5, max_output_bytes: 100, memory_bytes: 100000000}
environment: [TOKEN]
"#;
    const LEAST: &str = "name: n\ncontent_types: [audio]\ncommand: [cat, '{input}']\nresult: {format: markdown, from: stdout}\n";

    fn problem(text: &str) -> String {
        Description::parse(text, Path::new("/here")).unwrap_err()
    }

    #[test]
    fn a_whole_description() {
        let description = Description::parse(WHOLE, Path::new("/here")).unwrap();
        let places = Places {
            input: Path::new("/w/in.mp3"),
            output: Path::new("/w/out"),
            options: Path::new("/w/o.json"),
            work: Path::new("/w"),
            python: Path::new("/py"),
        };
        let line = description.command_line(&places);
        let expected = [
            "/py",
            "/here/a.py",
            "--in=/w/in.mp3",
            "/w/out",
            "/w/o.json",
            "/w",
            "{}",
            "{not a place}",
            "{/w/in.mp3}",
        ];
        assert_eq!(line, expected.map(OsString::from));
        let check = description.check_line(Path::new("/w"), Path::new("/py")).unwrap();
        assert_eq!(check, ["/py", "-c", "import sys"].map(OsString::from));
        assert_eq!(description.limits.max_output_bytes, 100);
        assert_eq!(description.environment, ["TOKEN"]);
    }

    #[test]
    fn the_least_description_takes_every_extension() {
        let description = Description::parse(LEAST, Path::new("/here")).unwrap();
        assert_eq!(description.limits, Limits::default());
        assert!(description.takes(&ContentType::Audio, "noextension"));
        assert!(!description.takes(&ContentType::Video, "a.mp3"));
        assert!(description.check_line(Path::new("/w"), Path::new("/py")).is_none());
    }

    #[test]
    fn extensions_are_compared_without_case_and_dot() {
        let description = Description::parse(WHOLE, Path::new("/here")).unwrap();
        for (name, takes) in
            [("a.mp3", true), ("a.b.WAV", true), ("mp3", false), ("a.ogg", false), ("", false)]
        {
            assert_eq!(description.takes(&ContentType::Audio, name), takes, "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            (LEAST.replace("name: n", "name: ''"), "empty `name`"),
            (LEAST.replace("name: n", "nam: n"), "nam"),
            (LEAST.replace("[audio]", "[]"), "`content_types`"),
            (LEAST.replace("[audio]", "[music]"), "is not a content type"),
            (LEAST.replace("[cat, '{input}']", "[]"), "no program in `command`"),
            (LEAST.replace("{input}", "input"), "{input}"),
            (LEAST.replace("{input}", "{imput}"), "unknown placeholder {imput}"),
            (LEAST.replace("from: stdout", "from: file"), "{output}"),
            (LEAST.replace("markdown", "html"), "html"),
            (format!("{LEAST}requires: ['{{input}}']"), "`requires`"),
            (format!("{LEAST}limits: {{max_output_bytes: 0}}"), "limits"),
            (format!("{LEAST}limits: {{memory_bytes: 1000}}"), "memory_bytes"),
            (format!("{LEAST}limits: {{memory: 1000}}"), "memory"),
            ("[".to_owned(), "is not right"),
        ] {
            let problem = problem(&text);
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }

    #[test]
    fn folders_are_read_in_order_and_errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("b.yaml", LEAST);
        write("a.yml", &LEAST.replace("name: n", "name: first"));
        write("c.txt", "not looked at");
        let all = load(&[folder.path().to_owned()]).unwrap();
        assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["first", "n"]);

        write("d.yaml", LEAST);
        let text = load(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(text.contains("d.yaml") && text.contains("same name") && text.contains("b.yaml"), "{text}");
        write("d.yaml", "name: [");
        assert!(load(&[folder.path().join("d.yaml")]).unwrap_err().to_string().contains("d.yaml"));
        assert!(load(&[folder.path().join("e.yaml")]).unwrap_err().to_string().contains("cannot be read"));
    }
}
