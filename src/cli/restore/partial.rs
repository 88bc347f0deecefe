//! `dbelay restore --table`: some rows, with what they refer to.

use std::io::Write;
use std::ops::ControlFlow;

use dbelay::id::ObjectId;
use dbelay::ops::OpError;
use dbelay::ops::capture::{self, Label, State};
use dbelay::ops::journal::{self, Entry, OperationKind, OperationResult, Phase};
use dbelay::ops::partial::write::{Job, OnConflict, Outcome, TableOutcome, write};
use dbelay::ops::partial::{self, Choice, Closure, Link, Rows};
use dbelay::render::text::number;
use dbelay::snapshot::manifest::SnapshotKind;
use dbelay::value::{LARGE_BYTES, Value};
use serde_json::json;

use super::{Args, is_empty};
use crate::cli::database::Database;
use crate::cli::output::{GOOD, HEADING};
use crate::cli::project::Project;
use crate::cli::query::{Hears, ask};
use crate::cli::sql::sql_writer;
use crate::cli::time::counted;
use crate::cli::{CliError, Context, DatabaseState, ErrorKind, Exit};

/// Runs it.
pub fn run(args: &Args, cx: &Context, project: &Project<'_>, id: ObjectId, state: &State, target: &Database) -> Result<Exit, CliError> {
    let choice = choose(args, project, state)?;
    let was_there = target.exists()?;
    let is_new = is_empty(target, was_there)?;
    let is_own = project.database().is_ok_and(|database| database.source == target.source);
    let rows: u64 = choice.tables.iter().map(|(name, rows)| count(state, name, rows)).sum();
    if !cx.output.is_json() {
        show(cx, &choice)?;
    }
    if choice.tables.is_empty() {
        return json_out(cx, id, target, &choice, state, None, "nothing");
    }
    if cx.global.dry_run && is_new {
        cx.output.say(format_args!("would write {} into `{}`", counted(rows, "row"), target.shown()));
        return json_out(cx, id, target, &choice, state, None, "dry_run");
    }
    let _lock = if cx.global.dry_run { None } else { Some(project.lock("restore")?) };
    let on_conflict = if args.overwrite { OnConflict::Overwrite } else { OnConflict::Stop };
    let job = |is_dry| Job { state, store: &project.store, choice: &choice, is_new, on_conflict, is_dry, progress: project.progress() };
    let failed = |error: OpError| CliError::from(error).context("the restore failed; nothing was written").state(DatabaseState::Unchanged);
    let outcome = project.with_database(target, |session| {
        let is_kept = is_own && !is_new && !cx.global.dry_run;
        if is_kept {
            // Looked at first, so that what is refused leaves no snapshot.
            let looked = write(&job(true), &mut *target.open()?).map_err(failed)?;
            let is_stopped = |tables: &[TableOutcome]| tables.iter().any(|table| table.conflicts > 0) && !args.overwrite;
            if let Outcome::Looked(tables) = &looked
                && is_stopped(tables)
            {
                return Ok(looked);
            }
        }
        let label = |kind| Label { message: Some(format!("restore of rows from {}", id.short())), ..Label::new(kind) };
        let safety = if is_kept { Some(capture::take(session, label(SnapshotKind::Safety))?) } else { None };
        let made = if is_new && !(was_there && target.server().is_some()) { target.create(&state.settings) } else { target.open() };
        let mut engine = made?;
        let done = write(&job(cx.global.dry_run), &mut *engine);
        drop(engine);
        if done.is_err() && !was_there {
            // Nothing was committed into what this command made.
            target.discard();
        }
        let outcome = done.map_err(failed)?;
        if let Outcome::Written(_) = &outcome {
            // The rows are there, whatever becomes of the snapshot of them.
            let after = safety.as_ref().map(|_| capture::take(session, label(SnapshotKind::Restored))).transpose();
            let after =
                after.inspect_err(|error| cx.output.warn(format_args!("the snapshot of the new state could not be written: {error}")));
            let mut entry = Entry::new(session, OperationKind::Restore, Phase::End);
            entry.before = Some(safety.as_ref().map_or(id, |taken| taken.id));
            entry.after = after.ok().flatten().map(|taken| taken.id);
            entry.result = Some(OperationResult::Done);
            entry.note = Some(format!("{} of {} to {}", counted(rows, "row"), id.short(), session.source.place));
            journal::write(session.store, &entry).map_err(OpError::from)?;
            if let Some(safety) = safety {
                cx.output.note(format_args!("`dbelay rollback {}` takes it back", safety.id.short()));
            }
        }
        Ok(outcome)
    })?;
    match &outcome {
        Outcome::Looked(tables) if !cx.global.dry_run => Err(conflict(tables, target)),
        Outcome::Looked(tables) => {
            tell(cx, tables, "would insert")?;
            json_out(cx, id, target, &choice, state, Some(tables), "dry_run")
        }
        Outcome::Written(tables) => {
            tell(cx, tables, "inserted")?;
            let inserted = tables.iter().map(|table| table.inserted).sum();
            cx.output.say(format_args!("{GOOD}done{GOOD:#}: {} into `{}`, verified", counted(inserted, "row"), target.shown()));
            json_out(cx, id, target, &choice, state, Some(tables), "done")
        }
    }
}

