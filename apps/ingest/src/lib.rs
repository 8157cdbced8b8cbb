//! The ingestion service: takes files and URLs, converts them remotely where that helps and here where it must, and makes
//! what comes of it searchable.
//!
//! A task's way is [`http`] → [`pipeline`] → [`converting`] → [`pipeline`] (the continuation) → the library of chunks →
//! [`deliveries`]. Everything that must survive is in [`store`] and [`folder`].

pub mod clock;
pub mod converting;
pub mod courier;
pub mod deliveries;
pub mod folder;
mod housekeeping;
pub mod http;
pub mod networks;
pub mod pipeline;
pub mod seams;
pub mod secret;
mod service;
pub mod settings;
pub mod store;
pub mod task;

pub use service::{Ingest, StartError};
pub use settings::{EnvVar, Settings, SettingsError};
