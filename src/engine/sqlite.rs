//! SQLite through rusqlite and its bundled library.
//!
//! - [`read`] reads a state, from the pages of the file where that can be done ([`pages`]), [`query`] answers questions about it, [`schema`] describes it, [`write`] changes it row by row ([`statement`]), [`script`] writes the same changes as
//!   SQL text. [`text`] is about bytes that are no UTF-8, [`needs`] about what this build does not have, [`relaxed`] about rows that their
//!   own table would refuse, [`locks`] about others, [`trial`] about whether a database takes rows, [`scratch`] about databases of nobody, [`dump`] about text
//!   that is loaded into one, [`extension`] about libraries (the only unsafe code), [`fingerprint`] about files
//!   that nobody wrote, [`since`] about what is checked of a database that was checked before, [`links`] about its foreign keys.
//! - A connection never fires a trigger, enforces a foreign key or trusts the schema's functions: the state is restored, not
//!   lived through.
//! - Virtual tables are never asked for rows and never created through their module: their shadow tables are ordinary tables to us,
//!   and their line in `sqlite_schema` is written as it stood. So a module that this build does not have does not matter.

pub mod condition;
pub mod dump;
mod extension;
pub mod fingerprint;
mod links;
mod locks;
mod needs;
mod pages;
mod query;
mod read;
mod relaxed;
mod schema;
pub mod scratch;
pub mod script;
pub mod settings;
mod since;
mod statement;
pub mod text;
mod trial;
mod write;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Engine, EngineError, Obstacle, ReadTransaction, Tryout, WriteTransaction};
use crate::rows::TableShape;
use crate::schema::{Schema, Settings};
use pages::held::Held;
use pages::log::{Index, Mark};

/// The first bytes of every SQLite file that is not empty.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// How a database is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How long any statement waits for others' locks.
    pub busy_ms: u64,
    /// Libraries that are loaded into every connection: they bring functions, collations and modules that the schema needs.
    pub extensions: Vec<PathBuf>,
    /// Whether rows are read through SQL alone, never from pages: slower, and the measure of what pages give.
    pub is_sql_only: bool,
}

/// A SQLite database file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    site: Site,
    is_read_only: bool,
    /// The file, to be closed after the connection.
    held: Option<Held>,
    /// The index of its write-ahead log, to be closed after the connection.
    index: Option<Index>,
}

/// How often a transaction is begun anew because somebody committed just then.
const BEGIN_TRIES: usize = 64;

/// Where a database is and how it is opened, for what is said and done when a statement fails.
#[derive(Debug, Clone)]
struct Site {
    path: PathBuf,
    options: Options,
    /// Which file it was when it was opened.
    file: Option<FileId>,
    /// What must not change, where SQLite was told that nothing does.
    still: Option<String>,
}

/// A file, whatever its name: device and inode.
type FileId = (u64, u64);

