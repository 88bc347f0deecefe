//! `dbelay show`: what a snapshot holds.

use std::collections::HashSet;
use std::io::Write;

use dbelay::id::ObjectId;
use dbelay::ops::capture::State;
use dbelay::ops::{compare, journal};
use dbelay::render::text;
use dbelay::schema::{ObjectKind, TableKind};
use dbelay::snapshot::files::EntryKind;
use dbelay::snapshot::select::Target;
use dbelay::store::BatchMode;
use serde_json::{Value, json};

use super::output::{DIM, HEADING};
use super::project::{self, Need, Project};
use super::table::{Align, Table};
use super::time::{bytes, counted, number, stamp};
use super::verify::drill;
use super::{CliError, Context, Exit, files, log};

const EXAMPLES: &str = "\
Examples:
  dbelay show HEAD
  dbelay show pre --schema
  dbelay show HEAD --files
  dbelay show @{yesterday} --json";

/// Show what a snapshot holds: tables, rows, schema, size, and what made it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: live, HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    #[arg(default_value = "HEAD")]
    pub snapshot: String,
    /// Only the schema, as a script
    #[arg(long)]
    pub schema: bool,
    /// Only the files beside the database, one a line
    #[arg(long, conflicts_with = "schema")]
    pub files: bool,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    if args.files {
        return list_files(&project, &args.snapshot);
    }
    let (id, snapshot, state) = match project.select(&args.snapshot)? {
        Target::Snapshot(id) => {
            let (snapshot, state) = project.load(id)?;
            (Some(id), Some(snapshot), state)
        }
        Target::Live => (None, None, project.with(|session| Ok(compare::live(session, None, BatchMode::IdsOnly)?))?),
    };
    if args.schema && !cx.output.is_json() {
        let mut out = cx.output.paged();
        out.write_all(state.schema.script().as_bytes())?;
        out.finish()?;
        return Ok(Exit::DONE);
    }
    let files = match &snapshot {
        Some(snapshot) => files::of_snapshot(&project.store, snapshot)?,
        None => project.with(files::live)?,
    };
    let files = files.map(|files| files.files);
    let tags: Vec<String> = project.tags()?.into_iter().filter(|(_, tagged)| Some(*tagged) == id).map(|(name, _)| name).collect();
    let is_pinned = |id: &ObjectId| -> Result<bool, CliError> { Ok(project.store.pins()?.contains(id)) };
    let proven = id.and_then(|id| journal::proofs(&project.operations()).remove(&id));
    if cx.output.is_json() {
        let mut document = match (&id, &snapshot) {
            (Some(id), Some(snapshot)) => log::document(id, snapshot, &tags),
            _ => json!({ "id": null }),
        };
        if let Some(id) = &id {
            document["pinned"] = json!(is_pinned(id)?);
        }
        document["proven"] = json!(proven);
        document["tables"] = tables(&state);
        document["settings"] = json!(state.settings);
        document["files"] = json!(files);
        document["schema"] = json!({ "id": state.schema_id, "objects": state.schema.objects });
        cx.output.json(&document)?;
        return Ok(Exit::DONE);
    }
    let mut out = cx.output.paged();
    match (&id, &snapshot) {
        (Some(id), Some(snapshot)) => {
            let mut line = |name: &str, value: &str| {
                if value.is_empty() { Ok(()) } else { writeln!(out, "{DIM}{name:<9}{DIM:#}{}", text::clean(value)) }
            };
            line("snapshot", &id.to_string())?;
            line("kind", log::kind(snapshot.kind))?;
            line("taken", &stamp(project::time(snapshot)))?;
            line("of", &snapshot.source.place)?;
            line("tags", &tags.join(", "))?;
            line("pinned", if is_pinned(id)? { "yes: it is never forgotten" } else { "" })?;
            line("message", snapshot.message.as_deref().unwrap_or_default())?;
            line("command", &snapshot.origin.command.join(" "))?;
            let by = [snapshot.origin.user.as_str(), snapshot.origin.host.as_str()].join("@");
            line("by", &format!("{} with dbelay {}", by.trim_matches('@'), snapshot.origin.dbelay))?;
            line("git", &snapshot.origin.git.as_ref().map(dbelay::snapshot::manifest::GitPosition::words).unwrap_or_default())?;
            let parent = snapshot.parent.map(|parent| match project.store.has_snapshot(&parent) {
                true => parent.short(),
                false => format!("{}, which is no longer there", parent.short()),
            });
            line("parent", &parent.unwrap_or_default())?;
            let proven = proven.as_ref().map(|proof| drill::words(cx, proof)).map(|(when, took)| format!("restorable {when}, in {took}"));
            line("proven", &proven.unwrap_or_default())?;
        }
        _ => writeln!(out, "the live database")?,
    }
    let json_bytes: u64 = state.tables.iter().map(|(_, manifest)| manifest.bytes).sum();
    let count = |kind| state.schema.objects.iter().filter(|object| object.kind == kind && object.sql.is_some()).count() as u64;
    writeln!(
        out,
        "{DIM}holds    {DIM:#}{}, {}, {}, {}; {} in {} of JSON",
        counted(state.tables.len() as u64, "table"),
        // The plural of index is not what counting would make of it.
        match count(ObjectKind::Index) {
            1 => "1 index".to_owned(),
            n => format!("{} indexes", number(n)),
        },
        counted(count(ObjectKind::View), "view"),
        counted(count(ObjectKind::Trigger), "trigger"),
        counted(state.rows(), "row"),
        bytes(json_bytes)
    )?;
    if let Some(files) = &files {
        writeln!(out, "{DIM}files    {DIM:#}{}", files::held(files))?;
    }
    for (name, setting) in state.settings.iter().filter(|(_, setting)| setting.value != "0") {
        writeln!(out, "{DIM}setting  {DIM:#}{name} = {}", text::clean(&setting.value))?;
    }
    writeln!(out)?;
    let mut table = Table::new(&[Align::Left, Align::Right, Align::Right, Align::Left]);
    table.line(HEADING, ["table", "rows", "JSON", ""]);
    for (_, manifest) in &state.tables {
        let note = match state.schema.table(&manifest.name).map(|table| &table.kind) {
            Some(TableKind::Shadow { of }) => format!("of {of}"),
            Some(TableKind::Internal) => "the database's own".to_owned(),
            _ => String::new(),
        };
        table.line(anstyle::Style::new(), [manifest.name.clone(), number(manifest.rows), bytes(manifest.bytes), note]);
    }
    table.write("", &mut out)?;
    out.finish()?;
    Ok(Exit::DONE)
}

