//! Redirects the worker that holds a job to its source.

use api::Function;
use runtime::{App, Call, Error, Request, Response, redirect};
use service::Service;

/// Answers one request.
pub async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::DownloadSource, request, serve).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    redirect(&service.download(call.caller()?, &call.id, call.lease_token()).await?)
}
