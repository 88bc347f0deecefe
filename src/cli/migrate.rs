//! `dbelay migrate`: the safety wrapper around a migration command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use dbelay::check::Finding;
use dbelay::config;
use dbelay::ops::capture;
use dbelay::ops::guard::GuardResult;
use dbelay::ops::journal::{self, Indexed, OperationKind, OperationResult};
use dbelay::ops::migrate::{self, Aftermath, CommandEnd, CommandExit, Judgement, OnFailure as Decision, Options, Outcome, Prepared, Steps};
use dbelay::ops::rehearse::{self, Rehearsal};
use dbelay::ops::verdict::{Loss, TableChange, Verdict};
use dbelay::ops::{OpError, Session};
use dbelay::process::{self, CommandSpec, ExitKind, ProcessId};
use dbelay::render::html::report::NamedSnapshot;
use dbelay::render::text;
use dbelay::schema::diff::Renames;
use dbelay::snapshot::manifest::SnapshotKind;
use serde_json::{Map, Value, json};

use super::output::{ADDED, CHANGED, DIM, GOOD, HEADING, REMOVED, WARNING};
use super::project::{self, Need, Project};
use super::rehearse::{Stage, Words, warn_of_other};
use super::snapshot::holds;
use super::table::{Align, Table};
use super::{CliError, Context, DatabaseState, ErrorKind, Exit, page, terminal, time};

const EXAMPLES: &str = "\
Examples:
  dbelay migrate -- npx prisma migrate deploy
  dbelay migrate --allow users.legacy_name -- alembic upgrade head
  dbelay migrate --rehearse -- python manage.py migrate
  dbelay migrate --rehearse-only --url-env DATABASE_URL -- dbmate up
  dbelay migrate --on-failure keep -m \"try the new schema\" -- make migrate
  dbelay migrate --resume";

/// How many losses an error names.
const LOSSES_MAX: usize = 10;

/// Run a migration command with a snapshot before it, a verdict after it, and a rollback if it went wrong
///
/// In the command, `{db}` stands for the path of the database and `{url}` for its URL.
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
    /// Run the command on a scratch copy first, and on the database only if that went well
    #[arg(long)]
    pub rehearse: bool,
    /// Run the command on a scratch copy, and not on the database
    #[arg(long, conflicts_with = "rehearse")]
    pub rehearse_only: bool,
    /// The variable from which the command takes its database, for a rehearsal [default: DATABASE_URL, if it names it]
    #[arg(long, value_name = "NAME")]
    pub url_env: Option<String>,
    /// In a rehearsal, do not put the scratch database at the real one's path: for commands that need sudo, say
    #[arg(long)]
    pub no_namespace: bool,
    /// End the command after this time, as a failure: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Write what happened as a page for a browser
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Take up a migration that was interrupted: run its command again, or the one that is given
    #[arg(long, conflicts_with_all = ["accept", "rehearse", "rehearse_only"])]
    pub resume: bool,
    /// Keep what an interrupted migration did, and call it done
    #[arg(long, conflicts_with_all = ["rehearse", "rehearse_only", "command"])]
    pub accept: bool,
    /// The migration command
    #[arg(last = true, required_unless_present_any = ["resume", "accept"], value_name = "COMMAND")]
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
    let made = if args.accept || args.resume || cx.global.dry_run { None } else { make_missing(cx)? };
    let result = run_on(args, cx);
    if let Some(made) = made {
        made.settle(cx, &result);
    }
    result
}

