//! A scratch database beside the real one on its server.
//!
//! The command comes to it by name: by its words, by the variable that names the database, and by libpq's own variables where those, or what they
//! are without being set, name the real one. What the command may write on the server cannot be narrowed; that the real database stayed as it was
//! is looked at afterwards.
//!
//! Its name is held by a lock on the server as long as it is used; one that nobody holds was left by a crash, and is dropped by the next
//! `dbelay migrate` ([`tidy`]).

use std::ffi::OsString;

use dbelay::engine::EngineError;
use dbelay::process::CommandSpec;
use dbelay::source::COMMON_VARIABLE;
use dbelay::source::libpq::{Connection, HostName};

use super::{Words, common_variable, names_database, refuse_other, spec, unled, url_of, variable};
use crate::cli::database::server::{Hold, Server};
use crate::cli::database::{Database, default_connection, leads_to};
use crate::cli::project::Project;
use crate::cli::{CliError, Context, DatabaseState, ErrorKind};

/// What scratch databases are called, before a number.
const PREFIX: &str = "dbelay_rehearsal_";

/// A scratch database of a server. Dropped, it is gone.
pub struct ServerStage {
    /// The scratch database.
    pub database: Database,
    /// The real one.
    real: Server,
    /// What the scratch database is called.
    name: String,
    /// The variables that lead to it, with their values.
    variables: Vec<(String, String)>,
    /// How the command comes to it, in words.
    ways: Vec<String>,
    /// Released after the database is gone.
    _hold: Hold,
}

impl ServerStage {
    /// Takes a name for a scratch database, and finds out how the command can come to it.
    pub fn set(project: &Project<'_>, real: &Server, command: &[OsString], wanted: Option<&str>) -> Result<Self, CliError> {
        let cx = project.cx;
        let database = project.database()?;
        let has_placeholder = names_database(command);
        let mut named: Vec<_> = variable(project, wanted)?.into_iter().collect();
        // A part of the command that reads the common variable shall not come to the real database by it.
        if named.iter().any(|(name, _)| name != COMMON_VARIABLE) {
            named.extend(common_variable(project));
        }
        let default = default_connection(cx, database);
        if named.is_empty() && !has_placeholder {
            refuse_other(project)?;
            if default.is_none() {
                return Err(unled("neither its words nor a variable name the database"));
            }
        }
        let name = name(cx);
        let no_place = || unled("the server has no databases beside this one");
        let scratch = database.beside(&name).ok_or_else(no_place)?;
        let (mut variables, mut ways) = (Vec::new(), Vec::new());
        // The command is given no URL that could name the real one.
        let astray = || unled("its URL cannot be made to name a database beside it");
        if has_placeholder {
            if !leads_to(cx, &Words::of(&scratch, None).url, &scratch) {
                return Err(astray());
            }
            ways.push("by the words of the command".to_owned());
        }
        for (variable, url) in named {
            let value = url_of(cx, &scratch, &url).filter(|value| leads_to(cx, value, &scratch)).ok_or_else(astray)?;
            ways.push(format!("by the variable `{variable}`"));
            variables.push((variable, value));
        }
        if let Some(connection) = &default {
            ways.push("by the variable `PGDATABASE`".to_owned());
            variables.extend(libpq_variables(connection, &name));
        }
        Self::begin(real, name, scratch, variables, ways)
    }

    /// Takes a name for a scratch database that no command comes to.
    pub fn bare(cx: &Context, database: &Database, real: &Server) -> Result<Self, CliError> {
        let name = name(cx);
        let no_place = || CliError::new(ErrorKind::Failed, "the server has no databases beside this one").state(DatabaseState::Unchanged);
        let scratch = database.beside(&name).ok_or_else(no_place)?;
        Self::begin(real, name, scratch, Vec::new(), Vec::new())
    }

    fn begin(
        real: &Server,
        name: String,
        scratch: Database,
        variables: Vec<(String, String)>,
        ways: Vec<String>,
    ) -> Result<Self, CliError> {
        let hold = real
            .hold(&name)
            .map_err(|error| CliError::from(error).context("there is no place for the scratch database").state(DatabaseState::Unchanged))?;
        Ok(Self { database: scratch, real: real.clone(), name, variables, ways, _hold: hold })
    }

