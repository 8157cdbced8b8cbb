use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{self, Path, PathBuf},
};

use ingestion::detect;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::Plan;
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
    source: String,
}

#[derive(Deserialize, Serialize)]
struct Record {
    /// The result's name in the folder.
    name: String,
    /// The source: the absolute path of a file, or a URL.
    source: String,
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

    /// Where the result of a source goes: where it went before, and not where that of another source is, be it one of
    /// this command or of an earlier one. What has taken the place of a source that is gone may take its name.
    pub(super) fn target(&mut self, source: &str) -> Target {
        let identity = identity(source);
        let path = self.folder.path_beside(source, |name| {
            let mut records = self.earlier.iter().rev();
            let last = records.find(|record| record.name.eq_ignore_ascii_case(name));
            last.is_some_and(|last| last.source != identity && is_there(&last.source))
        });
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Target { path, name, source: identity }
    }

    /// Whether an earlier run has made this already. Somebody may have edited it since: it is left alone then.
    ///
    /// # Errors
    /// When something is in the place of the result that nobody could make again: what this command has not put there,
    /// what was edited since, or what was made of another source.
    pub(super) fn has(&self, target: &Target, plan: &Plan) -> Result<bool, Failure> {
        let failed = |source| Failure::File { path: target.path.clone(), source };
        let found = match fs::read(&target.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => hex::encode(Sha256::digest(found.map_err(failed)?)),
        };
        let own: Vec<&Record> = self.earlier.iter().filter(|record| record.name == target.name).collect();
        let Some(last) = own.last() else {
            return Err(in_the_way(target, "is there already, and not from this command"));
        };
        let unchanged: Vec<&Record> = own.iter().copied().filter(|record| record.sha256 == found).collect();
        if unchanged.iter().any(|record| record.made_of == plan.digest) {
            return Ok(true);
        }
        match unchanged.last() {
            Some(newest) if newest.source == target.source => Ok(false),
            Some(newest) => Err(in_the_way(target, &format!("is there already, made of {}", newest.source))),
            None if last.made_of == plan.digest => Ok(true),
            None => {
                Err(in_the_way(target, "was edited since it was saved, and is to be converted otherwise now"))
            }
        }
    }

    /// Saves a result whole, and remembers it. What is remembered first and then not saved is made again.
    pub(super) fn save(&self, target: &Target, plan: &Plan, text: &str) -> Result<PathBuf, Failure> {
        let record = Record {
            name: target.name.clone(),
            source: target.source.clone(),
            made_of: plan.digest.clone(),
            sha256: hex::encode(Sha256::digest(text)),
        };
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

/// What tells a source from others of the same name.
fn identity(source: &str) -> String {
    if detect::is_url(source) {
        return source.to_owned();
    }
    whereabouts(Path::new(source))
        .map_or_else(|_| source.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// The absolute path of a file. A link stays what it is, because it may lead elsewhere tomorrow.
fn whereabouts(file: &Path) -> io::Result<PathBuf> {
    let absolute = path::absolute(file)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(folder), Some(name)) => Ok(folder.canonicalize()?.join(name)),
        _ => Ok(absolute),
    }
}

/// Whether a source is where it was. Nobody is asked for a URL.
fn is_there(source: &str) -> bool {
    detect::is_url(source) || Path::new(source).exists()
}

fn in_the_way(target: &Target, why: &str) -> Failure {
    let path = target.path.display();
    Failure::Usage(format!("{path} {why}; choose another --out, or replace it with --force."))
}
