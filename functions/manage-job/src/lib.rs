//! Ends jobs and sends ended ones back to their queue.

use api::{Function, Verb};
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
        verb => Err(Error::Internal(format!("manage-job does not serve {verb:?}"))),
    }
}
