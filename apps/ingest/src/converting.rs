//! Converts by the ingestion client, which decides, waits and falls back, and here by the remote converter's own
//! converters.

use std::{sync::Arc, time::Duration};

use api::{Kind, manage::CancelRequest};
use async_trait::async_trait;
use domain::WebhookUrl;
use ingestion::{
    ConversionError, ConversionTask, Converted, Event, FallbackReason, Ingestion, LocalConversion, Method,
    Source, Takeover,
};
use remote_converter::local::{Input, LocalConverter, LocalSource};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    seams::{Conversion, Heard, Made, Notes, Unmade, Work},
    store::{Left, Note},
    task::{self, Content, Stage},
};

/// Converts documents, remotely or here.
pub struct Converting {
    /// Who decides, waits and falls back.
    pub ingestion: Ingestion,
    /// Who converts here.
    pub here: Here,
    /// Where the control plane reaches this service.
    pub hook_url: Option<WebhookUrl>,
    /// How long a remote conversion may take of a task that does not say.
    pub remote_timeout: Duration,
}

/// Converts on this machine.
pub struct Here {
    /// With these converters.
    pub converter: LocalConverter,
    /// So many at once.
    pub permits: Semaphore,
    /// For so long at most.
    pub time_limit: Duration,
}

impl LocalConversion for Here {
    async fn convert(
        &self,
        task: &ConversionTask,
        progress: &(dyn Fn(u8, &str) + Sync),
    ) -> Result<Converted, String> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err("The service is ending.".to_owned());
        };
        let (input, name) = match &task.source {
            Source::File { path, name } => (Input::File(path), name.as_str()),
            Source::Url(url) => (Input::Url(url), ""),
        };
        let source = LocalSource {
            input,
            name,
            content_type: &task.content_type,
            options: &task.options,
            time_limit: self.time_limit,
        };
        // What is dropped ends the conversion too.
        let (stop, begun) = (CancellationToken::new(), Instant::now());
        let mut progress = |percentage: u8, message: &str| progress(percentage, message);
        let converted = self.converter.convert(source, &stop, &mut progress).await;
        let converted = converted.map_err(|error| error.to_string())?;
        Ok(Converted {
            content: converted.content,
            metadata: converted.metadata,
            processing_time: begun.elapsed().as_secs_f64(),
        })
    }
}

#[async_trait]
impl Conversion for Converting {
    async fn convert(&self, work: Work) -> Result<Made, Unmade> {
        let task = self.task(&work);
        let notes = work.notes;
        let falls_back = task.fallback_to_local;
        let events = |event: Event<'_>| match event {
            Event::FallingBack { reason } => hear_failure(&notes, reason, falls_back),
            event => hear(&notes, event),
        };
        let outcome = match self.ingestion.convert(&task, &self.here, &events).await {
            Ok(outcome) => outcome,
            Err(error) => return Err(unmade(&error)),
        };
        if let Some(takeover) = outcome.takeover {
            note_takeover(&notes, takeover);
        }
        let left = match outcome.method {
            Method::Remote => Left::Nothing,
            Method::Local => left(outcome.takeover, outcome.remote_job_id.as_deref()),
        };
        let Converted { content, metadata, processing_time } = outcome.converted;
        let content = Content { text: content, metadata, processing_time };
        Ok(Made { content, method: outcome.method.as_str(), left })
    }

    async fn abandon(&self, job_id: &str) -> Result<String, String> {
        match self.ingestion.client().cancel(job_id, &CancelRequest { takeover: false }).await {
            Ok(_) => Ok("The remote job was cancelled.".to_owned()),
            Err(error) if matches!(error.kind(), Some(Kind::NotFound | Kind::Refused)) => {
                Ok("The remote job had ended before it was cancelled.".to_owned())
            }
            Err(error) if error.retryable() => Err(error.to_string()),
            Err(error) => {
                Ok(format!("The remote job could not be cancelled and is left to its time limit: {error}"))
            }
        }
    }
}

impl Converting {
    fn task(&self, work: &Work) -> ConversionTask {
        let (id, spec) = (work.task.id, &work.task.spec);
        let source = match &spec.source {
            task::Source::File { name, .. } => Source::File { path: work.source.clone(), name: name.clone() },
            task::Source::Url(url) => Source::Url(url.clone()),
        };
        let total = spec.remote_timeout.map_or(self.remote_timeout, Duration::from_secs);
        ConversionTask {
            options: spec.options.clone(),
            requested: spec.remote,
            fallback_to_local: spec.fallback_to_local,
            total_timeout: Some(total),
            webhook_url: self.hook_url.clone(),
            wake: Some(Arc::clone(&work.wake)),
            remote_job_id: work.task.remote_job_id.clone(),
            cancel: work.cancel.clone(),
            ..ConversionTask::new(id.to_string(), source, spec.content_type.clone(), work.deadline)
        }
    }
}

