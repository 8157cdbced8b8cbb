//! Takes results and failures, places to upload large results to, and jobs given back.

use api::{Function, Verb};
use runtime::{App, Call, Error, Request, Response, json};
use service::{Service, UploadTarget};

/// Answers one request.
pub async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::SubmitResult, request, serve).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    let (caller, lease_token) = (call.caller()?, call.lease_token());
    let job_id = call.id.as_str();
    let result = UploadTarget::Result { job_id, lease_token };
    match call.verb {
        Verb::SubmitResult => json(&service.submit_result(caller, job_id, lease_token, &call.json()?).await?),
        Verb::Release => json(&service.release(caller, job_id, lease_token, &call.json()?).await?),
        Verb::CreateResultUpload => {
            json(&service.create_result_upload(caller, job_id, lease_token, &call.json()?).await?)
        }
        Verb::SignResultParts => json(&service.sign_parts(caller, result, &call.json()?).await?),
        Verb::CompleteResultUpload => json(&service.complete_upload(caller, result, &call.json()?).await?),
        Verb::AbortResultUpload => json(&service.abort_upload(caller, result, &call.json()?).await?),
        verb => Err(Error::Internal(format!("submit-result does not serve {verb:?}"))),
    }
}
