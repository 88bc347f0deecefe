//! `dbelay check`: what could go wrong, before anything runs: the database's own checks, and the rules over the migrations that are pending.
//!
//! [`before_migration`] is the part of it that `dbelay migrate` begins with.

use std::io::Write;
use std::path::Path;

use dbelay::check::{self, Finding, Options, Severity};
use dbelay::config::{Config, OnFindings};
use dbelay::engine::Engine;
use dbelay::ops::capture;
use dbelay::ops::check::{self as checks, Checked};
use dbelay::ops::guard;
use dbelay::ops::journal;
use dbelay::ops::{OpError, Session};
use dbelay::render::text;
use dbelay::schema::Schema;
use dbelay::source::migrations::{self, MigrationFile};
use serde::Serialize;
use serde_json::json;

use super::database::Database;
use super::output::{DIM, ERROR, GOOD, HEADING, HINT, WARNING};
use super::project::{Need, Project, read_config, resolve};
use super::table::width;
use super::time::{bytes, number};
use super::{CliError, Context, DatabaseState, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay check
  dbelay check --rules
  dbelay check --explain rebuild-cascades";

/// Look at the database and at the migrations that are pending, without running anything
///
/// The database: damage, broken references, room on the disk, writers, drift from the newest snapshot, operations that were left open. The
/// migrations that are SQL files: whether the live rows would let them pass, and what would be lost. Exits with 1 if something was found.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print the page of a rule
    #[arg(long, value_name = "RULE", conflicts_with = "rules")]
    pub explain: Option<String>,
    /// List the rules
    #[arg(long)]
    pub rules: bool,
}

/// Something wrong with the database or around it.
#[derive(Debug, Clone, Serialize)]
struct Problem {
    /// Which check found it.
    check: String,
    /// What it is.
    message: String,
    /// How many rows it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// Whether it is only worth knowing.
    is_remark: bool,
}

impl Problem {
    fn new(check: &str, message: impl Into<String>) -> Self {
        Self { check: check.to_owned(), message: message.into(), count: None, is_remark: false }
    }
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    if args.rules {
        return list(cx);
    }
    if let Some(name) = &args.explain {
        return explain(name, cx);
    }
    // Without a store there is nothing to compare with; the rest is worth knowing all the same.
    let project = match Project::open(cx, Need::Existing) {
        Ok(project) => Some(project),
        Err(error) if error.kind == ErrorKind::NoStore => None,
        Err(error) => return Err(error),
    };
    let (config, database) = match &project {
        Some(project) => (project.config.clone(), project.database()?.clone()),
        None => {
            let config = read_config(cx)?;
            let database = Database::of(cx, &resolve(cx, config.as_ref())?.url, config.as_ref())?;
            (config, database)
        }
    };
    let (head, mut problems) = match &project {
        Some(project) => (head(project)?, unfinished(project, &database)?),
        None => (None, Vec::new()),
    };
    let mut engine = database.open()?;
    let health = checks::health(&mut *engine, head.as_ref())?;
    problems.splice(
        0..0,
        health.findings.iter().map(|finding| Problem {
            count: Some(finding.count),
            is_remark: finding.check == "unchecked",
            ..Problem::new(&finding.check, finding.message.clone())
        }),
    );
    if let Some(drift) = &health.drift {
        let lines = drift.lines().join("\n");
        problems.push(Problem::new("drift", format!("the schema was changed since the newest snapshot, outside of dbelay:\n{lines}")));
    }
    if let Some(file) = database.file() {
        problems.extend(room(file, project.as_ref().map(|project| project.store.dir())));
    }
    if let Some(who) = database.open_impatient().ok().and_then(|mut engine| checks::writer(&mut *engine)) {
        let who = if who.is_empty() { "another process".to_owned() } else { who };
        problems.push(Problem::new(
            "writer",
            format!("{who} has a write transaction open; a migration would wait for it, and fail in the end"),
        ));
    }
    problems.extend(guards(&mut *engine, config.as_ref()));
    let has_rules = speaks_sqlite(&database);
    let files = if has_rules { files(cx, config.as_ref())? } else { Vec::new() };
    let checked = if has_rules { checks::rules(&mut *engine, &files, &options(config.as_ref(), &[]))? } else { Checked::default() };
    if !has_rules {
        cx.output.note("the rules know only SQLite's SQL, so that the migrations' files were not looked at");
    }
    let is_found = problems.iter().any(|problem| !problem.is_remark) || !checked.report.findings.is_empty();
    if cx.output.is_json() {
        cx.output.json(&json!({
            "ok": !is_found, "problems": problems, "drift": health.drift.as_ref().map(|drift| &drift.changes), "files": scripts(&checked),
            "files_guessed": checked.is_guessed, "findings": checked.report.findings, "silenced": checked.report.silenced,
            "remarks": checked.report.remarks,
        }))?;
    } else {
        print(cx, &problems, has_rules.then_some(&checked), project.is_some())?;
    }
    Ok(if is_found { Exit::FOUND } else { Exit::DONE })
}

