//! `dbelay migrate`: the safety wrapper around a migration command.

use std::ffi::OsString;

use dbelay::config;
use dbelay::engine::Finding;
use dbelay::ops::OpError;
use dbelay::ops::capture::{self, Taken};
use dbelay::ops::journal::OperationResult;
use dbelay::ops::migrate::{self, Aftermath, CommandEnd, CommandExit, OnFailure as Decision, Options, Outcome, Steps};
use dbelay::ops::verdict::{Loss, Verdict};
use dbelay::process::{self, CommandSpec, ExitKind};
use dbelay::render::text;
use dbelay::schema::diff::{Renames, SchemaDiff};
use serde_json::{Map, Value, json};

use super::output::{ADDED, CHANGED, DIM, GOOD, HEADING, REMOVED, WARNING};
use super::project::{self, Need, Project};
use super::snapshot::holds;
use super::table::{Align, Table};
use super::{CliError, Context, DatabaseState, ErrorKind, Exit, terminal};

const EXAMPLES: &str = "\
Examples:
  dbelay migrate -- npx prisma migrate deploy
  dbelay migrate --allow users.legacy_name -- alembic upgrade head
  dbelay migrate --on-failure keep -m \"try the new schema\" -- make migrate";

/// How many losses an error names.
const LOSSES_MAX: usize = 10;

/// Run a migration command with a snapshot before it, a verdict after it, and a rollback if it went wrong
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to do with the database when the command fails or loses data [default: ask on a terminal, else rollback]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub on_failure: Option<OnFailure>,
    /// Loss that is intended: a table or a column that may lose data; repeatable
    #[arg(long, value_name = "TABLE[.COLUMN]", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Why; kept with the snapshots
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// The migration command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What to do with the database when the command fails or loses data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnFailure {
    /// Put the old state back
    Rollback,
    /// Ask at the terminal
    Ask,
    /// Leave the database as it is
    Keep,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Any).map_err(|error| match error.kind {
        ErrorKind::NotFound => error.hint(
            "a migration that makes the database from nothing has nothing to lose: run it without dbelay, or make an empty file first",
        ),
        _ => error,
    })?;
    let command: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if cx.global.dry_run {
        cx.output.say(format_args!("would take a snapshot, run `{}`, and judge what it did", command.join(" ")));
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "command": command }))?;
        }
        return Ok(Exit::DONE);
    }
    let policy = policy(args, &project)?;
    let _lock = project.lock("migrate")?;
    let config = project.config.as_ref();
    let mut allow = args.allow.clone();
    allow.extend(config.map(|config| config.migrate.allow.clone()).unwrap_or_default());
    let options = Options { command, message: args.message.clone(), allow };
    project.with(|session| {
        if let Some(begin) = project.settle(session)?.first() {
            return Err(project.left_open(begin));
        }
        tell_drift(&project, session)?;
        let mut wrapped = Wrapped { cx, command: &args.command, policy, allow: &options.allow, words: String::new(), started: None };
        let outcome = match migrate::migrate(session, &options, &mut wrapped) {
            Ok(outcome) => outcome,
            Err(error @ OpError::Command { .. }) => {
                let kind = CliError::from(error).state(DatabaseState::Unchanged);
                return Err(match wrapped.started {
                    Some(hint) => kind.hint(hint),
                    None => kind,
                });
            }
            Err(error) if wrapped.words.is_empty() => {
                return Err(CliError::from(error)
                    .context("the migration was not begun; the database is unchanged")
                    .state(DatabaseState::Unchanged));
            }
            Err(error) => {
                let hint = "`dbelay diff pre live` shows what the command did, `dbelay rollback` puts everything back";
                let message =
                    format!("the command ran ({}), but its effects could not be judged; the database is as it left it", wrapped.words);
                return Err(CliError::from(error).context(message).kind(ErrorKind::NotRolledBack).state(DatabaseState::Unknown).hint(hint));
            }
        };
        conclude(cx, &outcome, &wrapped.words)
    })
}

