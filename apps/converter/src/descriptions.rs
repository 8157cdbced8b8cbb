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
//! network: none                 # optional: none (the default) or internet
//! hosts: youtube                # optional with `internet`: only the hosts of the setting `youtube_hosts`
//! limits:                       # optional, and each of them; a job's own time limit holds besides
//!   timeout_seconds: 3600       # the time it may take
//!   stalled_seconds: 600        # the time it may say nothing: each line of its log is a sign of life
//!   cpu_seconds: 7200           # CPU time, for each process
//!   cpus: 2                     # on how many CPUs it may run
//!   memory_bytes: 4294967296    # resident memory of all its processes together, looked at twice a second
//!   address_space_bytes: 8589934592  # address space, for each process
//!   disk_bytes: 34359738368     # what its work folder may hold, looked at twice a second; by default 32 GiB
//!   max_output_bytes: 67108864  # of the result; by default 64 MiB
//! environment: [HF_TOKEN]       # optional: variables to hand on, besides PATH, HOME, the locale and the GPU's
//! ```
//!
//! # What a command must do
//!
//! - It is started without a shell, in a work folder of its own, with nothing to read on its standard input. The
//!   folder, and every process that it started, are gone when it ends.
//! - It writes nowhere but in its work folder, `/dev/shm` and devices, so it keeps no cache: what it needs of models
//!   must be there before. It does not read what this program keeps to itself: `temp_dir` but for its source, its
//!   work folder and `{here}`, the settings, and where people keep keys in their home folder. It gains no privileges,
//!   and has none of root's.
//! - Without `network: internet` it has no sockets but local ones. With it, the proxy that HTTP_PROXY, HTTPS_PROXY,
//!   ALL_PROXY and their lower-case forms name is its only way out: by HTTP and CONNECT over TCP. Names are resolved
//!   there, as the command reaches no name server, and only globally routable addresses and those of the setting
//!   `networks` are connected to. What is refused has the status 403 and a sentence as its reason. 64 GiB may go
//!   through, and 64 connections at a time.
//! - Beyond one of its limits it is sent SIGTERM, and is killed two seconds later. The job's error names the limit;
//!   another attempt may follow, except when its result was too large. It may have 1000 processes at a time.
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
//!   not of this type), with 75 when what the source names elsewhere cannot be had now (a server that is down), and with
//!   anything else when another attempt may work. The end of its log goes along as the reason.

use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use domain::ContentType;
use serde::Deserialize;

pub use crate::{
    limits::{Hosts, Limits, Network},
    placeholders::{Argument, Places},
};
use crate::{
    limits::{HostsName, NetworkName},
    placeholders::{Place, arguments},
};

/// The exit code by which a command says that no further attempt can work.
pub const BAD_INPUT: i32 = 65;

/// The exit code by which a command says that what the source names elsewhere cannot be had now, which is no fault of
/// this machine.
pub const FAR_END: i32 = 75;

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
    /// What of the network it reaches.
    pub network: Network,
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

/// Why a description cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("The converter description {} {problem}", .path.display())]
pub struct DescriptionError {
    /// Its file, or the folder of such files.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
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
            network: Network::new(file.network, file.hosts)?,
            environment: file.environment,
            here: here.to_owned(),
        };
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<(), String> {
        let command_names = |place| self.command.iter().any(|argument| argument.names(place));
        let requires_names = |place| self.requires.iter().flatten().any(|argument| argument.names(place));
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
        self.limits.check()
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

fn extension(text: &str) -> String {
    text.trim().trim_start_matches('.').to_ascii_lowercase()
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
    network: NetworkName,
    hosts: Option<HostsName>,
    #[serde(default)]
    environment: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Accepts {
    extensions: Vec<String>,
}

#[cfg(test)]
mod tests;
