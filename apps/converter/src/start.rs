use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use client::Client;
use domain::ContentType;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    activity::Activities,
    args::{Args, Command},
    background::Background,
    builtin,
    connection::{self, Connection},
    contain::{self, Walls},
    converters::Converters,
    deliver::Bringing,
    descriptions, doctor,
    face::Face,
    folders::Folders,
    jobs::Jobs,
    logging,
    poll_loop::{self, Polling},
    run::Progress,
    service_manager,
    settings::{DOTENV_FILE, EXAMPLE, EXAMPLE_FILE, Environment, Settings, SettingsError, SpotNotice},
    shutdown::{self, Shutdown},
    spool::Spool,
    spot::Lookout,
    status::{self, Serving, Standing},
    suspend::Wakes,
    work::Worker,
};

/// Why the program ends with another code than 0.
#[derive(Debug)]
pub(crate) struct Failed {
    /// One of the codes below.
    pub(crate) code: u8,
    /// A sentence.
    pub(crate) message: String,
}

/// A fault of this machine.
pub(crate) const MACHINE: u8 = 1;
/// The settings, the flags or the converters are wrong, which no other try mends; also what wrong flags give.
pub(crate) const SETTINGS: u8 = 2;
/// The server does not answer.
pub(crate) const NO_ANSWER: u8 = 3;
/// The server refuses the key.
pub(crate) const REFUSED: u8 = 4;
/// What answers is no remote-jobs server, or one of another version.
pub(crate) const OTHER_SERVER: u8 = 5;

/// How long the start waits to learn the server's version.
const VERSION: Duration = Duration::from_secs(5);

pub(crate) fn failed(code: u8) -> impl Fn(&dyn std::error::Error) -> Failed {
    move |error| Failed { code, message: error.to_string() }
}

/// Runs the program with this process's arguments and environment.
#[must_use]
pub fn main() -> ExitCode {
    let ended = run(&Args::parse());
    let mut standard_error = Background::standard_error();
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // When even that cannot be written, there is nobody left to tell.
            let _ = writeln!(standard_error, "remote-converter: {}", failed.message);
            ExitCode::from(failed.code)
        }
    };
    standard_error.finish();
    code
}

fn run(args: &Args) -> Result<(), Failed> {
    if args.create_config {
        return create_config();
    }
    let settings = settings(args).map_err(|error| failed(SETTINGS)(&error))?;
    let face = Face::new();
    match args.command {
        Some(Command::Doctor { json, requirements }) => return doctor::run(&settings, json, requirements),
        Some(Command::Status { json }) => return status::run(&settings, json),
        None => start_logging(&settings, args.test_connection, &face)?,
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let product = concat!("remote-converter/", env!("CARGO_PKG_VERSION"));
    let client = Client::new(settings.api_base_url.clone(), settings.api_key.clone(), product)
        .map_err(|error| failed(SETTINGS)(&error))?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(MACHINE)(&error))?;
    if args.test_connection {
        return runtime.block_on(test_connection(&client, &settings));
    }
    runtime.block_on(work(client, settings, face))
}

/// A test of the connection is for whoever asks for it, not for the log.
fn start_logging(settings: &Settings, is_test: bool, face: &Face) -> Result<(), Failed> {
    let file = settings.log_file.as_deref().filter(|_| !is_test);
    logging::start(settings.log_level, file, face).map_err(|error| {
        let path = file.unwrap_or(Path::new("standard error")).display();
        Failed { code: MACHINE, message: format!("The log {path} cannot be written: {error}.") }
    })
}

fn settings(args: &Args) -> Result<Settings, SettingsError> {
    let environment = Environment::of_process().map_err(|error| SettingsError::File {
        path: DOTENV_FILE.into(),
        problem: format!("cannot be read: {error}"),
    })?;
    Settings::load(&args.flags, &environment)
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
    judge(connection::test(client).await, settings)
}

