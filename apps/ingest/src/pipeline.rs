//! The tasks' way from their acceptance to their end, over restarts.
//!
//! A task is run by one future at a time. What that future does is decided by the task's phase alone, and each phase is
//! left by one conditional write, so that a future that is dropped, with the whole program or because the task was
//! cancelled, is followed by one that goes on where the last write was:
//!
//! - *converting*: a conversion may be run again for the same task; it finds its remote job again by itself. What comes
//!   of it is taken by [`Store::take`], once.
//! - *storing*: storing is idempotent, because the ids of a task's chunks depend on nothing but the task.
//! - *ended*: the end is told by [`crate::deliveries`] from a row that was written with it.

mod runner;
mod shelving;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::Clock,
    deliveries,
    folder::{Folder, FolderError, Incoming},
    housekeeping,
    seams::{Conversion, Courier, Shelf},
    secret::SigningSecret,
    store::{Cancelled, Store, StoreError},
    task::Spec,
};

/// How many tasks are run at once and how long they stay.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many tasks are run at once. Those that wait for a remote job count too, so it is to be large; what is done here
    /// is bounded by itself.
    pub concurrent_tasks: usize,
    /// How long tasks are kept after their end.
    pub retention: Duration,
    /// How long a remote conversion may take of a task that does not say.
    pub remote_timeout: Duration,
}

/// What a pipeline is made of.
pub struct Parts {
    /// The data folder.
    pub folder: Arc<Folder>,
    /// The tasks in it.
    pub store: Store,
    /// Who converts.
    pub conversion: Arc<dyn Conversion>,
    /// Where chunks are kept.
    pub shelf: Arc<dyn Shelf>,
    /// Who carries webhooks.
    pub courier: Arc<dyn Courier>,
    /// What webhooks are signed with.
    pub secret: SigningSecret,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// How much at once.
    pub limits: Limits,
}

/// How far a running task is between what is written down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headway {
    /// How much is done as a whole, from 0 to 1, while it is converted here.
    pub progress: Option<f64>,
    /// How far the remote job is, 0 to 100.
    pub remote_percentage: Option<u8>,
    /// What is being done.
    pub message: Option<String>,
}

/// A task that a future works at.
#[derive(Clone, Default)]
struct Running {
    cancel: CancellationToken,
    wake: Arc<Notify>,
    seen: Arc<Mutex<Headway>>,
}

