//! `dbelay fsck`: checks the store, and says what damage costs.

mod repair;

use std::io::Write;

use dbelay::ops::fsck::{self, Report};
use dbelay::store::{FsckDepth, SHARE_ALL};

use super::output::{DIM, ERROR, GOOD, Out};
use super::project::{Need, Project};
use super::time::{bytes, counted};
use super::verify::write_losses;
use super::{CliError, Context, Exit};

/// How many snapshots that some damage costs are named.
const COSTS_MAX: usize = 6;

const EXAMPLES: &str = "\
Examples:
  dbelay fsck
  dbelay fsck --read-data
  dbelay fsck --read-data --sample 5%
  dbelay fsck --repair --dry-run";

/// Check the store, and name what is damaged and which snapshots it costs
///
/// Exits with 1 if anything is.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Read and verify every object, not only what the index says
    #[arg(long)]
    pub read_data: bool,
    /// Read only so much of the packs; the next time the packs that follow
    #[arg(long, value_name = "N%", requires = "read_data", value_parser = share)]
    pub sample: Option<u32>,
    /// Save what is whole out of a damaged store, and say what is gone; nothing is deleted
    #[arg(long, conflicts_with_all = ["read_data", "sample"])]
    pub repair: bool,
}

/// Reads a share: `5%`, `5`, `0.5%`.
fn share(text: &str) -> Result<u32, String> {
    let percent: f64 = text.trim().trim_end_matches('%').trim_end().parse().map_err(|_| "a share is a number from 0 to 100, with a `%`")?;
    if !(percent > 0.0 && percent <= 100.0) {
        return Err("a share is more than 0% and at most 100%".to_owned());
    }
    // At least one ten-thousandth, and so at least one pack.
    Ok(((percent / 100.0 * f64::from(SHARE_ALL)).round() as u32).clamp(1, SHARE_ALL))
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    if args.repair {
        return repair::run(cx);
    }
    let project = Project::open(cx, Need::Existing)?;
    let depth = match (args.read_data, args.sample) {
        (false, _) => FsckDepth::Structure,
        (true, None) => FsckDepth::ReadData,
        (true, Some(share)) => FsckDepth::Sample(share),
    };
    let report = fsck::fsck(&project.store, depth, project.progress())?;
    let exit = if report.damage.is_empty() { Exit::DONE } else { Exit::FOUND };
    if cx.output.is_json() {
        cx.output.json(&report)?;
        return Ok(exit);
    }
    let mut out = cx.output.out();
    write_report(&mut out, &report, depth)?;
    out.finish()?;
    for stray in &report.strays {
        cx.output.verbose(1, format_args!("`{stray}` is none of the store's files, and ignored"));
    }
    if let count @ 1.. = report.strays.len() as u64 {
        cx.output.note(format_args!(
            "{} in the store's folders {} ignored",
            counted(count, "other file"),
            if count == 1 { "is" } else { "are" }
        ));
    }
    if !report.damage.is_empty() {
        cx.output.note("`dbelay fsck --repair --dry-run` says what can be saved");
    } else if depth == FsckDepth::Structure {
        cx.output.note("`--read-data` checks every byte as well");
    }
    Ok(exit)
}

/// Prints what a check found.
pub fn write_report(out: &mut Out, report: &Report, depth: FsckDepth) -> Result<(), CliError> {
    for told in &report.damage {
        let damage = &told.damage;
        let object = damage.object.map(|id| format!(", object {}", id.short())).unwrap_or_default();
        writeln!(out, "{ERROR}damage{ERROR:#} in {}{object}: {}", damage.path, damage.what)?;
        let is_snapshot = damage.object.is_none() && damage.path.starts_with("snapshots");
        let costs = told.costs.iter().find(|_| is_snapshot).map(|cost| cost.snapshot);
        let broken = report.broken.iter().find(|broken| Some(broken.snapshot) == costs);
        if let Some(broken) = broken {
            write_losses(out, broken.losses.get(1..).unwrap_or_default())?;
            continue;
        }
        for cost in told.costs.iter().take(COSTS_MAX) {
            let tables: Vec<String> = cost.tables.iter().map(|table| format!("`{table}`")).collect();
            let of = if tables.is_empty() { String::new() } else { format!(" {}", tables.join(", ")) };
            writeln!(out, "    {DIM}it costs snapshot {}{of}{DIM:#}", cost.snapshot.short())?;
        }
        if let more @ 1.. = told.costs.len().saturating_sub(COSTS_MAX) {
            writeln!(out, "    {DIM}and {more} snapshots more{DIM:#}")?;
        }
    }
    let read = match depth {
        FsckDepth::Structure => String::new(),
        FsckDepth::ReadData => format!(", {} read", bytes(report.bytes_read)),
        FsckDepth::Sample(_) => {
            let percent = report.bytes_read as f64 * 100.0 / report.bytes.max(1) as f64;
            format!(", {} of {} read ({percent:.1}%)", bytes(report.bytes_read), bytes(report.bytes))
        }
    };
    let looked = format!(
        "{}, {}, {}{read}",
        counted(report.snapshots, "snapshot"),
        counted(report.packs, "pack"),
        counted(report.objects, "object")
    );
    if report.damage.is_empty() {
        writeln!(out, "{GOOD}sound{GOOD:#}: {looked}")?;
        return Ok(());
    }
    let places = match report.damage.len() {
        1 => "1 place is damaged".to_owned(),
        n => format!("{n} places are damaged"),
    };
    writeln!(out, "{places}: {looked}")?;
    let all = counted((report.whole.len() + report.broken.len()) as u64, "snapshot");
    let verb = match (depth, report.whole.len()) {
        (FsckDepth::ReadData, 1) => "restores whole",
        (FsckDepth::ReadData, _) => "restore whole",
        (_, 1) => "has all its objects",
        _ => "have all their objects",
    };
    let ids: Vec<String> = report.whole.iter().take(12).map(|id| id.short()).collect();
    let more = if report.whole.len() > ids.len() { ", ..." } else { "" };
    let named = if ids.is_empty() { String::new() } else { format!(": {}{more}", ids.join(", ")) };
    writeln!(out, "{} of {all} {verb}{named}", report.whole.len())?;
    Ok(())
}
