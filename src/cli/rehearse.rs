//! The stage of a rehearsal: a scratch database, and the ways on which a command comes to it.
//!
//! By name: the command's words `{db}` and `{url}`, and the variable that names the database, in the form in which it was given; for a server also
//! libpq's own variables. Or in place, where neither names a file. [`file`] and [`server`] say more.

mod file;
mod server;

use std::ffi::OsString;

use dbelay::engine::EngineError;
use dbelay::process::{self, CommandSpec};
use dbelay::source::{COMMON_VARIABLE, DatabaseUrl, libpq};

use self::file::FileStage;
use self::server::ServerStage;
use super::database::{Database, connection, place};
use super::project::{Project, named_by};
use super::{CliError, Context, DatabaseState, ErrorKind};

pub use self::server::tidy;

/// A scratch database and the way to it. Dropped, it is gone.
pub enum Stage {
    /// A file.
    File(Box<FileStage>),
    /// A database beside the real one.
    Server(Box<ServerStage>),
}

impl Stage {
    /// Makes room for a scratch database, and finds out how the command can come to it. `with_namespace` tells whether it may be given a view of
    /// its own.
    ///
    /// # Errors
    /// Where nothing would lead the command to it, or there is no place for it.
    pub fn set(project: &Project<'_>, command: &[OsString], wanted: Option<&str>, with_namespace: bool) -> Result<Self, CliError> {
        Ok(match project.database()?.server() {
            None => Self::File(Box::new(FileStage::set(project, command, wanted, with_namespace)?)),
            Some(server) => Self::Server(Box::new(ServerStage::set(project, server, command, wanted)?)),
        })
    }

    /// Makes room for a scratch database that no command comes to, of about this many bytes.
    ///
    /// # Errors
    /// Where there is no place for it.
    pub fn bare(cx: &Context, database: &Database, need: u64) -> Result<Self, CliError> {
        Ok(match database.server() {
            None => Self::File(Box::new(FileStage::bare(cx, database, need)?)),
            Some(server) => Self::Server(Box::new(ServerStage::bare(cx, database, server)?)),
        })
    }

    /// Returns the scratch database.
    pub fn database(&self) -> &Database {
        match self {
            Self::File(stage) => &stage.database,
            Self::Server(stage) => &stage.database,
        }
    }

    /// Tells whether a server has it.
    pub fn has_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// Lets the server make it as a copy of the real one; false where that cannot be done.
    pub fn copy(&self) -> Result<bool, EngineError> {
        match self {
            Self::File(_) => Ok(false),
            Self::Server(stage) => stage.copy(),
        }
    }

    /// Takes the server's copy away again.
    pub fn discard(&self) -> Result<(), EngineError> {
        match self {
            Self::File(_) => Ok(()),
            Self::Server(stage) => stage.discard(),
        }
    }

    /// Tells whether the command cannot have changed the real database.
    pub fn is_protected(&self) -> bool {
        match self {
            Self::File(stage) => stage.is_protected(),
            // Whoever may write the scratch database may write the real one.
            Self::Server(_) => false,
        }
    }

    /// Says how the command that is rehearsed is to be run.
    pub fn spec(&self, project: &Project<'_>, command: &[OsString]) -> CommandSpec {
        match self {
            Self::File(stage) => stage.spec(project, command),
            Self::Server(stage) => stage.spec(project.cx, command),
        }
    }

    /// Says in words how the command comes to the scratch database.
    pub fn ways(&self) -> String {
        match self {
            Self::File(stage) => stage.ways(),
            Self::Server(stage) => stage.ways(),
        }
    }
}

/// What the words of a command may hold in place of the database.
#[derive(Debug, Clone)]
pub struct Words {
    /// For `{db}`: the path, or the name on the server.
    pub name: String,
    /// For `{url}`.
    pub url: String,
}

impl Words {
    /// Names a database.
    pub fn of(database: &Database, url: Option<&DatabaseUrl>) -> Self {
        if let Some(server) = database.server() {
            return Self { name: server.name().to_owned(), url: server.url() };
        }
        let file = database.file();
        let name = file.map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let written = file.zip(url).and_then(|(file, url)| url.at_path(file)).filter(|text| *text != name);
        // Four slashes are an absolute path to every tool.
        let url = written.unwrap_or_else(|| format!("sqlite:///{name}"));
        Self { name, url }
    }

    /// Fills a command's words in.
    pub fn fill(&self, command: &[OsString]) -> Vec<OsString> {
        let fill = |word: &OsString| match word.to_str() {
            Some(text) if has_placeholder(text) => OsString::from(text.replace("{db}", &self.name).replace("{url}", &self.url)),
            _ => word.clone(),
        };
        command.iter().map(fill).collect()
    }
}

fn has_placeholder(word: &str) -> bool {
    word.contains("{db}") || word.contains("{url}")
}

fn names_database(command: &[OsString]) -> bool {
    command.iter().filter_map(|word| word.to_str()).any(has_placeholder)
}

