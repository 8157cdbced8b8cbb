use std::{future::Future, time::Duration};

use bytes::Bytes;
use lambda_http::{Body, RequestExt, request::RequestContext, service_fn};
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use service::{Service, SystemWorld};
use std::sync::Arc;
use store::{Endpoint, Store};

use crate::{
    App, Auth, JobSettings, LogFormat, Request, Response, SettingError, StoreSettings, start_logging,
};

/// Runs an HTTP function under the Lambda runtime: settings from the environment, clients built once.
///
/// # Errors
/// A setting that cannot be used, or a runtime that does not answer.
pub async fn run_http<F>(handle: impl Fn(App, Request) -> F) -> Result<(), lambda_http::Error>
where
    F: Future<Output = Response> + Send,
{
    start_logging(LogFormat::Json)?;
    let app = app().await?;
    lambda_http::run(service_fn(|event: lambda_http::Request| {
        let answer = handle(app.clone(), request(event));
        async move { Ok::<_, lambda_http::Error>(answer.await.map(body)) }
    }))
    .await
}

/// Runs a scheduled function under the Lambda runtime. Its event is ignored: a schedule has nothing to say.
///
/// # Errors
/// A setting that cannot be used, or a runtime that does not answer.
pub async fn run_schedule<F, T>(handle: impl Fn(App) -> F) -> Result<(), lambda_http::Error>
where
    F: Future<Output = Result<T, crate::Error>> + Send,
    T: Serialize,
{
    start_logging(LogFormat::Json)?;
    let app = app().await?;
    lambda_runtime::run(lambda_runtime::service_fn(|_: LambdaEvent<serde_json::Value>| {
        let done = handle(app.clone());
        async move { done.await.map_err(lambda_http::Error::from) }
    }))
    .await
}

async fn app() -> Result<App, SettingError> {
    let connection = StoreSettings::from_env()?.connection(Endpoint::Environment, Endpoint::Environment);
    // Holding a poll open costs money here, so a worker is told when to ask again.
    let rules = JobSettings::from_env()?.rules(Duration::ZERO)?;
    let service = Service::new(Store::connect(&connection).await, rules, Arc::new(SystemWorld));
    Ok(App { service, auth: Auth::Keys })
}

/// The event as a plain request, without the stage that a REST API puts before the path.
fn request(event: lambda_http::Request) -> Request {
    let path = event.raw_http_path().to_owned();
    let stage = match event.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(context)) => context.stage.clone(),
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.clone(),
        Some(_) | None => None,
    };
    let path = stage
        .and_then(|stage| path.strip_prefix(&format!("/{stage}/")).map(|rest| format!("/{rest}")))
        .unwrap_or(path);
    let target = match event.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let (mut parts, body) = event.into_parts();
    if let Ok(uri) = target.parse() {
        parts.uri = uri;
    }
    let body = match body {
        Body::Empty => Bytes::new(),
        Body::Text(text) => text.into(),
        Body::Binary(bytes) => bytes.into(),
        // The enum may grow; what is unknown reads as no body and is refused by whoever needs one.
        _ => Bytes::new(),
    };
    http::Request::from_parts(parts, body)
}

fn body(bytes: Bytes) -> Body {
    match String::from_utf8(bytes.into()) {
        Ok(text) => Body::Text(text),
        Err(error) => Body::Binary(error.into_bytes()),
    }
}
