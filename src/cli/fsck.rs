//! `dbelay fsck`: checks the store.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay fsck
  dbelay fsck --read-data";

/// Check the store, and name what is damaged
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Read and verify every object, not only what the index says
    #[arg(long)]
    pub read_data: bool,
}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay fsck` is missing"))
}