/// Finds the rows that are asked for, and what they refer to.
fn choose(args: &Args, project: &Project<'_>, state: &State) -> Result<Choice, CliError> {
    let mut asked = Vec::new();
    for written in project.tables(&args.tables, &state.schema) {
        let exact = state.table(&written);
        let found = exact.or_else(|| state.tables.iter().find(|(_, manifest)| manifest.name.eq_ignore_ascii_case(&written)));
        let (_, manifest) = found.ok_or_else(|| OpError::NoTable(written.clone(), "the snapshot".to_owned()))?;
        if !partial::is_restorable(state, &manifest.name) {
            let message = format!("the rows of `{}` belong to something else, and are not restored by themselves", manifest.name);
            return Err(CliError::usage(message).hint("restore the whole snapshot into a new database"));
        }
        let rows = match &args.condition {
            None => Rows::All,
            Some(condition) => {
                let names: Vec<String> = partial::key_columns(manifest)
                    .iter()
                    .map(|&at| format!("\"{}\"", manifest.columns[at].shape.name.replace('"', "\"\"")))
                    .collect();
                let table = sql_writer(&project.source()?, true)?.table(&manifest.name);
                // On a line of its own, so that a comment in it ends with it.
                let sql = format!("SELECT {} FROM {table} WHERE (\n{condition}\n)", names.join(", "));
                let mut keys = Keys(Vec::new());
                ask(project, state, &sql, u64::MAX, &mut keys)
                    .map_err(|error| error.context(format!("the condition `{condition}` is not understood")))?;
                partial::places(manifest, keys.0, &project.store)?
            }
        };
        asked.push((manifest.name.clone(), rows));
    }
    let closure = if args.no_closure { Closure::None } else { Closure::Whole };
    Ok(partial::close(state, &project.store, asked, closure)?)
}

/// The keys of rows, as the snapshot writes them.
struct Keys(Vec<String>);

impl Hears for Keys {
    fn columns(&mut self, _: Vec<String>) {}

    fn row(&mut self, row: Vec<Value>) -> Result<ControlFlow<()>, CliError> {
        let cell = |value: &Value| {
            let json = value.to_json();
            let long = match value {
                Value::Text(bytes) | Value::Blob(bytes) if bytes.len() > LARGE_BYTES => Some(bytes.len() as u64),
                _ => None,
            };
            long.map_or_else(|| json.clone(), |bytes| Value::Large { id: ObjectId::of(json.as_bytes()), bytes }.to_json())
        };
        self.0.push(row.iter().map(cell).collect::<Vec<_>>().join(","));
        Ok(ControlFlow::Continue(()))
    }
}

fn count(state: &State, name: &str, rows: &Rows) -> u64 {
    match rows {
        Rows::All => state.table(name).map_or(0, |(_, manifest)| manifest.rows),
        Rows::Some(places) => places.len() as u64,
    }
}

