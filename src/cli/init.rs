//! `dbelay init`: writes dbelay.toml and the store, and adds dbelay to what the project is worked with. A database that is found is offered, never
//! taken unasked.

use std::path::Path;

use dbelay::config::{Config, FILE_NAME, SourceValue};
use dbelay::source::discover::{Candidate, discover};
use dbelay::source::{COMMON_VARIABLE, DatabaseUrl, SourceError, UrlOrigin};
use serde_json::json;

use super::output::{DIM, GOOD};
use super::project::{create_store, find_store, parse_url, read_config};
use super::{CliError, Context, ErrorKind, Exit, adopt, key, secret, terminal};

const EXAMPLES: &str = "\
Examples:
  dbelay init
  dbelay init --db ./dev.db
  dbelay init --hooks npm,git
  dbelay init --encrypt
  dbelay init --hooks make --command \"alembic upgrade head\"";

/// How many databases are offered.
const OFFERED_MAX: usize = 9;

/// Write dbelay.toml and create the store
///
/// Without `--db`, databases that the project's files name are offered: on a terminal to choose from, else as a list. With `--hooks`, dbelay is
/// added to package.json (db:migrate-safe, db:backup, db:restore, db:snapshots), to a Makefile (db-migrate-safe and so on), or to git (a reminder
/// after a checkout that the database has the schema of another branch). The changes are shown first; what is there already is never changed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where to add dbelay; repeatable
    #[arg(long, value_enum, value_name = "WHERE", value_delimiter = ',')]
    pub hooks: Vec<adopt::Hook>,
    /// The command that migrates the database, for `--hooks npm` and `--hooks make` [default: the one that the project has]
    #[arg(long, value_name = "COMMAND", requires = "hooks")]
    pub command: Option<String>,
    /// Encrypt the store
    #[arg(long)]
    pub encrypt: bool,
    /// The first key.
    #[command(flatten)]
    pub key: key::NewKey,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    // What cannot be done is told before anything is.
    let additions = adopt::plan(&args.hooks, args.command.as_deref(), cx)?;
    let path = cx.environment.cwd.join(FILE_NAME);
    let config = read_config(cx)?;
    let written = match &config {
        Some(config) if cx.global.db.is_none() || config.path == path => {
            let is_same = |given: &String| config.database == Some(SourceValue::Url(given.clone()));
            if cx.global.db.as_ref().is_some_and(|given| args.hooks.is_empty() || !is_same(given)) {
                return Err(CliError::usage(format_args!("`{}` is there already", config.path.display()))
                    .hint("change the database in it, or delete it first"));
            }
            if additions.is_empty() {
                cx.output.say(format_args!("`{}` is there already and stays as it is", config.path.display()));
            }
            None
        }
        _ => Some(database(cx)?),
    };
    let files = dbelay::source::migrations::places(&cx.environment.cwd);
    let config = match (&written, config) {
        (Some(text), _) => Config::parse(&Config::template(text, &files), &path)?,
        (None, Some(config)) => config,
        (None, None) => return Err(CliError::usage("no database is named")),
    };
    let (dir, exists) = find_store(cx, Some(&config), None);
    if cx.global.dry_run {
        if written.is_some() || !exists || additions.is_empty() {
            cx.output.say(format_args!("would write `{}` and the store `{}`", path.display(), dir.display()));
        }
        adopt::show(&additions, cx)?;
        if cx.output.is_json() {
            cx.output.json(&json!({ "dry_run": true, "config": path, "store": dir, "hooks": adopt::document(&additions) }))?;
        }
        return Ok(Exit::DONE);
    }
    let store = if exists { secret::open_store(cx, &dir)?.store } else { create_store(cx, &dir)? };
    let store = match args.encrypt && !store.is_encrypted() {
        true => key::encrypt_new(store, &args.key, cx)?,
        false => store,
    };
    if let Some(text) = &written {
        dbelay::durable::write(&path, Config::template(text, &files).as_bytes())?;
        cx.output.say(format_args!("{GOOD}wrote{GOOD:#} {FILE_NAME}: database {}", shown(cx, text)));
        let has_password = |url: DatabaseUrl| url.server_url().is_some_and(|server| server.password.is_some());
        if !text.starts_with("env:") && parse_url(cx, text).is_ok_and(has_password) {
            cx.output.warn(format_args!(
                "the password is in {FILE_NAME} now; `database = \"env:{COMMON_VARIABLE}\"` takes the URL from that variable instead"
            ));
        }
        if !files.is_empty() {
            cx.output.say_as_is(format_args!("migrations that `dbelay check` reads: {}", files.join(", ")));
        }
    }
    if !exists || additions.is_empty() {
        let made = if exists { "is there already" } else { "was made" };
        cx.output.say(format_args!("the store `{}` {made}", store.dir().display()));
    }
    adopt::show(&additions, cx)?;
    adopt::execute(&additions, cx)?;
    if !exists && additions.is_empty() {
        cx.output.say_as_is(format_args!("{DIM}next: `dbelay snapshot`, or `dbelay migrate -- YOUR MIGRATION COMMAND`{DIM:#}"));
    }
    if cx.output.is_json() {
        let text = written.as_ref().map(|text| shown(cx, text));
        let hooks = adopt::document(&additions);
        cx.output.json(&json!({ "config": config.path, "database": text, "store": store.dir(), "created": !exists, "hooks": hooks }))?;
    }
    Ok(Exit::DONE)
}