fn policy(args: &Args, project: &Project<'_>) -> Result<OnFailure, CliError> {
    let cx = project.cx;
    let can_ask = cx.environment.stdin_terminal && cx.environment.stderr_terminal && !cx.output.is_json() && !cx.global.yes;
    let wanted = args.on_failure.or_else(|| {
        Some(match project.config.as_ref()?.migrate.on_failure? {
            config::OnFailure::Rollback => OnFailure::Rollback,
            config::OnFailure::Ask => OnFailure::Ask,
            config::OnFailure::Keep => OnFailure::Keep,
        })
    });
    match wanted {
        Some(OnFailure::Ask) if !can_ask && args.on_failure.is_some() => {
            Err(CliError::usage("nobody can be asked here").hint("use `--on-failure rollback` or `--on-failure keep`"))
        }
        Some(OnFailure::Ask) | None if !can_ask => Ok(OnFailure::Rollback),
        None => Ok(OnFailure::Ask),
        Some(policy) => Ok(policy),
    }
}

/// Tells where the live schema differs from that of the newest snapshot.
fn tell_drift(project: &Project<'_>, session: &dbelay::ops::Session<'_>) -> Result<(), CliError> {
    let Some((_, head)) = capture::newest(session)? else { return Ok(()) };
    let head = capture::load(session.store, &head)?;
    let live = (session.open)()?.begin_read()?.schema()?;
    let drift = dbelay::schema::diff::diff(&head.schema, &live, &Renames::default());
    if !drift.is_empty() {
        project.cx.output.note("the schema was changed since the last snapshot, outside of dbelay:");
        for line in drift.lines() {
            project.cx.output.say(format_args!("  {}", text::clean(&line)));
        }
    }
    Ok(())
}

struct Wrapped<'a> {
    cx: &'a Context,
    command: &'a [OsString],
    policy: OnFailure,
    /// Announced losses.
    allow: &'a [String],
    /// How the command ended, once it has.
    words: String,
    /// What helps where it could not be started.
    started: Option<String>,
}

impl Steps for Wrapped<'_> {
    fn pre_taken(&mut self, pre: &Taken, findings: &[Finding]) {
        let output = &self.cx.output;
        output.say(format_args!("snapshot pre {}: {}", project::id(&pre.id), holds(pre)));
        for name in self.allow {
            let is_table = |table: &dbelay::schema::Table| {
                let is_column = |column: &dbelay::schema::Column| name.eq_ignore_ascii_case(&format!("{}.{}", table.name, column.name));
                name.eq_ignore_ascii_case(&table.name) || table.columns.iter().any(is_column)
            };
            if !pre.state.schema.tables.iter().any(is_table) {
                output.warn(format_args!("`--allow {}` names no table and no column of the database", text::clean(name)));
            }
        }
        for finding in findings {
            output.warn(format_args!("before the migration: {}", text::clean(&finding.message)));
        }
    }

    fn run(&mut self) -> std::io::Result<CommandEnd> {
        let cx = self.cx;
        let spec = CommandSpec {
            command: self.command.to_vec(),
            env: Vec::new(),
            cwd: cx.environment.cwd.clone(),
            capture_bytes_max: process::CAPTURE_BYTES_DEFAULT,
            foreground: cx.environment.stdin_terminal,
            stdout_to_stderr: cx.output.is_json(),
        };
        let outcome = process::run(&spec, &mut |stream, bytes| cx.output.pass(stream, bytes)).map_err(|error| {
            if let process::CommandError::NotFound(name) = &error {
                self.started = Some(format!("is `{name}` in PATH? a line for a shell needs one: `dbelay migrate -- sh -c '...'`"));
            }
            std::io::Error::other(error)
        })?;
        if outcome.stragglers {
            cx.output.warn("the command left processes behind that still run; what they write to the database is not judged");
        }
        if outcome.wanted_terminal {
            cx.output.warn("the command wanted to ask something, and there is no terminal");
        }
        self.words = format!("{} after {}", outcome.exit, super::time::duration(outcome.duration));
        let exit = match outcome.exit {
            ExitKind::Code(code) => CommandExit::Code(code),
            ExitKind::Signal(signal) => CommandExit::Signal(signal),
        };
        Ok(CommandEnd { exit, duration: outcome.duration, is_interrupted: outcome.interrupted })
    }

    fn decide(&mut self, end: &CommandEnd, verdict: Option<&Verdict>) -> Decision {
        match self.policy {
            OnFailure::Rollback => Decision::Rollback,
            OnFailure::Keep => Decision::Keep,
            OnFailure::Ask => {
                let output = &self.cx.output;
                let what = if end.is_success() { "the migration lost data" } else { "the migration command failed" };
                output.line(format_args!("{WARNING}{what}{WARNING:#} ({})", self.words));
                if let Some(verdict) = verdict {
                    for loss in verdict.unannounced().take(LOSSES_MAX) {
                        output.line(format_args!("  {}", text::clean(&loss.sentence())));
                    }
                }
                match terminal::choose(self.cx, "put the database back, or keep it as it is?", &["rollback", "keep"]) {
                    Ok(1) => Decision::Keep,
                    // Whoever cannot answer gets what is safe.
                    _ => Decision::Rollback,
                }
            }
        }
    }
}

