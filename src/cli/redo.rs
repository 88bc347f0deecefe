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
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args, cx: &Context) -> Result<Exit, CliError> {
    super::undo::travel(cx, OperationKind::Redo)
}
