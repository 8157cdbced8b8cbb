//! The calls that only the gateway has: API keys. On AWS they are made by command line against the table.

use api::{Function, Kind, Verb};
use runtime::{App, Call, Error, Request, Response, json};
use service::Service;

/// Answers one request.
pub(crate) async fn handle(app: App, request: Request) -> Response {
    app.answer(Function::Gateway, request, serve).await
}

/// Answers one request where the table is shared: who administers keys there has credentials for the table, and a leaked
/// admin key must not be able to make others.
pub(crate) async fn refuse(app: App, request: Request) -> Response {
    let detail = "This gateway keeps its keys in a DynamoDB table; use `remote-jobs keys --table` with AWS's credentials.";
    app.answer(Function::Gateway, request, async |_, _| Err(Error::rejected(Kind::NotFound, detail))).await
}

async fn serve(service: &Service, call: Call) -> Result<Response, Error> {
    let (tenant, keys) = (&call.caller()?.tenant, service.keys());
    match call.verb {
        Verb::CreateKey => json(&keys.create(tenant, &call.json()?).await?),
        Verb::ListKeys => json(&keys.list().await?),
        Verb::RotateKey => json(&keys.rotate(&call.id, &call.json()?).await?),
        Verb::RevokeKey => json(&keys.revoke(&call.id).await?),
        verb => Err(Error::Internal(format!("the gateway does not serve {verb:?}"))),
    }
}
