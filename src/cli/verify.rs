//! `dbelay verify`: reads everything that snapshots need and holds it against everything that it must fit; with `--drill`, restores them.

pub mod drill;

use std::io::Write;

use dbelay::id::ObjectId;
use dbelay::ops::fsck::{self, Broken, Fates};
use dbelay::ops::inspect::{Look, Loss};
use dbelay::ops::journal::{self, Entry, OperationKind, OperationResult};
use dbelay::render::text;
use dbelay::snapshot::manifest::SourceName;
use serde_json::json;

use super::output::{DIM, ERROR, GOOD};
use super::project::{self, Need, Project};
use super::time::{bytes, counted, stamp_text};
use super::{CliError, Context, Exit};

/// How many losses of one snapshot are printed.
const LOSSES_MAX: usize = 8;

const EXAMPLES: &str = "\
Examples:
  dbelay verify
  dbelay verify HEAD before-import
  dbelay verify --drill";

/// Prove that snapshots are whole; with --drill that they restore
///
/// Reads every object that the snapshots need, and checks that everything in them fits together. --drill restores HEAD, or the snapshots that are named,
/// into a scratch database, compares it with the snapshot, runs the engine's own check, and writes one row into every table. Exits with 1 if anything
/// is damaged.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshots [default: all of this database; with --drill HEAD]
    pub snapshots: Vec<String>,
    /// Those of every database in the store
    #[arg(long, conflicts_with_all = ["snapshots", "drill"])]
    pub all: bool,
    /// Restore into a scratch database, and try it
    #[arg(long)]
    pub drill: bool,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    if args.drill {
        return drill::run(args, &project);
    }
    let ids = chosen(args, &project)?;
    if cx.global.dry_run {
        cx.output.say(format_args!("would verify {}", counted(ids.len() as u64, "snapshot")));
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "snapshots": ids }))?;
        }
        return Ok(Exit::DONE);
    }
    let begun = cx.now();
    let fates = fsck::fates(&project.store, &ids, Look::Everything, project.progress())?;
    let took = (cx.now() - begun).to_std().unwrap_or_default();
    let result = if fates.broken.is_empty() { OperationResult::Done } else { OperationResult::Failed };
    let source = project.source().unwrap_or_else(|_| SourceName { engine: String::new(), place: String::new() });
    let mut entry = project.entry(OperationKind::Verify, source, result);
    let sound = format!("{} whole, {} objects read", counted(fates.whole.len() as u64, "snapshot"), fates.objects);
    entry.note = Some(if fates.broken.is_empty() { sound } else { format!("{}, {} damaged", sound, fates.broken.len()) });
    let is_recorded = record(&project, &entry);
    let exit = if fates.broken.is_empty() { Exit::DONE } else { Exit::FOUND };
    if cx.output.is_json() {
        let broken: Vec<&Broken> = fates.broken.iter().map(|(broken, _)| broken).collect();
        cx.output.json(&json!({
            "sound": broken.is_empty(), "whole": fates.whole, "broken": broken, "objects": fates.objects, "bytes": fates.bytes,
            "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "recorded": is_recorded,
        }))?;
        return Ok(exit);
    }
    tell(cx, &fates, took)?;
    Ok(exit)
}

fn tell(cx: &Context, fates: &Fates, took: std::time::Duration) -> Result<(), CliError> {
    let mut out = cx.output.out();
    for (broken, _) in &fates.broken {
        write_broken(&mut out, broken)?;
    }
    let looked = format!("{} read ({}), in {}", counted(fates.objects, "object"), bytes(fates.bytes), super::time::duration(took));
    let whole = fates.whole.len() as u64;
    if fates.broken.is_empty() {
        writeln!(out, "{GOOD}sound{GOOD:#}: {}; {looked}", counted(whole, "snapshot"))?;
    } else {
        let all = counted(whole + fates.broken.len() as u64, "snapshot");
        writeln!(out, "{whole} of {all} {} whole; {looked}", if whole == 1 { "is" } else { "are" })?;
    }
    out.finish()?;
    if fates.broken.is_empty() && whole > 0 {
        cx.output.note("`--drill` also restores one into a scratch database, and tries it");
    }
    Ok(())
}

/// Prints what a snapshot lost.
pub fn write_broken(out: &mut dyn Write, broken: &Broken) -> Result<(), CliError> {
    let time = broken.time.as_deref().map(|time| format!("  {DIM}{}{DIM:#}", stamp_text(time))).unwrap_or_default();
    writeln!(out, "{ERROR}damaged{ERROR:#}: snapshot {}{time}", project::id(&broken.snapshot))?;
    write_losses(out, &broken.losses)
}

/// Prints losses, some of them where there are many.
pub fn write_losses(out: &mut dyn Write, losses: &[Loss]) -> Result<(), CliError> {
    for loss in losses.iter().take(LOSSES_MAX) {
        writeln!(out, "    {}", text::clean(&loss.to_string()))?;
    }
    if let more @ 1.. = losses.len().saturating_sub(LOSSES_MAX) {
        writeln!(out, "    {DIM}and {more} more{DIM:#}")?;
    }
    Ok(())
}

/// Finds the snapshots that are meant.
fn chosen(args: &Args, project: &Project<'_>) -> Result<Vec<ObjectId>, CliError> {
    if !args.snapshots.is_empty() {
        let mut ids = Vec::new();
        for text in &args.snapshots {
            let id = project.select_snapshot(text)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        return Ok(ids);
    }
    let ids = project.store.snapshot_ids()?;
    if args.all {
        return Ok(ids);
    }
    let source = project.source()?;
    // One that cannot be read may be of this database.
    let is_meant =
        |id: &ObjectId| dbelay::ops::capture::read_snapshot(&project.store, *id).map_or(true, |snapshot| snapshot.source == source);
    Ok(ids.into_iter().filter(is_meant).collect())
}

/// Writes an entry into the operation log; where that cannot be done now, the proof is told and not kept.
fn record(project: &Project<'_>, entry: &Entry) -> bool {
    let written = project.lock("verify").and_then(|_lock| Ok(journal::write(&project.store, entry)?));
    if let Err(error) = &written {
        project.cx.output.warn(format_args!("the result was not written into the operation log: {}", error.error));
    }
    written.is_ok()
}