fn judge(found: Connection, settings: &Settings) -> Result<(), Failed> {
    let server = &settings.api_base_url;
    match found {
        Connection::Good(version) => {
            say(&format!("{server} answers (version {version}) and accepts the key for polling."));
            Ok(())
        }
        Connection::NoAnswer(error) => Err(failed(NO_ANSWER)(&error)),
        Connection::Other(message) => Err(Failed { code: OTHER_SERVER, message }),
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

async fn work(client: Client, settings: Settings, face: Face) -> Result<(), Failed> {
    contain::guard_this_process().map_err(|error| failed(MACHINE)(&error))?;
    let shutdown = shutdown::listen(settings.shutdown_grace).map_err(|error| failed(MACHINE)(&error))?;
    let folders =
        Arc::new(Folders::open(&settings.temp_dir).map_err(|error| failed(by(error.may_pass()))(&error))?);
    let (jobs, activities) = (Arc::new(Jobs::new(settings.stall_after)), Arc::new(Activities::default()));
    let _serving = serve_status(&settings, &folders, &jobs, &activities);
    let _showing = AbortOnDropHandle::new(tokio::spawn(face.show(Arc::clone(&jobs))));
    for lack in contain::Kernel::tried().lacks() {
        tracing::warn!("{lack}");
    }
    if folders.are_in_memory() {
        let temp_dir = folders.root().display();
        tracing::warn!(%temp_dir, "`temp_dir` is in memory: results not yet submitted would not survive a reboot");
    }
    if let Some(notice) = settings.spot_notice.clone() {
        look_out(notice, &shutdown).await?;
    }
    if let Ok(Err(found)) = tokio::time::timeout(VERSION, connection::check(&client)).await {
        return judge(found, &settings);
    }
    let spool = Spool::new(folders.spool(), folders.rejected());
    let bringing = Bringing::begin(client.clone(), spool.clone(), shutdown.kill.clone());
    let bringing = bringing.map_err(|error| failed(MACHINE)(&error))?;
    let converters = tokio::select! {
        converters = converters(&settings, &folders) => converters?,
        () = shutdown.drain.cancelled() => {
            bringing.ended().await;
            return Ok(());
        }
    };
    let worker = Arc::new(Worker {
        client,
        converters: Arc::new(converters),
        spool,
        folders,
        unable: Arc::default(),
        progress: Arc::new(Progress::new(jobs)),
        activities,
        failing: Arc::default(),
        wakes: Wakes::of_this_machine(),
        kill: shutdown.kill.clone(),
    });
    tell_started(&settings);
    let polling = Polling {
        worker_id: settings.worker_id,
        content_types: settings.content_types,
        max_jobs: settings.max_concurrent_jobs,
        interval: settings.poll_interval,
        lease_seconds: settings.lease_seconds,
        instant_wakeup: settings.instant_wakeup,
    };
    service_manager::ready(shutdown.drain.clone());
    shutdown.drain.run_until_cancelled(bringing.once_tried()).await;
    poll_loop::run(worker, polling, shutdown.drain).await.map_err(|error| failed(REFUSED)(&error))?;
    bringing.ended().await;
    tracing::info!("stopped");
    Ok(())
}

fn tell_started(settings: &Settings) {
    let types: Vec<&str> = settings.content_types.iter().map(ContentType::as_str).collect();
    tracing::info!(
        worker_id = %settings.worker_id,
        server = %settings.api_base_url,
        max_jobs = settings.max_concurrent_jobs,
        content_types = types.join(","),
        "started"
    );
}

/// Answers those who ask what this program does. It works without, too.
fn serve_status(
    settings: &Settings,
    folders: &Arc<Folders>,
    jobs: &Arc<Jobs>,
    activities: &Arc<Activities>,
) -> Option<Serving> {
    let standing = Standing {
        worker_id: settings.worker_id.clone(),
        server: settings.api_base_url.clone(),
        max_jobs: settings.max_concurrent_jobs,
        since: Instant::now(),
        jobs: Arc::clone(jobs),
        activities: Arc::clone(activities),
        folders: Arc::clone(folders),
    };
    Serving::start(standing)
        .inspect_err(
            |error| tracing::warn!(%error, "`remote-converter status` will find nobody to answer it"),
        )
        .ok()
}

/// Watches for this machine's end, of which a converter that starts again shortly before it must know at once.
async fn look_out(notice: SpotNotice, shutdown: &Shutdown) -> Result<(), Failed> {
    let metadata = std::env::var("AWS_EC2_METADATA_SERVICE_ENDPOINT").ok();
    let lookout = Lookout::new(notice, metadata).map_err(|error| failed(MACHINE)(&error))?;
    lookout.watch(shutdown.clone()).await;
    Ok(())
}

/// The code for what keeps it from starting: whoever starts services tries again unless only people can mend it.
fn by(may_pass: bool) -> u8 {
    if may_pass { MACHINE } else { SETTINGS }
}

/// The operator's converters come first, so that they can take the place of built-in ones.
async fn converters(settings: &Settings, folders: &Folders) -> Result<Converters, Failed> {
    let builtin = builtin::materialise(folders.root()).map_err(|error| failed(MACHINE)(&error))?;
    let mut paths = settings.converters.clone();
    paths.push(builtin);
    let descriptions = descriptions::load(&paths).map_err(|error| failed(SETTINGS)(&error))?;
    let (walls, python) = (Walls::of(settings), settings.python.clone());
    for lack in walls.lacks() {
        tracing::warn!("{lack}");
    }
    Converters::check(descriptions, &settings.content_types, python, folders, walls)
        .await
        .map_err(|error| failed(by(error.may_pass()))(&error))
}
