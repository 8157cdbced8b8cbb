//! The command `gateway`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{ArgGroup, Parser};
use gateway::{Config, Gateway, Keeps, StartError, TlsFiles};
use runtime::{JobSettings, LogFormat, StoreSettings, start_logging};
use service::SystemWorld;
use std::io::{IsTerminal, Write};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the whole control plane on this machine: every function, the job table and the object store, on one listener.
///
/// With --data-dir everything is kept in one folder. The first start makes an admin key there. With --aws jobs are kept in
/// the DynamoDB table MORAG_TABLE and files in the S3 bucket MORAG_BUCKET, both remote-jobs unless they are set, of AWS's own
/// environment: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL and the like. Several gateways may share them. Stop it with SIGTERM
/// or Ctrl-C; requests in hand are finished first.
///
/// Environment: MORAG_SOURCE_ROOTS, MORAG_WEBHOOK_NETWORKS, MORAG_REMOTE_TIMEOUT_<TYPE>, MORAG_RETENTION_DAYS, MORAG_QUEUE_SHARDS,
/// MORAG_POLL_AGAIN_SECONDS, MORAG_TABLE, MORAG_BUCKET, MORAG_LOG_LEVEL. Exit codes: 0 stopped, 1 could not start, 2 wrong flags.
#[derive(Parser)]
#[command(version, name = "gateway", group = ArgGroup::new("keeps").args(["data_dir", "aws"]).required(true))]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The folder that everything is kept in. It is made if it is not there.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep jobs and files in DynamoDB and S3 instead.
    #[arg(long)]
    aws: bool,
    /// With --aws, make the table and the bucket if they are not there.
    #[arg(long, requires = "aws", conflicts_with = "data_dir")]
    create: bool,
    /// What presigned URLs begin with, when workers reach this machine by another name or address. With --aws they begin
    /// with the URL of S3, which AWS_ENDPOINT_URL_S3 sets.
    #[arg(long, value_name = "URL", conflicts_with = "aws")]
    public_url: Option<String>,
    /// Demand no API key of programs on this machine. Callers from elsewhere still need one. Not with --aws, where the
    /// data is not of this machine alone.
    #[arg(long, conflicts_with = "aws")]
    no_auth: bool,
    /// A PEM certificate chain, to serve HTTPS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The PEM private key of the certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// How often jobs are swept in a folder of this machine, where it costs nothing.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often jobs are swept on AWS, where each sweep is charged: as often as the functions do it there.
const SWEEP_AWS_EVERY: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut sentence = format!("gateway: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                let text = cause.to_string();
                // Some errors have their cause in their text already.
                if !sentence.contains(&text) {
                    sentence.push_str(&format!(": {text}"));
                }
                source = cause.source();
            }
            say(&sentence);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), StartError> {
    let terminal = std::io::stderr().is_terminal();
    start_logging(if terminal { LogFormat::Text } else { LogFormat::Json })?;
    let (keeps, sweep_every) = match args.data_dir {
        Some(folder) => (Keeps::Folder(folder), SWEEP_EVERY),
        None => (Keeps::Aws { create: args.create }, SWEEP_AWS_EVERY),
    };
    let store = StoreSettings::from_env()?;
    let kept = match &keeps {
        Keeps::Aws { .. } => format!("jobs in table {}, files in bucket {}", store.table, store.bucket),
        Keeps::Folder(folder) => format!("data in {}", folder.display()),
        Keeps::Memory => "data in memory".to_owned(),
    };
    let config = Config {
        listen: args.listen,
        keeps,
        public_url: args.public_url,
        no_auth: args.no_auth,
        tls: args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
        store,
        jobs: JobSettings::from_env()?,
        sweep_every,
        watch_clock_every: Duration::from_secs(1),
        world: Arc::new(SystemWorld),
    };
    // Before anybody can know that the gateway is up, and stop it.
    let stopped = stop_signal();
    let gateway = Gateway::start(config).await?;
    say(&format!("gateway: listening on {} (API description at /docs)", gateway.public_url));
    say(&format!("gateway: {kept}"));
    if let Some(file) = &gateway.admin_key_file {
        say(&format!("gateway: admin key in {}", file.display()));
    }
    stopped.await;
    say("gateway: stopping; requests in hand are finished first");
    gateway.stop().await;
    Ok(())
}

/// For a person, beside the log.
fn say(line: &str) {
    // A standard error that is gone is no reason to stop serving.
    let _ = writeln!(std::io::stderr(), "{line}");
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
