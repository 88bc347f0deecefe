//! `dbelay restore`: writes a snapshot into another, empty database, or some of its rows into any. [`partial`] is about rows, [`validate`] about
//! looking before.

mod partial;
mod validate;

use std::path::PathBuf;

use dbelay::files::write::{Replace, Written};
use dbelay::id::ObjectId;
use dbelay::ops::files::{FileError, back};
use dbelay::ops::journal::{self, Entry, OperationKind, OperationResult, Phase};
use dbelay::ops::{OpError, rollback};
use dbelay::schema::{ObjectKind, SchemaObject};
use dbelay::snapshot::files::listing::Listing;
use dbelay::snapshot::manifest::Snapshot;
use serde_json::json;

use super::database::Database;
use super::output::GOOD;
use super::project::{self, Need, Project, parse_url};
use super::rollback::rows;
use super::{CliError, Context, Exit, files};

const EXAMPLES: &str = "\
Examples:
  dbelay restore HEAD --to ./copy.db
  dbelay restore \"@{yesterday}\" --to sqlite:/tmp/yesterday.db
  dbelay restore pre --to postgres://localhost/shop_copy
  dbelay restore HEAD --to ./copy.db --files ./copy-files
  dbelay restore HEAD --validate-only
  dbelay restore pre --table orders --where \"user_id = 7\" --to ./app.db";

/// Write a snapshot into another, empty database or file, or some of its rows into any database
///
/// With `--table` the rows of these tables are written, or with `--where` those for which an SQL condition holds, and with them the rows that they refer to by
/// foreign keys. Rows that are there already are left; where one is there with other values, nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which snapshot: HEAD, HEAD~2, an id, a tag, pre, post, failed, @{2 hours ago}
    pub snapshot: String,
    /// Where to; a database that is empty or does not exist
    #[arg(long, value_name = "URL", required_unless_present_any = ["validate_only", "files"])]
    pub to: Option<String>,
    /// Check everything that a restore needs, and write nothing; exits with 1 if it would fail
    #[arg(long)]
    pub validate_only: bool,
    /// Write the files of the snapshot into this folder; nothing there is replaced
    #[arg(long, value_name = "DIR")]
    pub files: Option<PathBuf>,
    /// Only the rows of this table, into any database; can be given more than once
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Only the rows of the table for which this holds, in the SQL of its engine
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// Leave out what the rows refer to, and name it
    #[arg(long)]
    pub no_closure: bool,
    /// Put the snapshot's values over rows that are there with others, and its files over those in the folder of `--files`
    #[arg(long)]
    pub overwrite: bool,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    partial::check_options(args)?;
    let project = Project::open(cx, Need::Existing)?;
    let id = project.select_snapshot(&args.snapshot)?;
    let (snapshot, state) = project.load(id)?;
    if args.to.is_none() && args.validate_only {
        return validate::run(cx, &project, id, &state, None);
    }
    let files = match &args.files {
        Some(dir) => Some(FilesTarget::new(&project, id, &snapshot, cx.environment.cwd.join(dir), args.overwrite)?),
        None => None,
    };
    let Some(to) = &args.to else {
        return files.map_or(Ok(Exit::DONE), |files| files.restore_alone(&project, id, &snapshot));
    };
    let url = parse_url(cx, to)?;
    if url.engine() != snapshot.source.engine {
        let message = format!(
            "snapshot {} is of a {} database, and `{url}` is a {} database: a snapshot is restored by the engine that it comes from",
            id.short(),
            name(&snapshot.source.engine),
            name(url.engine())
        );
        return Err(CliError::usage(message).hint("name a new database of that engine with `--to`"));
    }
    let target = Database::of(cx, &url, project.config.as_ref())?;
    if args.validate_only {
        return validate::run(cx, &project, id, &state, Some(&target));
    }
    if !args.tables.is_empty() {
        return partial::run(args, cx, &project, id, &state, &target);
    }
    let was_there = target.exists()?;
    if !is_empty(&target, was_there)? {
        return Err(CliError::usage(format_args!("`{}` exists and is not empty", target.shown()))
            .hint("choose a new one; to change the database itself there is `dbelay rollback`"));
    }
    if cx.global.dry_run {
        cx.output.say(format_args!("would write {} rows into `{}`", state.rows(), target.shown()));
        files.iter().for_each(|files| files.say_dry(cx));
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "snapshot": id, "to": target.source.place }))?;
        }
        return Ok(Exit::DONE);
    }
    let _lock = project.lock("restore")?;
    let failed = |error: OpError| CliError::from(error).context("the restore failed; nothing was written");
    let (written, limits) = project.with_database(&target, |session| {
        // An empty file is made anew with the snapshot's settings; an empty database of a server has its own.
        let made = if was_there && target.server().is_some() { target.open() } else { target.create(&state.settings) };
        let done = match made {
            Ok(mut engine) => {
                let done = rollback::restore(session, &mut *engine, &state);
                drop(engine);
                if done.is_err() && !was_there {
                    // Nothing was committed into what this command made.
                    target.discard();
                }
                done
            }
            Err(error) => {
                // What a server has by this name now somebody else made.
                if !was_there && target.file().is_some() {
                    target.discard();
                }
                Err(error.into())
            }
        };
        let (plan, written) = done.map_err(failed)?;
        let mut entry = Entry::new(session, OperationKind::Restore, Phase::End);
        entry.source = snapshot.source.clone();
        entry.before = Some(id);
        entry.result = Some(OperationResult::Done);
        entry.note = Some(format!("to {}", session.source.place));
        journal::write(session.store, &entry)?;
        Ok((written, plan.limits))
    })?;
    for limit in &limits {
        cx.output.note(limit);
    }
    let files = match &files {
        Some(files) => Some(files.restore(&project, &target)?),
        None => None,
    };
    cx.output.say(format_args!(
        "{GOOD}done{GOOD:#}: `{}` is equal to {} {}, verified ({})",
        target.shown(),
        args.snapshot,
        project::id(&id),
        files.as_ref().map_or_else(|| rows(&written), |files| format!("{}; {}", rows(&written), files::written(files)))
    ));
    if let Some(error) = files::failure(files.as_ref(), "the database was restored", id) {
        return Err(error);
    }
    if cx.output.is_json() {
        cx.output.json(&json!({ "result": "done", "snapshot": id, "to": target.source.place, "written": written, "files": files }))?;
    }
    Ok(Exit::DONE)
}

