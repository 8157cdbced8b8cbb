//! What the command `remote-jobs` is made of. The crate is a program; its library part exists for the tests.

mod age;
mod args;
mod bars;
mod commands;
mod connection;
pub mod exit;
mod failure;
mod filters;
mod follow;
mod key_table;
mod output;
mod seconds;
mod table;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use crate::{args::Cli, commands::Session, failure::Failure, output::Output};

/// Parses the arguments, runs the command and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    let json = given.iter().any(|arg| arg == "--json");
    let cli = match Cli::try_parse_from(given) {
        Ok(cli) => cli,
        // Help and version are no errors, and a person's usage error is best told by the parser itself.
        Err(error) if !error.use_stderr() || !json => error.exit(),
        Err(error) => {
            let failure = Failure::Usage(error.render().to_string().trim().to_owned());
            return Output::standard(true, false).end(&failure);
        }
    };
    let output = Output::standard(cli.global.json, cli.global.quiet);
    match run(cli, &output) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => output.end(&failure),
    }
}

fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Local(format!("The program cannot start: {error}")))?;
    let session = Session::new(output, &cli.global);
    let result = runtime.block_on(async {
        tokio::select! {
            result = commands::run(&session, cli.command) => result,
            signal = tokio::signal::ctrl_c() => match signal {
                Ok(()) => Err(Failure::Interrupted { hint: session.hint() }),
                Err(error) => Err(Failure::Local(format!("Ctrl-C cannot be waited for: {error}"))),
            },
        }
    });
    // Files may still be read on threads of their own, which nobody waits for any more.
    runtime.shutdown_background();
    result
}
