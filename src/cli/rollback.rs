//! `dbelay rollback`: makes the live database exactly equal to a snapshot.

use dbelay::engine::EngineError;
use dbelay::ops::capture::Taken;
use dbelay::ops::files::Unreadable;
use dbelay::ops::journal::{self, OperationKind, OperationResult};
use dbelay::ops::plan::{self, Plan, RowAction};
use dbelay::ops::rollback::{self, Done, Intent, Scope, Written};
use dbelay::ops::{OpError, Session};
use serde_json::{Value, json};

use super::output::{DIM, GOOD};
use super::project::{self, Identity, Need, Project};
use super::time::{counted, number};
use super::{CliError, Context, DatabaseState, Exit, files, report, terminal};

const EXAMPLES: &str = "\
Examples:
  dbelay rollback
  dbelay rollback --dry-run
  dbelay rollback pre --with-files
  dbelay rollback before-import --table users --yes";

/// Make the database exactly equal to a snapshot
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    #[arg(default_value = "pre")]
    pub snapshot: String,
    /// Only this table; repeatable
    #[arg(short, long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Make the files that `[files]` in dbelay.toml names equal to the snapshot's, too
    ///
    /// Files that are not included now, or were not when the snapshot was taken, are left as they are. What is replaced or removed is in the safety
    /// snapshot, to which `undo` returns.
    #[arg(long, conflicts_with = "tables")]
    pub with_files: bool,
    /// Also to a snapshot of another database, whose content then replaces this one's
    #[arg(long)]
    pub force_identity: bool,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    project.database()?;
    let _lock = project.lock("rollback")?;
    let identity = if args.force_identity { Identity::Any } else { Identity::Same };
    let target = project.select_snapshot_of(&args.snapshot, identity).map_err(|error| match args.snapshot.as_str() {
        "pre" => error.hint("name a snapshot: `dbelay log` lists them"),
        _ => error,
    })?;
    let intent = Intent { kind: OperationKind::Rollback, target, of: None, files: args.with_files };
    let tables = match args.tables.as_slice() {
        [] => Vec::new(),
        tables => project.tables(tables, &project.load(target)?.1.schema),
    };
    let scope = if tables.is_empty() { Scope::Everything } else { Scope::Tables(&tables) };
    execute(&project, intent, scope, &args.snapshot, &mut |_| Ok(true))
}

/// What the person at the terminal is asked before anything is written; given the safety snapshot.
pub type Gate<'a> = &'a mut dyn FnMut(&Taken) -> Result<bool, CliError>;

/// Rolls back, asks on a terminal, and prints what was done. Shared by rollback, undo and redo.
pub fn execute(project: &Project<'_>, intent: Intent, scope: Scope<'_>, name: &str, gate: Gate<'_>) -> Result<Exit, CliError> {
    let cx = project.cx;
    let word = intent.kind.word();
    project.with(|session| {
        let open = project.settle(session)?;
        if cx.global.dry_run {
            return dry_run(project, session, intent, scope, name);
        }
        let mut refused: Option<CliError> = None;
        let mut open = open.into_iter();
        let mut settle = |after: Option<dbelay::id::ObjectId>| -> Result<(), dbelay::ops::OpError> {
            open.by_ref().try_for_each(|begin| journal::settle(session, &begin, OperationResult::Kept, after))
        };
        let done = rollback::run(session, intent, scope, &mut |plan, taken| {
            let mut lines = lines(plan);
            if intent.files {
                lines.extend(files::lines(&files::plan(session, intent.target, taken.files.as_ref())?));
            }
            if plan.is_empty() && lines.is_empty() {
                settle(Some(taken.id))?;
                return Ok(true);
            }
            match gate(taken).and_then(|go| if go { ask(cx, &lines, intent, name) } else { Ok(false) }) {
                Ok(true) => {
                    // What an interrupted operation left is the state that this rollback starts from, and it is kept now.
                    settle(Some(taken.id))?;
                    Ok(true)
                }
                Ok(false) => Ok(false),
                Err(error) => {
                    refused = Some(error);
                    Ok(false)
                }
            }
        });
        if let Some(error) = refused {
            return Err(error.state(DatabaseState::Unchanged));
        }
        let done = done.map_err(|error| {
            if let OpError::Engine(EngineError::Uncertain) = error {
                let error = CliError::from(error).context(format!("the {word} broke off at its end")).state(DatabaseState::Unknown);
                return error.hint(format_args!("`dbelay {word}` again looks at what came of it first"));
            }
            CliError::from(error).context(format!("the {word} failed; the database is unchanged")).state(DatabaseState::Unchanged)
        })?;
        if let Done::Recreated { .. } = done {
            settle(None)?;
        }
        report(project, &done, intent, scope, name)?;
        if let (Done::RolledBack(done), false, Scope::Everything) = (&done, intent.files, scope) {
            files::tell_left_alone(session, cx, intent.target, done.safety.files.as_ref())?;
        }
        if let Done::RolledBack(done) = &done
            && let Some(error) = files::failure(done.files.as_ref(), "the database is what it was to be", done.safety.id)
        {
            return Err(error);
        }
        if let Done::Stopped = done { Ok(Exit::FAILED) } else { Ok(Exit::DONE) }
    })
}

