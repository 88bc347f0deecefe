//! `dbelay fsck`: checks the store.

use std::io::Write;

use dbelay::ops::fsck;
use dbelay::store::FsckDepth;

use super::output::{ERROR, GOOD};
use super::project::{Need, Project};
use super::time::{bytes, counted};
use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay fsck
  dbelay fsck --read-data";

/// Check the store, and name what is damaged
///
/// Exits with 1 if anything is.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Read and verify every object, not only what the index says
    #[arg(long)]
    pub read_data: bool,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let depth = if args.read_data { FsckDepth::ReadData } else { FsckDepth::Structure };
    let report = fsck::fsck(&project.store, depth, project.progress())?;
    let exit = if report.damage.is_empty() { Exit::DONE } else { Exit::FOUND };
    if cx.output.is_json() {
        cx.output.json(&report)?;
        return Ok(exit);
    }
    let mut out = cx.output.out();
    for damage in &report.damage {
        let object = damage.object.map(|id| format!(", object {}", id.short())).unwrap_or_default();
        writeln!(out, "{ERROR}damage{ERROR:#} in {}{object}: {}", damage.path, damage.what)?;
    }
    let looked = format!(
        "{}, {}, {}{}",
        counted(report.snapshots, "snapshot"),
        counted(report.packs, "pack"),
        counted(report.objects, "object"),
        if args.read_data { format!(", {} read", bytes(report.bytes_read)) } else { String::new() }
    );
    if report.damage.is_empty() {
        writeln!(out, "{GOOD}sound{GOOD:#}: {looked}")?;
    } else {
        let places = match report.damage.len() {
            1 => "1 place is damaged".to_owned(),
            n => format!("{n} places are damaged"),
        };
        writeln!(out, "{places}: {looked}")?;
    }
    out.finish()?;
    if !args.read_data && report.damage.is_empty() {
        cx.output.note("`--read-data` checks every byte as well");
    }
    Ok(exit)
}
