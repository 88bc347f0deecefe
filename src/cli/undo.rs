//! `dbelay undo`: takes back the last operation that changed the database.

use dbelay::ops::journal::OperationKind;
use dbelay::ops::rollback::{Intent, Scope};
use dbelay::ops::undo::{self, Step};

use super::project::{Need, Project};
use super::rollback::{execute, nothing_to};
use super::{CliError, Context, DatabaseState, Exit, terminal};

const EXAMPLES: &str = "\
Examples:
  dbelay undo
  dbelay undo --dry-run";

/// Take back the last operation that changed the database
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Take the files beside the database back, too [default: if they went with the operation]
    #[arg(long)]
    pub with_files: bool,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    travel(cx, OperationKind::Undo, args.with_files)
}

/// Runs undo or redo.
pub fn travel(cx: &Context, kind: OperationKind, with_files: bool) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let source = project.database()?.source.clone();
    let _lock = project.lock(kind.word())?;
    let log = project.operations();
    let open = dbelay::ops::journal::unfinished(&log, &source);
    if !open.is_empty() {
        // Only what is settled can be taken back.
        project.with(|session| match project.settle(session)?.first() {
            Some(begin) => Err(project.left_open(begin)),
            None => Ok(()),
        })?;
    }
    let mut steps = undo::steps(&project.operations(), &source);
    let is_undo = kind == OperationKind::Undo;
    let Some(step) = (if is_undo { steps.undo.pop() } else { steps.redo.pop() }) else {
        return Err(nothing_to(kind.word()));
    };
    let (target, expected) = if is_undo { (step.before, step.after) } else { (step.after, step.before) };
    // A target that was forgotten is told before anything is done. What the database was after the step only tells whether it was changed since.
    project.load(target).map_err(|error| error.state(DatabaseState::Unchanged))?;
    let expected = match project.store.has_snapshot(&expected) {
        true => Some(project.load(expected)?.1),
        false => None,
    };
    cx.output.say(format_args!("{} {}", if is_undo { "taking back" } else { "doing again" }, describe(&step)));
    if step.files && project.files.is_none() {
        cx.output.note("files went with it, and dbelay.toml names none now; they are left as they are");
    }
    let files = with_files || step.files && project.files.is_some();
    let intent = Intent { kind, target, of: Some(step.index), files };
    execute(&project, intent, Scope::Everything, &target.short(), &mut |taken| {
        let name = taken.id.short();
        match &expected {
            Some(expected) if taken.state.is_same(expected) => return Ok(true),
            Some(_) => cx.output.note(format_args!(
                "the database was changed since; those changes are kept in snapshot {name}, and will not be in the database"
            )),
            None => cx.output.note(format_args!(
                "the snapshot of what the database was then is forgotten, so whether it was changed since is not known; what it is now is kept in \
                 snapshot {name}"
            )),
        }
        if cx.global.yes || !cx.environment.stdin_terminal || cx.output.is_json() {
            Ok(true)
        } else {
            terminal::confirm(cx, "go on?", true)
        }
    })
}

fn describe(step: &Step) -> String {
    format!("`{}` of {}", step.kind.word(), super::time::stamp_text(&step.time))
}
