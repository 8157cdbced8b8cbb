//! Taking over the jobs of the original system, once and as often as it is run.

mod job_file;
mod source;
mod storage;

use std::{
    io,
    path::{Path, PathBuf},
};

use api::{Kind, import::ImportRequest};
use clap::Args;
use client::{Client, retrying};
use domain::Status;
use futures::{StreamExt, stream};
use serde_json::json;

use self::storage::{Entries, Stored};
use super::{Session, TRIES};
use crate::{bars::Bars, exit, failure::Failure};

/// How many jobs are imported at a time.
const PARALLEL: usize = 4;

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The folder of the original's job files, with the folders pending, processing, completed, failed, timeout and
    /// cancelled
    #[arg(value_name = "DIR")]
    storage: PathBuf,
    /// The folder that the sources of pending and processing jobs are in, where the job files name them relatively
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,
    /// Say what would be done, and do nothing; what only the server can refuse is not seen then
    #[arg(long)]
    dry_run: bool,
}

/// What cannot be imported, and why.
#[derive(Debug)]
struct NotTaken {
    path: PathBuf,
    failure: Failure,
}

impl NotTaken {
    fn because(path: &Path, why: &str) -> Self {
        Self { path: path.to_owned(), failure: Failure::NotTaken(why.to_owned()) }
    }

    fn unreadable(path: &Path, source: io::Error) -> Self {
        let failure = Failure::File { path: path.to_owned(), source };
        Self { path: path.to_owned(), failure }
    }
}

/// What became of a job file.
struct Taken {
    path: PathBuf,
    job_id: String,
    status: String,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Imported,
    WouldBeImported,
    AlreadyThere,
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::WouldBeImported => "would be imported",
            Self::AlreadyThere => "already there",
        }
    }

    /// How it is spelled for programs.
    fn event(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::WouldBeImported => "would-be-imported",
            Self::AlreadyThere => "already-there",
        }
    }
}

pub(crate) async fn run(session: &Session<'_>, args: &ImportArgs) -> Result<(), Failure> {
    let import = Import { client: session.client()?, args, bars: Bars::new(session.output) };
    session.resume_with("What was imported stays; run the same command again to go on.".to_owned());
    let mut tally = Tally::default();
    let mut ended = Ok(());
    for folder in storage::folders(&args.storage)? {
        ended = import.folder(session, folder, &mut tally).await;
        if ended.is_err() {
            break;
        }
    }
    tally.tell(session, args.dry_run)?;
    ended?;
    if tally.not_taken > 0 { Err(Failure::Told { code: exit::JOB_NOT_COMPLETED }) } else { Ok(()) }
}

/// Tells what became of a job file. A failure that all of them would meet is given back.
fn tell(session: &Session<'_>, args: &ImportArgs, outcome: Result<Taken, NotTaken>) -> Result<(), Failure> {
    let shown = |path: &Path| path.strip_prefix(&args.storage).unwrap_or(path).display().to_string();
    match outcome {
        Ok(taken) => {
            let (file, words) = (shown(&taken.path), taken.outcome.words());
            session.output.note(&format!("{}  {:<10}  {words}", taken.job_id, taken.status));
            session.output.value(&json!({
                "event": taken.outcome.event(), "file": file, "job_id": taken.job_id, "status": taken.status,
            }))
        }
        Err(NotTaken { failure, .. }) if failure.concerns_all() => Err(failure),
        Err(NotTaken { path, failure }) => {
            session.output.failure(&failure, Some(&shown(&path)));
            Ok(())
        }
    }
}

#[derive(Default)]
struct Tally {
    imported: u64,
    already_there: u64,
    not_taken: u64,
}

impl Tally {
    fn add(&mut self, outcome: &Result<Taken, NotTaken>) {
        let count = match outcome {
            Ok(Taken { outcome: Outcome::AlreadyThere, .. }) => &mut self.already_there,
            Ok(_) => &mut self.imported,
            Err(_) => &mut self.not_taken,
        };
        *count += 1;
    }

    fn tell(&self, session: &Session<'_>, dry_run: bool) -> Result<(), Failure> {
        let Self { imported, already_there, not_taken } = self;
        session.output.value(&json!({
            "event": "summary", "dry_run": dry_run, "imported": imported, "already_there": already_there,
            "not_taken": not_taken,
        }))?;
        let would = if dry_run { "would be " } else { "" };
        session.output.line(&format!(
            "{would}imported {imported}, already there {already_there}, not taken {not_taken}"
        ))
    }
}

struct Import<'a> {
    client: Client,
    args: &'a ImportArgs,
    bars: Bars,
}

impl Import<'_> {
    async fn folder(
        &self,
        session: &Session<'_>,
        entries: Entries,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let mut outcomes = stream::iter(entries).map(|entry| self.entry(entry)).buffer_unordered(PARALLEL);
        while let Some(outcome) = outcomes.next().await {
            tally.add(&outcome);
            self.bars.aside(|| tell(session, self.args, outcome))?;
        }
        Ok(())
    }

    async fn entry(&self, entry: Result<Stored, NotTaken>) -> Result<Taken, NotTaken> {
        let stored = entry?;
        let path = stored.path.clone();
        // A result may be long, and reading it would keep the others.
        let read = tokio::task::spawn_blocking(move || job_file::read(&stored)).await;
        let request =
            read.unwrap_or_else(|error| Err(NotTaken::unreadable(&path, io::Error::other(error))))?;
        self.job(&path, request).await.map_err(|failure| NotTaken { path, failure })
    }

    async fn job(&self, path: &Path, mut request: ImportRequest) -> Result<Taken, Failure> {
        let taken = |job_id: String, status: String, outcome| Taken {
            path: path.to_owned(),
            job_id,
            status,
            outcome,
        };
        let open = matches!(request.status, Status::Pending | Status::Processing);
        // The server tells for itself, but only once the source has been uploaded for nothing.
        if (open || self.args.dry_run)
            && let Some(status) = self.existing(&request.job_id).await?
        {
            return Ok(taken(request.job_id, status, Outcome::AlreadyThere));
        }
        if open {
            self.bring(&mut request).await?;
        }
        if self.args.dry_run {
            return Ok(taken(request.job_id, request.status.to_string(), Outcome::WouldBeImported));
        }
        let imported = retrying(&TRIES, || self.client.import_job(&request)).await?;
        let outcome = if imported.imported { Outcome::Imported } else { Outcome::AlreadyThere };
        Ok(taken(imported.job_id, imported.status, outcome))
    }

    /// The status of a job that was imported before.
    async fn existing(&self, job_id: &str) -> Result<Option<String>, Failure> {
        match retrying(&TRIES, || self.client.status(job_id)).await {
            Ok(job) => Ok(Some(job.status)),
            Err(error) if error.kind() == Some(Kind::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Uploads the source of a job that is still to be done. A URL needs no upload.
    async fn bring(&self, request: &mut ImportRequest) -> Result<(), Failure> {
        if ingestion::detect::is_url(&request.source_file_path) {
            return Ok(());
        }
        let source = source::locate(&request.source_file_path, self.args.sources.as_deref());
        let source = source.map_err(Failure::NotTaken)?;
        if self.args.dry_run {
            return Ok(());
        }
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        // The same for every run, so that what was uploaded and not imported is not uploaded again.
        let key = format!("import-{}", request.job_id);
        let bar = self.bars.transfer(&name);
        let progress = |done, total| bar.bytes(done, total);
        let uploaded = self.client.upload_file_as(&source, &name, &key, &progress).await?;
        request.source_file_path = uploaded.source_file_path;
        Ok(())
    }
}
