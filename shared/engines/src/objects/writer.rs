//! Group commit: one thread takes every change that waits and commits them together, so that they share one fsync.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::blobs::{Blobs, Name, PendingBlob};
use super::change::Change;
use super::error::{ObjectError, is_full};

/// Inlined objects of one commit stay within 8 MiB.
const MOST_IN_ONE_COMMIT: usize = 256;

/// Makes one change and returns what to do with the commit's outcome.
type Job = Box<dyn FnOnce(&Connection) -> Ending + Send>;
type Ending = Box<dyn FnOnce(Commit) + Send>;

#[derive(Clone, Copy)]
enum Commit {
    Done,
    Failed { full: bool },
}

impl Commit {
    /// A commit that failed for another reason than a full disk may turn out to be there after a restart, so its
    /// blobs are left to the next sweep.
    fn may_be_on_disk(self) -> bool {
        match self {
            Self::Done => true,
            Self::Failed { full } => !full,
        }
    }
}

/// The only one who changes the database. Dropping it waits for the changes that were handed in.
pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    removals: Option<Sender<Vec<Name>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, blobs: Arc<Blobs>) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let (removals, garbage) = channel::<Vec<Name>>();
        let mut writer = Self { jobs: Some(jobs), removals: Some(removals), threads: Vec::new() };
        writer.spawn("objects-writer", move || commit_all(connection, &waiting))?;
        // Unlinking gigabytes takes a while; no commit should wait for it.
        writer.spawn("objects-remover", move || {
            garbage.iter().flatten().for_each(|name| blobs.remove(name));
        })?;
        Ok(writer)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// Makes a change and answers once it is durable. A change that returns an error changes nothing.
    ///
    /// If the caller stops waiting, the change is made all the same.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, ObjectError>
    where
        F: FnOnce(&mut Change<'_>) -> Result<T, ObjectError> + Send + 'static,
        T: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let removals = self.removals.clone();
        let job: Job = Box::new(move |sql| {
            let (result, kept, freed) = in_savepoint(sql, work);
            Box::new(move |commit| {
                // The blobs of a change that failed are removed before that is answered.
                if result.is_ok() && commit.may_be_on_disk() {
                    kept.into_iter().for_each(PendingBlob::keep);
                } else {
                    drop(kept);
                }
                let result = match commit {
                    Commit::Done => result,
                    Commit::Failed { full } => result.and(Err(ObjectError::NotCommitted { full })),
                };
                if result.is_ok() && !freed.is_empty() {
                    removals.map(|removals| removals.send(freed));
                }
                drop(answer.send(result));
            })
        });
        let handed_in = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !handed_in {
            return Err(ObjectError::NotCommitted { full: false });
        }
        answered.await.unwrap_or(Err(ObjectError::NotCommitted { full: false }))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        self.removals = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the object store had failed");
            }
        }
    }
}

/// Runs one change so that its failure undoes it alone, not those it is committed with.
fn in_savepoint<T>(
    sql: &Connection,
    work: impl FnOnce(&mut Change<'_>) -> Result<T, ObjectError>,
) -> (Result<T, ObjectError>, Vec<PendingBlob>, Vec<Name>) {
    let mut change = Change::new(sql);
    let result = execute(sql, "SAVEPOINT change").and_then(|()| match work(&mut change) {
        Ok(value) => execute(sql, "RELEASE change").map(|()| value),
        // A full disk has rolled back the whole transaction already; the next check of it finds that.
        Err(error) if sql.is_autocommit() => Err(error),
        Err(error) => {
            execute(sql, "ROLLBACK TO change").and_then(|()| execute(sql, "RELEASE change")).and(Err(error))
        }
    });
    let (kept, freed) = change.into_parts();
    (result, kept, freed)
}

fn execute(sql: &Connection, statement: &str) -> Result<(), ObjectError> {
    Ok(sql.prepare_cached(statement)?.execute([]).map(drop)?)
}

fn commit_all(mut connection: Connection, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let mut endings = Vec::new();
        let jobs = std::iter::once(first).chain(waiting.try_iter().take(MOST_IN_ONE_COMMIT - 1));
        let commit = match commit_together(&mut connection, jobs, &mut endings) {
            Ok(()) => Commit::Done,
            Err(error) => {
                tracing::error!(%error, "cannot commit to the object database");
                Commit::Failed { full: is_full(&error) }
            }
        };
        endings.into_iter().for_each(|end| end(commit));
    }
}