impl Sqlite {
    /// Opens an existing database.
    ///
    /// A database in WAL mode in a place where nothing can be written, with no log beside it, is opened as one that does not change:
    /// SQLite has no other way to read it there.
    ///
    /// # Errors
    /// [`EngineError::Missing`], [`EngineError::NotADatabase`], [`EngineError::Locked`], [`EngineError::Extension`].
    pub fn open(path: &Path, options: &Options) -> Result<Self, EngineError> {
        check_file(path)?;
        let site = Site::new(path, options);
        let held = Held::of(path, site.file);
        let has_log = has_log(path);
        let open = |flags| Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX);
        let (connection, is_read_only) = match open(OpenFlags::SQLITE_OPEN_READ_WRITE) {
            Ok(connection) => {
                let is_read_only = connection.is_readonly("main").unwrap_or(false);
                (connection, is_read_only)
            }
            Err(_) => (open(OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| site.explain(error, "opening the database"))?, true),
        };
        let mut sqlite = Self { connection, site, is_read_only, held, index: None };
        let looked = match sqlite.look() {
            Err(error) if is_read_only && is_cannot_open(&error) && !has_log => return Self::open_unchanging(path, options),
            looked => looked,
        };
        Index::hold(&mut sqlite.index, &sqlite.site.path);
        // Who only reads does not carry a write-ahead log over into the file when he closes it: the files stay what they are.
        sqlite.leave_log(has_log)?;
        match looked.map_err(|error| sqlite.site.explain(error, "opening the database")) {
            Ok(()) => sqlite.set_up(),
            Err(EngineError::NotADatabase { .. }) => {
                drop(sqlite);
                Err(diagnose(path))
            }
            Err(error) => Err(error),
        }
    }

    fn open_unchanging(path: &Path, options: &Options) -> Result<Self, EngineError> {
        let site = Site { still: fingerprint::look(path), ..Site::new(path, options) };
        let held = Held::of(path, site.file);
        let uri = unchanging_uri(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let fail = |error| site.explain(error, "opening the database");
        let connection = Connection::open_with_flags(uri, flags).map_err(fail)?;
        let sqlite = Self { connection, site: site.clone(), is_read_only: true, held, index: None };
        sqlite.look().map_err(fail)?;
        sqlite.set_up()
    }

    /// Creates an empty database with these settings; only those that SQLite fixes at creation matter.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`] if the file cannot be made; [`EngineError::Unsupported`] if there is one with content already.
    pub fn create(path: &Path, settings: &Settings, options: &Options) -> Result<Self, EngineError> {
        if path.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            return Err(EngineError::Unsupported(format!("`{}` exists and is not empty", path.display())));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| EngineError::ReadOnly(format!("`{}`: {error}", path.display())))?;
        let site = Site::new(path, options);
        let held = Held::of(path, file_id(path));
        let sqlite = Self { connection, site, is_read_only: false, held, index: None }.set_up()?;
        sqlite.set_creation(settings)?;
        Ok(sqlite)
    }

    /// Gives a new database what only a new one can be given.
    fn set_creation(&self, settings: &Settings) -> Result<(), EngineError> {
        for name in ["encoding", "page_size", "auto_vacuum"] {
            if let Some(setting) = settings.get(name) {
                let value = &setting.value;
                if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                    self.statement(&format!("PRAGMA {name}='{value}'"), "setting up the new database")?;
                }
            }
        }
        Ok(())
    }

    /// Reads the file's first page, and waits for others' locks.
    fn look(&self) -> Result<(), rusqlite::Error> {
        self.connection.busy_timeout(Duration::from_millis(self.site.options.busy_ms))?;
        self.connection.query_row("SELECT count(*) FROM main.sqlite_schema", [], |row| row.get::<_, i64>(0)).map(drop)
    }

    fn set_up(self) -> Result<Self, EngineError> {
        prepare(&self.connection, &self.site)?;
        Ok(self)
    }

    fn statement(&self, sql: &str, doing: &str) -> Result<(), EngineError> {
        self.connection.execute_batch(sql).map_err(|error| self.site.explain(error, doing))
    }

    fn leave_log(&self, leave: bool) -> Result<(), EngineError> {
        let set = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leave);
        set.map(drop).map_err(|error| self.site.explain(error, "opening the database"))
    }

    /// Begins to read, and finds out what the transaction sees of a write-ahead log, where there is one and that can be told.
    fn begin(&mut self) -> Result<Option<Mark>, EngineError> {
        for _ in 0..BEGIN_TRIES {
            Index::hold(&mut self.index, &self.site.path);
            let before = self.index.as_ref().and_then(Index::mark);
            self.statement("BEGIN", "beginning to read")?;
            // BEGIN alone takes no lock.
            if let Err(error) = self.look() {
                let error = self.site.explain(error, "beginning to read");
                let _ = self.statement("ROLLBACK", "beginning to read");
                return Err(error);
            }
            match (before, self.index.as_ref().and_then(Index::mark)) {
                (None, None) => return Ok(None),
                (Some(before), Some(after)) if before.is_same_state(&after) => return Ok(Some(after)),
                // Somebody committed, and it may have been before the lock was taken.
                _ => self.statement("ROLLBACK", "beginning to read")?,
            }
        }
        self.statement("BEGIN", "beginning to read")?;
        Ok(None)
    }

    fn state(&self) -> Result<read::State<'_>, EngineError> {
        read::State::begun(&self.connection, &self.site)
    }
}

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn begin_read(&mut self) -> Result<Box<dyn ReadTransaction + '_>, EngineError> {
        // The file may have been removed or replaced since it was opened; what we would read then is nobody's database.
        self.site.check_file()?;
        let mark = self.begin()?;
        let state = self.state()?;
        Ok(Box::new(match &self.held {
            Some(held) if !self.site.options.is_sql_only => state.with_pages(held, mark.as_ref()),
            _ => state,
        }))
    }

    fn begin_write(&mut self) -> Result<Box<dyn WriteTransaction + '_>, EngineError> {
        if self.is_read_only {
            let path = self.site.path.display();
            return Err(EngineError::ReadOnly(format!("`{path}` or its folder is read-only for this user")));
        }
        self.site.check_file()?;
        self.leave_log(false)?;
        Index::hold(&mut self.index, &self.site.path);
        let begun = locks::begin_immediate(&self.connection, self.site.options.busy_ms);
        begun.map_err(|error| self.site.explain(error, "beginning to write"))?;
        let held = self.held.as_ref().filter(|_| !self.site.options.is_sql_only);
        Ok(Box::new(write::Patch::new(self.state()?, held)))
    }

    fn journal_mode(&mut self) -> Result<Option<String>, EngineError> {
        let mode = self.connection.pragma_query_value(Some("main"), "journal_mode", |row| row.get(0));
        mode.map(Some).map_err(|error| self.site.explain(error, "reading the journal mode"))
    }

    fn set_journal_mode(&mut self, mode: &str) -> Result<(), EngineError> {
        let now: Result<String, _> = self.connection.pragma_update_and_check(Some("main"), "journal_mode", mode, |row| row.get(0));
        let now = now.map_err(|error| self.site.explain(error, "setting the journal mode"))?;
        if now.eq_ignore_ascii_case(mode) {
            return Ok(());
        }
        Err(EngineError::Unsupported(format!("the journal mode stays `{now}`")))
    }

    fn obstacles(&mut self, target: &Schema, shapes: &[TableShape]) -> Result<Vec<Obstacle>, EngineError> {
        needs::obstacles(&self.site, target, shapes)
    }

    fn try_out(&mut self, schema: &Schema) -> Result<Tryout, EngineError> {
        self.site.check_file()?;
        self.statement("BEGIN", "beginning to read")?;
        let findings = self.state()?.findings_of("integrity_check")?;
        Ok(Tryout { findings, trials: trial::run(&self.connection, &self.site, schema)? })
    }
}

