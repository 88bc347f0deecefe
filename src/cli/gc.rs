//! `dbelay gc`: frees the space of what no snapshot needs.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use dbelay::ops::OpError;
use dbelay::ops::gc::{self, Terms};
use dbelay::ops::journal::{self, Author, Entry, OperationKind, OperationResult, Phase};
use dbelay::snapshot::manifest::SourceName;
use dbelay::store::{GcOutcome, GcPlan, LockGuard, PackAction, PackReason};
use serde_json::{Value, json};

use super::output::{DIM, GOOD};
use super::project::{Need, Project};
use super::time::{bytes, counted, stamp_text};
use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay gc --dry-run
  dbelay gc
  dbelay gc --grace 10m";

/// Free the space of what no snapshot needs
///
/// Packs without anything that is needed are condemned first, and deleted by the first `dbelay gc` after the grace period; packs with
/// much that is not needed, and many small ones, are written anew. Nothing is deleted while another dbelay reads the store.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Delete only what was condemned so long ago, `0` for at once [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    pub grace: Option<Duration>,
}

fn grace(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => humantime::parse_duration(text).map_err(|error| format!("{error}; `10m`, `1h` and `0` are durations")),
    }
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let lock = project.lock("gc")?;
    let terms = Terms { now: cx.now(), grace: args.grace.unwrap_or(gc::GRACE) };
    let plan = gc::plan(&project.store, &lock, terms, project.progress())?;
    if cx.global.dry_run {
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "totals": plan.totals, "packs": plan.packs }))?;
        } else {
            print_plan(cx, &plan)?;
        }
        return Ok(Exit::DONE);
    }
    let document = execute(&project, &lock, &plan)?;
    if cx.output.is_json() {
        cx.output.json(&document)?;
    }
    Ok(Exit::DONE)
}

/// Frees what can be freed after snapshots were forgotten; returns what there is to tell of it to programs.
///
/// # Errors
/// Those of `dbelay gc`; what was forgotten stays so.
pub fn prune(project: &Project<'_>, lock: &LockGuard) -> Result<Value, CliError> {
    let terms = Terms { now: project.cx.now(), grace: gc::GRACE };
    let plan = gc::plan(&project.store, lock, terms, project.progress())?;
    execute(project, lock, &plan)
}

fn execute(project: &Project<'_>, lock: &LockGuard, plan: &GcPlan) -> Result<Value, CliError> {
    let outcome = gc::execute(&project.store, lock, plan, project.progress())?;
    if outcome.has_changed() {
        note(project, &outcome)?;
    }
    if !project.cx.output.is_json() {
        print_outcome(project.cx, plan, &outcome)?;
    }
    Ok(json!({ "dry_run": false, "totals": plan.totals, "packs": plan.packs, "outcome": outcome }))
}

/// Writes into the operation log what was done.
fn note(project: &Project<'_>, outcome: &GcOutcome) -> Result<(), CliError> {
    let environment = &project.cx.environment;
    let source = project.source().unwrap_or_else(|_| SourceName { engine: String::new(), place: String::new() });
    let author = Author { user: environment.user.clone(), host: environment.host.clone(), pid: environment.pid };
    let time = project.cx.now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let words = format!(
        "{} written, {} condemned, {} deleted ({})",
        counted(outcome.written, "pack"),
        counted(outcome.condemned, "pack"),
        counted(outcome.deleted, "pack"),
        bytes(outcome.deleted_bytes)
    );
    let entry =
        Entry { result: Some(OperationResult::Done), note: Some(words), ..Entry::by(&author, source, time, OperationKind::Gc, Phase::End) };
    journal::write(&project.store, &entry).map_err(OpError::from)?;
    Ok(())
}

/// Returns what is done with a pack, and why.
fn words(action: PackAction, reason: PackReason) -> &'static str {
    match (action, reason) {
        (PackAction::Keep, PackReason::Damaged) => "left alone, since it cannot be read",
        (PackAction::Keep, _) => "kept: all or nearly all of it is needed",
        (PackAction::Repack, PackReason::Small) => "written anew: small ones are merged",
        (PackAction::Repack, _) => "written anew: too much of it is not needed",
        (PackAction::Drop, _) => "given up: nothing in it is needed",
    }
}

/// Prints a plan: what becomes of the packs by reason; with `-v` each of them.
fn print_plan(cx: &Context, plan: &GcPlan) -> Result<(), CliError> {
    let mut out = cx.output.out();
    let mut groups: BTreeMap<(PackAction, PackReason), (u64, u64)> = BTreeMap::new();
    for pack in &plan.packs {
        let (count, size) = groups.entry((pack.action, pack.reason)).or_default();
        *count += 1;
        *size += pack.bytes;
    }
    for ((action, reason), (count, size)) in &groups {
        writeln!(out, "{:>12} {:>10}  {}", counted(*count, "pack"), bytes(*size), words(*action, *reason))?;
        let mut packs: Vec<_> = plan.packs.iter().filter(|pack| (pack.action, pack.reason) == (*action, *reason)).collect();
        packs.sort_by_key(|pack| pack.pack);
        for pack in packs.iter().filter(|_| cx.global.verbose > 0) {
            let condemned = pack.condemned.as_deref().map(|time| format!(", condemned {}", stamp_text(time))).unwrap_or_default();
            writeln!(
                out,
                "             {DIM}{}  {} needed ({}), {} not ({}){condemned}{DIM:#}",
                pack.pack.short(),
                pack.live,
                bytes(pack.live_bytes),
                pack.dead,
                bytes(pack.dead_bytes)
            )?;
        }
    }
    let totals = &plan.totals;
    writeln!(
        out,
        "{} of {} would be freed; {} would be written anew, {} deleted by this run",
        bytes(totals.freed_bytes),
        bytes(totals.bytes),
        bytes(totals.repacked_bytes),
        match totals.due {
            0 => "nothing".to_owned(),
            due => counted(due, "pack"),
        }
    )?;
    out.finish()?;
    Ok(())
}

fn print_outcome(cx: &Context, plan: &GcPlan, outcome: &GcOutcome) -> Result<(), CliError> {
    let mut out = cx.output.out();
    if outcome.written > 0 {
        writeln!(
            out,
            "{} written ({}) with what is needed of {}",
            counted(outcome.written, "pack"),
            bytes(outcome.written_bytes),
            counted(plan.totals.repacked, "pack")
        )?;
    }
    if outcome.deleted > 0 {
        writeln!(out, "{GOOD}{} freed{GOOD:#}: {} deleted", bytes(outcome.deleted_bytes), counted(outcome.deleted, "pack"))?;
    }
    if outcome.waiting > 0 {
        writeln!(out, "{} condemned ({}), still there", counted(outcome.waiting, "pack"), bytes(outcome.waiting_bytes))?;
    }
    if !outcome.has_changed() && outcome.waiting == 0 {
        writeln!(out, "nothing to free: {} in {}", bytes(plan.totals.bytes), counted(plan.totals.packs, "pack"))?;
    }
    out.finish()?;
    if outcome.is_held {
        cx.output.note("another dbelay reads the store, so nothing was deleted; `dbelay gc` deletes it when that has ended");
    } else if let Some(until) = &outcome.waiting_until {
        cx.output.note(format_args!("`dbelay gc` deletes them after {}", stamp_text(until)));
    }
    for pack in &outcome.damaged {
        cx.output.warn(format_args!("pack {} is damaged and was left alone; `dbelay fsck --read-data` says what of it is", pack.short()));
    }
    Ok(())
}