fn commit_together(
    connection: &mut Connection,
    jobs: impl Iterator<Item = Job>,
    endings: &mut Vec<Ending>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in jobs {
        endings.push(job(&transaction));
        if transaction.is_autocommit() {
            // SQLite undid the whole transaction, as it does when the disk is full. Another change made now would
            // be committed on its own, and those before it are lost.
            break;
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::folder::Folder;
    use crate::objects::{rows, schema};

    struct Database {
        dir: TempDir,
        blobs: Arc<Blobs>,
    }

    impl Database {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let folder = Arc::new(Folder::lock(dir.path()).unwrap());
            let blobs = Arc::new(Blobs::open(&dir.path().join("objects"), &folder).unwrap());
            Self { dir, blobs }
        }

        fn open(&self) -> Connection {
            schema::open_for_writing(&self.dir.path().join("objects.sqlite"), true).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let sql = self.open();
            let mut names = sql.prepare("SELECT name FROM buckets ORDER BY name").unwrap();
            names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        }
    }

    fn job(
        work: impl FnOnce(&Connection) + Send + 'static,
        end: impl FnOnce(Commit) + Send + 'static,
    ) -> Job {
        Box::new(move |sql| {
            work(sql);
            Box::new(end)
        })
    }

    #[tokio::test]
    async fn a_change_that_fails_undoes_itself_and_no_other() {
        let database = Database::new();
        let writer = Writer::start(database.open(), Arc::clone(&database.blobs)).unwrap();
        let write = |name: &'static str, fails: bool| {
            writer.write(move |change| {
                rows::create_bucket(change, name, 0)?;
                if fails { Err(ObjectError::MissingBlob { file: String::new() }) } else { Ok(()) }
            })
        };
        let (one, two, three) = tokio::join!(write("one", false), write("two", true), write("three", false));
        assert!(one.is_ok() && two.is_err() && three.is_ok());
        drop(writer);
        assert_eq!(database.names(), ["one", "three"]);
    }

    #[tokio::test]
    async fn a_full_database_refuses_what_has_no_room_and_takes_what_has() {
        let database = Database::new();
        let sql = database.open();
        let pages: i64 = sql.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        sql.pragma_update(None, "max_page_count", pages + 3).unwrap();
        let writer = Writer::start(sql, Arc::clone(&database.blobs)).unwrap();
        let write = |name: String| writer.write(move |change| rows::create_bucket(change, &name, 0));
        let (small, large, last) =
            tokio::join!(write("small".into()), write("x".repeat(100_000)), write("last".into()));
        assert!(s3s::S3Error::from(large.unwrap_err()).code() == &s3s::S3ErrorCode::ServiceUnavailable);
        // Whether those beside it were committed or undone, they were told so.
        let expected: Vec<_> =
            [("last", last), ("small", small)].into_iter().filter(|(_, told)| told.is_ok()).collect();
        assert_eq!(database.names(), expected.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        write("after".into()).await.unwrap();
    }

    #[test]
    fn nothing_is_committed_alone_after_the_transaction_was_undone() {
        let database = Database::new();
        let insert = |name: &'static str| {
            move |sql: &Connection| {
                drop(sql.execute("INSERT INTO buckets (name, created_ms) VALUES (?1, 0)", [name]));
            }
        };
        let undo = |sql: &Connection| sql.execute_batch("ROLLBACK").unwrap();
        let jobs = [job(insert("one"), |_| ()), job(undo, |_| ()), job(insert("three"), |_| ())];
        let mut endings = Vec::new();
        assert!(commit_together(&mut database.open(), jobs.into_iter(), &mut endings).is_err());
        assert_eq!(endings.len(), 2);
        assert!(database.names().is_empty());
    }

    #[test]
    fn commits_reach_the_disk_before_they_are_acknowledged() {
        let sql = Database::new().open();
        let mode: String = sql.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let synchronous: i64 = sql.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }
}