fn run_on(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Any)?;
    if cx.global.dry_run {
        return dry_run(args, cx);
    }
    let policy = policy(args, &project)?;
    if args.rehearse && !can_ask(cx) && !cx.global.yes {
        return Err(CliError::usage("nobody can be asked whether the migration is to run after its rehearsal")
            .hint("`--rehearse --yes` goes on if the rehearsal went well, `--rehearse-only` never does"));
    }
    let _lock = project.lock("migrate")?;
    let config = project.config.as_ref();
    let mut allow = args.allow.clone();
    allow.extend(config.map(|config| config.migrate.allow.clone()).unwrap_or_default());
    let guards = config.map(|config| config.guards.clone()).unwrap_or_default();
    let command = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let options = Options { command, message: args.message.clone(), allow, guards };
    let migration = Migration {
        cx,
        project: &project,
        args,
        policy,
        options,
        words: String::new(),
        printed: String::new(),
        started: None,
        is_namespace: false,
        findings: Vec::new(),
    };
    project.with(|session| {
        let open = project.settle(session)?;
        match open.first() {
            Some(begin) if args.accept => accept(&project, session, begin),
            Some(begin) if args.resume => migration.resume(session, begin),
            Some(begin) => Err(project.left_open(begin)),
            None if args.accept || args.resume => Err(CliError::new(ErrorKind::Failed, "there is no interrupted migration")
                .state(DatabaseState::Unchanged)
                .hint("`dbelay op log` lists what was done")),
            None => migration.run(session),
        }
    })
}

fn dry_run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let command: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let where_to = if args.rehearse_only { " on a scratch copy" } else { "" };
    cx.output.say(format_args!("would take a snapshot, run `{}`{where_to}, and judge what it did", command.join(" ")));
    if cx.output.is_json() {
        cx.output.json(&json!({ "dry_run": true, "command": command }))?;
    }
    Ok(Exit::DONE)
}

/// A database that was not there, and that an empty file stands for.
struct Made(project::Database);

/// Makes an empty file where a migration is to make the database from nothing: an empty file is an empty database.
fn make_missing(cx: &Context) -> Result<Option<Made>, CliError> {
    let config = project::read_config(cx)?;
    let resolved = project::resolve(cx, config.as_ref())?;
    let Some(path) = resolved.url.sqlite_path().filter(|path| path.symlink_metadata().is_err()) else { return Ok(None) };
    if !path.parent().is_some_and(std::path::Path::is_dir) {
        return Ok(None);
    }
    let database = project::Database::of(&resolved.url, config.as_ref())?;
    fs_err::OpenOptions::new().write(true).create_new(true).open(path)?;
    cx.output.note(format_args!("there is no database at `{}` yet; an empty one was made for the migration to fill", path.display()));
    Ok(Some(Made(database)))
}

impl Made {
    /// Takes the file away where nothing came of it.
    fn settle(self, cx: &Context, result: &Result<Exit, CliError>) {
        let is_empty = self.0.path.metadata().is_ok_and(|metadata| metadata.len() == 0);
        let is_back = matches!(result, Err(error) if error.kind == ErrorKind::RolledBack || error.kind == ErrorKind::Interrupted);
        let has_nothing = || self.0.open().and_then(|mut engine| Ok(engine.begin_read()?.schema()?.objects.is_empty()));
        if is_empty || is_back && has_nothing().unwrap_or(false) {
            for suffix in ["-wal", "-shm", "-journal", ""] {
                let mut name = self.0.path.as_os_str().to_owned();
                name.push(suffix);
                // An empty database that stays is one that was not there before, and no more.
                let _ = dbelay::durable::remove(std::path::Path::new(&name));
            }
            if is_empty && result.is_ok() {
                cx.output.warn(format_args!("the command did not touch `{}`; is it the database that it migrates?", self.0.path.display()));
            }
        }
    }
}

/// Keeps what an interrupted migration did.
fn accept(project: &Project<'_>, session: &Session<'_>, begin: &Indexed) -> Result<Exit, CliError> {
    let (_, _, entry) = begin;
    let label = capture::Label { kind: SnapshotKind::Post, message: Some("accepted".to_owned()), command: entry.command.clone() };
    let taken = capture::take(session, label)?;
    journal::settle(session, begin, OperationResult::Kept, Some(taken.id))?;
    let output = &project.cx.output;
    output.say(format_args!(
        "{GOOD}done{GOOD:#}: what the interrupted migration did is kept, snapshot post {}; `dbelay undo` takes it back",
        project::id(&taken.id)
    ));
    if output.is_json() {
        output.json(&json!({ "result": "accepted", "pre": entry.before, "post": taken.id }))?;
    }
    Ok(Exit::DONE)
}

