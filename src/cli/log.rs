//! `dbelay log`: snapshots, newest first.

use std::collections::HashMap;
use std::io::Write;

use dbelay::id::ObjectId;
use dbelay::ops::{capture, journal};
use dbelay::render::text;
use dbelay::snapshot::manifest::{Snapshot, SnapshotKind};
use serde_json::{Value, json};

use super::cat::find_row;
use super::output::{DIM, GOOD, Out};
use super::project::{self, Need, Project};
use super::time::{age, counted, stamp};
use super::verify::drill;
use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay log --oneline -n 10
  dbelay log users
  dbelay log users 1042";

/// List snapshots, newest first; with a table or a key only those that changed it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print at most so many
    #[arg(short = 'n', long = "number", value_name = "N")]
    pub number: Option<usize>,
    /// One line a snapshot
    #[arg(long)]
    pub oneline: bool,
    /// Only snapshots in which this table changed
    pub table: Option<String>,
    /// Only snapshots in which the row with this primary key changed
    pub key: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let source = project.source().ok();
    let mut snapshots: Vec<(ObjectId, Snapshot)> = capture::snapshots(&project.store)?
        .into_iter()
        .filter(|(_, snapshot)| source.as_ref().is_none_or(|source| snapshot.source == *source))
        .collect();
    if let Some(table) = &args.table {
        snapshots = changed(&project, snapshots, table, args.key.as_deref())?;
    }
    snapshots.reverse();
    snapshots.truncate(args.number.unwrap_or(usize::MAX));
    let mut tags: HashMap<ObjectId, Vec<String>> = HashMap::new();
    for (name, id) in project.tags()? {
        tags.entry(id).or_default().push(name);
    }
    let tags = |id: &ObjectId| tags.get(id).cloned().unwrap_or_default();
    let pins = project.store.pins()?;
    let proofs = journal::proofs(&project.operations());
    if cx.output.is_json() {
        let describe = |(id, snapshot): &(ObjectId, Snapshot)| {
            let mut document = document(id, snapshot, &tags(id));
            document["pinned"] = json!(pins.contains(id));
            document["proven"] = json!(proofs.get(id));
            document
        };
        let list: Vec<Value> = snapshots.iter().map(describe).collect();
        cx.output.json(&json!({ "snapshots": list }))?;
        return Ok(Exit::DONE);
    }
    if snapshots.is_empty() {
        cx.output.say("no snapshots");
    }
    let mut out = cx.output.paged();
    for (id, snapshot) in &snapshots {
        let proven = proofs.get(id).map(|proof| format!("  {DIM}proven restorable {}{DIM:#}", drill::words(cx, proof).0));
        let marks = Marks { tags: tags(id), is_pinned: pins.contains(id), proven: proven.unwrap_or_default() };
        write_entry(&mut out, cx, id, snapshot, &marks, args.oneline)?;
    }
    out.finish()?;
    Ok(Exit::DONE)
}

/// Keeps the snapshots in which a table, or a row of it, is not what it was in the one before.
fn changed(
    project: &Project<'_>,
    snapshots: Vec<(ObjectId, Snapshot)>,
    table: &str,
    key: Option<&str>,
) -> Result<Vec<(ObjectId, Snapshot)>, CliError> {
    let mut kept = Vec::new();
    let mut before: Option<(Option<ObjectId>, Option<String>)> = None;
    let mut is_known = false;
    for (id, snapshot) in snapshots {
        let find = |name: &str| snapshot.tables.iter().find(|entry| entry.name.eq_ignore_ascii_case(name));
        let entry = find(project.name(table, |name| find(name).is_some()));
        is_known |= entry.is_some();
        let manifest = entry.map(|entry| entry.manifest);
        let now = match (&before, key, manifest) {
            (Some((known, row)), Some(_), Some(_)) if *known == manifest => (manifest, row.clone()),
            (_, Some(key), Some(id)) => {
                let read = serde_json::from_slice(&project.store.get(&id)?)?;
                (manifest, find_row(project, &read, key)?.map(|row| row.join(",")))
            }
            _ => (manifest, None),
        };
        let differs = match (&before, key) {
            (None, None) => now.0.is_some(),
            (None, Some(_)) => now.1.is_some(),
            (Some(before), None) => before.0 != now.0,
            (Some(before), Some(_)) => before.1 != now.1,
        };
        if differs {
            kept.push((id, snapshot));
        }
        before = Some(now);
    }
    if !is_known {
        return Err(dbelay::ops::OpError::NoTable(table.to_owned(), "any snapshot".to_owned()).into());
    }
    Ok(kept)
}

/// Returns a kind's word.
pub fn kind(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Manual => "manual",
        SnapshotKind::Pre => "pre",
        SnapshotKind::Post => "post",
        SnapshotKind::Failed => "failed",
        SnapshotKind::Safety => "safety",
        SnapshotKind::Restored => "restored",
    }
}

/// Describes a snapshot for programs.
pub fn document(id: &ObjectId, snapshot: &Snapshot, tags: &[String]) -> Value {
    let rows: u64 = snapshot.tables.iter().map(|table| table.rows).sum();
    json!({
        "id": id, "time": snapshot.time, "kind": snapshot.kind, "message": snapshot.message, "parent": snapshot.parent, "tags": tags,
        "source": snapshot.source, "tables": snapshot.tables.len(), "rows": rows, "origin": snapshot.origin,
    })
}

/// What is known of a snapshot besides what it holds.
struct Marks {
    tags: Vec<String>,
    is_pinned: bool,
    /// In words: when it was last proven restorable.
    proven: String,
}

fn write_entry(out: &mut Out, cx: &Context, id: &ObjectId, snapshot: &Snapshot, marks: &Marks, oneline: bool) -> Result<(), CliError> {
    let proven = &marks.proven;
    let time = project::time(snapshot);
    let tag = if marks.tags.is_empty() { String::new() } else { format!(" {GOOD}({}){GOOD:#}", marks.tags.join(", ")) };
    let tag = if marks.is_pinned { format!("{tag} {GOOD}[pinned]{GOOD:#}") } else { tag };
    let rows: u64 = snapshot.tables.iter().map(|table| table.rows).sum();
    let kind = kind(snapshot.kind);
    let holds = format!("{}, {}", counted(snapshot.tables.len() as u64, "table"), counted(rows, "row"));
    let said = snapshot.message.clone().or_else(|| (!snapshot.origin.command.is_empty()).then(|| snapshot.origin.command.join(" ")));
    let said = said.map(|said| text::clean(&said)).unwrap_or_default();
    let branch = snapshot.origin.git.as_ref().and_then(|git| git.branch.as_deref());
    let branch = branch.map(|branch| format!("  {DIM}on {}{DIM:#}", text::clean(branch))).unwrap_or_default();
    if oneline {
        writeln!(
            out,
            "{} {DIM}{}{DIM:#} {kind:<8} {holds}{tag}{branch}{proven}{}{said}",
            project::id(id),
            stamp(time),
            if said.is_empty() { "" } else { "  " }
        )?;
        return Ok(());
    }
    writeln!(out, "{} {kind}{tag}  {}  {DIM}{}{DIM:#}{branch}{proven}", project::id(id), stamp(time), age(time, cx.now()))?;
    if !said.is_empty() {
        writeln!(out, "    {said}")?;
    }
    writeln!(out, "    {DIM}{holds}{DIM:#}")?;
    Ok(())
}
