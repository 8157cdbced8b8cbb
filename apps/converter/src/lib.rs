//! The remote converter: polls for jobs over outbound HTTP, downloads their sources, runs a converter command,
//! forwards its progress, and submits what came out.
//!
//! One job's way is [`poll_loop`] → [`work`] → [`convert`] → [`process`] → [`spool`] → [`submit`], with its
//! [`heartbeat`] beside it. What a converter command must do is told in [`descriptions`].

pub mod activity;
pub mod args;
mod background;
pub mod builtin;
pub mod connection;
pub mod contain;
pub mod convert;
pub mod converters;
mod deliver;
pub mod descriptions;
mod doctor;
pub mod egress;
mod face;
pub mod failing;
pub mod folders;
pub mod heartbeat;
mod hints;
pub mod jobs;
pub mod limits;
pub mod local;
mod log_file;
mod log_tail;
mod logging;
mod placeholders;
pub mod poll_loop;
pub mod process;
pub mod run;
mod service_manager;
pub mod settings;
mod shutdown;
pub mod space;
pub mod spool;
mod spot;
mod start;
mod status;
pub mod submit;
pub mod suspend;
pub mod work;

pub use shutdown::ignores_hang_ups;
pub use start::main;