/// Finds the variable that names the project's database to the command, and its value: the one that is asked for, else `DATABASE_URL` where it
/// does name it.
pub fn variable(project: &Project<'_>, wanted: Option<&str>) -> Result<Option<(String, DatabaseUrl)>, CliError> {
    let config = project.config.as_ref();
    let wanted = wanted.or_else(|| config?.migrate.url_env.as_deref());
    let watched = &project.database()?.source.place;
    if let Some(name) = wanted {
        return match named_by(project.cx, config, name)? {
            Some(named) if place(project.cx, &named.url)? == *watched => Ok(Some((name.to_owned(), named.url))),
            Some(named) => Err(other_database(name, &named.url, watched)),
            None => Ok(project.url.clone().map(|url| (name.to_owned(), url))),
        };
    }
    Ok(common_variable(project))
}

/// Returns `DATABASE_URL` and its value, where it names the project's database.
fn common_variable(project: &Project<'_>) -> Option<(String, DatabaseUrl)> {
    let watched = &project.database().ok()?.source.place;
    let named = named_by(project.cx, project.config.as_ref(), COMMON_VARIABLE).ok().flatten()?;
    let is_it = place(project.cx, &named.url).is_ok_and(|place| place == *watched);
    is_it.then(|| (COMMON_VARIABLE.to_owned(), named.url))
}

/// Returns the URL of a database in the form of another of its kind: for a server with the user that the other names.
fn url_of(cx: &Context, database: &Database, form: &DatabaseUrl) -> Option<String> {
    match (database.file(), database.server(), form.server_url()) {
        (Some(file), _, _) => form.at_path(file),
        (None, Some(server), Some(form)) => Some(libpq::url_of(&connection(cx, form).ok()?, server.name(), form)),
        _ => None,
    }
}

/// Refuses a command that nothing of ours leads, while `DATABASE_URL` names another database.
fn refuse_other(project: &Project<'_>) -> Result<(), CliError> {
    match named_by(project.cx, project.config.as_ref(), COMMON_VARIABLE) {
        Ok(Some(named)) => Err(other_database(COMMON_VARIABLE, &named.url, &project.database()?.source.place)
            .context("the command cannot be rehearsed: it may well migrate another database")
            .hint("unset that variable, or say which one the command uses: `--url-env NAME`")),
        _ => Ok(()),
    }
}

/// Says that nothing leads a command to a scratch database.
fn unled(why: &str) -> CliError {
    CliError::new(ErrorKind::Failed, why)
        .context("the command cannot be rehearsed: nothing would lead it to the scratch database, so it would run on the real one")
        .kind(ErrorKind::Failed)
        .state(DatabaseState::Unchanged)
        .hint("name the database in the command as `{db}` or `{url}`, or name the variable from which it takes it: `--url-env NAME`")
}

fn other_database(name: &str, url: &DatabaseUrl, place: &str) -> CliError {
    CliError::new(ErrorKind::Config, format_args!("`{name}` names `{url}`, and the database that is watched is `{place}`"))
        .state(DatabaseState::Unchanged)
        .hint("the command would migrate another database than the one that can be put back; `--db` names the one to watch")
}

/// Finds the variable that a command takes its database from and that nobody set, with the value that it has to have. None where there is no such
/// variable, or it is set.
pub fn unset_variable(project: &Project<'_>, wanted: Option<&str>) -> Result<Option<(String, String)>, CliError> {
    let config = project.config.as_ref();
    let Some(name) = wanted.or_else(|| config?.migrate.url_env.as_deref()) else { return Ok(None) };
    if named_by(project.cx, config, name)?.is_some() {
        return Ok(None);
    }
    let database = project.database()?;
    Ok(project.url.as_ref().and_then(|url| Some((name.to_owned(), url_of(project.cx, database, url)?))))
}

/// Warns where `DATABASE_URL` names another database than the one that is watched: the command may well migrate that one.
pub fn warn_of_other(project: &Project<'_>) -> Result<(), CliError> {
    let watched = &project.database()?.source.place;
    let Ok(Some(named)) = named_by(project.cx, project.config.as_ref(), COMMON_VARIABLE) else { return Ok(()) };
    if !place(project.cx, &named.url).is_ok_and(|place| place == *watched) {
        project.cx.output.warn(format_args!(
            "`{COMMON_VARIABLE}` names `{}`, and the database that is watched is `{watched}`: what the command does to another is neither seen nor put back",
            named.url
        ));
    }
    Ok(())
}

/// Says how a command is run that has nothing of its own.
pub fn spec(cx: &Context, command: Vec<OsString>) -> CommandSpec {
    CommandSpec {
        command,
        env: Vec::new(),
        cwd: cx.environment.cwd.clone(),
        capture_bytes_max: process::CAPTURE_BYTES_DEFAULT,
        foreground: false,
        stdout_to_stderr: cx.output.is_json(),
        timeout: None,
    }
}
