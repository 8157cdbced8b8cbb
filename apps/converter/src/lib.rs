//! The remote converter: polls for jobs over outbound HTTP, downloads their sources, runs a converter command,
//! forwards its progress, and submits what came out.
//!
//! One job's way is [`poll_loop`] → [`work`] → [`convert`] → [`process`] → [`spool`] → [`submit`], with its
//! [`heartbeat`] beside it. What a converter command must do is told in [`descriptions`].

pub mod args;
pub mod builtin;
pub mod connection;
pub mod convert;
pub mod converters;
pub mod descriptions;
pub mod folders;
pub mod heartbeat;
mod log_tail;
mod logging;
pub mod poll_loop;
pub mod process;
pub mod settings;
mod shutdown;
pub mod spool;
mod start;
pub mod submit;
pub mod work;

pub use start::main;