fn conclude(cx: &Context, outcome: &Outcome, words: &str) -> Result<Exit, CliError> {
    let output = &cx.output;
    output.say(format_args!("{DIM}command: {words}{DIM:#}"));
    let is_fine = outcome.result == OperationResult::Done;
    if let Aftermath::Changed { verdict, schema, damage, .. } = &outcome.aftermath {
        summary(cx, schema, verdict)?;
        for finding in damage {
            output.warn(format_args!("the database is damaged: {}", text::clean(&finding.message)));
        }
    }
    if is_fine {
        match &outcome.aftermath {
            Aftermath::Unchanged => output.say(format_args!("{GOOD}done{GOOD:#}: the command changed nothing")),
            _ => {
                let id = outcome.after.as_ref().map(|(id, _)| project::id(id)).unwrap_or_default();
                output.say(format_args!("{GOOD}done{GOOD:#}: snapshot post {id}; `dbelay rollback` puts everything back"));
            }
        }
        if output.is_json() {
            output.json(&document(outcome))?;
        }
        return Ok(Exit::DONE);
    }
    for limit in &outcome.limits {
        output.warn(text::clean(limit));
    }
    Err(failure(outcome, words))
}

/// Prints what a migration did.
fn summary(cx: &Context, schema: &SchemaDiff, verdict: &Verdict) -> Result<(), CliError> {
    let output = &cx.output;
    if !schema.is_empty() {
        output.say(format_args!("{HEADING}schema{HEADING:#}"));
        for line in schema.lines() {
            let style = match line.as_bytes().first() {
                Some(b'+') => ADDED,
                Some(b'-') => REMOVED,
                _ => CHANGED,
            };
            output.say(format_args!("  {style}{}{style:#}", text::clean(&line)));
        }
    }
    if !verdict.changes.is_empty() {
        output.say(format_args!("{HEADING}rows{HEADING:#}"));
        let mut table = Table::new(&[Align::Left, Align::Left, Align::Left]);
        for change in &verdict.changes {
            let touched = text::columns_touched(&change.pair, &change.counts);
            let columns = if touched.is_empty() { String::new() } else { format!("({})", touched.join(", ")) };
            let note = if change.is_ledger { "the migration tool's ledger".to_owned() } else { columns };
            table.line(anstyle::Style::new(), [text::title(&change.pair), text::sentence(&change.pair, &change.counts), note]);
        }
        let mut lines = Vec::new();
        table.write("  ", &mut lines)?;
        for line in String::from_utf8_lossy(&lines).lines() {
            output.say(line);
        }
    }
    for loss in verdict.losses.iter().filter(|loss| loss.allowed) {
        output.say(format_args!("{DIM}allowed: {}{DIM:#}", text::clean(&loss.sentence())));
    }
    Ok(())
}

fn failure(outcome: &Outcome, words: &str) -> CliError {
    let losses: Vec<&Loss> = match &outcome.aftermath {
        Aftermath::Changed { verdict, .. } => verdict.unannounced().collect(),
        _ => Vec::new(),
    };
    let what = match &outcome.aftermath {
        Aftermath::Unreadable(_) => format!("after the command ({words}) the database cannot be read"),
        _ if outcome.end.is_interrupted => format!("the migration was interrupted ({words})"),
        _ if !outcome.end.is_success() => format!("the migration command failed ({words})"),
        Aftermath::Changed { damage, .. } if !damage.is_empty() && losses.is_empty() => {
            format!("the migration damaged the database (command {words})")
        }
        _ => format!("the migration lost data (command {words})"),
    };
    let pre = outcome.pre.id.short();
    let is_unchanged = matches!(outcome.aftermath, Aftermath::Unchanged);
    let (now, kind, state) = match outcome.result {
        _ if is_unchanged => {
            (format!("the database is unchanged, equal to snapshot {pre}"), ErrorKind::RolledBack, DatabaseState::Unchanged)
        }
        OperationResult::RolledBack => {
            (format!("the database was rolled back to snapshot {pre} and verified"), ErrorKind::RolledBack, DatabaseState::RolledBack)
        }
        _ => ("the database was not rolled back".to_owned(), ErrorKind::NotRolledBack, DatabaseState::Changed),
    };
    let kind = if outcome.end.is_interrupted && kind == ErrorKind::RolledBack { ErrorKind::Interrupted } else { kind };
    let mut causes: Vec<String> = losses.iter().take(LOSSES_MAX).map(|loss| sentence(loss)).collect();
    if losses.len() > LOSSES_MAX {
        causes.push(format!("and {} more losses", losses.len() - LOSSES_MAX));
    }
    if let Aftermath::Unreadable(error) = &outcome.aftermath {
        causes.push(error.to_string());
    }
    if let Some(error) = &outcome.rollback_error {
        causes.push(format!("the rollback failed: {}", dbelay::ops::with_causes(error)));
    }
    // The chain is built from its end.
    let mut error: Option<CliError> = None;
    for text in causes.into_iter().rev() {
        error = Some(match error {
            None => CliError::new(kind, text),
            Some(error) => error.context(text),
        });
    }
    let message = format!("{what}; {now}");
    let error = match error {
        None => CliError::new(kind, message),
        Some(error) => error.context(message).kind(kind),
    };
    let mut error = error.state(state).hint(hint(outcome, &losses, is_unchanged));
    error.details = Some(document(outcome));
    error
}