/// A migration on its way.
struct Migration<'a> {
    cx: &'a Context,
    project: &'a Project<'a>,
    args: &'a Args,
    policy: OnFailure,
    options: Options,
    /// How the command ended, once it has.
    words: String,
    /// The last of what it printed.
    printed: String,
    /// What helps where it could not be started.
    started: Option<String>,
    /// Whether a rehearsal put the scratch database at the real one's path.
    is_namespace: bool,
    /// What the rules found in the migration's files.
    findings: Vec<Finding>,
}

impl Migration<'_> {
    fn run(mut self, session: &Session<'_>) -> Result<Exit, CliError> {
        tell_drift(self.project, session)?;
        self.findings = super::check::before_migration(self.project, session, &self.options.allow)?;
        warn_of_other(self.project)?;
        let mut prepared = self.prepare(session)?;
        self.tell(&prepared);
        let mut rehearsed = None;
        if self.args.rehearse || self.args.rehearse_only {
            let rehearsal = self.rehearse(session, &prepared)?;
            if self.args.rehearse_only {
                return self.stop(&rehearsal);
            }
            if !terminal::confirm(self.cx, "the rehearsal went well; run it on the database?", true)? {
                self.cx.output.say(format_args!("{DIM}stopped; the database is unchanged{DIM:#}"));
                return self.stop(&rehearsal);
            }
            rehearsed = Some(rehearsal);
            // A rehearsal takes its time; `pre` is the state right before the command.
            if !prepared.is_current(session) {
                prepared = self.prepare(session)?;
            }
        }
        self.carry_out(session, prepared, None, rehearsed)
    }

    fn prepare(&self, session: &Session<'_>) -> Result<Prepared, CliError> {
        migrate::prepare(session, &self.options).map_err(|error| {
            CliError::from(error).context("the migration was not begun; the database is unchanged").state(DatabaseState::Unchanged)
        })
    }

    /// Runs the command of an interrupted migration again, or the one that was given, and judges all of it from its beginning.
    fn resume(mut self, session: &Session<'_>, begin: &Indexed) -> Result<Exit, CliError> {
        let (index, _, entry) = begin;
        if entry.kind != OperationKind::Migrate {
            return Err(self.project.left_open(begin));
        }
        if self.options.command.is_empty() {
            self.options.command.clone_from(&entry.command);
        }
        let Some(prepared) = Prepared::resume(session, entry)? else { return Err(self.project.left_open(begin)) };
        let when = time::stamp_text(&entry.time);
        self.cx.output.say(format_args!(
            "the migration of {when} is taken up; all that it did is judged from snapshot pre {}",
            project::id(&prepared.pre.id)
        ));
        self.carry_out(session, prepared, Some(*index), None)
    }

    fn carry_out(
        &mut self,
        session: &Session<'_>,
        prepared: Prepared,
        resumed: Option<u64>,
        rehearsed: Option<Rehearsal>,
    ) -> Result<Exit, CliError> {
        let options = self.options.clone();
        let outcome = match migrate::carry_out(session, &options, prepared, resumed, self) {
            Ok(outcome) => outcome,
            Err(error @ OpError::Command { .. }) => {
                let error = CliError::from(error).state(if resumed.is_some() { DatabaseState::Unknown } else { DatabaseState::Unchanged });
                return Err(match &self.started {
                    Some(hint) => error.hint(hint),
                    None => error,
                });
            }
            Err(error) if self.words.is_empty() => {
                return Err(CliError::from(error)
                    .context("the migration was not begun; the database is unchanged")
                    .state(DatabaseState::Unchanged));
            }
            Err(error) => {
                let hint = "`dbelay diff pre live` shows what the command did, `dbelay rollback` puts everything back";
                let message =
                    format!("the command ran ({}), but its effects could not be judged; the database is as it left it", self.words);
                return Err(CliError::from(error).context(message).kind(ErrorKind::NotRolledBack).state(DatabaseState::Unknown).hint(hint));
            }
        };
        let result = self.conclude(&outcome, rehearsed.as_ref());
        let durations = &outcome.durations;
        let settled = if outcome.result == OperationResult::RolledBack { "rollback" } else { "snapshot after" };
        let mut timings = vec![("snapshot before", durations.prepare)];
        timings.extend(rehearsed.iter().flat_map(rehearsal_timings));
        timings.extend([("command", outcome.end.duration), ("verdict", durations.judge), (settled, durations.settle)]);
        let name = if outcome.result == OperationResult::RolledBack { "failed" } else { "post" };
        let after = outcome.after.iter().filter(|(id, _)| *id != outcome.pre.id);
        self.report(
            session,
            page::Told {
                pre: &outcome.pre,
                others: after.map(|(id, _)| NamedSnapshot { name: name.to_owned(), id: *id, holds: String::new() }).collect(),
                end: &outcome.end,
                words: &self.words,
                aftermath: &outcome.aftermath,
                events: &outcome.events,
                remarks: outcome.limits.clone(),
                timings,
                output: &self.printed,
                findings: &self.findings,
            },
            &result,
        );
        result
    }

    /// Tells how a migration ended, and returns it.
    fn conclude(&self, outcome: &Outcome, rehearsed: Option<&Rehearsal>) -> Result<Exit, CliError> {
        let (cx, words, output) = (self.cx, &self.words, &self.cx.output);
        output.say(format_args!("{DIM}command: {words}{DIM:#}"));
        let is_fine = outcome.result == OperationResult::Done;
        for event in &outcome.events {
            output.note(text::clean(&event.sentence()));
        }
        if let Aftermath::Changed(judgement) = &outcome.aftermath {
            summary(cx, judgement)?;
            for finding in &judgement.damage {
                output.warn(format_args!("the database is damaged: {}", text::clean(&finding.message)));
            }
        }
        if is_fine {
            match &outcome.aftermath {
                Aftermath::Unchanged => {
                    output.say(format_args!(
                        "{GOOD}done{GOOD:#}: the command changed nothing in the database {DIM}(if it should have: does it use another?){DIM:#}"
                    ));
                }
                _ => {
                    let id = outcome.after.as_ref().map(|(id, _)| project::id(id)).unwrap_or_default();
                    output.say(format_args!("{GOOD}done{GOOD:#}: snapshot post {id}; `dbelay rollback` puts everything back"));
                }
            }
            if output.is_json() {
                output.json(&self.document(outcome, rehearsed))?;
            }
            return Ok(Exit::DONE);
        }
        for limit in &outcome.limits {
            output.warn(text::clean(limit));
        }
        let mut error = failure(outcome, words);
        error.details = Some(self.document(outcome, rehearsed));
        Err(error)
    }

    /// Describes a migration for programs.
    fn document(&self, outcome: &Outcome, rehearsed: Option<&Rehearsal>) -> Map<String, Value> {
        let mut document = document(outcome, rehearsed);
        document.insert("check".to_owned(), json!(self.findings));
        document
    }

    /// Writes the page, if one is wanted. The migration is over, and a page that cannot be written changes nothing about it.
    fn report(&self, session: &Session<'_>, told: page::Told<'_>, result: &Result<Exit, CliError>) {
        let Some(path) = &self.args.report else { return };
        if let Err(error) = page::write(self.project, session, path, told, result) {
            self.cx.output.warn(format_args!("the report could not be written: {:#}", error.error));
        }
    }

    /// Tells of the snapshot `pre`, and of what was found before the command.
    fn tell(&self, prepared: &Prepared) {
        let output = &self.cx.output;
        let pre = &prepared.pre;
        output.say(format_args!("snapshot pre {}: {}", project::id(&pre.id), holds(pre)));
        for name in &self.options.allow {
            let is_table = |table: &dbelay::schema::Table| {
                let is_column = |column: &dbelay::schema::Column| name.eq_ignore_ascii_case(&format!("{}.{}", table.name, column.name));
                name.eq_ignore_ascii_case(&table.name) || table.columns.iter().any(is_column)
            };
            if !pre.state.schema.tables.iter().any(is_table) {
                output.warn(format_args!(
                    "`--allow {}` names no table and no column that the database has before the migration",
                    text::clean(name)
                ));
            }
        }
        for finding in &prepared.findings {
            output.warn(format_args!("before the migration: {}", text::clean(&finding.message)));
        }
        for guard in &prepared.guards.broken {
            output.warn(format_args!("before the migration: {}", text::clean(&guard.sentence())));
        }
    }

    /// Rehearses, and writes the page of it where no real run follows.
    fn rehearse(&mut self, session: &Session<'_>, prepared: &Prepared) -> Result<Rehearsal, CliError> {
        let rehearsal = self.play(session, prepared)?;
        let result = self.judge(prepared, &rehearsal);
        if self.args.rehearse_only || result.is_err() {
            let remarks = vec!["this was a rehearsal on a scratch copy; the real database was not touched".to_owned()];
            let mut timings = vec![("snapshot before", prepared.duration)];
            timings.extend(rehearsal_timings(&rehearsal));
            let told = page::Told {
                pre: &prepared.pre,
                others: Vec::new(),
                end: &rehearsal.end,
                words: &self.words,
                aftermath: &rehearsal.aftermath,
                events: &[],
                remarks: if rehearsal.is_real_untouched { remarks } else { Vec::new() },
                timings,
                output: &self.printed,
                findings: &self.findings,
            };
            let result = result.map(|()| Exit::DONE);
            self.report(session, told, &result);
            return result.map(|_| rehearsal);
        }
        Ok(rehearsal)
    }

    /// Runs the command on a scratch copy.
    fn play(&mut self, session: &Session<'_>, prepared: &Prepared) -> Result<Rehearsal, CliError> {
        let output = &self.cx.output;
        let command = self.args.command.clone();
        let stage = Stage::set(self.project, &command, self.args.url_env.as_deref(), !self.args.no_namespace)?;
        output.say(format_args!("{HEADING}rehearsal{HEADING:#}: the command meets a scratch database {}", stage.ways()));
        let spec = CommandSpec { foreground: self.cx.environment.stdin_terminal, ..stage.spec(self.project, &command) };
        let options = self.options.clone();
        let rehearsal = self.project.with_database(&stage.database, |scratch| {
            let run = &mut || self.execute(&spec, &mut |_| {});
            rehearse::rehearse(session, scratch, prepared, &options, run).map_err(|error| {
                CliError::from(error).context("the rehearsal failed; the database is unchanged").state(DatabaseState::Unchanged)
            })
        });
        self.is_namespace = stage.namespace.is_ok();
        drop(stage);
        rehearsal
    }

    /// Tells what happened in a rehearsal, and fails where it did not go well.
    fn judge(&self, prepared: &Prepared, rehearsal: &Rehearsal) -> Result<(), CliError> {
        let (output, is_namespace) = (&self.cx.output, self.is_namespace);
        output.say(format_args!("{DIM}command: {}{DIM:#}", self.words));
        if let Aftermath::Changed(judgement) = &rehearsal.aftermath {
            summary(self.cx, judgement)?;
        }
        if !rehearsal.is_real_untouched {
            if !is_namespace || !rehearsal.is_scratch_touched {
                return Err(CliError::new(
                    ErrorKind::NotRolledBack,
                    "the rehearsal could not be isolated: the real database was changed while it ran, by the command or by another program",
                )
                .state(DatabaseState::Changed)
                .hint(format_args!(
                    "`dbelay diff {0} live` shows the change, `dbelay rollback {0}` takes it back",
                    prepared.pre.id.short()
                )));
            }
            output.note("another program changed the database during the rehearsal; the command could not reach it");
        }
        if !rehearsal.is_fine() && (rehearsal.is_scratch_touched || !rehearsal.end.is_success()) {
            return Err(self.rehearsal_failure(rehearsal));
        }
        if !rehearsal.is_scratch_touched && !is_namespace {
            return Err(CliError::new(
                ErrorKind::Failed,
                "the command changed nothing in the rehearsal, so that nothing shows that it met the scratch database",
            )
            .state(DatabaseState::Unchanged)
            .hint("if there is nothing to migrate, that is all; else `--url-env NAME`, `{db}` or `{url}` lead the command to it"));
        }
        let found = match &rehearsal.aftermath {
            Aftermath::Unchanged => "the command changed nothing",
            _ => "nothing speaks against it",
        };
        output.say(format_args!("{GOOD}rehearsed{GOOD:#}: {found}; the real database was not touched"));
        Ok(())
    }

    fn rehearsal_failure(&self, rehearsal: &Rehearsal) -> CliError {
        let (what, causes) = what_went_wrong(&rehearsal.end, &rehearsal.aftermath, &self.words, "in the rehearsal ");
        let message = format!("{what}; the database was not touched");
        let mut error = chain(ErrorKind::RolledBack, message, causes).state(DatabaseState::Unchanged);
        let allow = match &rehearsal.aftermath {
            Aftermath::Changed(judgement) if rehearsal.end.is_success() => allowances(&judgement.verdict),
            _ => None,
        };
        error = match allow {
            Some(allow) => error.hint(format_args!("if the loss is intended: `dbelay migrate {allow} ...`")),
            None => error.hint("mend the migration and rehearse it again; nothing has to be undone"),
        };
        if rehearsal.end.is_interrupted {
            error = error.kind(ErrorKind::Interrupted);
        }
        let mut details = Map::new();
        details.insert("rehearsal".to_owned(), rehearsal_document(rehearsal));
        details.insert("check".to_owned(), json!(self.findings));
        error.details = Some(details);
        error
    }

    /// Ends after a rehearsal that went well.
    fn stop(&self, rehearsal: &Rehearsal) -> Result<Exit, CliError> {
        if self.cx.output.is_json() {
            let document = json!({ "result": "rehearsed", "rehearsal": rehearsal_document(rehearsal), "check": self.findings });
            self.cx.output.json(&document)?;
        }
        Ok(Exit::DONE)
    }

    fn execute(&mut self, spec: &CommandSpec, started: &mut dyn FnMut(ProcessId)) -> std::io::Result<CommandEnd> {
        let output = &self.cx.output;
        let outcome = process::run(spec, started, &mut |stream, bytes| output.pass(stream, bytes)).map_err(|error| {
            if let process::CommandError::NotFound(name) = &error {
                self.started = Some(format!("is `{name}` in PATH? a line for a shell needs one: `dbelay migrate -- sh -c '...'`"));
            }
            std::io::Error::other(error)
        })?;
        if outcome.stragglers {
            output.warn("the command left processes behind that still run; what they write to the database is not judged");
        }
        if outcome.wanted_terminal {
            output.warn("the command wanted to ask something, and there is no terminal");
        }
        let mut words = format!("{} after {}", outcome.exit, time::duration(outcome.duration));
        if outcome.timed_out {
            let timeout = self.args.timeout.map(time::duration).unwrap_or_default();
            words = format!("ended because it ran longer than {timeout}: {words}");
        }
        self.words = words;
        self.printed = [&outcome.stdout_tail, &outcome.stderr_tail].map(|tail| String::from_utf8_lossy(tail).into_owned()).concat();
        let exit = match outcome.exit {
            ExitKind::Code(code) => CommandExit::Code(code),
            ExitKind::Signal(signal) => CommandExit::Signal(signal),
        };
        Ok(CommandEnd { exit, duration: outcome.duration, is_interrupted: outcome.interrupted, is_timed_out: outcome.timed_out })
    }
}

