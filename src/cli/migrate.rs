//! `dbelay migrate`: the safety wrapper around a migration command.
//!
//! [`told`] says what it did, [`document`] says it to programs, [`missing`] is about a database that is not
//! there yet, [`rehearsal`] about the run before the run.

mod document;
mod missing;
mod rehearsal;
mod told;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use dbelay::check::Finding;
use dbelay::config;
use dbelay::ops::capture;
use dbelay::ops::journal::{self, Indexed, OperationKind, OperationResult};
use dbelay::ops::migrate::{self, Aftermath, CommandEnd, CommandExit, Judgement, OnFailure as Decision, Options, Outcome, Prepared, Steps};
use dbelay::ops::rehearse::Rehearsal;
use dbelay::ops::{OpError, Session};
use dbelay::process::{self, CommandSpec, ExitKind};
use dbelay::render::html::report::NamedSnapshot;
use dbelay::render::text;
use dbelay::schema::diff::Renames;
use dbelay::schema::{Schema, Table};
use dbelay::snapshot::manifest::SnapshotKind;
use serde_json::{Map, Value, json};

use super::output::{DIM, GOOD, WARNING};
use super::project::{self, Need, Project};
use super::rehearse::{self, Words, unset_variable, warn_of_other};
use super::snapshot::holds;
use super::{CliError, Context, DatabaseState, ErrorKind, Exit, database, files, page, terminal, time};

use self::document::rehearsal_timings;
use self::missing::{how_to_make, make_missing};
use self::told::{LOSSES_MAX, causes, failure, summary};

const EXAMPLES: &str = "\
Examples:
  dbelay migrate -- npx prisma migrate deploy
  dbelay migrate --allow users.legacy_name -- alembic upgrade head
  dbelay migrate --rehearse -- python manage.py migrate
  dbelay migrate --rehearse-only --url-env DATABASE_URL -- dbmate up
  dbelay migrate --on-failure keep -m \"try the new schema\" -- make migrate
  dbelay migrate --resume";

