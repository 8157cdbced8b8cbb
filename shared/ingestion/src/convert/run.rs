//! One run of a task, from the decision to the outcome.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use api::create::CreateJobRequest;
use client::Client;
use tokio::time::Instant;

use super::takeover::Settled;
use crate::{
    ConversionError, ConversionTask, Converted, Decision, Event, Events, FallbackReason, LocalConversion,
    Method, Outcome, RemoteSettings, Takeover,
    convert::idempotency_key,
    decision::{resumed, without_fallback},
    questions,
};

/// What is known of the task's remote job.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// There is none.
    None,
    /// An earlier run may have created it.
    Maybe,
    /// By this request it was asked for, and the answer has not come.
    Asked(Box<CreateJobRequest>),
    /// This one.
    Job(String),
}

pub(super) struct Run<'a, L, E> {
    pub(super) client: &'a Client,
    pub(super) settings: &'a RemoteSettings,
    pub(super) task: &'a ConversionTask,
    pub(super) local: &'a L,
    pub(super) events: &'a E,
    /// When the remote conversion must be over.
    pub(super) deadline: Instant,
    /// What the upload and the job are recognised by.
    pub(super) key: String,
    known: Mutex<Known>,
}

/// Why there was a local conversion, for its outcome.
pub(super) struct Grounds {
    pub(super) decision: Decision,
    pub(super) fallback: Option<FallbackReason>,
}

impl<'a, L: LocalConversion, E: Events> Run<'a, L, E> {
    pub(super) fn new(
        client: &'a Client,
        settings: &'a RemoteSettings,
        task: &'a ConversionTask,
        local: &'a L,
        events: &'a E,
    ) -> Self {
        let known = match &task.remote_job_id {
            _ if !settings.should_use_remote(&task.content_type, task.requested).is_remote() => Known::None,
            Some(job_id) => Known::Job(job_id.clone()),
            None => Known::Maybe,
        };
        Self {
            client,
            settings,
            task,
            local,
            events,
            deadline: Instant::now() + left(task),
            key: idempotency_key(&task.task_id),
            known: Mutex::new(known),
        }
    }

    pub(super) fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn learn(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// The remote job, if there is one and its id is known.
    pub(super) fn job_id(&self) -> Option<String> {
        match self.known() {
            Known::Job(job_id) => Some(job_id),
            Known::None | Known::Maybe | Known::Asked(_) => None,
        }
    }

    /// What the rules alone say. Where they are against it, there is nothing to be said of a remote job.
    pub(super) fn rules(&self) -> Decision {
        self.settings.should_use_remote(&self.task.content_type, self.task.requested)
    }

    pub(super) async fn run(&self) -> Result<Outcome, ConversionError> {
        let decision = self.decide().await;
        tracing::info!(task_id = %self.task.task_id, reason = %decision.reason, explanation = %decision, "decided");
        self.events.tell(Event::Decided(&decision));
        if !decision.is_remote() {
            let grounds = Grounds { decision, fallback: None };
            return match self.known() {
                Known::None => self.locally(grounds, Takeover::NoJob).await,
                Known::Maybe | Known::Asked(_) | Known::Job(_) => {
                    self.locally_though_unconfirmed(grounds).await
                }
            };
        }
        match self.remotely().await {
            Ok(converted) => Ok(self.remote(decision, converted)),
            Err(reason) => self.fall_back(decision, reason).await,
        }
    }

    async fn decide(&self) -> Decision {
        let (task, settings, rules) = (self.task, self.settings, self.rules());
        if !rules.is_remote() {
            return rules;
        }
        // It is waited for with more patience than a question has: both may just be starting again.
        if self.job_id().is_some() {
            return resumed();
        }
        let (earlier, decision) = tokio::join!(
            questions::earlier_job(self.client, settings.longest_question, &task.task_id, &task.content_type),
            questions::decide(self.client, settings, &task.content_type, task.requested, left(task)),
        );
        let decision = match earlier {
            Ok(Some(job_id)) => {
                self.learn(Known::Job(job_id));
                return resumed();
            }
            Ok(None) => {
                self.learn(Known::None);
                decision
            }
            Err(no_answer) if decision.is_remote() => no_answer.into(),
            Err(_) => decision,
        };
        if task.fallback_to_local { decision } else { without_fallback(decision) }
    }

    /// What is done when the remote conversion has come to nothing.
    async fn fall_back(
        &self,
        decision: Decision,
        reason: FallbackReason,
    ) -> Result<Outcome, ConversionError> {
        let job_id = self.job_id();
        tracing::warn!(task_id = %self.task.task_id, job_id, reason = reason.as_str(), cause = %reason, "no remote result");
        self.events.tell(Event::FallingBack { reason: &reason });
        match self.settle(reason).await {
            Settled::Remote(converted) => Ok(self.remote(decision, converted)),
            Settled::Local(takeover, reason) if !self.task.fallback_to_local => {
                Err(ConversionError::Remote {
                    decision: Box::new(decision),
                    reason,
                    job_id: self.job_id(),
                    takeover: Some(takeover),
                })
            }
            Settled::Local(Takeover::Unconfirmed, reason) => {
                self.locally_though_unconfirmed(Grounds { decision, fallback: Some(reason) }).await
            }
            Settled::Local(takeover, reason) => {
                self.locally(Grounds { decision, fallback: Some(reason) }, takeover).await
            }
        }
    }

    /// Converts locally, with nothing left that could come of the remote job.
    pub(super) async fn locally(
        &self,
        grounds: Grounds,
        takeover: Takeover,
    ) -> Result<Outcome, ConversionError> {
        let converted = self.local_conversion().await;
        self.local_outcome(grounds, takeover, converted)
    }

    pub(super) async fn local_conversion(&self) -> Result<Converted, String> {
        let progress = |percentage, message: &str| self.events.tell(Event::Local { percentage, message });
        self.local.convert(self.task, &progress).await
    }

    pub(super) fn local_outcome(
        &self,
        grounds: Grounds,
        takeover: Takeover,
        converted: Result<Converted, String>,
    ) -> Result<Outcome, ConversionError> {
        let Grounds { decision, fallback } = grounds;
        let takeover = self.rules().is_remote().then_some(takeover);
        match converted {
            Ok(converted) => Ok(Outcome {
                converted,
                method: Method::Local,
                decision,
                remote_job_id: self.job_id(),
                fallback,
                takeover,
            }),
            Err(message) => Err(ConversionError::Local {
                message,
                decision: Box::new(decision),
                fallback,
                job_id: self.job_id(),
                takeover,
            }),
        }
    }

    pub(super) fn remote(&self, decision: Decision, converted: Converted) -> Outcome {
        Outcome {
            converted,
            method: Method::Remote,
            decision,
            remote_job_id: self.job_id(),
            fallback: None,
            takeover: None,
        }
    }
}

/// How much time there is for the remote conversion.
fn left(task: &ConversionTask) -> Duration {
    task.deadline.duration_since(SystemTime::now()).unwrap_or_default()
}
