//! `dbelay tag`: names for snapshots.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay tag
  dbelay tag release-4 HEAD~1
  dbelay tag --delete release-4";

/// Name a snapshot, or list the names
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The name
    #[arg(conflicts_with = "delete")]
    pub name: Option<String>,
    /// Which snapshot [default: HEAD]
    #[arg(requires = "name")]
    pub snapshot: Option<String>,
    /// Remove a name; the snapshot stays
    #[arg(long, value_name = "NAME")]
    pub delete: Option<String>,
    /// Move a name that exists already
    #[arg(long, requires = "name")]
    pub force: bool,
}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay tag` is missing"))
}