/// The folder that files are written into, and which they are.
struct FilesTarget {
    dir: PathBuf,
    listing: Listing,
    replace: Replace,
}

impl FilesTarget {
    /// Looks first: nothing is written anywhere if files are in the way.
    fn new(project: &Project<'_>, id: ObjectId, snapshot: &Snapshot, dir: PathBuf, overwrite: bool) -> Result<Self, CliError> {
        let files = snapshot.files.ok_or_else(|| OpError::from(FileError::NoFiles(id)))?;
        let listing = dbelay::ops::files::load(&project.store, &files)?;
        let replace = if overwrite { Replace::Anything } else { Replace::Known };
        back::refuse_in_the_way(&dir, &listing, replace).map_err(OpError::from)?;
        Ok(Self { dir, listing, replace })
    }

    fn say_dry(&self, cx: &Context) {
        cx.output.say(format_args!("would write {} into `{}`", files::held(&self.listing.files), self.dir.display()));
    }

    fn restore(&self, project: &Project<'_>, database: &Database) -> Result<Written, CliError> {
        project.with_database(database, |session| Ok(back::restore(session, &self.dir, &self.listing, self.replace)?))
    }

    /// Writes the files without a database.
    fn restore_alone(&self, project: &Project<'_>, id: ObjectId, snapshot: &Snapshot) -> Result<Exit, CliError> {
        let output = &project.cx.output;
        if project.cx.global.dry_run {
            self.say_dry(project.cx);
            if output.is_json() {
                output.json(&json!({ "dry_run": true, "snapshot": id, "folder": self.dir }))?;
            }
            return Ok(Exit::DONE);
        }
        let _lock = project.lock("restore")?;
        let written = project.with(|session| {
            let written = back::restore(session, &self.dir, &self.listing, self.replace)?;
            let mut entry = Entry::new(session, OperationKind::Restore, Phase::End);
            (entry.source, entry.before, entry.files) = (snapshot.source.clone(), Some(id), true);
            entry.result = Some(OperationResult::Done);
            entry.note = Some(format!("files to {}", self.dir.display()));
            journal::write(session.store, &entry)?;
            Ok(written)
        })?;
        if let Some(error) = files::failure(Some(&written), "the folder is there", id) {
            return Err(error);
        }
        let dir = self.dir.display();
        output.say(format_args!(
            "{GOOD}done{GOOD:#}: the files of {} are in `{dir}`, verified ({})",
            project::id(&id),
            files::written(&written)
        ));
        if output.is_json() {
            output.json(&json!({ "result": "done", "snapshot": id, "to": null, "files": written }))?;
        }
        Ok(Exit::DONE)
    }
}

/// Tells whether nothing is there that a restore would meet.
fn is_empty(target: &Database, is_there: bool) -> Result<bool, CliError> {
    if let Some(file) = target.file() {
        return Ok(!file.metadata().is_ok_and(|metadata| metadata.len() > 0 || metadata.is_dir()));
    }
    if !is_there {
        return Ok(true);
    }
    let schema = target.open()?.begin_read()?.schema()?;
    // What every new database of a server has is no obstacle: a schema, an extension, and what is said of them.
    let is_own =
        |object: &SchemaObject| !object.kind.is_attribute() && !matches!(object.kind, ObjectKind::Namespace | ObjectKind::Extension);
    Ok(schema.tables.is_empty() && !schema.objects.iter().any(is_own))
}

/// Returns what an engine is called.
fn name(engine: &str) -> &str {
    match engine {
        "sqlite" => "SQLite",
        "postgres" => "PostgreSQL",
        "mysql" => "MySQL",
        other => other,
    }
}
