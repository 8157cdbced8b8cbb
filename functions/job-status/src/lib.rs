//! Says where jobs stand and what they became, and describes the service.

use api::{Function, Verb, status::HealthResponse};
use runtime::{App, Call, Error, Request, Response, html, json, redirect};
use service::Service;

/// Answers one request.
pub async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::JobStatus, request, serve).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    match call.verb {
        Verb::Status => json(&service.status(call.caller()?, &call.id, call.query()?).await?),
        Verb::Result => redirect(&service.result_url(call.caller()?, &call.id).await?),
        Verb::Health => {
            json(&HealthResponse { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
        }
        Verb::OpenApi => json(&api::openapi()),
        Verb::Docs => Ok(html(api::DOCS_PAGE)),
        verb => Err(Error::Internal(format!("job-status does not serve {verb:?}"))),
    }
}
