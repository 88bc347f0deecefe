//! PostgreSQL, 13 to 18: a server's database, reached by the protocol that every client speaks.
//!
//! - `link.rs` is a connection as calls that wait, `connect.rs` opens it. `catalog.rs` reads what the catalogue says of every object, `dump.rs` has
//!   `pg_dump` write the statements, `schema.rs` puts both together.
//! - `read.rs` reads one committed state: a transaction REPEATABLE READ, whose snapshot other sessions and `pg_dump` share. `value.rs` turns the
//!   server's text into cells and back.
//! - `fingerprint.rs` tells that nobody wrote a database, `changes.rs` which rows of a table were written, both without reading it.
//! - `write.rs` changes a database in one transaction, `script.rs` writes the same as SQL text. `statement.rs` has what both say.
//! - `trial.rs` writes a row into every table of a scratch database, and takes it back.
//! - `admin.rs` makes, copies and drops databases.

pub mod admin;
mod catalog;
mod changes;
pub mod connect;
mod dump;
mod fingerprint;
mod link;
mod name;
mod own;
mod parts;
mod read;
mod schema;
pub mod script;
pub mod settings;
mod statement;
mod tls;
mod trial;
mod value;
mod write;

use std::path::PathBuf;

pub use self::fingerprint::fingerprint;
use self::link::Link;
use self::read::{Reading, State};
use self::write::Writing;
use super::{Engine, EngineError, Obstacle, ReadTransaction, Tryout, WriteTransaction};
use crate::rows::TableShape;
use crate::schema::{Schema, Settings};
use crate::source::libpq::Connection;

/// The oldest server that is supported, as `server_version_num` writes it.
const VERSION_MIN: u32 = 130_000;

/// How to work with a PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How to reach it.
    pub connection: Connection,
    /// The database's place without secrets, for messages.
    pub place: String,
    /// How long to wait for a lock that others hold, in milliseconds.
    pub lock_ms: u64,
    /// How many connections may read at once.
    pub readers: usize,
    /// Folders in which `pg_dump` is looked for, in order: those of PATH, then the usual places.
    pub program_folders: Vec<PathBuf>,
    /// Whether owners and privileges are restored, where the roles are there.
    pub with_owners: bool,
}

/// A PostgreSQL database.
pub struct Postgres {
    options: Options,
    link: Link,
    version: u32,
}

impl Postgres {
    /// Connects.
    ///
    /// # Errors
    /// [`EngineError::Missing`] where there is no such database, [`EngineError::Unreadable`] where the server cannot be reached,
    /// [`EngineError::Unsupported`] for one that is too old.
    pub fn open(options: &Options) -> Result<Self, EngineError> {
        let link = Link::open(options)?;
        let version = link.cell("SHOW server_version_num", "asking for the server's version")?;
        let version = version.and_then(|text| text.parse().ok()).unwrap_or(0);
        if version < VERSION_MIN {
            let words = link.cell("SHOW server_version", "asking for the server's version")?.unwrap_or_default();
            return Err(EngineError::Unsupported(format!("the server is PostgreSQL {words}; this works from 13 on")));
        }
        Ok(Self { options: options.clone(), link, version })
    }

    /// Makes the database, empty, with the encoding and the locale of these settings, and connects to it.
    ///
    /// # Errors
    /// As [`Postgres::open`], and the server's.
    pub fn create(options: &Options, settings: &Settings) -> Result<Self, EngineError> {
        admin::create(options, settings)?;
        Self::open(options)
    }

    fn state(&self, snapshot: Option<String>) -> State<'_> {
        State::new(&self.link, &self.options, self.version, snapshot)
    }
}

impl Engine for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn begin_read(&mut self) -> Result<Box<dyn ReadTransaction + '_>, EngineError> {
        self.link.run("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "beginning a transaction")?;
        let snapshot = self.link.cell("SELECT pg_catalog.pg_export_snapshot()", "sharing a snapshot");
        match snapshot {
            Ok(snapshot) => Ok(Box::new(Reading { state: self.state(snapshot) })),
            Err(error) => {
                let _ = self.link.run("ROLLBACK", "ending a transaction");
                Err(error)
            }
        }
    }

    fn begin_write(&mut self) -> Result<Box<dyn WriteTransaction + '_>, EngineError> {
        Ok(Box::new(Writing::begin(self.state(None))?))
    }

    fn journal_mode(&mut self) -> Result<Option<String>, EngineError> {
        Ok(None)
    }

    fn set_journal_mode(&mut self, mode: &str) -> Result<(), EngineError> {
        Err(EngineError::Unsupported(format!("PostgreSQL knows no journal mode `{mode}`")))
    }

    fn obstacles(&mut self, _: &Schema, _: &[TableShape]) -> Result<Vec<Obstacle>, EngineError> {
        Ok(Vec::new())
    }

    fn try_out(&mut self, _: &Schema) -> Result<Tryout, EngineError> {
        let findings = self.begin_read()?.findings()?;
        Ok(Tryout { findings, trials: trial::run(&self.state(None))? })
    }
}

/// Says which sessions hold locks on tables of the database, with a leading blank; empty where that cannot be told.
fn sessions(options: &Options) -> String {
    let sql = "SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, pg_catalog.left(a.query, 80) \
               FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_locks l ON l.pid = a.pid AND l.granted \
               WHERE l.locktype IN ('relation','tuple') AND l.relation >= 16384 AND l.database = (SELECT oid FROM pg_catalog.pg_database \
               WHERE datname = pg_catalog.current_database()) AND a.pid <> pg_catalog.pg_backend_pid() AND a.application_name <> 'dbelay' ORDER BY 1 LIMIT 5";
    let Ok(rows) = Link::open(options).and_then(|link| link.rows(sql, "looking for sessions")) else { return String::new() };
    let cell = |row: &link::TextRow, at: usize| row.get(at).unwrap_or_default().to_owned();
    let session = |row: &link::TextRow| {
        let program = Some(cell(row, 2)).filter(|name| !name.is_empty()).map(|name| format!(", {name}")).unwrap_or_default();
        format!("session {} (user {}{program}, {}: `{}`)", cell(row, 0), cell(row, 1), cell(row, 3), cell(row, 4))
    };
    let sessions: Vec<String> = rows.iter().map(session).collect();
    if sessions.is_empty() { String::new() } else { format!(": {}", sessions.join(", ")) }
}
