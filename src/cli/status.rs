//! `dbelay status`: the live database against its newest snapshot.

use std::io::Write;

use dbelay::ops::capture;
use dbelay::ops::compare::{self, Comparison};
use dbelay::ops::journal;
use dbelay::render::{self, text};
use dbelay::snapshot::changes::TableFate;
use dbelay::snapshot::files::changes::FileCounts;
use dbelay::store::BatchMode;
use serde_json::{Value, json};

use super::output::{ADDED, CHANGED, GOOD, HEADING, REMOVED};
use super::project::{self, Need, Project};
use super::time::{age, number};
use super::verify::drill;
use super::{CliError, Context, Exit, files, log};

const EXAMPLES: &str = "\
Examples:
  dbelay status
  dbelay status --json";

/// How many files are named.
const FILES_SHOWN: usize = 20;

/// Compare the live database with its newest snapshot, and name operations that were left open
///
/// Exits with 1 if the schema was changed since, or an operation was left open.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let source = project.database()?.source.clone();
    let log = project.operations();
    let open = journal::unfinished(&log, &source);
    let holder = project.store.lock_holder()?;
    // While another works on the project its operation is open, and no sign of a crash.
    let open: Vec<_> = if holder.is_some() { Vec::new() } else { open };
    let proven = journal::last_proof(&log, &source);
    let head = project.with(|session| Ok(capture::newest(session)?))?;
    let Some((id, snapshot)) = head else {
        cx.output.say("no snapshot of this database yet; `dbelay snapshot` takes one");
        if cx.output.is_json() {
            cx.output.json(&json!({ "head": null, "lock": holder }))?;
        }
        return Ok(Exit::DONE);
    };
    let (_, state) = project.load(id)?;
    let live = project.with(|session| Ok(compare::live(session, Some(&state), BatchMode::Scratch)?))?;
    let file_changes = {
        let (before, after) = (files::of_snapshot(&project.store, &snapshot)?, project.with(files::live)?);
        files::changes(before.as_ref(), after.as_ref())
    };
    let comparison = Comparison::new(&project.store, &state, &live)?;
    let changed: Vec<_> = comparison.pairs.iter().filter(|pair| !comparison.is_equal(pair)).collect();
    let has_drift = comparison.schema.has_drift();
    let exit = if has_drift || !open.is_empty() { Exit::FOUND } else { Exit::DONE };
    if cx.output.is_json() {
        let tables: Vec<Value> = changed
            .iter()
            .map(
                |pair| json!({ "table": pair.name(), "fate": pair.fate(), "rows_before": pair.rows_before, "rows_after": pair.rows_after }),
            )
            .collect();
        let open: Vec<Value> = open.iter().map(|(index, _, entry)| json!({ "index": index, "entry": entry })).collect();
        cx.output.json(&json!({
            "head": log::document(&id, &snapshot, &[]), "same": live.is_same(&state), "drift": has_drift,
            "last_proven": drill::document(proven.as_ref()), "schema": { "changes": comparison.schema.changes }, "tables": tables,
            "settings": comparison.schema.settings, "unfinished": open, "lock": holder,
            "files": file_changes.as_ref().map(|changes| changes.iter().map(render::files::change).collect::<Vec<_>>()),
        }))?;
        return Ok(exit);
    }
    let mut out = cx.output.out();
    writeln!(out, "HEAD is {} ({}, {})", project::id(&id), log::kind(snapshot.kind), age(project::time(&snapshot), cx.now()))?;
    match &proven {
        Some((id, proof)) => {
            let (when, took) = drill::words(cx, proof);
            writeln!(out, "last proven restorable: {when}, snapshot {}, in {took}", project::id(id))?;
        }
        None => writeln!(out, "last proven restorable: never")?,
    }
    if live.is_same(&state) {
        writeln!(out, "{GOOD}the database is equal to it{GOOD:#}")?;
    }
    if !comparison.schema.is_empty() {
        writeln!(out, "{HEADING}the schema was changed since{HEADING:#}")?;
        for line in comparison.schema.lines() {
            let style = match line.as_bytes().first() {
                Some(b'+') => ADDED,
                Some(b'-') => REMOVED,
                _ => CHANGED,
            };
            writeln!(out, "  {style}{}{style:#}", text::clean(&line))?;
        }
    }
    if !changed.is_empty() {
        writeln!(out, "{HEADING}tables whose rows differ{HEADING:#}")?;
        for pair in changed {
            let rows = match pair.fate() {
                TableFate::Added => format!("{} rows", number(pair.rows_after)),
                TableFate::Removed => format!("had {} rows", number(pair.rows_before)),
                _ if pair.rows_before == pair.rows_after => format!("{} rows", number(pair.rows_after)),
                _ => format!("{} rows, had {}", number(pair.rows_after), number(pair.rows_before)),
            };
            writeln!(out, "  {}  {rows}", text::clean(&text::title(pair)))?;
        }
    }
    match file_changes.as_deref() {
        None => {}
        Some([]) => writeln!(out, "{GOOD}its files are the same{GOOD:#}")?,
        Some(changes) => {
            writeln!(out, "{HEADING}files that differ{HEADING:#}  {}", FileCounts::of(changes).sentence())?;
            for change in changes.iter().take(FILES_SHOWN) {
                let style = match render::files::sign(change) {
                    '+' => ADDED,
                    '-' => REMOVED,
                    _ => CHANGED,
                };
                writeln!(out, "  {style}{} {}{style:#}", render::files::sign(change), render::files::line(change))?;
            }
            if changes.len() > FILES_SHOWN {
                writeln!(out, "  … and {} more", changes.len() - FILES_SHOWN)?;
            }
        }
    }
    out.finish()?;
    if let Some(holder) = holder {
        cx.output.note(format_args!("`dbelay {}` (process {}) works on this project now", holder.command, holder.pid));
    }
    for (index, _, entry) in open {
        let when = super::time::stamp_text(&entry.time);
        let word = entry.kind.word();
        let next = match project.running(*index) {
            Some(running) => format!("its command still runs ({running})"),
            None => "the next command that changes something says what to do".to_owned(),
        };
        cx.output.warn(format_args!("`dbelay {word}` of {when} was interrupted; {next}"));
    }
    Ok(exit)
}
