//! `dbelay restore`: writes a snapshot into another, empty database.

use dbelay::ops::journal::{self, Entry, OperationKind, OperationResult, Phase};
use dbelay::ops::{OpError, rollback};
use serde_json::json;

use super::output::GOOD;
use super::project::{self, Database, Need, Project, parse_url};
use super::rollback::rows;
use super::{CliError, Context, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay restore HEAD --to ./copy.db
  dbelay restore \"@{yesterday}\" --to sqlite:/tmp/yesterday.db";

/// Write a snapshot into another, empty database or file
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    pub snapshot: String,
    /// Where to; a database that is empty or does not exist
    #[arg(long, value_name = "URL")]
    pub to: String,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let id = project.select_snapshot(&args.snapshot)?;
    let (snapshot, state) = project.load(id)?;
    let target = Database::of(&parse_url(cx, &args.to)?, project.config.as_ref())?;
    if target.path.metadata().is_ok_and(|metadata| metadata.len() > 0 || metadata.is_dir()) {
        return Err(CliError::usage(format_args!("`{}` exists and is not empty", target.path.display()))
            .hint("choose a new file; to change the database itself there is `dbelay rollback`"));
    }
    if cx.global.dry_run {
        cx.output.say(format_args!("would write {} rows into `{}`", state.rows(), target.path.display()));
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "snapshot": id, "to": target.source.place }))?;
        }
        return Ok(Exit::DONE);
    }
    let _lock = project.lock("restore")?;
    let was_there = target.path.exists();
    let written = project.with_database(&target, |session| {
        let done =
            target.create(&state.settings).map_err(OpError::from).and_then(|mut engine| rollback::restore(session, &mut *engine, &state));
        let written = match done {
            Ok((_, written)) => written,
            Err(error) => {
                if !was_there {
                    // Nothing was committed into a file that this command made.
                    let _ = fs_err::remove_file(&target.path);
                }
                return Err(CliError::from(error).context("the restore failed; nothing was written"));
            }
        };
        let mut entry = Entry::new(session, OperationKind::Restore, Phase::End);
        entry.source = snapshot.source.clone();
        entry.before = Some(id);
        entry.result = Some(OperationResult::Done);
        entry.note = Some(format!("to {}", session.source.place));
        journal::write(session.store, &entry)?;
        Ok(written)
    })?;
    cx.output.say(format_args!(
        "{GOOD}done{GOOD:#}: `{}` is equal to {} {}, verified ({})",
        target.path.display(),
        args.snapshot,
        project::id(&id),
        rows(&written)
    ));
    if cx.output.is_json() {
        cx.output.json(&json!({ "result": "done", "snapshot": id, "to": target.source.place, "written": written }))?;
    }
    Ok(Exit::DONE)
}
