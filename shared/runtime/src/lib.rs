//! What every function needs around its use cases: settings from the environment, authentication, the shape of a
//! call and of an answer, logs, and the Lambda bootstrap.

mod app;
mod call;
mod env_vars;
mod event;
mod invocation;
mod lambda;
mod logging;
mod respond;
mod settings;

pub use app::{App, Auth, BodyCutOff, Origin};
pub use call::Call;
pub use env_vars::EnvVar;
pub use invocation::{Deadline, Invocation};
pub use lambda::{CALL, answer_event, run, run_events, run_http, see_to_event};
pub use logging::{LogFormat, METRIC, lines as log_lines, start as start_logging};
pub use respond::{html, json, redirect};
pub use settings::{JobSettings, SEEN_EVERY_ON_AWS, SettingError, StoreSettings};

use bytes::Bytes;

/// A request, whoever received it: API Gateway or the one-machine gateway.
pub type Request = http::Request<Bytes>;

/// Its answer.
pub type Response = http::Response<Bytes>;

/// Why a function cannot start, or the runtime cannot be reached.
pub type LambdaError = lambda_http::Error;

/// Why a call is not answered with a success: see [`service::Error`].
pub type Error = service::Error;
