//! `dbelay op log`: the operation log.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay op log
  dbelay op log -n 5 --json";

/// Look at the operations: who did what, when, from which state to which, and with what result
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What of them.
    #[command(subcommand)]
    pub command: OpCommand,
}

/// What to do with the operations.
#[derive(Debug, clap::Subcommand)]
#[expect(missing_docs, reason = "each command is described by its own arguments")]
pub enum OpCommand {
    Log(LogArgs),
}

/// List operations, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct LogArgs {
    /// Print at most so many
    #[arg(short = 'n', long = "number", value_name = "N")]
    pub number: Option<usize>,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    match &args.command {
        OpCommand::Log(args) => log(args, cx),
    }
}

/// Runs `dbelay op log`.
pub fn log(_args: &LogArgs, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay op log` is missing"))
}