impl Running {
    fn seen(&self) -> MutexGuard<'_, Headway> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks and those who work at them. Clones are the same.
#[derive(Clone)]
pub struct Pipeline {
    parts: Arc<Parts>,
    running: Arc<Mutex<HashMap<Uuid, Running>>>,
    /// Told when a task may be ready to run.
    ready: Arc<Notify>,
    /// Told when there may be an end to tell.
    owed: Arc<Notify>,
    /// Told when a task may have left a remote job behind.
    left: Arc<Notify>,
    /// Held while a document is cut and stored.
    shelving: Arc<Semaphore>,
}

/// How many documents are cut and stored at once, however many tasks run.
const SHELVING: usize = 4;

/// Those who work at the tasks. They stop with it.
pub struct Workers {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Leaves everything as it is for the next start, within moments.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(%error, "a part of the service ended badly");
            }
        }
    }

    /// Ends everything where it is, as a crash would.
    pub async fn abort(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Pipeline {
    /// Takes over what the last run left, and works from now on.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(parts: Parts) -> Result<(Self, Workers), StartError> {
        let awaited = parts.store.unended().await?;
        let swept = parts.folder.sweep(&awaited)?;
        tracing::info!(unended = awaited.len(), swept, "the tasks of the last run are taken over");
        let pipeline = Self {
            parts: Arc::new(parts),
            running: Arc::default(),
            ready: Arc::default(),
            owed: Arc::default(),
            left: Arc::default(),
            shelving: Arc::new(Semaphore::new(SHELVING)),
        };
        let stop = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(pipeline.clone().run(stop.clone())),
            tokio::spawn(deliveries::run(pipeline.clone(), stop.clone())),
            tokio::spawn(housekeeping::abandon(pipeline.clone(), stop.clone())),
            tokio::spawn(housekeeping::forget(pipeline.clone(), stop.clone())),
        ];
        Ok((pipeline, Workers { stop, tasks }))
    }

    /// What it is made of.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The tasks.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Accepts a task. When this returns, its source and it survive a power cut. It is finished even when the caller goes
    /// away: a task that nobody is told of would wait for the next one, and a source without a task for the next start.
    ///
    /// # Errors
    /// [`AcceptError`]; then nothing of it is left.
    pub async fn accept(&self, id: Uuid, spec: Spec, source: Option<Incoming>) -> Result<(), AcceptError> {
        let pipeline = self.clone();
        let accepting = tokio::spawn(async move { pipeline.accept_whole(id, spec, source).await });
        accepting.await.map_err(|_| StoreError::Ending)?
    }

    async fn accept_whole(&self, id: Uuid, spec: Spec, source: Option<Incoming>) -> Result<(), AcceptError> {
        let (parts, kept) = (&self.parts, source.is_some());
        if let Some(incoming) = source {
            let folder = Arc::clone(&parts.folder);
            let keeping = tokio::task::spawn_blocking(move || incoming.keep(&folder, id));
            keeping.await.map_err(|_| StoreError::Ending)?.map_err(AcceptError::File)?;
        }
        let accepted = parts.store.accept(id, spec, parts.clock.now()).await;
        if accepted.is_err()
            && kept
            && let Err(error) = parts.folder.remove_source(id)
        {
            tracing::warn!(%error, "a source without a task is left until the next start");
        }
        self.ready.notify_one();
        accepted.map_err(AcceptError::Store)
    }

    /// Ends a task, unless a conversion was taken. Its remote job is cancelled, now or as soon as the control plane can
    /// be reached. It is finished even when the caller goes away: the conversion of a cancelled task would go on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel(&self, id: Uuid) -> Result<Cancelled, StoreError> {
        let pipeline = self.clone();
        let cancelling = tokio::spawn(async move { pipeline.cancel_whole(id).await });
        cancelling.await.map_err(|_| StoreError::Ending)?
    }

    async fn cancel_whole(&self, id: Uuid) -> Result<Cancelled, StoreError> {
        let cancelled = self.parts.store.cancel(id, self.parts.clock.now()).await?;
        if cancelled == Cancelled::Done {
            match self.running(id) {
                Some(running) => running.cancel.cancel(),
                None => self.remove_source(id),
            }
            self.owed.notify_one();
            self.left.notify_one();
            // A later task may wait for this one's document.
            self.ready.notify_one();
        }
        Ok(cancelled)
    }

    /// Wakes the task that waits for this remote job, or has this id, so that it asks at once. Whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn wake(&self, job: &str, task: &str) -> Result<bool, StoreError> {
        let named = task.parse().ok().filter(|id| self.running(*id).is_some());
        let id = match named {
            Some(id) => Some(id),
            None => self.parts.store.awaiting(job.to_owned()).await?,
        };
        let running = id.and_then(|id| self.running(id));
        if let Some(running) = &running {
            // One that is not waiting yet finds this when it does.
            running.wake.notify_one();
        }
        Ok(running.is_some())
    }

    /// How far a running task is.
    #[must_use]
    pub fn seen(&self, id: Uuid) -> Option<Headway> {
        self.running(id).map(|running| running.seen().clone())
    }

    fn running(&self, id: Uuid) -> Option<Running> {
        self.all_running().get(&id).cloned()
    }

    fn all_running(&self) -> MutexGuard<'_, HashMap<Uuid, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be an end to tell.
    pub(crate) fn owed(&self) -> &Notify {
        &self.owed
    }

    /// There may be a remote job that nobody waits for.
    pub(crate) fn left(&self) -> &Notify {
        &self.left
    }

    fn remove_source(&self, id: Uuid) {
        if let Err(error) = self.parts.folder.remove_source(id) {
            tracing::warn!(task = %id, %error, "the source of an ended task is left until the next start");
        }
    }
}

/// Why a pipeline does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The tasks.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a task is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Its source cannot be put in place.
    #[error("the file cannot be kept: {0}")]
    File(std::io::Error),
    /// It cannot be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}