/// Tells whether a database speaks the SQL that the rules know.
fn speaks_sqlite(database: &Database) -> bool {
    database.file().is_some()
}

fn list(cx: &Context) -> Result<Exit, CliError> {
    if cx.output.is_json() {
        let rules: Vec<_> = check::RULES.iter().map(|rule| json!({ "rule": rule.name, "summary": rule.summary() })).collect();
        cx.output.json(&json!({ "rules": rules }))?;
        return Ok(Exit::DONE);
    }
    let widest = check::RULES.iter().map(|rule| width(rule.name)).max().unwrap_or_default();
    let mut out = cx.output.out();
    for rule in &check::RULES {
        writeln!(out, "{HEADING}{:widest$}{HEADING:#}  {}", rule.name, rule.summary())?;
    }
    out.finish()?;
    cx.output.say(format_args!("{DIM}`dbelay check --explain RULE` says more{DIM:#}"));
    Ok(Exit::DONE)
}

fn explain(name: &str, cx: &Context) -> Result<Exit, CliError> {
    let Some(rule) = check::rule(name) else {
        return Err(CliError::usage(format_args!("there is no rule `{}`", text::clean(name))).hint("`dbelay check --rules` lists them"));
    };
    if cx.output.is_json() {
        cx.output.json(&json!({ "rule": rule.name, "page": rule.page }))?;
        return Ok(Exit::DONE);
    }
    let mut out = cx.output.paged();
    write!(out, "{HEADING}{}{HEADING:#}\n\n{}", rule.name, rule.page)?;
    out.finish()?;
    Ok(Exit::DONE)
}

/// Returns the schema of the newest snapshot.
fn head(project: &Project<'_>) -> Result<Option<Schema>, CliError> {
    let newest = project.with(|session| Ok(capture::newest(session)?))?;
    Ok(newest.map(|(_, snapshot)| capture::load(&project.store, &snapshot)).transpose()?.map(|state| state.schema))
}

fn unfinished(project: &Project<'_>, database: &Database) -> Result<Vec<Problem>, CliError> {
    // While another works on the project its operation is open, and no sign of a crash.
    if project.store.lock_holder()?.is_some() {
        return Ok(Vec::new());
    }
    let log = project.operations();
    let problem = |(_, _, entry): &journal::Indexed| {
        let when = super::time::stamp_text(&entry.time);
        Problem::new(
            "unfinished",
            format!("`dbelay {}` of {when} was interrupted; the next command that changes something says what to do", entry.kind.word()),
        )
    };
    Ok(journal::unfinished(&log, &database.source).into_iter().map(problem).collect())
}

/// Compares the room that there is with what a migration may need: a rollback journal or log beside the database, and snapshots before and
/// after, all together as large as the database at worst.
fn room(database: &Path, store: Option<&Path>) -> Vec<Problem> {
    let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let needed = size(database) + size(Path::new(&log));
    let beside = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let places = [("the database", Some(beside)), ("the store", store)];
    let problem = |(what, folder): (&str, Option<&Path>)| {
        let free = dbelay::durable::free_bytes(folder?)?;
        (free < needed)
            .then(|| Problem::new("room", format!("where {what} is, {} are free; a migration may need {}", bytes(free), bytes(needed))))
    };
    places.into_iter().filter_map(problem).collect()
}

/// Asks the guards that can be asked without a migration.
fn guards(engine: &mut dyn Engine, config: Option<&Config>) -> Vec<Problem> {
    let Some(guards) = config.map(|config| &config.guards).filter(|guards| !guards.assertions.is_empty()) else { return Vec::new() };
    let asked = engine.begin_read().map_err(OpError::from).and_then(|mut read| guard::before(&mut *read, guards));
    match asked {
        Ok(before) => before.broken.iter().map(|broken| Problem::new("guard", broken.sentence())).collect(),
        Err(error) => vec![Problem::new("guard", dbelay::ops::with_causes(&error))],
    }
}