fn ask(cx: &Context, lines: &[String], intent: Intent, name: &str) -> Result<bool, CliError> {
    if intent.kind != OperationKind::Rollback || cx.global.yes || cx.output.is_json() || !cx.environment.stdin_terminal {
        return Ok(true);
    }
    for line in lines {
        cx.output.line(format_args!("  {line}"));
    }
    terminal::confirm(cx, &format!("make the database equal to {name}?"), true)
}

/// Says in lines what a plan changes.
pub fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let created = |kind, name: &str| plan.create.iter().any(|object| object.kind == kind && object.name == name);
    for object in plan.drop.iter().filter(|object| object.sql.is_some()) {
        let verb = if created(object.kind, &object.name) { "make anew" } else { "drop" };
        lines.push(format!("{verb} {} `{}`", object.kind.word(), object.name));
    }
    lines.extend(plan.clear.iter().map(|shape| format!("remove all rows of `{}`", shape.name)));
    for (object, _) in &plan.alter {
        lines.push(format!("change {} `{}` where it stands", object.kind.word(), object.name));
    }
    for object in plan.create.iter().filter(|object| !plan.drop.iter().any(|other| other.kind == object.kind && other.name == object.name))
    {
        lines.push(format!("create {} `{}`", object.kind.word(), object.name));
    }
    for table in &plan.tables {
        let rows = counted(table.rows, "row");
        match table.action {
            RowAction::Patch => lines.push(format!("patch the rows of `{}`", table.name)),
            RowAction::Fill => lines.push(format!("fill `{}` with its {rows}", table.name)),
            RowAction::Rewrite => lines.push(format!("rewrite all rows of `{}` ({rows}): none of them can be addressed", table.name)),
            RowAction::Refresh => lines.push(format!("refresh materialized view `{}`", table.name)),
            RowAction::Settle => {}
        }
    }
    for (name, now, then) in &plan.settings {
        lines.push(format!("set {name} from {now} to {then}"));
    }
    if lines.is_empty() && !plan.is_empty() {
        lines.push("put the schema's other objects back".to_owned());
    }
    lines
}

fn dry_run(project: &Project<'_>, session: &Session<'_>, intent: Intent, scope: Scope<'_>, name: &str) -> Result<Exit, CliError> {
    let cx = project.cx;
    let target = intent.target;
    let file_plan = match intent.files {
        true => {
            let live = dbelay::ops::files::capture(session, dbelay::store::BatchMode::IdsOnly, Unreadable::Refuse)?;
            Some(files::plan(session, target, live.as_ref())?)
        }
        false => None,
    };
    let (_, target_state) = project.load(target)?;
    let live = dbelay::ops::compare::live(session, Some(&target_state), dbelay::store::BatchMode::Scratch)?;
    let wanted = match scope {
        Scope::Everything => target_state,
        Scope::Tables(names) => plan::merge(&live, &target_state, names)?,
    };
    let plan = plan::plan(&live, &wanted);
    let obstacles = rollback::obstacles(&mut *(session.open)()?, &plan, &wanted)?;
    for obstacle in &obstacles {
        cx.output.warn(format_args!("{}; {}", obstacle, report::extensions(cx.output.engine())));
    }
    if cx.output.is_json() {
        cx.output.json(&json!({ "dry_run": true, "target": target, "plan": plan, "obstacles": obstacles, "files": file_plan.as_ref().map(files::document) }))?;
        return Ok(Exit::DONE);
    }
    use std::io::Write;
    let mut out = cx.output.out();
    let file_lines = file_plan.as_ref().map(files::lines).unwrap_or_default();
    if plan.is_empty() && file_lines.is_empty() {
        writeln!(out, "nothing to do: {} equal to {name} ({})", subject(scope), target.short())?;
    } else {
        writeln!(out, "so that {} equal to {name} ({}):", subject(scope), target.short())?;
    }
    for line in lines(&plan).iter().chain(&plan.limits).chain(&file_lines) {
        writeln!(out, "  {line}")?;
    }
    out.finish()?;
    Ok(Exit::DONE)
}

