//! `dbelay status`: the live database against HEAD.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay status
  dbelay status --exit-code --quiet";

/// Compare the database with its newest snapshot, and tell of unfinished operations
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Exit with 1 if anything differs
    #[arg(long)]
    pub exit_code: bool,
}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay status` is missing"))
}
