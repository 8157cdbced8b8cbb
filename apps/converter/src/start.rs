use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use client::Client;
use domain::ContentType;

use crate::{
    args::Args,
    builtin,
    connection::{self, Connection},
    converters::Converters,
    descriptions,
    folders::Folders,
    logging,
    poll_loop::{self, Polling},
    settings::{EXAMPLE, EXAMPLE_FILE, Settings},
    shutdown,
    spool::Spool,
    work::Worker,
};

/// Why the program ends with another code than 0.
struct Failed {
    code: u8,
    message: String,
}

/// A fault of this machine.
const MACHINE: u8 = 1;
/// The settings, the flags or the converters are wrong; also what wrong flags give.
const SETTINGS: u8 = 2;
/// The server does not answer.
const NO_ANSWER: u8 = 3;
/// The server refuses the key.
const REFUSED: u8 = 4;

fn failed(code: u8) -> impl Fn(&dyn std::error::Error) -> Failed {
    move |error| Failed { code, message: error.to_string() }
}

/// Runs the program with this process's arguments and environment.
#[must_use]
pub fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // When even that cannot be written, there is nobody left to tell.
            let _ = writeln!(io::stderr(), "remote-converter: {}", failed.message);
            ExitCode::from(failed.code)
        }
    }
}

fn run(args: &Args) -> Result<(), Failed> {
    if args.create_config {
        return create_config();
    }
    let settings =
        Settings::load(args, |name| std::env::var(name).ok()).map_err(|error| failed(SETTINGS)(&error))?;
    logging::start(settings.log_level);
    let product = concat!("remote-converter/", env!("CARGO_PKG_VERSION"));
    let client = Client::new(settings.api_base_url.clone(), settings.api_key.clone(), product)
        .map_err(|error| failed(SETTINGS)(&error))?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(MACHINE)(&error))?;
    if args.test_connection {
        return runtime.block_on(test_connection(&client, &settings));
    }
    runtime.block_on(work(client, settings))
}

fn create_config() -> Result<(), Failed> {
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(EXAMPLE_FILE);
    let written = created.and_then(|mut file| file.write_all(EXAMPLE.as_bytes()));
    written.map_err(|error| Failed {
        code: MACHINE,
        message: format!("{EXAMPLE_FILE} cannot be created: {error}."),
    })?;
    say(&format!("Created {EXAMPLE_FILE}. Edit it and save it as remote_converter_config.yaml."));
    Ok(())
}

async fn test_connection(client: &Client, settings: &Settings) -> Result<(), Failed> {
    let server = &settings.api_base_url;
    match connection::test(client, &settings.worker_id).await {
        Connection::Good(version) => {
            say(&format!("{server} answers (version {version}) and accepts the key for polling."));
            Ok(())
        }
        Connection::NoAnswer(error) => Err(failed(NO_ANSWER)(&error)),
        Connection::Refused(error) => {
            let message = format!(
                "{server} answers but refuses the API key: {error} Set MORAG_API_KEY to a key with the scope worker."
            );
            Err(Failed { code: REFUSED, message })
        }
    }
}

fn say(text: &str) {
    // Who closed the pipe does not want to read it.
    let _ = writeln!(io::stdout(), "{text}");
}

async fn work(client: Client, settings: Settings) -> Result<(), Failed> {
    let shutdown = shutdown::listen(settings.shutdown_grace).map_err(|error| failed(MACHINE)(&error))?;
    let folders = Folders::open(&settings.temp_dir).map_err(|error| failed(SETTINGS)(&error))?;
    if folders.are_in_memory() {
        let temp_dir = folders.root().display();
        tracing::warn!(%temp_dir, "`temp_dir` is in memory: results not yet submitted would not survive a reboot");
    }
    let converters = tokio::select! {
        converters = converters(&settings, &folders) => converters?,
        () = shutdown.drain.cancelled() => return Ok(()),
    };
    let worker = Arc::new(Worker {
        client,
        converters: Arc::new(converters),
        spool: Spool::new(folders.spool(), folders.rejected()),
        folders: Arc::new(folders),
        unable: Arc::default(),
        kill: shutdown.kill.clone(),
    });
    let types: Vec<&str> = settings.content_types.iter().map(ContentType::as_str).collect();
    tracing::info!(
        worker_id = %settings.worker_id,
        server = %settings.api_base_url,
        max_jobs = settings.max_concurrent_jobs,
        content_types = types.join(","),
        "started"
    );
    let left = worker.spool.left().map_err(|error| failed(MACHINE)(&error))?;
    tokio::spawn(Arc::clone(&worker).submit_left(left));
    let polling = Polling {
        worker_id: settings.worker_id,
        content_types: settings.content_types,
        max_jobs: settings.max_concurrent_jobs,
        interval: settings.poll_interval,
        lease_seconds: settings.lease_seconds,
    };
    poll_loop::run(worker, polling, shutdown.drain).await.map_err(|error| failed(REFUSED)(&error))?;
    tracing::info!("stopped");
    Ok(())
}

/// The operator's converters come first, so that they can take the place of built-in ones.
async fn converters(settings: &Settings, folders: &Folders) -> Result<Converters, Failed> {
    let builtin = builtin::materialise(folders.root()).map_err(|error| failed(MACHINE)(&error))?;
    let mut paths = settings.converters.clone();
    paths.push(builtin);
    let descriptions = descriptions::load(&paths).map_err(|error| failed(SETTINGS)(&error))?;
    Converters::check(descriptions, &settings.content_types, settings.python.clone(), folders)
        .await
        .map_err(|error| failed(SETTINGS)(&error))
}
