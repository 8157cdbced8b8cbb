use std::time::Duration;

use api::statistics::QueueResponse;
use domain::ContentType;

use crate::{Caller, Error, Service, hints::MOST_HINTS};

impl Service {
    /// Lets no worker claim from a queue until it is resumed. Its jobs still time out. Pausing again changes nothing. A
    /// poll that has looked already may still claim a job within the moment.
    ///
    /// # Errors
    /// No such content type, or the store.
    pub async fn pause_queue(&self, caller: &Caller, content_type: &str) -> Result<QueueResponse, Error> {
        let content_type = parsed(content_type)?;
        self.store.queues.pause(&caller.tenant, &content_type, self.now()).await?;
        Ok(QueueResponse { content_type: content_type.to_string(), paused: true })
    }

    /// Ends a queue's pause, and wakes idle workers. Resuming again changes nothing.
    ///
    /// # Errors
    /// No such content type, or the store.
    pub async fn resume_queue(&self, caller: &Caller, content_type: &str) -> Result<QueueResponse, Error> {
        let content_type = parsed(content_type)?;
        self.store.queues.resume(&caller.tenant, &content_type).await?;
        self.due.notify_waiters();
        self.hint(&caller.tenant, &content_type, MOST_HINTS, Duration::ZERO).await;
        Ok(QueueResponse { content_type: content_type.to_string(), paused: false })
    }
}

fn parsed(content_type: &str) -> Result<ContentType, Error> {
    content_type.parse().map_err(|error: domain::InvalidValue| Error::field("content_type", error.0))
}
