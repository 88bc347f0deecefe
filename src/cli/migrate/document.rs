//! A migration as a JSON document: every field is there, whatever happened.

use std::time::Duration;

use dbelay::ops::journal::OperationResult;
use dbelay::ops::migrate::{Aftermath, CommandEnd, CommandExit, Outcome};
use dbelay::ops::rehearse::Rehearsal;
use dbelay::ops::verdict::TableChange;
use dbelay::render::text;
use serde_json::{Map, Value, json};

/// Describes a migration for programs.
pub(super) fn document(outcome: &Outcome, rehearsed: Option<&Rehearsal>) -> Map<String, Value> {
    let result = match (&outcome.aftermath, outcome.result) {
        (Aftermath::Unchanged, _) => "unchanged",
        (_, OperationResult::Done) => "done",
        (_, OperationResult::RolledBack) => "rolled_back",
        _ => "kept",
    };
    let seconds = |duration: Duration| duration.as_secs_f64();
    let after = outcome.after.as_ref().map(|(id, _)| *id);
    let mut document = Map::new();
    document.insert("result".to_owned(), json!(result));
    document.insert("pre".to_owned(), json!(outcome.pre.id));
    document.insert("command".to_owned(), command_document(&outcome.end));
    document.insert((if outcome.result == OperationResult::RolledBack { "failed" } else { "post" }).to_owned(), json!(after));
    document.insert("events".to_owned(), json!(outcome.events));
    let durations = &outcome.durations;
    let timings = json!({ "prepare": seconds(durations.prepare), "judge": seconds(durations.judge), "settle": seconds(durations.settle) });
    document.insert("seconds".to_owned(), timings);
    document.extend(aftermath_document(&outcome.aftermath));
    document.insert("files".to_owned(), crate::cli::files::migration_document(outcome));
    if let Some(rehearsal) = rehearsed {
        document.insert("rehearsal".to_owned(), rehearsal_document(rehearsal));
    }
    document
}

pub(super) fn rehearsal_timings(rehearsal: &Rehearsal) -> [(&'static str, Duration); 3] {
    [
        ("rehearsal: scratch copy", rehearsal.made_in),
        ("rehearsal: command", rehearsal.end.duration),
        ("rehearsal: verdict", rehearsal.judged_in),
    ]
}

fn command_document(end: &CommandEnd) -> Value {
    let (code, signal) = match end.exit {
        CommandExit::Code(code) => (Some(code), None),
        CommandExit::Signal(signal) => (None, Some(signal)),
        CommandExit::Unknown => (None, None),
    };
    json!({
        "exit": code, "signal": signal, "interrupted": end.is_interrupted, "timed_out": end.is_timed_out,
        "seconds": end.duration.as_secs_f64(),
    })
}

pub(super) fn rehearsal_document(rehearsal: &Rehearsal) -> Value {
    let mut document = aftermath_document(&rehearsal.aftermath);
    document.insert("fine".to_owned(), json!(rehearsal.is_fine()));
    document.insert("command".to_owned(), command_document(&rehearsal.end));
    document.insert("scratch_touched".to_owned(), json!(rehearsal.is_scratch_touched));
    document.insert("real_untouched".to_owned(), json!(rehearsal.is_real_untouched));
    let timings = json!({ "make": rehearsal.made_in.as_secs_f64(), "judge": rehearsal.judged_in.as_secs_f64() });
    document.insert("seconds".to_owned(), timings);
    Value::Object(document)
}

/// Describes what a command did, with every field whatever that was.
fn aftermath_document(aftermath: &Aftermath) -> Map<String, Value> {
    let mut document = Map::new();
    let (mut schema, mut tables, mut losses, mut guards) = (json!({ "changes": [], "settings": [] }), Vec::new(), json!([]), json!([]));
    let (mut moved, mut remarks) = (json!([]), json!([]));
    if let Aftermath::Changed(judgement) = aftermath {
        schema = json!({ "changes": judgement.schema.changes, "settings": judgement.schema.settings });
        tables = judgement.verdict.changes.iter().map(table_document).collect();
        losses = json!(judgement.verdict.losses);
        moved = json!(judgement.verdict.moved);
        remarks = json!(judgement.verdict.remarks);
        guards = json!(judgement.guards);
    }
    document.insert("schema".to_owned(), schema);
    document.insert("tables".to_owned(), json!(tables));
    document.insert("losses".to_owned(), losses);
    document.insert("moved".to_owned(), moved);
    document.insert("remarks".to_owned(), remarks);
    document.insert("guards".to_owned(), guards);
    document
}

fn table_document(change: &TableChange) -> Value {
    let columns = text::columns_touched(&change.pair, &change.counts);
    json!({
        "table": change.pair.name(), "fate": change.pair.fate(), "added": change.counts.added, "removed": change.counts.removed,
        "changed": change.counts.changed, "renumbered": change.counts.renumbered, "columns_changed": columns, "ledger": change.is_ledger,
        "rows_before": change.pair.rows_before, "entries": change.entries,
    })
}
