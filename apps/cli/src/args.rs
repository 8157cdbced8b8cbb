use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use client::ApiKey;

use crate::{commands, exit};

/// Sends files to be converted into Markdown on other machines, and fetches what became of them.
#[derive(Debug, Parser)]
#[command(name = "remote-jobs", version, after_help = exit::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Where the server is; a path prefix, such as a deployment's stage, stays
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MORAG_API_BASE_URL",
        default_value = "http://localhost:8000"
    )]
    pub(crate) api_url: String,
    /// The API key, <id>.<secret>; other users of this machine may see it here, unlike in the environment or a file
    #[arg(long, global = true, value_name = "KEY", env = "MORAG_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<ApiKey>,
    /// A file with the API key; it comes before --api-key and MORAG_API_KEY
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Write JSON: one document on a line of its own for each job, event or answer; errors too, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Write only what was asked for, and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Upload files and create a job for each
    Submit(commands::submit::SubmitArgs),
    /// Show where jobs stand
    Status(commands::status::StatusArgs),
    /// Follow jobs until they have ended
    Watch(commands::watch::WatchArgs),
    /// Fetch what a job became
    Result(commands::result::ResultArgs),
    /// End jobs
    Cancel(commands::cancel::CancelArgs),
    /// Send ended jobs back to their queue
    Retry(commands::retry::RetryArgs),
    /// Create, list and revoke API keys, on one machine
    #[command(subcommand)]
    Keys(commands::keys::KeysCommand),
    /// Check the address, the connection, the key, the clocks and the object store
    Doctor,
    /// Run a small job through a deployment, as both sides of it
    Selftest(commands::selftest::SelftestArgs),
    /// Write a shell's completion script to standard output
    Completions(commands::completions::CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [
            "remote-jobs --json --api-url http://h:1 --api-key k.s status j",
            "remote-jobs status j --api-key k.s --api-url http://h:1 --json",
        ] {
            let global = parse(line).unwrap().global;
            assert!(global.json && !global.quiet);
            assert_eq!(
                (global.api_url.as_str(), global.api_key.as_ref().map(ApiKey::id)),
                ("http://h:1", Some("k"))
            );
        }
    }

    #[test]
    fn a_submission_takes_its_options() {
        let line = "remote-jobs submit a.mp3 b.mp3 --type x-mine --wait --out texts --option lang=en --option n=2 \
                    --timeout 15m --queue-timeout 1h --priority high --max-retries 0 --task-id t";
        let Command::Submit(submit) = parse(line).unwrap().command else { panic!("another command") };
        assert_eq!(submit.files, ["a.mp3", "b.mp3"]);
        assert_eq!(submit.content_type.unwrap().as_str(), "x-mine");
        assert_eq!(
            (submit.timeout, submit.queue_timeout, submit.max_retries),
            (Some(900), Some(3600), Some(0))
        );
        assert_eq!(submit.options[0], ("lang".to_owned(), "en".into()));
        assert_eq!(submit.options[1], ("n".to_owned(), 2.into()));
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for (line, kind) in [
            ("remote-jobs submit", ErrorKind::MissingRequiredArgument),
            ("remote-jobs submit a --type music", ErrorKind::ValueValidation),
            ("remote-jobs submit a --option lang", ErrorKind::ValueValidation),
            ("remote-jobs submit a --timeout 0", ErrorKind::ValueValidation),
            ("remote-jobs submit a --max-retries 21", ErrorKind::ValueValidation),
            ("remote-jobs submit a --priority urgent", ErrorKind::InvalidValue),
            ("remote-jobs submit a --out d", ErrorKind::MissingRequiredArgument),
            ("remote-jobs keys create n", ErrorKind::MissingRequiredArgument),
            ("remote-jobs keys create n --scope root", ErrorKind::InvalidValue),
            ("remote-jobs status", ErrorKind::MissingRequiredArgument),
            ("remote-jobs convert", ErrorKind::InvalidSubcommand),
        ] {
            assert_eq!(parse(line).unwrap_err(), kind, "{line}");
        }
    }

    #[test]
    fn help_tells_the_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("130  interrupted") && help.contains("MORAG_API_BASE_URL"), "{help}");
    }
}
