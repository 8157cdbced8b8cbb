use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::settings::LogLevel;

/// Logs to standard error: for a person when that is a terminal, else one JSON object a line.
pub(crate) fn start(level: LogLevel) {
    // Libraries below HTTP could show URLs, whose queries are secrets here: only what they warn of is written.
    let level = level.filter();
    let filter = EnvFilter::new(format!("warn,remote_converter={level},client={level}"));
    let writing = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        // What cannot be logged would be told on standard error, and a panic follows when that is on a full disk.
        .log_internal_errors(false);
    // That logging was started before is no reason not to start.
    let _ = if io::stderr().is_terminal() {
        writing.compact().try_init()
    } else {
        writing.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
}
