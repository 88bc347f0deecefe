//! `dbelay verify --drill`: restores snapshots into scratch databases, and tries these.

use std::io::Write;

use dbelay::engine::TrialOutcome;
use dbelay::id::ObjectId;
use dbelay::ops::drill::{self, Drill};
use dbelay::ops::journal::{OperationKind, OperationResult, Proof};
use dbelay::render::text;
use serde_json::{Value, json};

use super::{Args, record};
use crate::cli::database::Database;
use crate::cli::output::{DIM, ERROR, GOOD};
use crate::cli::project::{self, Project, parse_url};
use crate::cli::rehearse::{self, Stage};
use crate::cli::time::{age, counted};
use crate::cli::{CliError, Context, Exit};

/// How many times as many bytes as a snapshot's JSON has may be needed for its database.
const ROOM_FACTOR: u64 = 2;

/// Runs the command.
pub fn run(args: &Args, project: &Project<'_>) -> Result<Exit, CliError> {
    let cx = project.cx;
    let wanted: Vec<String> = if args.snapshots.is_empty() { vec!["HEAD".to_owned()] } else { args.snapshots.clone() };
    let mut ids: Vec<ObjectId> = Vec::new();
    for text in &wanted {
        let id = project.select_snapshot(text)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if cx.global.dry_run {
        cx.output.say(format_args!("would restore {} into a scratch database", counted(ids.len() as u64, "snapshot")));
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "snapshots": ids }))?;
        }
        return Ok(Exit::DONE);
    }
    rehearse::tidy(project);
    let mut documents = Vec::new();
    let mut exit = Exit::DONE;
    for id in ids {
        let drill = play(project, id)?;
        let mut entry = project.entry(OperationKind::Verify, project.source()?, OperationResult::Done);
        entry.after = Some(id);
        entry.drill = Some(drill.drilled);
        if !drill.is_proof() {
            entry.result = Some(OperationResult::Failed);
            entry.note = drill.failures.first().cloned();
            exit = Exit::FOUND;
        }
        let is_recorded = record(project, &entry);
        tell(cx, id, &drill)?;
        let mut document = json!(drill);
        document["snapshot"] = json!(id);
        document["proven"] = json!(drill.is_proof());
        document["recorded"] = json!(is_recorded);
        documents.push(document);
    }
    if cx.output.is_json() {
        cx.output.json(&json!({ "sound": exit == Exit::DONE, "drills": documents }))?;
    }
    Ok(exit)
}

/// Restores one snapshot. Whatever comes of it, the scratch database is gone afterwards.
fn play(project: &Project<'_>, id: ObjectId) -> Result<Drill, CliError> {
    let (snapshot, state) = project.load(id)?;
    let database = match project.known_database() {
        Some(database) => database.clone(),
        // A file can be made without the real one being there.
        None => Database::of(project.cx, &parse_url(project.cx, &snapshot.source.place)?, project.config.as_ref())?,
    };
    let bytes: u64 = state.tables.iter().map(|(_, manifest)| manifest.bytes).sum();
    let stage = Stage::bare(project.cx, &database, bytes.saturating_mul(ROOM_FACTOR))?;
    let context = "the drill failed; it shows nothing of the snapshot";
    project.with_database(stage.database(), |scratch| drill::run(scratch, &state).map_err(|error| CliError::from(error).context(context)))
}

fn tell(cx: &Context, id: ObjectId, drill: &Drill) -> Result<(), CliError> {
    let drilled = &drill.drilled;
    let mut out = cx.output.out();
    let took = |ms: u64| crate::cli::time::duration(std::time::Duration::from_millis(ms));
    if drill.is_proof() {
        writeln!(
            out,
            "{GOOD}proven{GOOD:#}: snapshot {} restores, in {} ({}, compared by ids)",
            project::id(&id),
            took(drilled.restored_ms),
            counted(drilled.rows, "row")
        )?;
    } else {
        writeln!(out, "{ERROR}not proven{ERROR:#}: snapshot {}", project::id(&id))?;
        for failure in &drill.failures {
            writeln!(out, "    {}", text::clean(failure))?;
        }
    }
    let of = counted(drilled.tables, "table");
    match drilled.tables {
        0 => writeln!(out, "{DIM}    it has no tables to write into{DIM:#}")?,
        _ => writeln!(out, "{DIM}    a row written into {} of {of}, and taken back; all in {}{DIM:#}", drilled.written, took(drilled.ms))?,
    }
    for trial in &drill.trials {
        if let TrialOutcome::NotWritten(why) = &trial.outcome {
            writeln!(out, "{DIM}    not written: `{}`: {}{DIM:#}", text::clean(&trial.table), text::clean(why))?;
        }
    }
    out.finish()?;
    for finding in drill.findings.iter().filter(|finding| finding.check != "integrity") {
        cx.output.note(format_args!("{} (so does the snapshot)", text::clean(&finding.message)));
    }
    for limit in &drill.limits {
        cx.output.note(limit);
    }
    Ok(())
}

/// Says when a snapshot was last proven restorable, and how long it took.
pub fn words(cx: &Context, proof: &Proof) -> (String, String) {
    let when = chrono::DateTime::parse_from_rfc3339(&proof.time).map_or_else(|_| proof.time.clone(), |time| age(time.to_utc(), cx.now()));
    (when, crate::cli::time::duration(std::time::Duration::from_millis(proof.drill.restored_ms)))
}

/// Describes the last proof for programs.
pub fn document(proven: Option<&(ObjectId, Proof)>) -> Value {
    proven.map_or(Value::Null, |(id, proof)| {
        let mut document = json!(proof);
        document["snapshot"] = json!(id);
        document
    })
}