/// What is left of a conversion that came to nothing.
fn unmade(error: &ConversionError) -> Unmade {
    let left = left(error.takeover(), error.remote_job_id());
    Unmade { message: error.to_string(), left }
}

fn left(takeover: Option<Takeover>, job_id: Option<&str>) -> Left {
    match takeover {
        Some(Takeover::NoJob | Takeover::Confirmed | Takeover::CompletedUnusable) => Left::Nothing,
        // Where nobody was asked, an earlier run may have asked under other settings.
        Some(Takeover::Unconfirmed) | None => Left::Job(job_id.map(str::to_owned)),
    }
}

fn note_takeover(notes: &Notes, takeover: Takeover) {
    let what = match takeover {
        Takeover::NoJob => return,
        Takeover::Confirmed | Takeover::CompletedUnusable => "Of the remote job nothing is taken any more.",
        Takeover::Unconfirmed => {
            "It is not known what became of the remote job; if there is one, it is cancelled once the control plane \
             can be reached."
        }
    };
    notes.note(Note::of("taken_over", what).with(json!({"takeover": takeover})));
}

/// Tells why there is no remote result, and what follows if anything does.
fn hear_failure(notes: &Notes, reason: &FallbackReason, falls_back: bool) {
    let shown = serde_json::to_value(reason).unwrap_or_default();
    notes.note(Note::of("remote_failed", reason.to_string()).with(shown));
    if falls_back {
        let what = "The document is converted here instead.";
        notes.note(Note::of("falling_back", what).at(Stage::LocalProcessing));
    }
}

/// Tells what happens as it is shown and remembered.
fn hear(notes: &Notes, event: Event<'_>) {
    match event {
        Event::Decided(decision) => {
            let stage = if decision.is_remote() { Stage::CreatingRemoteJob } else { Stage::LocalProcessing };
            let shown = serde_json::to_value(decision).unwrap_or_default();
            let note = Note::of("decided", decision.to_string()).at(stage).with(shown.clone());
            notes.note(Note { decision: Some(shown), ..note });
        }
        Event::Uploading { done, total } => {
            let message = format!("Uploading: {done} of {total} bytes");
            notes.say(Heard::Remote { percentage: 0, message });
        }
        Event::Created { job_id } => {
            let note = Note::of("remote_job_created", format!("The remote job {job_id} is waited for."));
            let note = note.at(Stage::WaitingForRemoteCompletion);
            notes.note(Note { remote_job_id: Some(job_id.to_owned()), ..note });
        }
        Event::Found { job_id } => {
            let note =
                Note::of("remote_job_found", format!("The remote job {job_id} is there, and is cancelled."));
            notes.note(Note { remote_job_id: Some(job_id.to_owned()), ..note });
        }
        Event::Remote { status, percentage, message } => {
            let message = message.map_or_else(|| status.to_owned(), |message| format!("{status}: {message}"));
            notes.say(Heard::Remote { percentage, message });
        }
        Event::RemoteAfterAll { job_id } => {
            let what =
                format!("The remote job {job_id} was completed before it could be cancelled, and is taken.");
            notes.note(Note::of("remote_after_all", what).with(Value::String(job_id.to_owned())));
        }
        Event::Local { percentage, message } => {
            notes.say(Heard::Local { percentage, message: message.to_owned() });
        }
        // What a later version of the client tells besides.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_job_that_is_known_to_be_over_is_let_be() {
        for over in [Takeover::NoJob, Takeover::Confirmed, Takeover::CompletedUnusable] {
            assert_eq!(left(Some(over), Some("j")), Left::Nothing);
        }
        assert_eq!(left(Some(Takeover::Unconfirmed), Some("j")), Left::Job(Some("j".to_owned())));
        let error = ConversionError::Invalid("No.".to_owned());
        assert_eq!(unmade(&error).left, Left::Job(None));
    }

    #[test]
    fn the_history_does_not_claim_what_is_not_known() {
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        note_takeover(&Notes(sender), Takeover::Unconfirmed);
        let Ok(Heard::Note(note)) = heard.try_recv() else { panic!("nothing is said") };
        assert!(note.message.starts_with("It is not known"), "{}", note.message);
    }
}
