use std::{future::Future, process::ExitCode, sync::Arc, time::Duration};

use lambda_http::{Adapter, RequestExt, Service as _, request::LambdaRequest};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::Value;
use service::{Service, SystemWorld};
use store::{Endpoint, HintQueues, Store};
use tokio::time::timeout_at;
use tracing::Instrument;

use crate::{
    App, Auth, Deadline, EnvVar, Error, Invocation, JobSettings, LambdaError, LogFormat, Request, Response,
    SettingError, StoreSettings, event, logging,
};

/// How long a function has for a call where Lambda does not say so: what the template gives it.
pub const CALL: Duration = Duration::from_secs(28);

/// Runs a function's program. Its log tells why it cannot run.
pub async fn run(function: impl Future<Output = Result<(), LambdaError>>) -> ExitCode {
    let ran = match logging::start(LogFormat::Json) {
        Ok(()) => function.await,
        Err(error) => {
            logging::start_plainly(LogFormat::Json);
            Err(error.into())
        }
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            tracing::error!(%cause, "the function cannot run");
            ExitCode::FAILURE
        }
    }
}

/// Answers calls under the Lambda runtime: settings from the environment, clients built once.
///
/// # Errors
/// A setting that cannot be used, or a runtime that does not answer.
pub async fn run_http<F>(handle: impl Fn(App, Request) -> F) -> Result<(), LambdaError>
where
    F: Future<Output = Response> + Send,
{
    let app = app().await?;
    lambda_runtime::run(service_fn(|event| answer_event(&app, &handle, event))).await
}

/// Answers one event of API Gateway, of a REST API as of an HTTP API, in the form that it came in.
///
/// # Errors
/// Never: what goes wrong is an answer.
pub async fn answer_event<F>(
    app: &App,
    handle: &impl Fn(App, Request) -> F,
    event: LambdaEvent<LambdaRequest>,
) -> Result<impl Serialize, LambdaError>
where
    F: Future<Output = Response> + Send,
{
    let answering = service_fn(|event: lambda_http::Request| {
        let invocation = event.lambda_context_ref().map(|context| Invocation::of(context, CALL));
        let mut request = event::request(event);
        if let Some(invocation) = invocation {
            request.extensions_mut().insert(invocation);
        }
        let answering = handle(app.clone(), request);
        async move { Ok::<_, LambdaError>(event::answer(answering.await)) }
    });
    Adapter::from(answering).call(event).await
}

/// Sees to what is invoked by others than callers, under the Lambda runtime. `usual` is how long the function has where
/// Lambda does not say so.
///
/// # Errors
/// A setting that cannot be used, or a runtime that does not answer.
pub async fn run_events<F, T>(
    usual: Duration,
    handle: impl Fn(App, Value, Deadline) -> F,
) -> Result<(), LambdaError>
where
    F: Future<Output = Result<T, Error>>,
    T: Serialize,
{
    let app = app().await?;
    lambda_runtime::run(service_fn(|event| see_to_event(&app, usual, &handle, event))).await
}

/// Sees to one event of a schedule or a stream, and ends before Lambda ends it.
///
/// # Errors
/// What the handler failed of, or that its time was over. What was done stays done.
pub async fn see_to_event<F, T>(
    app: &App,
    usual: Duration,
    handle: &impl Fn(App, Value, Deadline) -> F,
    event: LambdaEvent<Value>,
) -> Result<T, LambdaError>
where
    F: Future<Output = Result<T, Error>>,
{
    let Invocation { request_id, trace_id, deadline } = Invocation::of(&event.context, usual);
    let span = tracing::info_span!("invocation", lambda_request_id = request_id, trace_id);
    let seen_to = async {
        let done = match timeout_at(deadline.answer(), handle(app.clone(), event.payload, deadline)).await {
            Ok(done) => done.map_err(LambdaError::from),
            Err(_) => Err("the function's time was over; what was done stays done".into()),
        };
        done.inspect_err(|cause| tracing::error!(%cause, "failed"))
    };
    seen_to.instrument(span).await
}

async fn app() -> Result<App, SettingError> {
    // What would be taken for them may belong to somebody else.
    for variable in [EnvVar::Table, EnvVar::Bucket] {
        variable.read().ok_or(SettingError::Missing(variable))?;
    }
    let connection = StoreSettings::from_env()?.connection(Endpoint::Environment, Endpoint::Environment);
    // Holding a poll open costs money here, so a worker is told when to ask again.
    let jobs = JobSettings::from_env()?;
    let rules = jobs.rules(Duration::ZERO)?;
    let mut service = Service::new(Store::connect(&connection).await, rules, Arc::new(SystemWorld));
    if let Some(prefix) = jobs.hint_queues {
        service = service.with_hints(HintQueues::connect(prefix, &Endpoint::Environment).await);
    }
    Ok(App { service, auth: Auth::Keys })
}