fn sentence(loss: &Loss) -> String {
    let mut text = text::clean(&loss.sentence());
    if !loss.examples.is_empty() {
        text.push_str(&format!(" ({})", text::clean(&loss.examples.join("; "))));
    }
    text
}

fn hint(outcome: &Outcome, losses: &[&Loss], is_unchanged: bool) -> String {
    if let Aftermath::Unreadable(_) = &outcome.aftermath
        && outcome.result != OperationResult::RolledBack
    {
        return format!("`dbelay restore {} --to NEW.db` writes the state before it into a new file", outcome.pre.id.short());
    }
    if is_unchanged {
        return "what the command said is above; nothing has to be undone".to_owned();
    }
    let mut allowances: Vec<String> = losses.iter().map(|loss| format!("--allow {}", loss.allowance())).collect();
    allowances.dedup();
    let allow = (outcome.end.is_success() && !allowances.is_empty())
        .then(|| format!("; if the loss is intended: `dbelay migrate {} -- ...`", allowances.join(" ")));
    match outcome.result {
        OperationResult::RolledBack => format!("`dbelay diff pre failed` shows what it did{}", allow.unwrap_or_default()),
        _ => {
            let help = outcome.rollback_error.as_ref().and_then(super::report::help);
            let first = help.map_or_else(String::new, |help| format!("{help}; then "));
            format!("{first}`dbelay rollback pre` puts everything back, `dbelay diff pre live` shows what the command did")
        }
    }
}

/// Describes a migration for programs.
fn document(outcome: &Outcome) -> Map<String, Value> {
    let (code, signal) = match outcome.end.exit {
        CommandExit::Code(code) => (Some(code), None),
        CommandExit::Signal(signal) => (None, Some(signal)),
    };
    let result = match (&outcome.aftermath, outcome.result) {
        (Aftermath::Unchanged, _) => "unchanged",
        (_, OperationResult::Done) => "done",
        (_, OperationResult::RolledBack) => "rolled_back",
        _ => "kept",
    };
    let after = outcome.after.as_ref().map(|(id, _)| *id);
    let mut document = json!({
        "result": result,
        "pre": outcome.pre.id,
        "command": {
            "exit": code, "signal": signal, "interrupted": outcome.end.is_interrupted,
            "seconds": outcome.end.duration.as_secs_f64(),
        },
    });
    document[if outcome.result == OperationResult::RolledBack { "failed" } else { "post" }] = json!(after);
    if let Aftermath::Changed { verdict, schema, .. } = &outcome.aftermath {
        let tables: Vec<Value> = verdict
            .changes
            .iter()
            .map(|change| {
                let columns = text::columns_touched(&change.pair, &change.counts);
                json!({
                    "table": change.pair.name(), "fate": change.pair.fate(), "added": change.counts.added, "removed": change.counts.removed,
                    "changed": change.counts.changed, "renumbered": change.counts.renumbered, "columns_changed": columns, "ledger": change.is_ledger,
                })
            })
            .collect();
        document["schema"] = json!({ "changes": schema.changes, "settings": schema.settings });
        document["tables"] = json!(tables);
        document["losses"] = json!(verdict.losses);
    }
    match document {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
