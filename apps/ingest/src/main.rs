//! The command `ingest`.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use ingest::{EnvVar, Ingest, Settings, StartError};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Takes files and URLs, converts them by remote workers or here, and makes them searchable.
///
/// Every flag has a variable, which it comes before: MORAG_INGEST_LISTEN, MORAG_INGEST_DATA_DIR, MORAG_API_BASE_URL. The
/// others are variables only: MORAG_API_KEY, MORAG_INGEST_WEBHOOK_URL, MORAG_WEBHOOK_SECRET, MORAG_INGEST_API_KEY,
/// MORAG_INGEST_WEBHOOK_SECRET, MORAG_INGEST_WEBHOOK_NETWORKS, MORAG_INGEST_MAX_UPLOAD_BYTES,
/// MORAG_INGEST_MAX_CONCURRENT_TASKS, MORAG_INGEST_MAX_LOCAL_CONVERSIONS, MORAG_INGEST_LOCAL_TIMEOUT,
/// MORAG_INGEST_RETENTION_DAYS, MORAG_LOG_LEVEL, MORAG_REMOTE_CONVERSION_ENABLED and the others of remote conversion, of the
/// converters and of the library. Stop it with SIGTERM or Ctrl-C; the tasks go on with the next start. Exit codes: 0
/// stopped, 1 could not start, 2 wrong flags or settings.
#[derive(Parser)]
#[command(version, name = "ingest")]
struct Args {
    /// Where to listen. Port 0 takes any free one. Default 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The folder that everything is kept in. It is made if it is not there. Default ./morag-ingest.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where the control plane is. Default http://localhost:8000.
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// A file with the key for the control plane, instead of MORAG_API_KEY.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Where the control plane reaches /api/v1/webhooks/remote-jobs of this service.
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
}

impl Args {
    /// What a flag says instead of a variable.
    fn instead_of(&self, variable: &str) -> Option<String> {
        let flags = [
            (EnvVar::Listen, &self.listen),
            (EnvVar::DataDir, &self.data_dir),
            (EnvVar::ApiBaseUrl, &self.api_url),
            (EnvVar::HookUrl, &self.webhook_url),
        ];
        flags.into_iter().find(|(of, _)| of.name() == variable).and_then(|(_, value)| value.clone())
    }
}

/// Wrong settings, as against a start that fails.
const WRONG_SETTINGS: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let settings = match start_logging().and_then(|()| settings(&args)) {
        Ok(settings) => settings,
        Err(problem) => {
            say(&format!("ingest: {problem}"));
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("ingest: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn settings(args: &Args) -> Result<Settings, String> {
    let key = match &args.api_key_file {
        None => None,
        Some(path) => {
            let key = std::fs::read_to_string(path)
                .map_err(|error| format!("--api-key-file {}: {error}", path.display()))?;
            Some(key.trim().to_owned())
        }
    };
    Settings::from(|variable| {
        let flag = args.instead_of(variable);
        let flag = flag.or_else(|| key.clone().filter(|_| variable == EnvVar::ApiKey.name()));
        flag.or_else(|| std::env::var(variable).ok())
    })
    .map_err(|error| error.to_string())
}

async fn run(settings: Settings) -> Result<(), StartError> {
    let data_dir = settings.data_dir.clone();
    // Before anybody can know that the service is up, and stop it.
    let stopped = stop_signal();
    let ingest = Ingest::start(settings).await?;
    // One line for programs that wait for it.
    let _ = writeln!(std::io::stdout(), "ingest: listening on http://{}", ingest.address);
    say(&format!("ingest: data in {}", data_dir.display()));
    stopped.await;
    say("ingest: stopping; the tasks go on with the next start");
    ingest.stop().await;
    Ok(())
}

/// For a person, beside the log.
fn say(line: &str) {
    // A standard error that is gone is no reason to stop serving.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Logs to standard error: JSON for machines, short lines at a terminal.
fn start_logging() -> Result<(), String> {
    let level = std::env::var(EnvVar::LogLevel.name()).ok().filter(|level| !level.trim().is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(level.as_deref())?)
        .with_writer(std::io::stderr)
        .with_target(false)
        // What cannot be logged would be told on standard error, and a panic follows when that is on a full disk.
        .log_internal_errors(false);
    if std::io::stderr().is_terminal() {
        lines.compact().init();
    } else {
        lines.json().flatten_event(true).with_span_list(false).init();
    }
    Ok(())
}

/// The original's level names, or any filter. Libraries would show URLs with keys in them, so they never get more than
/// warnings.
fn filter(level: Option<&str>) -> Result<EnvFilter, String> {
    let given = level.map(|level| level.trim().to_ascii_lowercase()).unwrap_or_else(|| "info".to_owned());
    let given = if given == "warning" { "warn".to_owned() } else { given };
    let known =
        given.contains('=') || ["error", "warn", "info", "debug", "trace", "off"].contains(&given.as_str());
    let quiet = ["hyper", "h2", "rustls", "reqwest"].map(|library| format!("{library}=warn")).join(",");
    EnvFilter::try_new(format!("{given},{quiet}")).ok().filter(|_| known).ok_or_else(|| {
        format!(
            "{}: {:?} is none of DEBUG, INFO, WARNING and ERROR",
            EnvVar::LogLevel,
            level.unwrap_or_default()
        )
    })
}

/// Listens for the signals to stop from now on, and waits for one when it is awaited.
fn stop_signal() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            // Without signals the process can only be killed, which loses nothing that was acknowledged.
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "signals cannot be received");
                std::future::pending::<()>().await;
            }
        }
    }
}
