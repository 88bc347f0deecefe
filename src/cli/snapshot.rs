//! `dbelay snapshot`: takes a snapshot.

use dbelay::ops::capture::{self, Label, Taken};
use dbelay::ops::files::Captured;
use dbelay::ops::journal::{self, Entry, OperationKind, OperationResult, Phase};
use dbelay::snapshot::manifest::SnapshotKind;
use dbelay::store::check_tag_name;
use serde_json::{Value, json};

use super::project::{self, Need, Project};
use super::time::{bytes, counted, number};
use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay snapshot
  dbelay snapshot -m \"before the import\" --tag before-import";

/// Take a snapshot of the database
///
/// A snapshot holds what one committed state of the database holds: schema, rows, sequences, settings. TEMP tables belong to the connection that
/// made them, and a file that a program attaches is a database of its own: neither is part of it.
///
/// The files that `[files]` in dbelay.toml names are read right after the database, and are in the same snapshot.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Why; kept with the snapshot
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Give it this name
    #[arg(long, value_name = "NAME")]
    pub tag: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    if let Some(tag) = &args.tag {
        check_tag_name(tag)?;
    }
    let project = Project::open(cx, Need::Any)?;
    let database = project.database()?.shown();
    if cx.global.dry_run {
        cx.output.say(format_args!("would take a snapshot of `{database}`"));
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "database": database }))?;
        }
        return Ok(Exit::DONE);
    }
    let _lock = project.lock("snapshot")?;
    if let Some(tag) = &args.tag
        && project.store.tags()?.contains_key(tag)
    {
        return Err(CliError::usage(format_args!("there is a tag `{tag}` already"))
            .hint(format_args!("choose another name, or move it: `dbelay tag --force {tag} HEAD`")));
    }
    let taken = project.with(|session| {
        let open = project.settle(session)?;
        let taken = capture::take(session, Label { message: args.message.clone(), ..Label::new(SnapshotKind::Manual) })?;
        for begin in &open {
            journal::settle(session, begin, OperationResult::Kept, Some(taken.id))?;
            cx.output.note(format_args!("what the interrupted `dbelay {}` left is kept as this snapshot", begin.2.kind.word()));
        }
        let mut entry = Entry::new(session, OperationKind::Snapshot, Phase::End);
        (entry.after, entry.result, entry.note) = (Some(taken.id), Some(OperationResult::Done), args.message.clone());
        journal::write(session.store, &entry).map_err(dbelay::ops::OpError::from)?;
        if let Some(tag) = &args.tag {
            session.store.set_tag(tag, &taken.id)?;
        }
        Ok(taken)
    })?;
    if cx.output.is_json() {
        cx.output.json(&document(&taken, args.tag.as_deref()))?;
    } else {
        use std::io::Write;
        let mut out = cx.output.out();
        let tag = args.tag.as_ref().map(|tag| format!(" (tag {tag})")).unwrap_or_default();
        writeln!(out, "snapshot {}{tag} of {}: {}", project::id(&taken.id), database, holds(&taken))?;
        out.finish()?;
    }
    Ok(Exit::DONE)
}

/// Says what a snapshot holds and what it cost.
pub fn holds(taken: &Taken) -> String {
    let new = match taken.stats.objects_new {
        0 => "nothing new to store".to_owned(),
        new => format!("{}, {} stored", counted(new, "new object"), bytes(taken.stats.stored_bytes)),
    };
    let files = taken.files.as_ref().map(|files| format!("; {}", files_held(files))).unwrap_or_default();
    format!("{}, {}; {new}{files}", counted(taken.state.tables.len() as u64, "table"), counted(taken.state.rows(), "row"))
}

/// Says which files a snapshot holds, and what they cost.
fn files_held(captured: &Captured) -> String {
    let stats = &captured.stats;
    let read = match stats.read {
        0 => "none had to be read".to_owned(),
        read => format!("{} read, {} stored", number(read), bytes(stats.objects.stored_bytes)),
    };
    format!("{} ({}), {read}", counted(captured.files.files, "file"), bytes(captured.files.bytes))
}

/// Describes files that were read, for programs.
pub fn files_document(captured: &Captured) -> Value {
    let files = &captured.files;
    json!({
        "id": captured.id, "files": files.files, "folders": files.folders, "links": files.links, "bytes": files.bytes, "stats": captured.stats,
    })
}

/// Describes a snapshot that was taken, for programs.
pub fn document(taken: &Taken, tag: Option<&str>) -> Value {
    json!({
        "id": taken.id,
        "time": taken.snapshot.time,
        "kind": taken.snapshot.kind,
        "message": taken.snapshot.message,
        "tag": tag,
        "tables": taken.state.tables.len(),
        "rows": taken.state.rows(),
        "stats": taken.stats,
        "files": taken.files.as_ref().map(files_document),
    })
}
