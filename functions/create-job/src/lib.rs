//! Creates jobs, and places to upload their sources to.

use api::{Function, Verb};
use runtime::{App, Call, Error, Request, Response, json};
use service::{Service, UploadTarget};

/// Answers one request.
pub async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::CreateJob, request, serve).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    let caller = call.caller()?;
    let source = UploadTarget::Source(&call.id);
    match call.verb {
        Verb::Create => json(&service.create(caller, &call.json()?, call.idempotency_key()?).await?),
        Verb::Import => json(&service.import(caller, &call.json()?).await?),
        Verb::CreateUpload => {
            json(&service.create_upload(caller, &call.json()?, call.idempotency_key()?).await?)
        }
        Verb::SignUploadParts => json(&service.sign_parts(caller, source, &call.json()?).await?),
        Verb::CompleteUpload => json(&service.complete_upload(caller, source, &call.json()?).await?),
        Verb::AbortUpload => json(&service.abort_upload(caller, source, &call.json()?).await?),
        verb => Err(Error::Internal(format!("create-job does not serve {verb:?}"))),
    }
}
