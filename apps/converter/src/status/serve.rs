use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::BaseUrl;
use domain::WorkerId;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{SOCKET, Status, short};
use crate::{activity::Activities, folders::Folders, jobs::Jobs};

/// How long somebody who asked may take to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait after a connection that could not be accepted, for want of open files perhaps.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What there is to tell.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) worker_id: WorkerId,
    pub(crate) server: BaseUrl,
    pub(crate) max_jobs: usize,
    pub(crate) since: Instant,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) activities: Arc<Activities>,
    pub(crate) folders: Arc<Folders>,
}

/// The socket, which is served until the value goes, and removed then.
#[derive(Debug)]
pub(crate) struct Serving {
    path: PathBuf,
    _task: AbortOnDropHandle<()>,
}

impl Serving {
    /// Serves what there is to tell in the folder `temp_dir`, in place of what one left there that was killed.
    ///
    /// # Errors
    /// When the socket cannot be created.
    pub(crate) fn start(standing: Standing) -> io::Result<Self> {
        let path = standing.folders.root().join(SOCKET);
        let listener = bind(&standing.folders.in_progress(), &path)?;
        let task = tokio::spawn(serve(listener, Arc::new(standing)));
        Ok(Self { path, _task: AbortOnDropHandle::new(task) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that stays says nothing wrong: nobody answers there.
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates the socket where nobody else can reach it, and gives it its name when only its user can.
fn bind(private: &Path, path: &Path) -> io::Result<UnixListener> {
    let (_folder, short) = short(private)?;
    let listener = UnixListener::bind(short.join(SOCKET))?;
    let unnamed = private.join(SOCKET);
    fs::set_permissions(&unnamed, Permissions::from_mode(0o600))?;
    fs::rename(&unnamed, path)?;
    Ok(listener)
}

async fn serve(listener: UnixListener, standing: Arc<Standing>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Whoever hung up does not want to know.
                let _ = timeout(PATIENCE, answer(stream, Arc::clone(&standing))).await;
            }
            Err(error) => {
                tracing::warn!(%error, "somebody who asked for the status could not be answered");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, standing: Arc<Standing>) -> io::Result<()> {
    let described = tokio::task::spawn_blocking(move || standing.describe());
    let status = described.await.map_err(io::Error::other)?;
    let mut text = serde_json::to_vec_pretty(&status)?;
    text.push(b'\n');
    stream.write_all(&text).await
}

impl Standing {
    fn describe(&self) -> Status {
        let (activity, reason) = self.activities.now();
        Status {
            worker_id: self.worker_id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            server: self.server.to_string(),
            seconds: self.since.elapsed().as_secs(),
            activity,
            reason,
            last_answer: self.activities.last_answer(),
            max_concurrent_jobs: self.max_jobs,
            jobs: self.jobs.all(),
            completed: self.jobs.completed(),
            spooled: results_in(&self.folders.spool()),
            rejected: results_in(&self.folders.rejected()),
        }
    }
}

/// How many results lie there. A folder that cannot be read has none to show.
fn results_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let is_result = |path: PathBuf| path.extension().is_some_and(|ending| ending == "json");
    entries.filter(|entry| entry.as_ref().is_ok_and(|entry| is_result(entry.path()))).count() as u64
}
