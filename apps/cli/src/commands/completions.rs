use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Session;
use crate::{args::Cli, failure::Failure};

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(session: &Session<'_>, args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "remote-jobs", &mut script);
    session.output.verbatim(&String::from_utf8_lossy(&script))
}
