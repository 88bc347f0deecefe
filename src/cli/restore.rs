//! `dbelay restore`: writes a snapshot into another database.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay restore HEAD --to ./copy.db
  dbelay restore \"@{yesterday}\" --to sqlite:/tmp/yesterday.db";

/// Write a snapshot into another, empty database or file
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    pub snapshot: String,
    /// Where to; a database that is empty or does not exist
    #[arg(long, value_name = "URL")]
    pub to: String,
}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay restore` is missing"))
}
