//! `dbelay cat`: the rows of a table in a snapshot.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay cat HEAD users
  dbelay cat pre users --key 1042
  dbelay cat HEAD users --format csv > users.csv";

/// Print the rows of a table in a snapshot
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: live, HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    #[arg(required_unless_present = "object")]
    pub snapshot: Option<String>,
    /// Which table
    #[arg(required_unless_present = "object")]
    pub table: Option<String>,
    /// Only the row with this primary key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// In which form
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Print the raw JSON bytes of an object of the store instead
    #[arg(long, value_name = "ID", hide = true, conflicts_with_all = ["snapshot", "table", "key", "format"])]
    pub object: Option<String>,
}

/// The form of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// INSERT statements
    Sql,
}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay cat` is missing"))
}
