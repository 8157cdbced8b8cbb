use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

use crate::{EnvVar, SettingError};

/// How log lines look. They go to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// One short line, for a person at a terminal.
    Text,
}

/// Starts logging as `MORAG_LOG_LEVEL` says. A second call changes nothing.
///
/// # Errors
/// [`SettingError`] when it says nothing that is understood.
pub fn start(format: LogFormat) -> Result<(), SettingError> {
    let filter = filter(EnvVar::LogLevel.read().as_deref())?;
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // What cannot be logged would be told on standard error, and a panic follows when that is on a full disk.
        .log_internal_errors(false);
    // A second start is a test's or an embedder's; the first one's choice stands.
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).try_init(),
        LogFormat::Text => lines.compact().try_init(),
    };
    Ok(())
}

fn filter(level: Option<&str>) -> Result<EnvFilter, SettingError> {
    let directives = directives(level);
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
/// more than warnings. s3s calls every forged or expired URL an error; the engines log their own causes.
fn directives(level: Option<&str>) -> String {
    let level = match level {
        None => "info".to_owned(),
        Some(level) if level.eq_ignore_ascii_case("warning") => "warn".to_owned(),
        Some(level) => level.to_ascii_lowercase(),
    };
    ["aws", "hyper", "h2", "rustls", "reqwest"]
        .iter()
        .fold(level, |all, library| format!("{all},{library}=warn"))
        + ",s3s=off,aws_sdk_s3=warn,aws_sdk_dynamodb=warn,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,\
           aws_runtime=warn,aws_sigv4=warn,aws_config=warn,aws_smithy_http_client=warn"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_level_names_are_understood_and_the_sdk_stays_quiet() {
        for (given, begins) in [(None, "info,"), (Some("WARNING"), "warn,"), (Some("DEBUG"), "debug,")] {
            let made = directives(given);
            assert!(made.starts_with(begins), "{made}");
            assert!(made.contains("aws_sigv4=warn"));
            assert!(filter(given).is_ok());
        }
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for given in ["LOUD", "service=loud", "info,=,"] {
            let error = filter(Some(given)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("MORAG_LOG_LEVEL: {given:?} is none of DEBUG")), "{error}");
        }
        assert!(filter(Some("service=debug")).is_ok());
    }
}
