//! The calls that only the gateway has: API keys. On AWS they are made by command line against the table.

use api::{Function, Verb};
use runtime::{App, Call, Error, Request, Response, json};
use service::Service;

/// Answers one request.
pub(crate) async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::Gateway, request, serve).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    let caller = call.caller()?;
    match call.verb {
        Verb::CreateKey => json(&service.create_key(caller, &call.json()?).await?),
        Verb::ListKeys => json(&service.list_keys().await?),
        Verb::RevokeKey => json(&service.revoke_key(&call.id).await?),
        verb => Err(Error::Internal(format!("the gateway does not serve {verb:?}"))),
    }
}