/// Finds what to write as the database: what was given, or what the person chose.
fn database(cx: &Context) -> Result<String, CliError> {
    if let Some(given) = &cx.global.db {
        let url = parse_url(cx, given)?;
        return Ok(match url.sqlite_path() {
            Some(file) if !given.contains(':') => relative(&cx.environment.cwd, file),
            _ => given.clone(),
        });
    }
    let mut offered = discover(&cx.environment.cwd);
    offered.truncate(OFFERED_MAX);
    if offered.is_empty() {
        return Err(CliError::new(ErrorKind::Config, "no database was found in this folder").hint("name it: `dbelay init --db app.db`"));
    }
    if !cx.environment.stdin_terminal || cx.output.is_json() {
        let list: Vec<String> = offered.iter().map(|candidate| format!("  {candidate}")).collect();
        let first = offered.first().map(to_write).unwrap_or_default();
        return Err(CliError::new(ErrorKind::Config, format!("which database? these were found:\n{}", list.join("\n")))
            .hint(format_args!("choose one: `dbelay init --db {}`", shown(cx, &first))));
    }
    for (at, candidate) in offered.iter().enumerate() {
        cx.output.line(format_args!("  {}  {candidate}", at + 1));
    }
    if let [only] = offered.as_slice() {
        if terminal::confirm(cx, "use this database?", true)? {
            return Ok(to_write(only));
        }
        return Err(CliError::usage("no database was chosen").hint("name it: `dbelay init --db app.db`"));
    }
    let numbers: Vec<String> = (1..=offered.len()).map(|number| number.to_string()).collect();
    let words: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let chosen = terminal::choose(cx, "which database?", &words)?;
    Ok(offered.get(chosen).map(to_write).unwrap_or_default())
}

/// A server's URL may hold a password, which does not belong into a file: the variable that holds it does.
fn to_write(candidate: &Candidate) -> String {
    let is_server =
        DatabaseUrl::parse(&candidate.url, &UrlOrigin::Flag, Path::new("/"), &|_| false).is_ok_and(|url| url.server_url().is_some());
    // The note begins with the variable's name, where one holds the whole URL.
    let name = candidate.note.split(';').next().filter(|name| name.ends_with(COMMON_VARIABLE) && !name.contains(' '));
    match name {
        Some(name) if is_server && candidate.found_in == ".env" => format!("env:{name}"),
        _ => candidate.url.clone(),
    }
}

/// Writes a path from a folder, where it is below it.
fn relative(folder: &Path, file: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).to_string_lossy().into_owned()
}

fn shown(cx: &Context, text: &str) -> String {
    if text.starts_with("env:") {
        return text.to_owned();
    }
    let url: Result<DatabaseUrl, SourceError> = parse_url(cx, text);
    match url {
        Ok(url) if url.sqlite_path().is_some() => text.to_owned(),
        Ok(url) => url.to_string(),
        Err(_) => dbelay::source::redact(text),
    }
}
