//! What the tests that cross crates share: a gateway in this process or as a program of its own, a plain HTTP
//! client, and snapshots without what differs from run to run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what the tests' helpers meet unexpectedly is a failed test"
)]

mod converter;
mod engine_server;
mod functions;
mod http;
mod ingest;
mod measuring;
mod network;
mod processes;
mod program;
mod proxy;
mod python;
mod queues;
mod receiver;
mod recorder;
mod redact;
mod runtime_api;
mod site;
mod world;

pub use converter::ConverterProgram;
pub use engine_server::EngineServer;
pub use functions::{BUCKET, Called, Functions, program_of, put_presigned};
pub use http::{Answer, Client, refusals, refused_objects, sha256_hex};
pub use ingest::IngestProgram;
pub use insta;
pub use measuring::{percentile, this_machine};
pub use network::{free_port, network_address};
pub use processes::{Process, Usage, kill_processes_in, processes_in, send_signal};
pub use program::{GatewayProgram, Ran, binary, inherited_settings};
pub use proxy::{Fate, FaultyProxy, Hold, Stop};
pub use python::python;
pub use queues::Queues;
pub use receiver::{Received, Receiver, Reply};
pub use recorder::{Recorder, Seen};
pub use redact::redacted;
pub use runtime_api::RuntimeApi;
pub use site::{Claim, Site};
pub use world::TestWorld;

/// Where every call of the jobs' API begins.
pub const JOBS: &str = api::PREFIX;

/// Compares a value with its snapshot, without what differs from run to run.
#[macro_export]
macro_rules! snapshot {
    ($value:expr) => {{
        let value = $value;
        $crate::redacted(|| $crate::insta::assert_json_snapshot!(value))
    }};
    ($name:expr, $value:expr) => {{
        let value = $value;
        $crate::redacted(|| $crate::insta::assert_json_snapshot!($name, value))
    }};
}