/// Sets a connection up: no trigger fires, no foreign key acts, no check is made, and what the extensions bring is there.
fn prepare(connection: &Connection, site: &Site) -> Result<(), EngineError> {
    extension::load(connection, &site.options.extensions)?;
    let fail = |error| site.explain(error, "opening the database");
    connection.busy_timeout(Duration::from_millis(site.options.busy_ms)).map_err(fail)?;
    for (option, value) in [
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false),
        // An extension's functions are there to be used by the schema.
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, !site.options.extensions.is_empty()),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, true),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, true),
    ] {
        connection.set_db_config(option, value).map_err(fail)?;
    }
    connection.pragma_update(None, "ignore_check_constraints", true).map_err(fail)?;
    connection.pragma_update(None, "cache_size", -16_384).map_err(fail)?;
    // With less, a power cut may bring back the journal that a commit deleted, and with it the state before: what was reported would be undone.
    connection.pragma_update(None, "synchronous", "EXTRA").map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn is_cannot_open(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Tells whether a write-ahead log or rollback journal with something in it lies beside the database.
fn has_log(path: &Path) -> bool {
    ["-wal", "-journal"].into_iter().any(|suffix| beside(path, suffix).metadata().is_ok_and(|metadata| metadata.len() > 0))
}

/// Names a file that SQLite keeps beside a database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Writes the URI under which SQLite reads a file without locks and logs.
fn unchanging_uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for letter in path.display().to_string().chars() {
        match letter {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            other => uri.push(other),
        }
    }
    uri + "?immutable=1"
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(_: &Path) -> Option<FileId> {
    None
}

/// Looks at the file's name only: closing a descriptor of the file would drop the locks that SQLite holds on it in this process.
fn check_file(path: &Path) -> Result<(), EngineError> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(not_a_database(path, "it is a directory")),
        // A pipe would be waited for, and a device has no end.
        Ok(metadata) if !metadata.is_file() => Err(not_a_database(path, "it is a pipe or a device")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(EngineError::Missing(place(path))),
        Err(error) => Err(unreadable(path, &error.to_string())),
    }
}