fn options(config: Option<&Config>, allow: &[String]) -> Options {
    let mut allow = allow.to_vec();
    allow.extend(config.map(|config| config.migrate.allow.clone()).unwrap_or_default());
    let ignore = config.map(|config| config.check.ignore.clone()).unwrap_or_default();
    Options { ledgers: Vec::new(), ignore, allow }
}

/// Reads the migrations that are SQL files.
fn files(cx: &Context, config: Option<&Config>) -> Result<Vec<MigrationFile>, CliError> {
    let cwd = &cx.environment.cwd;
    let root = config.and_then(|config| config.path.parent()).unwrap_or(cwd);
    let patterns = config.and_then(|config| config.migrate.files.clone());
    let found = match &patterns {
        Some(patterns) => migrations::find(root, patterns),
        None => migrations::find(root, &migrations::places(root)),
    };
    let found = found.map_err(|error| CliError::from(error).kind(ErrorKind::Config))?;
    if found.is_empty()
        && let Some(patterns) = patterns.filter(|patterns| !patterns.is_empty())
    {
        cx.output.note(format_args!("no file is named by `files = [\"{}\"]` in dbelay.toml", patterns.join("\", \"")));
    }
    Ok(found.iter().map(|path| migrations::read(root, path)).collect::<Result<_, _>>()?)
}

fn scripts(checked: &Checked) -> serde_json::Value {
    checked.scripts.iter().map(|(path, is_pending)| json!({ "path": path, "pending": is_pending })).collect()
}

fn print(cx: &Context, problems: &[Problem], checked: Option<&Checked>, has_store: bool) -> Result<(), CliError> {
    let mut out = cx.output.out();
    for problem in problems {
        let (style, word) = if problem.is_remark { (HINT, "note") } else { (WARNING, "warning") };
        let mut lines = problem.message.lines();
        writeln!(out, "{style}{word}[{}]{style:#}: {}", problem.check, text::clean(lines.next().unwrap_or_default()))?;
        for line in lines {
            writeln!(out, "  {}", text::clean(line))?;
        }
    }
    for finding in checked.iter().flat_map(|checked| &checked.report.findings) {
        write_finding(&mut out, finding)?;
    }
    out.finish()?;
    let looked = checked.map_or_else(String::new, |checked| {
        tell(cx, checked);
        let pending = checked.scripts.iter().filter(|(_, is_pending)| *is_pending).count();
        match checked.scripts.len() {
            0 => "; no migrations that are SQL files were found".to_owned(),
            all => format!("; {} of {} migration files looked at", number(pending as u64), number(all as u64)),
        }
    });
    if !has_store {
        cx.output.say(format_args!("{DIM}there is no store yet, so nothing is said about drift{DIM:#}"));
    }
    let count = checked.map_or(0, |checked| checked.report.findings.len()) + problems.iter().filter(|problem| !problem.is_remark).count();
    let silenced = match checked.map_or(0, |checked| checked.report.silenced) {
        0 => String::new(),
        silenced => format!(", {} silenced", number(silenced)),
    };
    if count == 0 {
        cx.output.say(format_args!("{GOOD}nothing found{GOOD:#}{looked}{silenced}"));
    } else {
        cx.output.say(format_args!("{} found{silenced}{looked}", number(count as u64)));
    }
    Ok(())
}

/// Tells what is around the findings: misspelt rules, how sure the choice of files is, questions that were not answered.
fn tell(cx: &Context, checked: &Checked) {
    for remark in &checked.report.remarks {
        cx.output.warn(text::clean(remark));
    }
    if checked.is_guessed && !checked.scripts.is_empty() {
        let pending: Vec<&str> = checked.scripts.iter().filter(|(_, is_pending)| *is_pending).map(|(path, _)| path.as_str()).collect();
        let which = match pending.as_slice() {
            [] => "none, since what the last of them creates is there".to_owned(),
            [only] => format!("`{only}`"),
            [first, .., last] => format!("`{first}` to `{last}`"),
        };
        cx.output.note(format_args!("no ledger tells which migrations are applied; taken as pending: {}", text::clean(&which)));
    }
    for question in &checked.report.unanswered {
        cx.output.verbose(1, format_args!("not answered: {}", text::clean(question)));
    }
}

