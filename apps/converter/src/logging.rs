use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::Mutex,
};

use tracing_subscriber::EnvFilter;

use crate::{
    background::Background,
    face::Face,
    log_file::{self, LogFile},
    settings::LogLevel,
};

/// Logs to this file, or to standard error: for a person when that is a terminal, else one JSON object a line.
pub(crate) fn start(level: LogLevel, file: Option<&Path>, face: &Face) -> io::Result<()> {
    // Libraries below HTTP could show URLs, whose queries are secrets here: only what they warn of is written.
    let level = level.filter();
    let filter = EnvFilter::new(format!("warn,remote_converter={level},client={level}"));
    let writing = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        // What cannot be logged would be told on standard error, and a panic follows when that is on a full disk.
        .log_internal_errors(false);
    // That logging was started before is no reason not to start.
    if file.is_none() && io::stderr().is_terminal() {
        let above = face.above();
        let _ = writing.compact().with_writer(move || above.clone()).try_init();
        return Ok(());
    }
    let writing = writing.json().flatten_event(true).with_current_span(true).with_span_list(false);
    let _ = match file {
        Some(path) => writing.with_writer(Mutex::new(LogFile::open(path, log_file::LARGEST)?)).try_init(),
        None => writing.with_writer(Background::standard_error).try_init(),
    };
    Ok(())
}