/// Run a migration command with a snapshot before it, a verdict after it, and a rollback if it went wrong
///
/// In the command, `{url}` stands for the URL of the database, and `{db}` for its path, or for its name on a server.
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
    ///
    /// The command comes to the copy by `{db}` or `{url}` in its words, or by the variable of `--url-env`. Where neither names it, it sees a layer
    /// over the database's folder (Linux): what it writes in that folder is gone afterwards. A server has the copy beside the real one, and the
    /// command comes to it by `PGDATABASE` and its like, too, where those name the real one.
    #[arg(long)]
    pub rehearse: bool,
    /// Run the command on a scratch copy, and not on the database
    #[arg(long, conflicts_with = "rehearse")]
    pub rehearse_only: bool,
    /// The variable from which the command takes its database [default: `url-env` under [migrate], else DATABASE_URL if it names it]
    #[arg(long, value_name = "NAME")]
    pub url_env: Option<String>,
    /// In a rehearsal, give the command no view of its own of the database's folder: for commands that need sudo, say
    #[arg(long)]
    pub no_namespace: bool,
    /// End the command after this time, as a failure: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "accept")]
    pub timeout: Option<Duration>,
    /// Where the database is rolled back, put the files beside it back, too
    #[arg(long, conflicts_with = "accept")]
    pub with_files: bool,
    /// Write what happened as a page for a browser
    #[arg(long, value_name = "FILE.html", conflicts_with = "accept")]
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
    let result = run_on(args, cx).map_err(|error| how_to_make(cx, error));
    if let Some(made) = made {
        made.settle(cx, &result, !args.rehearse_only);
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
    if let Some(report) = &args.report {
        refuse_report(&project, &cx.environment.cwd.join(report))?;
    }
    let _lock = project.lock("migrate")?;
    // A rehearsal that was killed left its scratch database on the server, where nobody else looks for it.
    rehearse::tidy(&project);
    let config = project.config.as_ref();
    let mut allow = args.allow.clone();
    allow.extend(config.map(|config| config.migrate.allow.clone()).unwrap_or_default());
    let guards = config.map(|config| config.guards.clone()).unwrap_or_default();
    let command = recorded(&args.command);
    if args.with_files && project.files.is_none() {
        return Err(OpError::from(dbelay::ops::files::FileError::NoFolder).into());
    }
    let full_check = config.is_some_and(|config| config.migrate.full_check);
    let options = Options { command, message: args.message.clone(), allow, guards, with_files: args.with_files, full_check };
    let migration = Migration {
        cx,
        project: &project,
        args,
        policy,
        options,
        words: String::new(),
        printed: String::new(),
        started: None,
        is_protected: false,
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

/// Refuses to write a report over the database or into the store.
fn refuse_report(project: &Project<'_>, report: &std::path::Path) -> Result<(), CliError> {
    let is_same = |a: &std::path::Path, b: &std::path::Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    let folder = report.parent().and_then(|folder| folder.canonicalize().ok());
    let store = project.store.dir().canonicalize().ok();
    let is_of_database =
        project.database()?.file().is_some_and(|database| database::files(database).any(|file| file == report || is_same(report, &file)));
    let is_in_store = store.zip(folder).is_some_and(|(store, folder)| folder.starts_with(store));
    if is_in_store || is_of_database {
        return Err(CliError::usage(format_args!("the report cannot be written to `{}`", report.display()))
            .hint("name a file of its own: `--report report.html`"));
    }
    Ok(())
}

/// Writes a command as it is kept and shown: without the passwords of the URLs in it.
fn recorded(command: &[OsString]) -> Vec<String> {
    command.iter().map(|word| dbelay::source::redact(&word.to_string_lossy())).collect()
}

fn dry_run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let command = recorded(&args.command);
    let where_to = if args.rehearse_only { " on a scratch copy" } else { "" };
    cx.output.say(format_args!("would take a snapshot, run `{}`{where_to}, and judge what it did", command.join(" ")));
    if cx.output.is_json() {
        cx.output.json(&json!({ "dry_run": true, "command": command }))?;
    }
    Ok(Exit::DONE)
}

/// Keeps what an interrupted migration did.
fn accept(project: &Project<'_>, session: &Session<'_>, begin: &Indexed) -> Result<Exit, CliError> {
    let (_, _, entry) = begin;
    if entry.kind != OperationKind::Migrate {
        return Err(project.left_open(begin));
    }
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
    /// Whether the command could not have changed the real database in its rehearsal.
    is_protected: bool,
    /// What the rules found in the migration's files.
    findings: Vec<Finding>,
}

impl Migration<'_> {
    fn run(mut self, session: &Session<'_>) -> Result<Exit, CliError> {
        tell_drift(self.project, session)?;
        self.findings = super::check::before_migration(self.project, session, &self.options.allow)?;
        warn_of_other(self.project)?;
        let mut prepared = self.prepare(session)?;
        self.name(&prepared.pre.state.schema);
        self.tell(&prepared);
        let mut rehearsed = None;
        if self.args.rehearse || self.args.rehearse_only {
            let input = Input::keep();
            let rehearsal = self.rehearse(session, &prepared)?;
            if self.args.rehearse_only {
                return self.stop(&rehearsal);
            }
            if !terminal::confirm(self.cx, "the rehearsal went well; run it on the database?", true)? {
                self.cx.output.say(format_args!("{DIM}stopped; the database is unchanged{DIM:#}"));
                return self.stop(&rehearsal);
            }
            rehearsed = Some(rehearsal);
            input.give_back(self.cx);
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

    /// Gives the tables and columns that options and configuration name the names that they have in the snapshot before.
    fn name(&mut self, schema: &Schema) {
        let is_table = |name: &str| schema.tables.iter().any(|table| table.name.eq_ignore_ascii_case(name));
        let is_column = |table: &Table, name: &str| {
            table.columns.iter().any(|column| name.eq_ignore_ascii_case(&format!("{}.{}", table.name, column.name)))
        };
        let is_known = |name: &str| is_table(name) || schema.tables.iter().any(|table| is_column(table, name));
        let project = self.project;
        for name in &mut self.options.allow {
            *name = project.name(name, is_known).to_owned();
        }
        let guards = &mut self.options.guards;
        for name in &mut guards.unchanged {
            *name = project.name(name, is_table).to_owned();
        }
        let limits = std::mem::take(&mut guards.tables);
        guards.tables = limits.into_iter().map(|(name, limits)| (project.name(&name, is_table).to_owned(), limits)).collect();
    }

    /// Runs the command of an interrupted migration again, or the one that was given, and judges all of it from its beginning.
    fn resume(mut self, session: &Session<'_>, begin: &Indexed) -> Result<Exit, CliError> {
        let (index, _, entry) = begin;
        if entry.kind != OperationKind::Migrate {
            return Err(self.project.left_open(begin));
        }
        if self.options.command.is_empty() {
            if entry.command.iter().any(|word| word.contains("***")) {
                return Err(CliError::usage("the interrupted command had a password among its words, which was not kept")
                    .hint("give the command again: `dbelay migrate --resume -- COMMAND`"));
            }
            self.options.command.clone_from(&entry.command);
        }
        self.options.with_files |= entry.files;
        let Some(prepared) = Prepared::resume(session, entry)? else { return Err(self.project.left_open(begin)) };
        self.name(&prepared.pre.state.schema);
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
        // What a rehearsal left of these is not the real run's.
        (self.words, self.printed, self.started) = Default::default();
        // From here on a migration is brought to its end: to stop between the command and the verdict would leave what it did unjudged.
        #[cfg(unix)]
        let _hold = process::SignalHold::all().ok();
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
                remarks: outcome.limits.iter().cloned().chain(files::migration_remark(&outcome)).collect(),
                timings,
                output: &self.printed,
                findings: &self.findings,
                is_rehearsal: false,
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
        files::tell_migration(cx, outcome);
        if is_fine {
            match &outcome.aftermath {
                Aftermath::Unchanged if outcome.files.as_ref().is_some_and(|files| !files.changes.is_empty()) => {
                    let id = outcome.after.as_ref().map(|(id, _)| project::id(id)).unwrap_or_default();
                    output.say(format_args!(
                        "{GOOD}done{GOOD:#}: the command changed files, and nothing in the database; snapshot post {id}"
                    ));
                }
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
        let mut document = document::document(outcome, rehearsed);
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
        for name in self.options.guards.unchanged.iter().chain(self.options.guards.tables.keys()) {
            if !pre.state.schema.tables.iter().any(|table| table.name.eq_ignore_ascii_case(name)) {
                output.warn(format_args!("`[guards]` names a table `{}`, and there is none", text::clean(name)));
            }
        }
        for finding in &prepared.findings {
            output.warn(format_args!("before the migration: {}", text::clean(&finding.message)));
        }
        for guard in &prepared.guards.broken {
            output.warn(format_args!("before the migration: {}", text::clean(&guard.sentence())));
        }
    }

    fn execute(&mut self, spec: &CommandSpec) -> std::io::Result<CommandEnd> {
        let output = &self.cx.output;
        let begun = self.cx.now();
        let outcome = match process::run(spec, &mut |stream, bytes| output.pass(stream, bytes)) {
            Ok(outcome) => outcome,
            Err(error @ process::CommandError::Lost { .. }) => {
                // It ran; that nobody can say how it ended is as good as a failure.
                output.warn(&error);
                self.words = "its exit code is not known".to_owned();
                let duration = (self.cx.now() - begun).to_std().unwrap_or_default();
                return Ok(CommandEnd { exit: CommandExit::Unknown, duration, is_interrupted: false, is_timed_out: false });
            }
            Err(error) => {
                if let process::CommandError::NotFound(name) = &error {
                    self.started = Some(format!("is `{name}` in PATH? a line for a shell needs one: `dbelay migrate -- sh -c '...'`"));
                }
                return Err(std::io::Error::other(error));
            }
        };
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

/// Standard input, which the real run is to find as the rehearsal found it.
struct Input(Option<u64>);

impl Input {
    /// Remembers where a file is read that standard input comes from.
    fn keep() -> Self {
        #[cfg(unix)]
        return Self(rustix::fs::tell(std::io::stdin()).ok());
        #[cfg(not(unix))]
        Self(None)
    }

    /// Makes it read there again. What was read of a pipe is gone.
    fn give_back(&self, cx: &Context) {
        #[cfg(unix)]
        {
            let Some(place) = self.0 else {
                let kind = rustix::fs::fstat(std::io::stdin()).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
                if kind == Ok(rustix::fs::FileType::Fifo) {
                    cx.output.note("standard input is a pipe: what the rehearsal read of it is gone for the real run");
                }
                return;
            };
            // What cannot be read twice was not read.
            let _ = rustix::fs::seek(std::io::stdin(), rustix::fs::SeekFrom::Start(place));
        }
        #[cfg(not(unix))]
        let _ = cx;
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
    fn run(&mut self, mark: &str) -> std::io::Result<CommandEnd> {
        let words: Vec<OsString> = match self.args.command.as_slice() {
            [] => self.options.command.iter().map(OsString::from).collect(),
            command => command.to_vec(),
        };
        let database = self.project.database().map_err(|error| std::io::Error::other(error.error))?;
        let command = Words::of(database, self.project.url.as_ref()).fill(&words);
        let foreground = self.cx.environment.stdin_terminal;
        // Where a rehearsal names the database by a variable that nobody set, the real run does so too.
        let env = unset_variable(self.project, self.args.url_env.as_deref()).map_err(|error| std::io::Error::other(error.error))?;
        let mark = (process::MARK.to_owned(), mark.to_owned());
        let env = env.into_iter().chain([mark]).map(|(name, value)| (name.into(), value.into())).collect();
        self.execute(&CommandSpec { foreground, timeout: self.args.timeout, env, ..super::rehearse::spec(self.cx, command) })
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
