use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::{Plan, hex};
use crate::{commands::save, failure::Failure};

/// The file in the folder that says what was saved there, one JSON document on a line for each.
const RECORDS: &str = ".remote-jobs-convert.jsonl";

/// A folder with results, and what earlier runs have put there.
pub(super) struct Done {
    folder: save::Folder,
    records: PathBuf,
    earlier: Vec<Record>,
}

/// Where the result of a source goes.
pub(super) struct Target {
    pub(super) path: PathBuf,
    name: String,
}

#[derive(Deserialize, Serialize)]
struct Record {
    /// The result's name in the folder.
    name: String,
    /// What it was made of, and how.
    made_of: String,
    /// The SHA-256 of what was written.
    sha256: String,
}

impl Done {
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let records = folder.join(RECORDS);
        let folder = save::Folder::create(folder)?;
        let text = match fs::read_to_string(&records) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| Failure::File { path: records.clone(), source })?,
        };
        // A line that a crash cut off only means that its result is made again.
        let earlier = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Self { folder, records, earlier })
    }

    /// Where the result of a source goes. No two of one command go to one place.
    pub(super) fn target(&mut self, source: &str) -> Target {
        let path = self.folder.path_for(source);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Target { path, name }
    }

    /// Whether an earlier run has made this already. Somebody may have edited it since: it is left alone then.
    ///
    /// # Errors
    /// When something else is in the place of the result.
    pub(super) fn has(&self, target: &Target, plan: &Plan) -> Result<bool, Failure> {
        let failed = |source| Failure::File { path: target.path.clone(), source };
        let found = match fs::read(&target.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => hex(Sha256::digest(found.map_err(failed)?)),
        };
        let mut own = self.earlier.iter().filter(|record| record.name == target.name).peekable();
        if own.peek().is_none() {
            return Err(Failure::Usage(format!(
                "{} is there already, and not from this command; choose another --out, or replace it with --force.",
                target.path.display()
            )));
        }
        let (of_this, of_others): (Vec<_>, Vec<_>) = own.partition(|record| record.made_of == plan.digest);
        let is_older = of_others.iter().any(|record| record.sha256 == found);
        let is_this = of_this.iter().any(|record| record.sha256 == found);
        Ok(is_this || (!of_this.is_empty() && !is_older))
    }

    /// Saves a result whole, and remembers it. What is remembered first and then not saved is made again.
    pub(super) fn save(&self, target: &Target, plan: &Plan, text: &str) -> Result<PathBuf, Failure> {
        let sha256 = hex(Sha256::digest(text));
        let record = Record { name: target.name.clone(), made_of: plan.digest.clone(), sha256 };
        self.remember(&record).map_err(|source| Failure::File { path: self.records.clone(), source })?;
        save::whole(&target.path, text)?;
        Ok(target.path.clone())
    }

    fn remember(&self, record: &Record) -> io::Result<()> {
        // A line that a crash cut off must not spoil the next one.
        let line = format!("\n{}\n", serde_json::to_string(record)?);
        let mut file = OpenOptions::new().create(true).append(true).open(&self.records)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }
}