fn report(project: &Project<'_>, done: &Done, intent: Intent, scope: Scope<'_>, name: &str) -> Result<(), CliError> {
    let subject = subject(scope);
    let cx = project.cx;
    let target = intent.target;
    let word = intent.kind.word();
    let name = if target.to_string().starts_with(name) { String::new() } else { format!("{name} ") };
    let document: Value = match done {
        Done::Stopped => {
            cx.output.say("nothing was changed");
            json!({ "result": "stopped", "operation": word, "target": target })
        }
        Done::Recreated { written, .. } => {
            cx.output.say(format_args!(
                "{GOOD}done{GOOD:#}: the database was gone, and was made anew from {name}{}, verified ({})",
                project::id(&target),
                rows(written)
            ));
            if intent.files {
                let again = "its files are as they were, since without a database there was no safety snapshot";
                cx.output.note(format_args!("{again}; `dbelay rollback {} --with-files` puts them back", target.short()));
            }
            json!({ "result": "recreated", "operation": word, "target": target, "written": written })
        }
        Done::RolledBack(done) if done.plan.is_empty() && done.files.as_ref().is_none_or(files::is_nothing) => {
            cx.output.say(format_args!("nothing to do: {subject} equal to {name}{}{}", project::id(&target), but_for(&done.plan)));
            for limit in &done.plan.limits {
                cx.output.note(limit);
            }
            json!({ "result": "unchanged", "operation": word, "target": target, "safety": done.safety.id, "plan": done.plan, "written": done.written })
        }
        Done::RolledBack(done) => {
            cx.output.say(format_args!(
                "{GOOD}done{GOOD:#}: {subject} equal to {name}{}{}, verified ({})",
                project::id(&target),
                but_for(&done.plan),
                done.files
                    .as_ref()
                    .map_or_else(|| rows(&done.written), |files| format!("{}; {}", rows(&done.written), files::written(files)))
            ));
            for remark in done.files.iter().flat_map(|files| &files.remarks) {
                cx.output.note(remark);
            }
            for limit in &done.plan.limits {
                cx.output.note(limit);
            }
            let back = if intent.kind == OperationKind::Undo { "redo" } else { "undo" };
            cx.output.say(format_args!(
                "{DIM}what was there before is snapshot {}; `dbelay {back}` returns to it{DIM:#}",
                done.safety.id.short()
            ));
            json!({
                "result": "done", "operation": word, "target": target, "safety": done.safety.id, "after": done.after,
                "plan": done.plan, "written": done.written, "files": done.files,
            })
        }
    };
    let has_failed = matches!(done, Done::RolledBack(done) if done.files.as_ref().is_some_and(|files| !files.failures.is_empty()));
    // What failed is the document then.
    if cx.output.is_json() && !has_failed {
        cx.output.json(&document)?;
    }
    Ok(())
}

/// Says that something remains different which a rollback cannot restore.
fn but_for(plan: &Plan) -> &'static str {
    if plan.limits.is_empty() { "" } else { " but for what the database was made with" }
}

/// Says what a rollback is about, with its verb.
fn subject(scope: Scope<'_>) -> String {
    match scope {
        Scope::Everything => "the database is".to_owned(),
        Scope::Tables([table]) => format!("table `{table}` is"),
        Scope::Tables(tables) => format!("tables `{}` are", tables.join("`, `")),
    }
}

/// Says how many rows were written.
pub fn rows(written: &Written) -> String {
    let parts = [(written.deleted, "deleted"), (written.updated, "updated"), (written.inserted, "inserted")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", number(*n))).collect();
    if parts.is_empty() { "no rows written".to_owned() } else { format!("rows: {}", parts.join(", ")) }
}

/// Says that there is nothing to undo or redo.
pub fn nothing_to(word: &'static str) -> CliError {
    CliError::from(OpError::NothingTo(word)).state(DatabaseState::Unchanged)
}
