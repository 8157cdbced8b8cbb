//! Ends jobs and sends ended ones back to their queue.

use api::{
    Function, Verb,
    events::{RedriveRequest, RotateSecretRequest},
};
use runtime::{App, Call, Error, Request, Response, json};
use service::Service;

/// Answers one request.
pub async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::ManageJob, request, serve).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    let caller = call.caller()?;
    match call.verb {
        Verb::Cancel => json(&service.cancel(caller, &call.id, &call.json()?).await?),
        Verb::Retry => json(&service.retry(caller, &call.id).await?),
        Verb::List => json(&service.list(caller, &call.query()?).await?),
        Verb::Statistics => json(&service.statistics(caller, &call.query()?).await?),
        Verb::ListWorkers => json(&service.list_workers(caller, &call.query()?).await?),
        Verb::Leave => json(&service.leave(caller, &call.id).await?),
        Verb::Delete => json(&service.delete(caller, &call.id).await?),
        Verb::PauseQueue => json(&service.pause_queue(caller, &call.id).await?),
        Verb::ResumeQueue => json(&service.resume_queue(caller, &call.id).await?),
        Verb::ListEvents => json(&service.list_events(caller, &call.query()?).await?),
        Verb::RedriveEvent => {
            let RedriveRequest {} = call.json()?;
            json(&service.redrive_event(caller, &call.id).await?)
        }
        Verb::WebhookSecret => json(&service.webhook_secret(caller).await?),
        Verb::RotateWebhookSecret => {
            let RotateSecretRequest {} = call.json()?;
            json(&service.rotate_webhook_secret(caller).await?)
        }
        verb => Err(Error::Internal(format!("manage-job does not serve {verb:?}"))),
    }
}
