//! Runs tasks: as many at once as may be, each document's one after the other.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use domain::Timestamp;
use futures::FutureExt;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Pipeline, Running};
use crate::{
    seams::{Heard, Made, Notes, Unmade, Work},
    store::{Left, StoreError},
    task::{Phase, Stage, Task},
};

/// How long a cancelled conversion has to cancel its remote job. What it does not get done is done later.
const CANCELLING: Duration = Duration::from_secs(10);
/// The waits after tasks that cannot be read or written.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a step of a task came to.
enum Step {
    /// There may be more to do.
    Next,
    /// The task has ended.
    Ended,
}

impl Pipeline {
    /// Runs tasks until `stop`. Then those that run are dropped where they are.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            let filled = self.fill(&mut tasks).await;
            if let Err(error) = &filled {
                tracing::error!(%error, "the next tasks cannot be found; trying again");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = tasks.join_next() => {}
                () = self.ready.notified() => {}
                () = tokio::time::sleep(WAITS.0), if filled.is_err() => {}
            }
        }
        tasks.shutdown().await;
    }

    /// Begins as many tasks as there is room for.
    async fn fill(&self, tasks: &mut JoinSet<()>) -> Result<(), StoreError> {
        let most = self.parts.limits.concurrent_tasks;
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= most {
            return Ok(());
        }
        // Those that run are among them.
        for id in self.parts.store.ready(most + tasks.len()).await? {
            if tasks.len() >= most {
                break;
            }
            if self.running(id).is_none() {
                let running = Running::default();
                self.all_running().insert(id, running.clone());
                tasks.spawn(self.clone().see_through(id, running));
            }
        }
        Ok(())
    }

    /// Works at a task until it has ended.
    async fn see_through(self, id: Uuid, running: Running) {
        let mut wait = WAITS.0;
        loop {
            // A panic in a library must cost this task only: it would be begun again and again.
            let step = AssertUnwindSafe(self.step(id, &running)).catch_unwind().await;
            match step {
                Ok(Ok(Step::Ended)) => break,
                Ok(Ok(Step::Next)) => wait = WAITS.0,
                Ok(Err(error)) => {
                    tracing::error!(task = %id, %error, "a task cannot go on; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAITS.1);
                }
                Err(_) => {
                    tracing::error!(task = %id, "a task ended badly");
                    if let Err(error) = self.fail_badly(id).await {
                        tracing::error!(task = %id, %error, "that cannot be written down; trying again");
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(WAITS.1);
                    }
                }
            }
        }
        self.all_running().remove(&id);
        self.remove_source(id);
        self.owed.notify_one();
        self.left.notify_one();
    }

    async fn fail_badly(&self, id: Uuid) -> Result<(), StoreError> {
        let Some(task) = self.parts.store.task(id).await? else { return Ok(()) };
        let error = "The service met a fault of its own; its log says more.".to_owned();
        // One that is being stored goes on without its remote job.
        let left = if task.phase == Phase::Storing { Left::Nothing } else { Left::Job(None) };
        self.parts.store.fail(id, task.phase, error, left, self.parts.clock.now()).await.map(|_| ())
    }

    async fn step(&self, id: Uuid, running: &Running) -> Result<Step, StoreError> {
        let Some(task) = self.parts.store.task(id).await? else { return Ok(Step::Ended) };
        match task.phase {
            Phase::Waiting | Phase::Converting => self.convert(id, running).await?,
            Phase::Storing => self.shelve(&task).await?,
            Phase::Succeeded | Phase::Failed => return Ok(Step::Ended),
        }
        Ok(Step::Next)
    }

    /// Converts a task, and takes what comes of it unless something else was faster.
    async fn convert(&self, id: Uuid, running: &Running) -> Result<(), StoreError> {
        let parts = &self.parts;
        if !parts.store.begin(id, parts.clock.now()).await? {
            return Ok(());
        }
        let Some(task) = parts.store.task(id).await? else { return Ok(()) };
        let Some(made) = self.made(task, running).await else {
            // Cancelled: what is written down says so.
            return Ok(());
        };
        let mut wait = WAITS.0;
        loop {
            let now = parts.clock.now();
            let written = match made.clone() {
                Ok(Made { content, method, left }) => parts.store.take(id, content, method, left, now).await,
                Err(Unmade { message, left }) => {
                    parts.store.fail(id, Phase::Converting, message, left, now).await
                }
            };
            match written {
                Ok(in_time) => {
                    if !in_time {
                        tracing::info!(task = %id, "a conversion came too late and is dropped");
                    }
                    // Storing may take long; what was left behind runs meanwhile.
                    self.left.notify_one();
                    return Ok(());
                }
                // What an hour of work has made is not made again because of a full disk.
                Err(error) => {
                    tracing::error!(task = %id, %error, "a conversion cannot be written down; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAITS.1);
                }
            }
        }
    }

    /// What a conversion came to; nothing when the task was cancelled.
    async fn made(&self, task: Task, running: &Running) -> Option<Result<Made, Unmade>> {
        let id = task.id;
        let (sender, mut heard) = mpsc::unbounded_channel();
        let work = Work {
            source: self.parts.folder.source(id),
            deadline: self.deadline(&task),
            wake: running.wake.clone(),
            cancel: running.cancel.clone(),
            notes: Notes(sender),
            task,
        };
        let converting = self.parts.conversion.convert(work);
        tokio::pin!(converting);
        let cancelled = async {
            running.cancel.cancelled().await;
            tokio::time::sleep(CANCELLING).await;
        };
        tokio::pin!(cancelled);
        let made = loop {
            tokio::select! {
                biased;
                Some(heard) = heard.recv() => self.hear(id, heard, running).await,
                made = &mut converting => break Some(made),
                () = &mut cancelled => break None,
            }
        };
        while let Ok(late) = heard.try_recv() {
            self.hear(id, late, running).await;
        }
        *running.seen() = super::Headway::default();
        made.filter(|made| made.is_ok() || !running.cancel.is_cancelled())
    }

    fn deadline(&self, task: &Task) -> SystemTime {
        let timeout = task.spec.remote_timeout.map_or(self.parts.limits.remote_timeout, Duration::from_secs);
        let Timestamp(ms) = task.started_at.unwrap_or_else(|| self.parts.clock.now()).plus(timeout);
        UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default())
    }

    async fn hear(&self, id: Uuid, heard: Heard, running: &Running) {
        match heard {
            Heard::Note(note) => {
                if note.stage.is_some() {
                    *running.seen() = super::Headway::default();
                }
                if let Err(error) = self.parts.store.note(id, note, self.parts.clock.now()).await {
                    // A line of the history is no reason to give a conversion up.
                    tracing::error!(task = %id, %error, "what happened to a task cannot be written down");
                }
            }
            Heard::Local { percentage, message } => {
                let mut seen = running.seen();
                seen.progress = Some(Stage::local_progress(percentage));
                seen.message = Some(message);
            }
            Heard::Remote { percentage, message } => {
                let mut seen = running.seen();
                seen.remote_percentage = Some(percentage);
                seen.message = Some(message);
            }
        }
    }
}
