//! `dbelay log`: snapshots, newest first; of one table; of one row.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay log --oneline -n 10
  dbelay log users
  dbelay log users 1042";

/// List snapshots, newest first; with a table or a key only those that changed it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print at most so many
    #[arg(short = 'n', long = "number", value_name = "N")]
    pub number: Option<usize>,
    /// One line a snapshot
    #[arg(long)]
    pub oneline: bool,
    /// Only snapshots in which this table changed
    pub table: Option<String>,
    /// Only snapshots in which the row with this primary key changed
    pub key: Option<String>,
}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay log` is missing"))
}
