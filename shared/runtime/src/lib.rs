//! What every function needs around its use cases: settings from the environment, authentication, the shape of a
//! call and of an answer, logs, and the Lambda bootstrap.

mod app;
mod call;
mod env_vars;
mod lambda;
mod logging;
mod respond;
mod settings;

pub use app::{App, Auth, BodyCutOff, Origin};
pub use call::Call;
pub use env_vars::EnvVar;
pub use lambda::{run_http, run_schedule};
pub use logging::{LogFormat, start as start_logging};
pub use respond::{html, json, redirect};
pub use settings::{JobSettings, SettingError, StoreSettings};

use bytes::Bytes;

/// A request, whoever received it: API Gateway or the one-machine gateway.
pub type Request = http::Request<Bytes>;

/// Its answer.
pub type Response = http::Response<Bytes>;

/// Why a function cannot start, or the runtime cannot be reached.
pub type LambdaError = lambda_http::Error;

/// Why a call is not answered with a success: see [`service::Error`].
pub type Error = service::Error;
