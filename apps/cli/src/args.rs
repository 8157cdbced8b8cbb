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

/// Where help lists what every command takes, behind the command's own options.
const HEADING: &str = "Options of every command";

/// What every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Where the server is; a path prefix, such as a deployment's stage, stays
    #[arg(
        long,
        global = true, help_heading = HEADING,
        value_name = "URL",
        env = "MORAG_API_BASE_URL",
        default_value = "http://localhost:8000"
    )]
    pub(crate) api_url: String,
    /// The API key, <id>.<secret>; other users of this machine may see it here, unlike in the environment or a file
    #[arg(long, global = true, help_heading = HEADING, value_name = "KEY", env = "MORAG_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<ApiKey>,
    /// A file with the API key; it comes before --api-key and MORAG_API_KEY
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Write JSON: one document on a line of its own for each job, event or answer; errors too, on standard error
    #[arg(long, global = true, help_heading = HEADING)]
    pub(crate) json: bool,
    /// Write only what was asked for, and errors
    #[arg(long, short, global = true, help_heading = HEADING)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Upload files and create a job for each
    Submit(commands::submit::SubmitArgs),
    /// Convert files into Markdown: remotely where workers are there, else on this machine
    ///
    /// The same command run again goes on where it was interrupted: uploads and jobs are found again, and what was saved
    /// into --out is not converted again. Ctrl-C ends what is converted on this machine; jobs on the server go on, and
    /// their results are there when the command is run again. MORAG_CONVERTERS, MORAG_CONVERTER_PYTHON and MORAG_TEMP_DIR
    /// are for conversions on this machine what they are for a remote converter.
    Convert(commands::convert::ConvertArgs),
    /// List jobs, the newest first
    List(commands::list::ListArgs),
    /// Show where jobs stand
    Status(commands::status::StatusArgs),
    /// Follow jobs until they have ended
    Watch(commands::watch::WatchArgs),
    /// Fetch what a job became
    Result(commands::result::ResultArgs),
    /// End jobs, by their ids or by filters
    ///
    /// Filters without --status mean the pending and the processing jobs. How many that are is told, and asked about,
    /// before the first is cancelled.
    Cancel(commands::cancel::CancelArgs),
    /// Send ended jobs back to their queue, by their ids or by filters
    ///
    /// Filters without --status mean the failed and the timed-out jobs. How many that are is told, and asked about,
    /// before the first is sent back.
    Retry(commands::retry::RetryArgs),
    /// Delete ended jobs with their files, by their ids or by filters
    ///
    /// Filters without --status mean every job that has ended, completed ones too. It is asked about before the first is
    /// deleted, also for jobs that are named by their ids.
    Delete(commands::delete::DeleteArgs),
    /// Show what waits, runs and has ended lately, by type
    Stats,
    /// Show which workers there are, and what they run
    Workers(commands::workers::WorkersArgs),
    /// Let no worker claim jobs of these types, until they are resumed
    ///
    /// Jobs that run go on. Jobs that wait stay in their queue, and time out as they would otherwise.
    Pause(commands::queues::QueuesArgs),
    /// Let workers claim jobs of these types again
    Resume(commands::queues::QueuesArgs),
    /// List events whose delivery to a webhook was given up, and send them out again
    #[command(subcommand)]
    Events(commands::events::EventsCommand),
    /// Show or replace what webhooks' messages are signed with
    #[command(subcommand)]
    WebhookSecret(commands::webhook_secret::WebhookSecretCommand),
    /// Take over the jobs of the original system from its folder of job files
    ///
    /// Every job keeps its id. Pending and processing ones are uploaded and begin anew here; the others are kept as
    /// history, completed ones with their results. Nothing in the folder is changed, and what was imported before is left
    /// alone, so that the command can be run again after what it could not take was mended. Stop the original system
    /// first. Needs a key with the scope admin.
    Import(commands::import::ImportArgs),
    /// Create, list, rotate and revoke API keys: of the gateway of one machine, or in a table
    Keys(commands::keys::KeysArgs),
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
            ("remote-jobs keys rotate", ErrorKind::MissingRequiredArgument),
            ("remote-jobs keys rotate k --overlap soon", ErrorKind::ValueValidation),
            ("remote-jobs keys rotate k --overlap 91d", ErrorKind::ValueValidation),
            ("remote-jobs keys list --table=", ErrorKind::InvalidValue),
            ("remote-jobs status", ErrorKind::MissingRequiredArgument),
            ("remote-jobs submit a --webhook-url ftp://h", ErrorKind::ValueValidation),
            ("remote-jobs submit a --total-timeout 0", ErrorKind::ValueValidation),
            ("remote-jobs list --status done", ErrorKind::InvalidValue),
            ("remote-jobs list --day tomorrow", ErrorKind::ValueValidation),
            ("remote-jobs list --task=", ErrorKind::ValueValidation),
            ("remote-jobs list --limit 0", ErrorKind::ValueValidation),
            ("remote-jobs list --limit 5 --all", ErrorKind::ArgumentConflict),
            ("remote-jobs cancel", ErrorKind::MissingRequiredArgument),
            ("remote-jobs cancel --yes", ErrorKind::MissingRequiredArgument),
            ("remote-jobs cancel j --status failed", ErrorKind::ArgumentConflict),
            ("remote-jobs retry --type audio j", ErrorKind::ArgumentConflict),
            ("remote-jobs delete j --day today", ErrorKind::ArgumentConflict),
            ("remote-jobs delete --task t j", ErrorKind::ArgumentConflict),
            ("remote-jobs workers --type music", ErrorKind::ValueValidation),
            ("remote-jobs pause", ErrorKind::MissingRequiredArgument),
            ("remote-jobs pause music", ErrorKind::ValueValidation),
            ("remote-jobs events redrive", ErrorKind::MissingRequiredArgument),
            ("remote-jobs events redrive e --all", ErrorKind::ArgumentConflict),
            ("remote-jobs import", ErrorKind::MissingRequiredArgument),
            ("remote-jobs convert", ErrorKind::MissingRequiredArgument),
            ("remote-jobs convert a --remote --local", ErrorKind::ArgumentConflict),
            ("remote-jobs convert a --auto --local", ErrorKind::ArgumentConflict),
            ("remote-jobs convert a --local --timeout 5m", ErrorKind::ArgumentConflict),
            ("remote-jobs convert a --local --no-fallback", ErrorKind::ArgumentConflict),
            ("remote-jobs convert a --jobs 0", ErrorKind::ValueValidation),
            ("remote-jobs translate a", ErrorKind::InvalidSubcommand),
        ] {
            assert_eq!(parse(line).unwrap_err(), kind, "{line}");
        }
    }

    #[test]
    fn many_jobs_are_named_by_ids_or_selected_by_filters() {
        for line in [
            "remote-jobs convert a b --type audio --out texts --option a=1 --timeout 5m --no-fallback --force -v",
            "remote-jobs convert a --local --jobs 4",
            "remote-jobs convert https://example.com/a --remote --explain",
            "remote-jobs list",
            "remote-jobs list --status failed,timeout --type x-mine --day 2026-02-03 --task t --all",
            "remote-jobs cancel 1 2 --takeover",
            "remote-jobs cancel --status pending --status processing --yes",
            "remote-jobs retry --day yesterday -y",
            "remote-jobs delete 1 2 --yes",
            "remote-jobs delete --type audio --task t",
            "remote-jobs events redrive --all",
            "remote-jobs import jobs --sources files --dry-run",
            "remote-jobs keys --table t list",
            "remote-jobs keys create n --scope worker --table t",
            "remote-jobs keys rotate k --overlap 0",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn every_command_has_its_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{}: {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn help_tells_the_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("130  interrupted") && help.contains("MORAG_API_BASE_URL"), "{help}");
    }
}
