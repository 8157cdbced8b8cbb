//! The command line.

use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes: 0 done, or stopped as asked; 1 a fault of this machine; 2 the settings, the flags or the converters are \
wrong; 3 the server does not answer (--test-connection); 4 the server refuses the API key.";

/// Converts jobs of a remote-jobs server on this machine.
///
/// Settings come from a YAML file, then from MORAG_* environment variables, then from these flags.
#[derive(Clone, Debug, Default, clap::Parser)]
#[command(name = "remote-converter", version, after_help = EXIT_CODES)]
pub struct Args {
    /// The settings file. By default remote_converter_config.yaml in the current folder, if there is one.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What this worker calls itself.
    #[arg(long, value_name = "NAME")]
    pub worker_id: Option<String>,
    /// The server's URL.
    #[arg(long, value_name = "URL")]
    pub api_url: Option<String>,
    /// The API key. Other users of this machine can see it here: prefer MORAG_API_KEY.
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// The content types to convert, with commas between them.
    #[arg(long, value_name = "TYPES")]
    pub content_types: Option<String>,
    /// Seconds between two polls when the server does not say when to ask again.
    #[arg(long, value_name = "SECONDS")]
    pub poll_interval: Option<String>,
    /// How many jobs to run at the same time.
    #[arg(long, value_name = "COUNT")]
    pub max_jobs: Option<String>,
    /// DEBUG, INFO, WARNING or ERROR.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// The folder for sources, results on their way and work in progress.
    #[arg(long, value_name = "FOLDER")]
    pub temp_dir: Option<String>,
    /// Description files or folders of them, with commas between them.
    #[arg(long, value_name = "PATHS")]
    pub converters: Option<String>,
    /// The Python that the built-in converters run in.
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<String>,
    /// Seconds after which another worker may take a job over when this one is not heard of.
    #[arg(long, value_name = "SECONDS")]
    pub lease_seconds: Option<String>,
    /// Seconds that running jobs get to finish after SIGTERM.
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_grace_seconds: Option<String>,
    /// Write remote_converter_config.yaml.example to the current folder, and exit.
    #[arg(long)]
    pub create_config: bool,
    /// See whether the server answers and accepts the key for polling, and exit.
    #[arg(long)]
    pub test_connection: bool,
}