/// Prints a finding as compilers do: the line, and what of it is meant.
fn write_finding(out: &mut impl Write, finding: &Finding) -> std::io::Result<()> {
    let style = if finding.severity == Severity::Error { ERROR } else { WARNING };
    let Finding { rule, path, line, column, .. } = finding;
    let margin = line.to_string().len();
    let blank = " ".repeat(margin);
    let source = text::clean(&finding.source);
    let at = column.saturating_sub(finding.source_column) as usize;
    let before: String = finding.source.chars().take(at).collect();
    let meant: String = finding.source.chars().skip(at).take(finding.width as usize).collect();
    let indent = " ".repeat(width(&text::clean(&before)));
    let carets = "^".repeat(width(&text::clean(&meant)).max(1));
    writeln!(out, "{style}{}[{rule}]{style:#}: {}", finding.severity.word(), text::clean(&finding.message))?;
    writeln!(out, "{blank}{DIM}-->{DIM:#} {}:{line}:{column}", text::clean(path))?;
    writeln!(out, "{blank} {DIM}|{DIM:#}")?;
    writeln!(out, "{DIM}{line} |{DIM:#} {source}")?;
    writeln!(out, "{blank} {DIM}|{DIM:#} {indent}{style}{carets}{style:#}")?;
    if let Some(rows) = finding.rows {
        let examples = if finding.examples.is_empty() { String::new() } else { format!(", such as {}", finding.examples.join("; ")) };
        writeln!(out, "{blank} {DIM}={DIM:#} rows: {}{}", number(rows), text::clean(&examples))?;
    }
    for note in &finding.notes {
        writeln!(out, "{blank} {DIM}={DIM:#} note: {}", text::clean(note))?;
    }
    writeln!(out, "{blank} {DIM}={DIM:#} instead: {}", text::clean(&finding.instead))?;
    writeln!(out, "{blank} {DIM}={DIM:#} silence: {}\n", text::clean(&finding.silence))
}

/// Runs the rules before a migration, and tells what they find, a line each.
///
/// `allow` is what `--allow` names. Returns the findings, for the document.
///
/// # Errors
/// With `on-findings = "stop"`, if there are any; nothing was begun then. Where the files or the database cannot be read.
pub fn before_migration(project: &Project<'_>, session: &Session<'_>, allow: &[String]) -> Result<Vec<Finding>, CliError> {
    let cx = project.cx;
    let config = project.config.as_ref();
    if !speaks_sqlite(project.database()?) {
        return Ok(Vec::new());
    }
    let files = match files(cx, config) {
        Ok(files) if files.is_empty() => return Ok(Vec::new()),
        Ok(files) => files,
        // Advice that cannot be given stops nothing, unless it is to stop what it speaks against.
        Err(error) if config.is_none_or(|config| config.check.on_findings == OnFindings::Tell) => {
            cx.output.warn(format_args!("the migrations' files were not checked: {:#}", error.error));
            return Ok(Vec::new());
        }
        Err(error) => return Err(error.state(DatabaseState::Unchanged)),
    };
    let checked = checks::rules(&mut *(session.open)()?, &files, &options(config, allow))?;
    tell(cx, &Checked { is_guessed: checked.is_guessed && !checked.report.findings.is_empty(), ..checked.clone() });
    for finding in &checked.report.findings {
        let style = if finding.severity == Severity::Error { ERROR } else { WARNING };
        let Finding { rule, path, line, column, message, .. } = finding;
        let examples = if finding.examples.is_empty() { String::new() } else { format!(" ({})", finding.examples.join("; ")) };
        let text = text::clean(&format!("{path}:{line}:{column}: {message}{examples}"));
        cx.output.line(format_args!("{style}check[{rule}]{style:#}: {text}"));
    }
    let count = checked.report.findings.len();
    if count > 0 && config.is_some_and(|config| config.check.on_findings == OnFindings::Stop) {
        let message = format!(
            "the migration was not begun; the database is unchanged: {} found in its files",
            super::time::counted(count as u64, "problem")
        );
        let hint = "`dbelay check` shows each with what to do instead, and how to silence it; `on-findings = \"tell\"` goes on";
        let mut error = CliError::new(ErrorKind::Failed, message).state(DatabaseState::Unchanged).hint(hint);
        error.details = Some(serde_json::Map::from_iter([("check".to_owned(), json!(checked.report.findings))]));
        return Err(error);
    }
    Ok(checked.report.findings)
}
