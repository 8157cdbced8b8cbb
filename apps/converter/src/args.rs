//! The command line.

use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes: 0 done, or stopped as asked; 1 a fault of this machine; 2 the settings, the flags or the converters are \
wrong; 3 the server does not answer (--test-connection), its certificate is not trusted, or no converter runs \
(status); 4 the server refuses the API key; 5 what answers is no remote-jobs server, or one of another version.";

/// Converts jobs of a remote-jobs server on this machine.
///
/// Settings come from a YAML file, then from MORAG_* environment variables, then from these flags.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "remote-converter", version, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do instead of converting.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub flags: Flags,
    /// Write remote_converter_config.yaml.example to the current folder, and exit.
    #[arg(long)]
    pub create_config: bool,
    /// See whether the server answers and accepts the key for polling, and exit.
    #[arg(long)]
    pub test_connection: bool,
}

/// What the program can do besides converting.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Say which converters run on this machine, and how to install what is missing.
    Doctor {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
        /// Print only the Python packages that the built-in converters need, for `pip install -r`.
        #[arg(long, conflicts_with = "json")]
        requirements: bool,
    },
    /// Show what the converter that runs on this machine does, and its jobs.
    Status {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The settings that can be given on the command line, each as it is written there.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// The settings file. By default remote_converter_config.yaml in the current folder, if there is one.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What this worker calls itself.
    #[arg(long, global = true, value_name = "NAME")]
    pub worker_id: Option<String>,
    /// The server's URL.
    #[arg(long, global = true, value_name = "URL")]
    pub api_url: Option<String>,
    /// The API key. Other users of this machine can see it here: prefer MORAG_API_KEY.
    #[arg(long, global = true, value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// The content types to convert, with commas between them.
    #[arg(long, global = true, value_name = "TYPES")]
    pub content_types: Option<String>,
    /// Seconds between two polls when the server does not say when to ask again.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub poll_interval: Option<String>,
    /// Whether to wait for hints of work where the server gives some: true or false.
    #[arg(long, global = true, value_name = "SWITCH")]
    pub instant_wakeup: Option<String>,
    /// How many jobs to run at the same time.
    #[arg(long, global = true, value_name = "COUNT")]
    pub max_jobs: Option<String>,
    /// DEBUG, INFO, WARNING or ERROR.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// The file to log to, which is rotated, instead of standard error.
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<String>,
    /// The folder for sources, results on their way and work in progress.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub temp_dir: Option<String>,
    /// Description files or folders of them, with commas between them.
    #[arg(long, global = true, value_name = "PATHS")]
    pub converters: Option<String>,
    /// The Python that the built-in converters run in.
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub python: Option<String>,
    /// Addresses and networks that web and youtube converters may reach besides the public ones, with commas.
    #[arg(long, global = true, value_name = "NETWORKS")]
    pub networks: Option<String>,
    /// The hosts, each with its subdomains, that youtube converters may reach, with commas.
    #[arg(long, global = true, value_name = "HOSTS")]
    pub youtube_hosts: Option<String>,
    /// Seconds after which another worker may take a job over when this one is not heard of.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub lease_seconds: Option<String>,
    /// Seconds without progress after which a run is reported as stalled.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub stall_seconds: Option<String>,
    /// Seconds that running jobs get to finish after SIGTERM.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub shutdown_grace_seconds: Option<String>,
    /// How this machine's end is announced: none, aws, a file that appears, or a URL that begins to answer.
    #[arg(long, global = true, value_name = "NOTICE")]
    pub spot_notice: Option<String>,
}
