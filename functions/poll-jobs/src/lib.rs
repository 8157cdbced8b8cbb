//! Gives workers work.

use api::{Function, poll::PollRequest};
use http::Method;
use runtime::{App, Call, Error, Request, Response, json};
use service::Service;

/// Answers one request.
pub async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::PollJobs, request, serve).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    let caller = call.caller()?;
    let by_query = call.is(&Method::GET);
    let mut request: PollRequest = if by_query { call.query()? } else { call.json()? };
    request.version = request.version.or_else(|| call.user_agent().map(str::to_owned));
    // A GET that names no lease is a client of the original system.
    let native = !by_query || request.lease_seconds.is_some();
    json(&service.poll(caller, &request, native).await?)
}
