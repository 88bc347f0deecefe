//! `dbelay diff`: what differs between two states.

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay diff
  dbelay diff pre post --stat
  dbelay diff HEAD~2 live users --filter removed
  dbelay diff pre post --format sql --reverse > undo.sql
  dbelay diff --table users --ignore-column updated_at";

/// Show what differs between two states of the database
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// One or two states, default HEAD and live (one means: it and live), then tables
    #[arg(value_name = "A [B] [TABLE]")]
    pub args: Vec<String>,
    /// Only this table; repeatable
    #[arg(short, long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Per table: rows added, removed and changed, and the columns touched
    #[arg(long)]
    pub stat: bool,
    /// Only the names of what differs
    #[arg(long, conflicts_with = "stat")]
    pub name_only: bool,
    /// Only the schema
    #[arg(long)]
    pub schema: bool,
    /// Only the rows
    #[arg(long, conflicts_with = "schema")]
    pub data: bool,
    /// In which form; `sql` is a patch from A to B
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Compare B with A
    #[arg(short = 'R', long)]
    pub reverse: bool,
    /// Only these kinds of row changes; repeatable
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    pub filter: Vec<Filter>,
    /// Only rows for which this SQL condition holds before or after
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// At most so many rows a table
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Do not compare this column; repeatable
    #[arg(long = "ignore-column", value_name = "[TABLE.]COLUMN", value_delimiter = ',')]
    pub ignore_columns: Vec<String>,
    /// Exit with 1 if anything differs
    #[arg(long)]
    pub exit_code: bool,
}

/// The form of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// One JSON document a line, a line a change
    Jsonl,
    /// A script that makes B of A
    Sql,
    /// One line a changed row
    Csv,
}

/// A kind of row change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Filter {
    /// Rows that only B has
    Added,
    /// Rows that only A has
    Removed,
    /// Rows that both have, with other values
    Changed,
}

/// Runs the command.
pub fn run(_args: &Args, _cx: &Context) -> Result<Exit, CliError> {
    Err(CliError::usage("`dbelay diff` is missing"))
}
