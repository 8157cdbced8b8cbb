//! The wire: types per verb, the route table, problems, and the OpenAPI document made from them.
//!
//! Field names are the original system's wherever it has the field. Everything added is optional to read, so its
//! clients work unchanged.

mod decode;
mod docs;
mod openapi;
mod problem;
mod routes;
mod time;

pub mod create;
pub mod events;
pub mod import;
pub mod keys;
pub mod list;
pub mod manage;
pub mod poll;
pub mod progress;
pub mod result;
pub mod statistics;
pub mod status;
pub mod uploads;
pub mod workers;

pub use decode::{Rejected, json, query};
pub use docs::DOCS_PAGE;
pub use openapi::document as openapi;
pub use problem::{FieldProblem, Kind, Problem};
pub use routes::{Access, Function, Matched, NoRoute, ROUTES, Route, Scope, Verb, find};
pub use time::{moment, rfc3339};

/// Where every call of the jobs' API begins.
pub const PREFIX: &str = "/api/v1/remote-jobs";

/// The header that proves a lease. Its value is the `lease_token` of the poll's answer.
pub const LEASE_TOKEN: &str = "lease-token";

/// The header under which a repeated creation is recognised.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The header that carries the request's id back to the caller; it is also in the logs.
pub const REQUEST_ID: &str = "x-request-id";
