//! Takes progress, which is also the heartbeat.

use api::Function;
use runtime::{App, Call, Error, Request, Response, json};
use service::Service;

/// Answers one request.
pub async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::ReportProgress, request, serve).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    let caller = call.caller()?;
    json(&service.report_progress(caller, &call.id, call.lease_token(), &call.json()?).await?)
}