/// Shows which rows are meant, and why.
fn show(cx: &Context, choice: &Choice) -> Result<(), CliError> {
    let mut out = cx.output.out();
    let words = |link: &Link| format!("`{}`({}) refers to `{}`", link.table, link.columns.join(", "), link.parent);
    for (table, rows) in &choice.asked {
        writeln!(out, "{HEADING}{table}{HEADING:#}: {} asked for", counted(*rows, "row"))?;
    }
    for link in &choice.brought {
        writeln!(out, "{HEADING}{}{HEADING:#}: {} along, since {}", link.parent, counted(link.rows, "row"), words(link))?;
    }
    for link in &choice.left_out {
        let keys = counted(link.rows, "row");
        writeln!(
            out,
            "{HEADING}{}{HEADING:#}: {keys} left out, to which {}",
            link.parent,
            words(link).replace("refers to", "rows refer:")
        )?;
    }
    for link in &choice.orphans {
        cx.output.warn(format_args!("{}, and {} that it names are not in the snapshot either", words(link), counted(link.rows, "row")));
    }
    if choice.tables.is_empty() {
        writeln!(out, "no row is chosen")?;
    }
    Ok(out.finish()?)
}

fn tell(cx: &Context, tables: &[TableOutcome], verb: &str) -> Result<(), CliError> {
    let mut out = cx.output.out();
    for table in tables {
        let equal = if table.equal > 0 { format!(", {} there already", number(table.equal)) } else { String::new() };
        let over = if table.conflicts > 0 { format!(", {} of them over other values", number(table.conflicts)) } else { String::new() };
        writeln!(out, "{}: {verb} {}{over}{equal}", table.table, number(table.inserted))?;
    }
    Ok(out.finish()?)
}

fn conflict(tables: &[TableOutcome], target: &Database) -> CliError {
    let each = |table: &TableOutcome| {
        let more = if table.conflicts > table.examples.len() as u64 { ", ..." } else { "" };
        format!("`{}`: {} ({}{more})", table.table, counted(table.conflicts, "row"), table.examples.join(", "))
    };
    let named: Vec<String> = tables.iter().filter(|table| table.conflicts > 0).map(each).collect();
    let message = format!("`{}` has rows of the same keys with other values, so nothing was written: {}", target.shown(), named.join("; "));
    let mut error = CliError::new(ErrorKind::Failed, message)
        .state(DatabaseState::Unchanged)
        .hint("`--overwrite` puts the snapshot's values over them; `--dry-run` shows what would be written");
    let details = json!({ "tables": tables });
    error.details = details.as_object().cloned();
    error
}

fn json_out(
    cx: &Context,
    id: ObjectId,
    target: &Database,
    choice: &Choice,
    state: &State,
    tables: Option<&[TableOutcome]>,
    result: &str,
) -> Result<Exit, CliError> {
    if cx.output.is_json() {
        let chosen: serde_json::Map<String, serde_json::Value> =
            choice.tables.iter().map(|(name, rows)| (name.clone(), count(state, name, rows).into())).collect();
        cx.output.json(&json!({
            "result": result,
            "dry_run": result == "dry_run",
            "snapshot": id,
            "to": target.source.place,
            "chosen": chosen,
            "brought": choice.brought,
            "left_out": choice.left_out,
            "orphans": choice.orphans,
            "tables": tables,
        }))?;
    }
    Ok(Exit::DONE)
}

/// Refuses options that only make sense together.
pub fn check_options(args: &Args) -> Result<(), CliError> {
    let refuse = |message: &str| Err(CliError::usage(message));
    if args.tables.is_empty() {
        if args.condition.is_some() || (args.overwrite && args.files.is_none()) || args.no_closure {
            return refuse("`--where`, `--overwrite` and `--no-closure` are about the rows of a table, and none is named with `--table`");
        }
    } else if args.condition.is_some() && args.tables.len() > 1 {
        return refuse("`--where` is about one table, and several are named");
    }
    if args.files.is_some() && !args.tables.is_empty() {
        return refuse("`--files` goes with a whole snapshot, and `--table` names a part of it");
    }
    if args.validate_only && args.files.is_some() {
        return refuse("`--validate-only` looks at what is restored into a database, and `--files` writes into a folder");
    }
    if args.validate_only && !args.tables.is_empty() {
        return refuse("`--validate-only` looks at the whole snapshot; `--dry-run` shows what rows would be written");
    }
    Ok(())
}
