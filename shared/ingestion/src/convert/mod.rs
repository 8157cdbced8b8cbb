mod check;
mod remote;
mod run;
mod takeover;

use std::{fmt::Write, sync::Arc, time::Duration};

use client::Client;
use domain::ContentType;
use sha2::{Digest, Sha256};

use crate::{
    ConversionError, ConversionTask, Decision, Events, LocalConversion, Outcome, RemoteSettings, questions,
};
use run::Run;

/// The key under which a task's upload and its job are one upload and one job, however often they are asked for.
#[must_use]
pub fn idempotency_key(task_id: &str) -> String {
    let mut key = "ingestion-".to_owned();
    for byte in Sha256::digest(task_id.as_bytes()) {
        // Writing to a text cannot fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}

/// Converts documents remotely where that helps, and locally where it must. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Ingestion {
    client: Client,
    settings: Arc<RemoteSettings>,
}

impl Ingestion {
    /// By these settings, at the control plane that `client` speaks to under a key of the scope `ingest`.
    #[must_use]
    pub fn new(client: Client, settings: RemoteSettings) -> Self {
        Self { client, settings: Arc::new(settings) }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &RemoteSettings {
        &self.settings
    }

    /// The client of the control plane.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether to convert a document remotely that must be there `within` so long, and why.
    ///
    /// Where the rules are against it, nobody is asked. Otherwise the control plane is asked for its workers and its
    /// statistics, for [`RemoteSettings::longest_question`] at most; one that cannot be asked is a reason against it,
    /// one that is too old to tell is none.
    pub async fn decide(&self, content_type: &ContentType, requested: bool, within: Duration) -> Decision {
        questions::decide(&self.client, &self.settings, content_type, requested, within).await
    }

    /// Converts a document: remotely if [`Ingestion::decide`] is for it, else or when that comes to nothing locally.
    ///
    /// **Exactly one result continues.** Before local work begins the remote job is taken over: the control plane records
    /// that the caller continues, and accepts no result of the job from then on. If it answers that the job is completed,
    /// the remote result is what is returned, and nothing is converted locally. While the control plane cannot be
    /// reached, local work begins all the same, because a document must not wait for a server that is away; the takeover
    /// is tried again meanwhile, and once more at the end of the local work, and a job that turns out to be completed
    /// still wins. Only when the control plane stays away until the local work is done, the local result is returned
    /// with [`crate::Takeover::Unconfirmed`]: the remote job may then be completed too, so a caller must continue a task
    /// once, by a write of its own that is conditional on nobody having continued it.
    ///
    /// **Falling back has a bound**: local work begins at the latest 20 s and twice
    /// [`RemoteSettings::longest_question`] (30 s by default) after the task's deadline, or after the call if that is
    /// later. So long the questions may take, a look at the job of an earlier run, the takeover (10 s), and the arrival of
    /// a result that is there when time is up (10 s).
    ///
    /// **It may be repeated** under the same task id, after a crash at any point: there is one upload and one job under
    /// that id, and a job that is there already is waited for, whatever else would be decided now. The fields of the
    /// task that say so must be the same each time.
    ///
    /// **Dropping the future is safe**, and leaves the remote job alone: it goes on, and a later call under the same
    /// task id finds it. If none is made, the job ends by itself or by its limits, and its result is deleted in time.
    /// [`ConversionTask::cancel`] is for giving a task up: that cancels the job as well.
    ///
    /// With [`ConversionTask::requested`] false, with remote conversion not enabled, and for a type that is not converted
    /// remotely, nobody is asked anything and nothing is sent.
    ///
    /// # Errors
    /// [`ConversionError`] when there is no document in the end, or when the source is none to begin with, which is
    /// noticed before anything else.
    pub async fn convert(
        &self,
        task: &ConversionTask,
        local: &impl LocalConversion,
        events: &impl Events,
    ) -> Result<Outcome, ConversionError> {
        check::check(task).await?;
        let run = Run::new(&self.client, &self.settings, task, local, events);
        tokio::select! {
            biased;
            () = task.cancel.cancelled() => {
                let takeover = run.let_go().await;
                Err(ConversionError::Cancelled { job_id: run.job_id(), takeover })
            }
            outcome = run.run() => outcome,
        }
    }
}
