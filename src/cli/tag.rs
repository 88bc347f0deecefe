//! `dbelay tag`: names for snapshots.

use std::io::Write;

use dbelay::id::ObjectId;
use dbelay::ops::journal::{self, Entry, OperationKind, OperationResult, Phase};
use serde_json::{Value, json};

use super::project::{self, Need, Project};
use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay tag
  dbelay tag release-4 HEAD~1
  dbelay tag --delete release-4";

/// Name a snapshot, or list the names
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The name
    #[arg(conflicts_with = "delete")]
    pub name: Option<String>,
    /// Which snapshot [default: HEAD]
    #[arg(requires = "name")]
    pub snapshot: Option<String>,
    /// Remove a name; the snapshot stays
    #[arg(long, value_name = "NAME")]
    pub delete: Option<String>,
    /// Move a name that exists already
    #[arg(long, requires = "name")]
    pub force: bool,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let tags = project.store.tags()?;
    if let Some(name) = &args.delete {
        let _lock = project.lock("tag")?;
        let Some(id) = tags.get(name) else {
            return Err(CliError::new(ErrorKind::NotFound, format_args!("there is no tag `{name}`")).hint("`dbelay tag` lists the tags"));
        };
        if !cx.global.dry_run {
            project.store.delete_tag(name)?;
            note(&project, Some(*id), None, name)?;
        }
        cx.output.say(format_args!("the tag `{name}` is gone; snapshot {} stays", id.short()));
        return finish(cx, &json!({ "tag": name, "deleted": id }));
    }
    let Some(name) = &args.name else {
        if cx.output.is_json() {
            cx.output.json(&json!({ "tags": tags }))?;
            return Ok(Exit::DONE);
        }
        let mut out = cx.output.out();
        for (name, id) in &tags {
            writeln!(out, "{} {name}", project::id(id))?;
        }
        out.finish()?;
        return Ok(Exit::DONE);
    };
    let id = project.select_snapshot(args.snapshot.as_deref().unwrap_or("HEAD"))?;
    if let Some(known) = tags.get(name).filter(|known| **known != id)
        && !args.force
    {
        return Err(CliError::usage(format_args!("there is a tag `{name}` already, for snapshot {}", known.short()))
            .hint(format_args!("`dbelay tag --force {name} {}` moves it", id.short())));
    }
    let _lock = project.lock("tag")?;
    if !cx.global.dry_run {
        project.store.set_tag(name, &id)?;
        note(&project, tags.get(name).copied(), Some(id), name)?;
    }
    cx.output.say(format_args!("snapshot {} is `{name}` now", project::id(&id)));
    finish(cx, &json!({ "tag": name, "snapshot": id }))
}

fn finish(cx: &Context, document: &Value) -> Result<Exit, CliError> {
    if cx.output.is_json() {
        cx.output.json(document)?;
    }
    Ok(Exit::DONE)
}

/// Writes into the operation log what became of a tag; where no database is named there is nobody to write it for.
fn note(project: &Project<'_>, before: Option<ObjectId>, after: Option<ObjectId>, name: &str) -> Result<(), CliError> {
    let Ok(source) = project.source() else { return Ok(()) };
    if project.database().is_err() {
        return Ok(());
    }
    project.with(|session| {
        let mut entry = Entry::new(session, OperationKind::Tag, Phase::End);
        (entry.source, entry.before, entry.after) = (source, before, after);
        (entry.result, entry.note) = (Some(OperationResult::Done), Some(name.to_owned()));
        journal::write(session.store, &entry)?;
        Ok(())
    })
}
