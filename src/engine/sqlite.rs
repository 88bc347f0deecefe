//! SQLite through rusqlite and its bundled library.
//!
//! - [`read`] reads a state, [`schema`] describes it, [`write`] changes it, [`script`] writes the same changes as SQL text.
//! - A connection never fires a trigger, enforces a foreign key or trusts the schema's functions: the state is restored, not
//!   lived through.
//! - Virtual tables are never asked for rows and never created through their module: their shadow tables are ordinary tables to us,
//!   and their line in `sqlite_schema` is written as it stood. So a module that this build does not have does not matter.

pub mod condition;
pub mod fingerprint;
mod read;
mod schema;
pub mod script;
mod write;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Engine, EngineError, ReadTransaction, WriteTransaction};
use crate::schema::Settings;

/// The first bytes of every SQLite file that is not empty.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A SQLite database file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    busy_ms: u64,
    is_read_only: bool,
}

impl Sqlite {
    /// Opens an existing database; `busy_ms` is how long any statement waits for others' locks.
    ///
    /// # Errors
    /// [`EngineError::Missing`], [`EngineError::NotADatabase`], [`EngineError::Locked`].
    pub fn open(path: &Path, busy_ms: u64) -> Result<Self, EngineError> {
        check_file(path)?;
        let open = |flags| Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX);
        let (connection, is_read_only) = match open(OpenFlags::SQLITE_OPEN_READ_WRITE) {
            Ok(connection) => {
                let is_read_only = connection.is_readonly("main").unwrap_or(false);
                (connection, is_read_only)
            }
            Err(_) => (open(OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| explain(error, &place(path), busy_ms))?, true),
        };
        let sqlite = match Self::set_up(connection, path, busy_ms, is_read_only) {
            Err(EngineError::NotADatabase { .. }) => return Err(diagnose(path)),
            sqlite => sqlite?,
        };
        let looked = sqlite.connection.query_row("SELECT count(*) FROM main.sqlite_schema", [], |row| row.get::<_, i64>(0));
        match looked.map_err(|error| explain(error, "opening the database", busy_ms)) {
            Ok(_) => Ok(sqlite),
            Err(EngineError::NotADatabase { .. }) => {
                drop(sqlite);
                Err(diagnose(path))
            }
            Err(error) => Err(error),
        }
    }

    /// Creates an empty database with these settings; only those that SQLite fixes at creation matter.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`] if the file cannot be made; [`EngineError::Unsupported`] if there is one with content already.
    pub fn create(path: &Path, settings: &Settings, busy_ms: u64) -> Result<Self, EngineError> {
        if path.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            return Err(EngineError::Unsupported(format!("`{}` exists and is not empty", path.display())));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| EngineError::ReadOnly(format!("`{}`: {error}", path.display())))?;
        let sqlite = Self::set_up(connection, path, busy_ms, false)?;
        for name in ["encoding", "page_size", "auto_vacuum"] {
            if let Some(setting) = settings.get(name) {
                let value = &setting.value;
                if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                    sqlite.statement(&format!("PRAGMA {name}='{value}'"), "setting up the new database")?;
                }
            }
        }
        Ok(sqlite)
    }

    fn set_up(connection: Connection, path: &Path, busy_ms: u64, is_read_only: bool) -> Result<Self, EngineError> {
        let fail = |error| explain(error, "opening the database", busy_ms);
        connection.busy_timeout(Duration::from_millis(busy_ms)).map_err(fail)?;
        for (option, value) in [
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, true),
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, true),
        ] {
            connection.set_db_config(option, value).map_err(fail)?;
        }
        connection.pragma_update(None, "ignore_check_constraints", true).map_err(fail)?;
        connection.pragma_update(None, "cache_size", -16_384).map_err(fail)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self { connection, path: path.to_owned(), busy_ms, is_read_only })
    }

    fn statement(&self, sql: &str, doing: &str) -> Result<(), EngineError> {
        self.connection.execute_batch(sql).map_err(|error| explain(error, doing, self.busy_ms))
    }

    /// Returns the journal mode, which belongs to the file and not to the state (`wal`, `delete`).
    ///
    /// # Errors
    /// [`EngineError::Statement`] if the file cannot be read.
    pub fn journal_mode(&self) -> Result<String, EngineError> {
        self.connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .map_err(|error| explain(error, "reading the journal mode", self.busy_ms))
    }
}

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn begin_read(&mut self) -> Result<Box<dyn ReadTransaction + '_>, EngineError> {
        // The file may have been removed or replaced since it was opened; what we would read then is nobody's database.
        check_file(&self.path)?;
        self.statement("BEGIN", "beginning to read")?;
        let state = read::State { connection: &self.connection, busy_ms: self.busy_ms };
        state.touch()?;
        Ok(Box::new(state))
    }

    fn begin_write(&mut self) -> Result<Box<dyn WriteTransaction + '_>, EngineError> {
        if self.is_read_only {
            return Err(EngineError::ReadOnly(format!("`{}` or its folder is read-only for this user", self.path.display())));
        }
        self.statement("BEGIN IMMEDIATE", "beginning to write")?;
        let state = read::State { connection: &self.connection, busy_ms: self.busy_ms };
        state.touch()?;
        Ok(Box::new(write::Patch::new(state)))
    }
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

/// Looks at the file's name only: closing a descriptor of the file would drop the locks that SQLite holds on it in this process.
fn check_file(path: &Path) -> Result<(), EngineError> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(not_a_database(path, "it is a directory")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(EngineError::Missing(place(path))),
        Err(error) => Err(not_a_database(path, &error.to_string())),
    }
}

fn not_a_database(path: &Path, reason: &str) -> EngineError {
    EngineError::NotADatabase { place: place(path), engine: "SQLite", reason: reason.to_owned() }
}

/// Tells what stands in a file that SQLite does not take for a database. Only called where no lock is held.
fn diagnose(path: &Path) -> EngineError {
    let mut head = Vec::new();
    if let Err(error) = std::fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut head)) {
        return not_a_database(path, &error.to_string());
    }
    let is_text = std::str::from_utf8(&head).is_ok_and(|text| !text.contains('\0'));
    not_a_database(
        path,
        if head.starts_with(MAGIC) {
            "its header is damaged"
        } else if is_text {
            "it holds text"
        } else {
            "it does not begin with `SQLite format 3`; an encrypted database (SQLCipher) looks like this too"
        },
    )
}

/// Turns SQLite's error into ours.
fn explain(error: rusqlite::Error, doing: &str, busy_ms: u64) -> EngineError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => EngineError::Locked { who: String::new(), waited_ms: busy_ms },
        Some(ErrorCode::ReadOnly) => EngineError::ReadOnly(error.to_string()),
        Some(ErrorCode::DiskFull) => EngineError::Full,
        Some(ErrorCode::DatabaseCorrupt) => EngineError::Damaged(format!("{doing}: {error}")),
        Some(ErrorCode::NotADatabase) => EngineError::NotADatabase { place: doing.to_owned(), engine: "SQLite", reason: error.to_string() },
        _ => EngineError::Statement { doing: doing.to_owned(), source: Box::new(error) },
    }
}

/// Quotes an identifier.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
