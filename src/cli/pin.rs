//! `dbelay pin` and `dbelay unpin`: snapshots that are never forgotten.

use std::io::Write;

use dbelay::id::ObjectId;
use dbelay::ops::capture;
use dbelay::ops::journal::{self, Author, Entry, OperationKind, OperationResult, Phase};
use dbelay::snapshot::select::ID_DIGITS_MIN;
use serde_json::{Value, json};

use super::project::{self, Identity, Need, Project};
use super::time::stamp;
use super::{CliError, Context, Exit, log};

const EXAMPLES: &str = "\
Examples:
  dbelay pin
  dbelay pin release-4
  dbelay pin --list
  dbelay pin --remove 7f3a91c2";

/// Pin a snapshot, so that it is never forgotten, or list what is pinned
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot [default: HEAD]
    pub snapshot: Option<String>,
    /// List what is pinned
    #[arg(long, conflicts_with_all = ["snapshot", "remove"])]
    pub list: bool,
    /// Remove the pin; the snapshot stays, but may be forgotten
    #[arg(long, requires = "snapshot")]
    pub remove: bool,
}

const UNPIN_EXAMPLES: &str = "\
Examples:
  dbelay unpin 7f3a91c2
  dbelay unpin release-4";

/// Remove the pin of a snapshot; it stays, but may be forgotten
#[derive(Debug, clap::Args)]
#[command(after_help = UNPIN_EXAMPLES)]
pub struct UnpinArgs {
    /// Which snapshot
    pub snapshot: String,
}

/// Runs `dbelay pin`.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    if args.list {
        return list(&project);
    }
    match &args.snapshot {
        Some(text) if args.remove => remove(&project, text),
        text => set(&project, text.as_deref().unwrap_or("HEAD")),
    }
}

/// Runs `dbelay unpin`.
pub fn unpin(args: &UnpinArgs, cx: &Context) -> Result<Exit, CliError> {
    remove(&Project::open(cx, Need::Existing)?, &args.snapshot)
}

fn set(project: &Project<'_>, text: &str) -> Result<Exit, CliError> {
    let _lock = project.lock("pin")?;
    let id = project.select_snapshot_of(text, Identity::Any)?;
    let is_new = !project.store.pins()?.contains(&id);
    if is_new && !project.cx.global.dry_run {
        project.store.pin(&id)?;
        note(project, id, None, Some(id))?;
    }
    let word = if is_new { "" } else { " already" };
    project.cx.output.say(format_args!("snapshot {} is pinned{word}; `dbelay forget` keeps it", project::id(&id)));
    finish(project, &json!({ "pinned": id, "new": is_new }))
}

fn remove(project: &Project<'_>, text: &str) -> Result<Exit, CliError> {
    let _lock = project.lock("unpin")?;
    let pins = project.store.pins()?;
    // The snapshot of a pin may be gone, which no selector finds then.
    let digits = text.to_ascii_lowercase();
    let mut fitting = pins.iter().filter(|id| digits.len() >= ID_DIGITS_MIN && id.to_string().starts_with(&digits));
    let id = match (fitting.next(), fitting.next()) {
        (Some(id), None) => *id,
        _ => project.select_snapshot_of(text, Identity::Any)?,
    };
    if !pins.contains(&id) {
        return Err(CliError::usage(format_args!("snapshot {} is not pinned", id.short())).hint("`dbelay pin --list` lists what is"));
    }
    if !project.cx.global.dry_run {
        project.store.unpin(&id)?;
        note(project, id, Some(id), None)?;
    }
    project.cx.output.say(format_args!("snapshot {} is pinned no more; it stays until it is forgotten", project::id(&id)));
    finish(project, &json!({ "unpinned": id }))
}

fn list(project: &Project<'_>) -> Result<Exit, CliError> {
    let mut out = project.cx.output.out();
    let mut pins: Vec<Value> = Vec::new();
    for id in project.store.pins()? {
        let snapshot = capture::read_snapshot(&project.store, id);
        match &snapshot {
            Ok(snapshot) => writeln!(out, "{} {} {}", project::id(&id), stamp(project::time(snapshot)), log::kind(snapshot.kind))?,
            Err(error) => writeln!(out, "{} {error}", project::id(&id))?,
        }
        pins.push(match snapshot {
            Ok(snapshot) => json!({ "id": id, "time": snapshot.time, "kind": snapshot.kind, "source": snapshot.source }),
            Err(error) => json!({ "id": id, "error": error.to_string() }),
        });
    }
    if pins.is_empty() {
        project.cx.output.say("nothing is pinned");
    }
    out.finish()?;
    finish(project, &json!({ "pins": pins }))
}

fn finish(project: &Project<'_>, document: &Value) -> Result<Exit, CliError> {
    if project.cx.output.is_json() {
        project.cx.output.json(document)?;
    }
    Ok(Exit::DONE)
}

/// Writes into the operation log what became of a pin, in the name of the snapshot's database.
fn note(project: &Project<'_>, id: ObjectId, before: Option<ObjectId>, after: Option<ObjectId>) -> Result<(), CliError> {
    let source = capture::read_snapshot(&project.store, id).map(|snapshot| snapshot.source).or_else(|_| project.source());
    let Ok(source) = source else { return Ok(()) };
    let environment = &project.cx.environment;
    let author = Author { user: environment.user.clone(), host: environment.host.clone(), pid: environment.pid };
    let time = project.cx.now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let mut entry = Entry::by(&author, source, time, OperationKind::Pin, Phase::End);
    (entry.before, entry.after, entry.result) = (before, after, Some(OperationResult::Done));
    entry.note = Some(if after.is_some() { "pinned" } else { "pin removed" }.to_owned());
    journal::write(&project.store, &entry)?;
    Ok(())
}