/// Lists the files of a state, as `ls -l` does.
fn list_files(project: &Project<'_>, name: &str) -> Result<Exit, CliError> {
    let (id, files) = match project.select(name)? {
        Target::Snapshot(id) => (Some(id), files::of_snapshot(&project.store, &project.load(id)?.0)?),
        Target::Live => (None, project.with(files::live)?),
    };
    let entries = files.as_ref().map(|files| files.listing.entries.as_slice()).unwrap_or_default();
    if project.cx.output.is_json() {
        let list: Vec<Value> = entries.iter().map(dbelay::render::files::entry).collect();
        project.cx.output.json(&json!({ "id": id, "files": files.as_ref().map(|files| &files.files), "entries": list }))?;
        return Ok(Exit::DONE);
    }
    let mut out = project.cx.output.paged();
    let mut table = Table::new(&[Align::Left, Align::Right, Align::Left, Align::Left]);
    for entry in entries {
        let mode = entry.mode.map(|mode| format!("{mode:03o}")).unwrap_or_default();
        let time = entry.mtime.map(|mtime| stamp(chrono::DateTime::from_timestamp_nanos(mtime))).unwrap_or_default();
        let path = match (entry.kind, &entry.target) {
            (EntryKind::Dir, _) => format!("{}/", entry.path),
            (_, Some(target)) => format!("{} -> {target}", entry.path),
            _ => entry.path.to_string(),
        };
        let size = if entry.kind == EntryKind::File { number(entry.size) } else { String::new() };
        table.line(anstyle::Style::new(), [mode, size, time, path]);
    }
    table.write("", &mut out)?;
    out.finish()?;
    match &files {
        Some(files) => project.cx.output.say(format_args!("{DIM}{}{DIM:#}", files::held(&files.files))),
        None => project.cx.output.say(format_args!("{name} holds no files; `[files]` in dbelay.toml names those that are kept")),
    }
    Ok(Exit::DONE)
}

fn tables(state: &State) -> Value {
    let tables: Vec<Value> = state
        .tables
        .iter()
        .map(|(id, manifest)| {
            let columns: Vec<&str> = manifest.columns.iter().filter(|c| !c.shape.hidden).map(|c| c.shape.name.as_str()).collect();
            let key: HashSet<&str> =
                manifest.identity.iter().map(|&at| &manifest.columns[at].shape).filter(|c| !c.hidden).map(|c| c.name.as_str()).collect();
            let mut key: Vec<&str> = key.into_iter().collect();
            key.sort_unstable();
            json!({ "name": manifest.name, "rows": manifest.rows, "bytes": manifest.bytes, "manifest": id, "columns": columns, "key": key })
        })
        .collect();
    json!(tables)
}

/// Renders an id that may be missing.
pub fn short(id: Option<ObjectId>) -> String {
    id.map(|id| id.short()).unwrap_or_default()
}
