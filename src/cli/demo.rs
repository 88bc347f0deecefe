//! `dbelay demo`: the whole story on a scratch database.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay demo";

/// Watch a migration lose rows, get caught, rolled back and undone, on a scratch database
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay demo` is missing"))
}
