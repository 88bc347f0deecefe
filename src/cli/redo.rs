//! `dbelay redo`: does again what undo took back.

use dbelay::ops::journal::OperationKind;

use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay redo
  dbelay redo --dry-run";

/// Do again what undo took back
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Put the files beside the database forward, too [default: if they went with the operation]
    #[arg(long)]
    pub with_files: bool,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    super::undo::travel(cx, OperationKind::Redo, args.with_files)
}