fn unreadable(path: &Path, reason: &str) -> EngineError {
    EngineError::Unreadable { place: place(path), reason: reason.to_owned() }
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

impl Site {
    fn new(path: &Path, options: &Options) -> Self {
        Self { path: path.to_owned(), options: options.clone(), file: file_id(path), still: None }
    }

    /// Checks that the name still means the file that was opened: a file that was removed or replaced since is nobody's database, though
    /// SQLite would go on with it.
    fn check_file(&self) -> Result<(), EngineError> {
        // A scratch database has no name.
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        check_file(&self.path)?;
        if file_id(&self.path) != self.file {
            let words = "another file has taken its place since it was opened; try again";
            return Err(EngineError::Unsupported(format!("`{}` was replaced: {words}", self.path.display())));
        }
        Ok(())
    }

    /// Checks that nobody wrote a file of which SQLite was told that nobody does.
    fn check_still(&self) -> Result<(), EngineError> {
        if self.still.is_some() && (fingerprint::look(&self.path) != self.still || has_log(&self.path)) {
            let words = "somebody wrote it while it was read, and in this folder it can only be read while nobody does; try again";
            return Err(EngineError::Unsupported(format!("`{}` changed: {words}", self.path.display())));
        }
        Ok(())
    }

    /// Turns SQLite's error into ours.
    fn explain(&self, error: rusqlite::Error, doing: &str) -> EngineError {
        let is_index_full = error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                EngineError::Locked { who: locks::holders(&self.path), waited_ms: self.options.busy_ms }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) if has_log(&self.path) => EngineError::ReadOnly(
                "to read it is to replay the write-ahead log or rollback journal beside it; copy these files together to where they can be written"
                    .to_owned(),
            ),
            Some(ErrorCode::ReadOnly) => EngineError::ReadOnly(error.to_string()),
            // The index of a write-ahead log cannot be made as long as it must be.
            Some(ErrorCode::SystemIoFailure) if is_index_full => EngineError::Full,
            Some(ErrorCode::DiskFull) => EngineError::Full,
            Some(ErrorCode::DatabaseCorrupt) => EngineError::Damaged(format!("{doing}: {error}")),
            Some(ErrorCode::NotADatabase) => {
                EngineError::NotADatabase { place: place(&self.path), engine: "SQLite", reason: error.to_string() }
            }
            // The file itself can be opened, and files can be made beside it: no permission is missing.
            Some(ErrorCode::CannotOpen) if why_unreadable(&self.path).is_none() && is_folder_writable(&self.path) => {
                let words = "the journal or log that SQLite keeps beside it could not be made; there may be no room, or the disk fails";
                EngineError::Statement { doing: doing.to_owned(), source: format!("{error}: {words}").into() }
            }
            Some(ErrorCode::CannotOpen) => unreadable(&self.path, &why_unreadable(&self.path).unwrap_or_else(|| error.to_string())),
            _ => EngineError::Statement { doing: doing.to_owned(), source: Box::new(error) },
        }
    }
}

/// Says why a file cannot even be opened. Only called where SQLite could not either, and so holds no lock on it.
fn why_unreadable(path: &Path) -> Option<String> {
    std::fs::File::open(path).err().map(|error| error.to_string())
}

/// Tells whether this user may make files beside a file; no where the system does not say.
#[cfg(unix)]
fn is_folder_writable(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_folder_writable(_: &Path) -> bool {
    false
}

/// Quotes an identifier.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
