//! `dbelay show`: what a snapshot holds.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay show
  dbelay show pre
  dbelay show \"@{2 hours ago}\"";

/// Show what a snapshot holds: tables, rows, schema, size, what made it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    #[arg(default_value = "HEAD")]
    pub snapshot: String,
}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay show` is missing"))
}