fn can_ask(cx: &Context) -> bool {
    cx.environment.stdin_terminal && cx.environment.stderr_terminal && !cx.output.is_json() && !cx.global.yes
}

fn policy(args: &Args, project: &Project<'_>) -> Result<OnFailure, CliError> {
    let cx = project.cx;
    let can_ask = can_ask(cx);
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

impl Steps for Migration<'_> {
    fn run(&mut self, started: &mut dyn FnMut(ProcessId)) -> std::io::Result<CommandEnd> {
        let words: Vec<OsString> = match self.args.command.as_slice() {
            [] => self.options.command.iter().map(OsString::from).collect(),
            command => command.to_vec(),
        };
        let database = self.project.database().map_err(|error| std::io::Error::other(error.error))?;
        let command = Words::of(database, self.project.url.as_ref()).fill(&words);
        let foreground = self.cx.environment.stdin_terminal;
        self.execute(&CommandSpec { foreground, timeout: self.args.timeout, ..super::rehearse::spec(self.cx, command) }, started)
    }

    fn decide(&mut self, end: &CommandEnd, judgement: Option<&Judgement>) -> Decision {
        match self.policy {
            OnFailure::Rollback => Decision::Rollback,
            OnFailure::Keep => Decision::Keep,
            OnFailure::Ask => {
                let output = &self.cx.output;
                let what = match judgement {
                    None => "the command left no database",
                    Some(_) if !end.is_success() => "the migration command failed",
                    Some(judgement) if judgement.verdict.unannounced().next().is_some() => "the migration lost data",
                    Some(judgement) if judgement.broken_guards().next().is_some() => "the migration broke a guard",
                    Some(_) => "the migration damaged the database",
                };
                output.line(format_args!("{WARNING}{what}{WARNING:#} ({})", self.words));
                if let Some(judgement) = judgement {
                    for cause in causes(judgement).iter().take(LOSSES_MAX) {
                        output.line(format_args!("  {cause}"));
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

/// Prints what a migration did.
fn summary(cx: &Context, judgement: &Judgement) -> Result<(), CliError> {
    let output = &cx.output;
    let Judgement { schema, verdict, guards, .. } = judgement;
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
    if verdict.changes.iter().any(|change| !change.is_ledger) {
        output.say(format_args!("{HEADING}rows{HEADING:#}"));
        let mut table = Table::new(&[Align::Left, Align::Left, Align::Left]);
        for change in verdict.changes.iter().filter(|change| !change.is_ledger) {
            let touched = text::columns_touched(&change.pair, &change.counts);
            let columns = if touched.is_empty() { String::new() } else { format!("({})", touched.join(", ")) };
            table.line(anstyle::Style::new(), [text::title(&change.pair), text::sentence(&change.pair, &change.counts), columns]);
        }
        let mut lines = Vec::new();
        table.write("  ", &mut lines)?;
        for line in String::from_utf8_lossy(&lines).lines() {
            output.say(line);
        }
    }
    for change in verdict.changes.iter().filter(|change| change.is_ledger) {
        output.say(format_args!("{DIM}ledger: {}{DIM:#}", text::clean(&change.ledger_sentence())));
    }
    for moved in &verdict.moved {
        output.say(format_args!("moved: {}", text::clean(&moved.sentence())));
    }
    for remark in &verdict.remarks {
        output.say(format_args!("{DIM}remark: {}{DIM:#}", text::clean(remark)));
    }
    for loss in verdict.losses.iter().filter(|loss| loss.allowed) {
        output.say(format_args!("{DIM}allowed: {}{DIM:#}", text::clean(&loss.sentence())));
    }
    if let (count @ 1.., 0) = (guards.len(), judgement.broken_guards().count()) {
        let (noun, verb) = if count == 1 { ("guard", "holds") } else { ("guards", "hold") };
        output.say(format_args!("{DIM}{count} {noun} {verb}{DIM:#}"));
    }
    Ok(())
}

/// Says what went wrong, and why. `at` says where, with a trailing blank; else it is empty.
fn what_went_wrong(end: &CommandEnd, aftermath: &Aftermath, words: &str, at: &str) -> (String, Vec<String>) {
    let what = match aftermath {
        Aftermath::Unreadable(_) => format!("after the command ({words}) {at}the database cannot be read"),
        _ if end.is_timed_out => format!("{at}the migration command took too long ({words})"),
        _ if end.is_interrupted => format!("{at}the migration was interrupted ({words})"),
        _ if !end.is_success() => format!("{at}the migration command failed ({words})"),
        Aftermath::Changed(judgement) if judgement.is_emptied() => format!("{at}the migration emptied the database (command {words})"),
        Aftermath::Changed(judgement) if judgement.verdict.unannounced().next().is_some() => {
            format!("{at}the migration lost data (command {words})")
        }
        Aftermath::Changed(judgement) if judgement.broken_guards().next().is_some() => {
            format!("{at}the migration broke a guard (command {words})")
        }
        _ => format!("{at}the migration damaged the database (command {words})"),
    };
    let causes = match aftermath {
        Aftermath::Unchanged => Vec::new(),
        Aftermath::Changed(judgement) => causes(judgement),
        Aftermath::Unreadable(error) => vec![text::clean(&error.to_string())],
    };
    (what, causes)
}

/// Returns what speaks against what happened: losses, guards, damage.
fn causes(judgement: &Judgement) -> Vec<String> {
    let losses: Vec<&Loss> = judgement.verdict.unannounced().collect();
    let mut causes: Vec<String> = losses.iter().take(LOSSES_MAX).map(|loss| sentence(loss)).collect();
    if losses.len() > LOSSES_MAX {
        causes.push(format!("and {} more losses", losses.len() - LOSSES_MAX));
    }
    causes.extend(judgement.broken_guards().map(GuardResult::sentence).map(|text| text::clean(&text)));
    causes.extend(judgement.damage.iter().map(|finding| text::clean(&finding.message)));
    causes
}

/// Builds an error with causes, the first one first.
fn chain(kind: ErrorKind, message: String, causes: Vec<String>) -> CliError {
    let error = causes.into_iter().rev().fold(None, |error: Option<CliError>, text| {
        Some(match error {
            None => CliError::new(kind, text),
            Some(error) => error.context(text),
        })
    });
    match error {
        None => CliError::new(kind, message),
        Some(error) => error.context(message).kind(kind),
    }
}

fn failure(outcome: &Outcome, words: &str) -> CliError {
    let (what, mut causes) = what_went_wrong(&outcome.end, &outcome.aftermath, words, "");
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
    if let Some(error) = &outcome.rollback_error {
        causes.push(format!("the rollback failed: {}", dbelay::ops::with_causes(error)));
    }
    chain(kind, format!("{what}; {now}"), causes).state(state).hint(hint(outcome, is_unchanged))
}

fn sentence(loss: &Loss) -> String {
    let mut text = text::clean(&loss.sentence());
    if !loss.examples.is_empty() {
        text.push_str(&format!(" ({})", text::clean(&loss.examples.join("; "))));
    }
    text
}

/// Returns the options that announce the losses; none where there are none.
fn allowances(verdict: &Verdict) -> Option<String> {
    let mut allowances: Vec<String> = verdict.unannounced().map(|loss| format!("--allow {}", loss.allowance())).collect();
    allowances.dedup();
    (!allowances.is_empty()).then(|| allowances.join(" "))
}

fn hint(outcome: &Outcome, is_unchanged: bool) -> String {
    if let Aftermath::Unreadable(_) = &outcome.aftermath
        && outcome.result != OperationResult::RolledBack
    {
        return format!("`dbelay restore {} --to NEW.db` writes the state before it into a new file", outcome.pre.id.short());
    }
    if is_unchanged {
        return "what the command said is above; nothing has to be undone".to_owned();
    }
    let allow = match &outcome.aftermath {
        Aftermath::Changed(judgement) if outcome.end.is_success() => allowances(&judgement.verdict),
        _ => None,
    };
    let allow = allow.map(|allow| format!("; if the loss is intended: `dbelay migrate {allow} -- ...`"));
    if let (Aftermath::Unreadable(_), OperationResult::RolledBack) = (&outcome.aftermath, outcome.result) {
        return "it was made anew from the snapshot; programs that had the old file open must be started anew".to_owned();
    }
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
fn document(outcome: &Outcome, rehearsed: Option<&Rehearsal>) -> Map<String, Value> {
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
    if let Some(rehearsal) = rehearsed {
        document.insert("rehearsal".to_owned(), rehearsal_document(rehearsal));
    }
    document
}

fn rehearsal_timings(rehearsal: &Rehearsal) -> [(&'static str, Duration); 3] {
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
    };
    json!({
        "exit": code, "signal": signal, "interrupted": end.is_interrupted, "timed_out": end.is_timed_out,
        "seconds": end.duration.as_secs_f64(),
    })
}

fn rehearsal_document(rehearsal: &Rehearsal) -> Value {
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
