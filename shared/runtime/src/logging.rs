use tracing::Dispatch;
use tracing_subscriber::{
    EnvFilter,
    filter::LevelFilter,
    fmt::{self, MakeWriter},
};

use crate::{EnvVar, SettingError};

/// How log lines look. They go to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// One short line, for a person at a terminal.
    Text,
}

/// The target of lines that metrics are made of. Functions log them whatever the level is.
pub use service::METRIC;

/// Starts logging as `MORAG_LOG_LEVEL` says. A second call changes nothing.
///
/// # Errors
/// [`SettingError`] when it says nothing that is understood.
pub fn start(format: LogFormat) -> Result<(), SettingError> {
    start_with(format, EnvVar::LogLevel.read().as_deref())
}

/// As [`start`], without asking for a level.
pub(crate) fn start_plainly(format: LogFormat) {
    // The default is understood.
    let _ = start_with(format, None);
}

fn start_with(format: LogFormat, level: Option<&str>) -> Result<(), SettingError> {
    let lines = lines(format, level, std::io::stderr)?;
    // A second start is a test's or an embedder's; the first one's choice stands.
    let _ = tracing::dispatcher::set_global_default(lines);
    Ok(())
}

/// What logs lines of this format and level to `writer`.
///
/// # Errors
/// [`SettingError`] when the level is nothing that is understood.
pub fn lines<W>(format: LogFormat, level: Option<&str>, writer: W) -> Result<Dispatch, SettingError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = fmt::fmt()
        .with_env_filter(filter(format, level)?)
        .with_writer(writer)
        .with_target(false)
        // What cannot be logged would be told on standard error, and a panic follows when that is on a full disk.
        .log_internal_errors(false);
    Ok(match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).finish().into(),
        LogFormat::Text => lines.compact().finish().into(),
    })
}

fn filter(format: LogFormat, level: Option<&str>) -> Result<EnvFilter, SettingError> {
    let directives = directives(format, level);
    // A lone word that is no level would be read as the name of a module, and nothing but that module would log.
    let first = directives.split(',').next().unwrap_or_default();
    let known = first.contains(['=', '[']) || first.parse::<LevelFilter>().is_ok();
    EnvFilter::try_new(&directives).ok().filter(|_| known).ok_or_else(|| SettingError::Value {
        variable: EnvVar::LogLevel,
        value: level.unwrap_or_default().to_owned(),
        expected: "is none of DEBUG, INFO, WARNING and ERROR, and no filter such as info,service=debug"
            .to_owned(),
    })
}

/// The original's level names, or any filter. The SDK's own debug lines would show signed URLs, so it never gets
/// more than warnings, and Lambda's runtime nothing but what it says of itself: it would show whole events with their keys.
/// s3s calls every forged or expired URL an error; the engines log their own causes.
fn directives(format: LogFormat, level: Option<&str>) -> String {
    let level = match level {
        None => "info".to_owned(),
        Some(level) if level.eq_ignore_ascii_case("warning") => "warn".to_owned(),
        Some(level) => level.to_ascii_lowercase(),
    };
    let metrics = match format {
        LogFormat::Json => format!(",{METRIC}=info"),
        LogFormat::Text => String::new(),
    };
    ["aws", "hyper", "h2", "rustls", "reqwest"]
        .iter()
        .fold(level, |all, library| format!("{all},{library}=warn"))
        + &metrics
        + ",s3s=off,aws_sdk_s3=warn,aws_sdk_dynamodb=warn,aws_sdk_sqs=warn,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,\
           aws_runtime=warn,aws_sigv4=warn,aws_config=warn,aws_smithy_http_client=warn,\
           lambda_runtime=info"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_level_names_are_understood_and_the_sdk_stays_quiet() {
        for (given, begins) in [(None, "info,"), (Some("WARNING"), "warn,"), (Some("DEBUG"), "debug,")] {
            let made = directives(LogFormat::Text, given);
            assert!(made.starts_with(begins), "{made}");
            assert!(made.contains("aws_sigv4=warn") && made.contains("aws_sdk_sqs=warn"));
            assert!(filter(LogFormat::Text, given).is_ok());
        }
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for given in ["LOUD", "service=loud", "info,=,"] {
            let error = filter(LogFormat::Text, Some(given)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("MORAG_LOG_LEVEL: {given:?} is none of DEBUG")), "{error}");
        }
        assert!(filter(LogFormat::Json, Some("service=debug")).is_ok());
    }
}