    /// As [`super::Stage::copy`].
    pub fn copy(&self) -> Result<bool, EngineError> {
        self.real.copy(&self.name)
    }

    /// As [`super::Stage::discard`].
    pub fn discard(&self) -> Result<(), EngineError> {
        self.real.drop_database(&self.name)
    }

    /// As [`super::Stage::spec`].
    pub fn spec(&self, cx: &Context, command: &[OsString]) -> CommandSpec {
        let env = self.variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        CommandSpec { env, ..spec(cx, Words::of(&self.database, None).fill(command)) }
    }

    /// As [`super::Stage::ways`].
    pub fn ways(&self) -> String {
        self.ways.join(", and ")
    }
}

impl Drop for ServerStage {
    fn drop(&mut self) {
        // What stays is dropped by the next migration.
        let _ = self.discard();
    }
}

/// Finds a name for a scratch database.
fn name(cx: &Context) -> String {
    let mut number = [0; 8];
    (cx.environment.random)(&mut number);
    format!("{PREFIX}{:016x}", u64::from_ne_bytes(number))
}

/// Returns the variables by which libpq comes to another database on the same way.
fn libpq_variables(connection: &Connection, database: &str) -> Vec<(String, String)> {
    let host = |name: &HostName| match name {
        HostName::Tcp(name) => name.clone(),
        HostName::Socket(folder) => folder.to_string_lossy().into_owned(),
    };
    let list = |items: Vec<String>| items.join(",");
    let mut variables = vec![("PGDATABASE", database.to_owned()), ("PGUSER", connection.user.clone())];
    if !connection.hosts.is_empty() {
        variables.push(("PGHOST", list(connection.hosts.iter().map(|at| host(&at.name)).collect())));
        variables.push(("PGPORT", list(connection.hosts.iter().map(|at| at.port.to_string()).collect())));
    }
    // The password file may know the real one alone.
    variables.extend(connection.password.iter().map(|password| ("PGPASSWORD", password.clone())));
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Drops the scratch databases that rehearsals which are no more left on the project's server. What cannot be dropped stays for the next time.
pub fn tidy(project: &Project<'_>) {
    let Some(server) = project.known_database().and_then(Database::server) else { return };
    let tidied = server.stale(PREFIX).and_then(|names| names.iter().try_for_each(|name| server.drop_database(name)));
    if let Err(error) = tidied {
        project.cx.output.verbose(1, format_args!("scratch databases of earlier rehearsals were not looked for: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dbelay::source::libpq::{self, Host};
    use dbelay::source::{DatabaseUrl, UrlOrigin};

    use super::*;

    #[test]
    fn the_variables_of_libpq_lead_to_the_scratch_database_on_the_same_way() {
        let host = |name: HostName, port| Host { name, address: None, port };
        let url = DatabaseUrl::parse("postgres://anna:hunter2@a.example.org/shop", &UrlOrigin::Flag, Path::new("/p"), &|_| false);
        let url = url.expect("a URL");
        let nothing = libpq::Lookup { environment: &|_| None, read: &|_| None, user: "me", home: None, socket_exists: &|_| false };
        let found = libpq::connection(url.server_url().expect("a server"), &nothing).expect("a connection");
        let hosts = vec![host(HostName::Tcp("a.example.org".to_owned()), 5432), host(HostName::Socket("/run/pg".into()), 5433)];
        let connection = Connection { hosts, ..found };
        let variables = libpq_variables(&connection, "dbelay_rehearsal_1");
        let value = |name: &str| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!(value("PGDATABASE"), Some("dbelay_rehearsal_1"));
        assert_eq!((value("PGHOST"), value("PGPORT")), (Some("a.example.org,/run/pg"), Some("5432,5433")));
        assert_eq!((value("PGUSER"), value("PGPASSWORD")), (Some("anna"), Some("hunter2")));
        assert_eq!(
            libpq_variables(&Connection { password: None, ..connection }, "x").iter().filter(|(name, _)| name == "PGPASSWORD").count(),
            0
        );
    }
}
