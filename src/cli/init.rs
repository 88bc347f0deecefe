//! `dbelay init`: writes `dbelay.toml` and the store, and finds the database if no URL is given.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay init
  dbelay init --db ./dev.db";

/// Write dbelay.toml and create the store
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay init` is missing"))
}
