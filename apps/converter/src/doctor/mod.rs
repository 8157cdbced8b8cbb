//! `remote-converter doctor`: which converters run on this machine, and how to install what is missing.
//!
//! It asks the same questions that the start asks, of every converter that is known, whether the settings need it or
//! not, and changes nothing: a converter that runs meanwhile with the same settings is not disturbed.

mod machine;
mod show;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use domain::ContentType;
use serde::Serialize;

use crate::{
    builtin,
    contain::Walls,
    converters::{Finding, examine},
    descriptions::{self, Description},
    folders::Folders,
    limits::Network,
    settings::Settings,
    start::{Failed, MACHINE, SETTINGS, failed},
};
use machine::Machine;

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    machine: Machine,
    /// The known content types: those of the settings first.
    content_types: Vec<TypeReport>,
}

/// What was found for a content type.
#[derive(Debug, Serialize)]
struct TypeReport {
    content_type: ContentType,
    /// Whether the settings want it.
    configured: bool,
    /// In the order in which they are asked for a source.
    converters: Vec<ConverterReport>,
}

/// What was found of a converter, for one content type.
#[derive(Debug, Serialize)]
struct ConverterReport {
    name: String,
    /// Where its description is; none for a built-in one.
    folder: Option<PathBuf>,
    network: &'static str,
    /// What it says of itself, such as the versions of its tools, when it is usable.
    says: Option<String>,
    /// Why it is not usable.
    problem: Option<String>,
    /// How to make it usable.
    install: Option<String>,
    takes: Takes,
}

/// Which sources of a type a converter gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Takes {
    /// Those of these extensions; an empty one is for names without.
    Extensions(Vec<String>),
    /// All that none before it takes.
    Everything,
    /// None, as it is not usable, or as those before it take all that it would.
    Nothing,
}

/// Looks, and prints what it found; or only what the built-in converters need of Python, as pip reads it.
///
/// # Errors
/// With the program's exit code, when a content type of the settings has no converter that runs here.
pub(crate) fn run(settings: &Settings, json: bool, requirements: bool) -> Result<(), Failed> {
    if requirements {
        print(builtin::requirements());
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(MACHINE)(&error))?;
    let report = runtime.block_on(look(settings))?;
    let text = if json { show::json(&report) } else { show::text(&report, &settings.warnings) };
    print(&text);
    report.judge()
}

fn print(text: &str) {
    // Who closed the pipe does not want to read it.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

async fn look(settings: &Settings) -> Result<Report, Failed> {
    let scratch = Scratch::new().map_err(|error| failed(MACHINE)(&error))?;
    let folders = Folders::open(&scratch.0).map_err(|error| failed(MACHINE)(&error))?;
    let built_in = builtin::materialise(folders.root()).map_err(|error| failed(MACHINE)(&error))?;
    let mut paths = settings.converters.clone();
    paths.push(built_in.clone());
    let all = descriptions::load(&paths).map_err(|error| failed(SETTINGS)(&error))?;
    let walls = Walls::of(settings);
    let (findings, machine) =
        tokio::join!(examine(all, &settings.python, &folders, &walls), Machine::look(settings));
    Ok(Report::new(machine, &settings.content_types, &findings, &built_in))
}

impl Report {
    fn new(machine: Machine, configured: &[ContentType], findings: &[Finding], built_in: &Path) -> Self {
        let mut types = configured.to_vec();
        for content_type in findings.iter().flat_map(|finding| &finding.description.content_types) {
            if !types.contains(content_type) {
                types.push(content_type.clone());
            }
        }
        let content_types = types.into_iter().map(|content_type| TypeReport {
            configured: configured.contains(&content_type),
            converters: converters(&content_type, findings, built_in),
            content_type,
        });
        Self { version: env!("CARGO_PKG_VERSION"), machine, content_types: content_types.collect() }
    }

    fn judge(&self) -> Result<(), Failed> {
        let lacking =
            |one: &&TypeReport| one.configured && one.converters.iter().all(|one| one.says.is_none());
        let lacking: Vec<&str> =
            self.content_types.iter().filter(lacking).map(|one| one.content_type.as_str()).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let message = format!(
            "No converter here runs for {}, which `content_types` names. Install what is missing above, or take it out \
             of `content_types` (MORAG_WORKER_CONTENT_TYPES, --content-types).",
            lacking.join(", ")
        );
        Err(Failed { code: SETTINGS, message })
    }
}

fn converters(content_type: &ContentType, findings: &[Finding], built_in: &Path) -> Vec<ConverterReport> {
    let mut taken = Some(Vec::new());
    let known = findings.iter().filter(|finding| finding.description.content_types.contains(content_type));
    let report = |finding: &Finding| {
        let description = &finding.description;
        ConverterReport {
            name: description.name.clone(),
            folder: (description.here != built_in).then(|| description.here.clone()),
            network: match description.network {
                Network::None => "none",
                Network::Internet(_) => "internet",
            },
            says: finding.outcome.as_ref().ok().cloned(),
            problem: finding.outcome.as_ref().err().cloned(),
            install: finding.outcome.is_err().then(|| description.install.clone()).flatten(),
            takes: if finding.outcome.is_ok() { takes(description, &mut taken) } else { Takes::Nothing },
        }
    };
    known.map(report).collect()
}

/// What is left for a converter of what `taken` names, which is nothing when everything is taken. It is then taken too.
fn takes(description: &Description, taken: &mut Option<Vec<String>>) -> Takes {
    let Some(before) = taken else { return Takes::Nothing };
    if description.extensions.is_empty() {
        *taken = None;
        return Takes::Everything;
    }
    let left: Vec<String> =
        description.extensions.iter().filter(|ending| !before.contains(ending)).cloned().collect();
    before.extend(left.iter().cloned());
    if left.is_empty() { Takes::Nothing } else { Takes::Extensions(left) }
}

/// A folder for the time of the examination.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;

        let path =
            std::env::temp_dir().join(format!("remote-converter-doctor-{:016x}", rand::random::<u64>()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies where such folders are removed anyway.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
