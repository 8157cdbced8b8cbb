//! The environment's variables, with those of a `.env` file behind them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
};

use super::{dotenv, names};

/// The file that is read beside the environment, from the current folder.
pub const DOTENV_FILE: &str = ".env";

/// What the program's own variables begin with.
const PREFIX: &str = "MORAG_";
/// What those begin with that no other program of the system reads.
const OWN_PREFIX: &str = "MORAG_WORKER_";

/// Variables whose names begin with `MORAG_`, each with where it was given.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    process: HashMap<String, String>,
    file: Option<(PathBuf, BTreeMap<String, String>)>,
    warnings: Vec<String>,
}

impl Environment {
    /// This process's variables, and those of `.env` in the current folder, if there is one.
    ///
    /// # Errors
    /// When that file is there and cannot be read.
    pub fn of_process() -> io::Result<Self> {
        let text = |name: std::ffi::OsString| name.into_string().ok();
        let given = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        Self::of(given, Path::new(DOTENV_FILE))
    }

    /// These variables, and those of this file, if there is one.
    ///
    /// # Errors
    /// When that file is there and cannot be read.
    pub fn of(given: impl IntoIterator<Item = (String, String)>, file: &Path) -> io::Result<Self> {
        let process: HashMap<_, _> = given.into_iter().collect();
        let mut found = Self::default();
        match std::fs::read(file) {
            Ok(bytes) => found.read(file, &String::from_utf8_lossy(&bytes), &process),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        found.process = process.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        found.warn_of_unknown();
        Ok(found)
    }

    fn read(&mut self, path: &Path, text: &str, process: &HashMap<String, String>) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (mut variables, faults) = dotenv::parse(text, process);
        for line in faults {
            // What stands there may be a key.
            self.warnings
                .push(format!("Line {line} of {} is not like NAME=value and is left out.", path.display()));
        }
        variables.retain(|name, _| name.starts_with(PREFIX));
        self.file = Some((path, variables));
    }

    /// A variable that only this program would read, and does not know, is a slip more often than not.
    fn warn_of_unknown(&mut self) {
        let in_file = self.file.iter().flat_map(|(_, variables)| variables.keys());
        let mut unknown: Vec<&String> = self
            .process
            .keys()
            .chain(in_file)
            .filter(|name| name.starts_with(OWN_PREFIX))
            .filter(|name| names::NAMES.iter().all(|known| known.variable != name.as_str()))
            .collect();
        unknown.sort();
        unknown.dedup();
        let warnings = unknown.into_iter().map(|name| {
            let meant = names::nearest(name)
                .map_or_else(String::new, |near| format!(" Did you mean `{}`?", near.variable));
            format!("The environment variable `{name}` is not known and changes nothing.{meant}")
        });
        let warnings: Vec<String> = warnings.collect();
        self.warnings.extend(warnings);
    }

    /// A variable's value, and where it was given. What the process has counts before what the file says, and empty is
    /// absent in both.
    pub(super) fn get(&self, name: &str) -> Option<(String, String)> {
        let given = |value: &&String| !value.trim().is_empty();
        if let Some(value) = self.process.get(name).filter(given) {
            return Some((format!("The environment variable `{name}`"), value.clone()));
        }
        let (path, variables) = self.file.as_ref()?;
        let value = variables.get(name).filter(given)?;
        Some((format!("`{name}` in {}", path.display()), value.clone()))
    }

    /// The `.env` file, if there is one that gives this variable.
    pub(super) fn file_with(&self, name: &str) -> Option<&Path> {
        let (path, variables) = self.file.as_ref()?;
        variables.contains_key(name).then_some(path.as_path())
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
