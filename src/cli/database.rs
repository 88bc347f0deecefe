//! The database that a command works on: of which engine it is, how it is opened and made, and what it is called.
//!
//! A SQLite database is a file; a database of a server ([`server`]) has no file, and a name. This is the only place of the command line that
//! knows engines apart: others ask for the file, or for the server.

#[cfg(not(feature = "postgres"))]
#[path = "database/absent.rs"]
pub mod server;
#[cfg(feature = "postgres")]
pub mod server;

use std::path::{Path, PathBuf};

use dbelay::config::Config;
use dbelay::engine::sqlite::fingerprint::fingerprint;
use dbelay::engine::sqlite::{Options, Sqlite};
use dbelay::engine::{Engine, EngineError};
use dbelay::ops::{FileLook, Place};
use dbelay::schema::Settings;
use dbelay::snapshot::manifest::SourceName;
use dbelay::source::libpq::{self, Connection};
use dbelay::source::{DatabaseUrl, ServerKind, ServerUrl, SourceError, UrlOrigin};

use self::server::Server;
use super::{CliError, Context, ErrorKind};

/// The schema whose tables PostgreSQL finds without it, where nothing else is said.
const DEFAULT_SCHEMA: &str = "public";

/// The largest file of libpq (services, passwords) that is read.
const LIBPQ_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A database, and how to open it.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name in the store.
    pub source: SourceName,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Sqlite { path: PathBuf, options: Options },
    Server(Box<Server>),
}

impl Database {
    /// Takes the database of a URL.
    ///
    /// # Errors
    /// Where no engine of this build opens it, or the URL lacks something.
    pub fn of(cx: &Context, url: &DatabaseUrl, config: Option<&Config>) -> Result<Self, CliError> {
        let none = Config::default();
        let config = config.unwrap_or(&none);
        cx.output.set_engine(url.engine());
        if let Some(server) = url.server_url() {
            if server.kind != ServerKind::Postgres {
                let message = format!("this dbelay opens SQLite and PostgreSQL databases, and `{url}` is {}", url.engine());
                return Err(CliError::new(ErrorKind::Config, message).hint("name a database of these with `--db`"));
            }
            let server = Server::of(cx, server, config)?;
            return Ok(Self::of_server(url.engine(), server));
        }
        let Some(path) = url.sqlite_path() else {
            return Err(CliError::new(ErrorKind::Config, format_args!("`{url}` is no file and no server")));
        };
        let options = Options {
            busy_ms: config.sqlite.busy_timeout_ms,
            extensions: config.extension_paths(),
            is_sql_only: !config.sqlite.read_pages,
        };
        // SQLite keeps a database's journals beside the file itself, not beside a link to it.
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        let path = if is_link { path.canonicalize().unwrap_or_else(|_| path.to_owned()) } else { path.to_owned() };
        let source = SourceName { engine: url.engine().to_owned(), place: url.place() };
        Ok(Self { source, kind: Kind::Sqlite { path, options } })
    }

    fn of_server(engine: &str, server: Server) -> Self {
        let source = SourceName { engine: engine.to_owned(), place: server.place().to_owned() };
        Self { source, kind: Kind::Server(Box::new(server)) }
    }

    /// Returns its file; none where a server has it.
    pub fn file(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Sqlite { path, .. } => Some(path),
            Kind::Server(_) => None,
        }
    }

    /// Returns the server's database; none where it is a file.
    pub fn server(&self) -> Option<&Server> {
        match &self.kind {
            Kind::Sqlite { .. } => None,
            Kind::Server(server) => Some(server),
        }
    }

    /// Returns how a file is opened; none where a server has it.
    pub fn sqlite_options(&self) -> Option<Options> {
        match &self.kind {
            Kind::Sqlite { options, .. } => Some(options.clone()),
            Kind::Server(_) => None,
        }
    }

    /// Returns what messages call it: the path, or the place without secrets.
    pub fn shown(&self) -> String {
        match &self.kind {
            Kind::Sqlite { path, .. } => path.display().to_string(),
            Kind::Server(server) => server.place().to_owned(),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(&self) -> Result<Box<dyn Engine>, EngineError> {
        match &self.kind {
            Kind::Sqlite { path, options } => Ok(Box::new(Sqlite::open(path, options)?)),
            Kind::Server(server) => server.open(),
        }
    }

    /// Opens it without waiting for anybody's lock.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_impatient(&self) -> Result<Box<dyn Engine>, EngineError> {
        match &self.kind {
            Kind::Sqlite { path, options } => Ok(Box::new(Sqlite::open(path, &Options { busy_ms: 0, ..options.clone() })?)),
            Kind::Server(server) => server.open_impatient(),
        }
    }

    /// Makes it, empty, with these settings.
    ///
    /// # Errors
    /// The engine's. Also where a server has it already; an empty file is as good as none.
    pub fn create(&self, settings: &Settings) -> Result<Box<dyn Engine>, EngineError> {
        match &self.kind {
            Kind::Sqlite { path, options } => Ok(Box::new(Sqlite::create(path, settings, options)?)),
            Kind::Server(server) => server.create(settings),
        }
    }

    /// Tells whether it is there.
    ///
    /// # Errors
    /// The server's.
    pub fn exists(&self) -> Result<bool, EngineError> {
        match &self.kind {
            Kind::Sqlite { path, .. } => Ok(path.exists()),
            // Whoever may open it need not have the right to look around on the server.
            Kind::Server(server) => match server.open() {
                Ok(_) => Ok(true),
                Err(EngineError::Missing(_)) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Takes away what [`Database::create`] made, as far as that can be done.
    pub fn discard(&self) {
        match &self.kind {
            Kind::Sqlite { path, .. } => drop(fs_err::remove_file(path)),
            Kind::Server(server) => drop(server.drop_database(server.name())),
        }
    }

    /// Tells, where it can, by a text that stays the same exactly as long as nobody writes it.
    pub fn fingerprint(&self, now_ms: i64) -> Option<String> {
        match &self.kind {
            Kind::Sqlite { path, .. } => fingerprint(path, now_ms),
            Kind::Server(server) => server.fingerprint(),
        }
    }

    /// Names another file that is opened in the same way; none for a server.
    pub fn at(&self, path: PathBuf) -> Option<Self> {
        let Kind::Sqlite { options, .. } = &self.kind else { return None };
        let source = SourceName { engine: self.source.engine.clone(), place: path.to_string_lossy().into_owned() };
        Some(Self { source, kind: Kind::Sqlite { path, options: options.clone() } })
    }

    /// Names another database of the same server that is opened in the same way; none for a file.
    pub fn beside(&self, name: &str) -> Option<Self> {
        Some(Self::of_server(&self.source.engine, self.server()?.beside(name)))
    }

    /// Makes it wait no longer than this for anybody, the server itself included.
    pub fn hurry(&mut self, wait_ms: u64) {
        match &mut self.kind {
            Kind::Sqlite { options, .. } => options.busy_ms = options.busy_ms.min(wait_ms),
            Kind::Server(server) => server.hurry(wait_ms),
        }
    }

    /// Returns how a table, or a column of one, is called here: as written where `is_known` knows that, else without the schema whose tables
    /// are named without it.
    pub fn name<'n>(&self, written: &'n str, is_known: impl FnOnce(&str) -> bool) -> &'n str {
        let schema = self.server().map(Server::schema);
        bare(schema, written, is_known)
    }
}

/// As [`Database::name`], for the database that a snapshot is of.
pub fn name_in<'n>(source: &SourceName, written: &'n str, is_known: impl FnOnce(&str) -> bool) -> &'n str {
    let schema = (source.engine != "sqlite").then(|| default_schema(source));
    bare(schema, written, is_known)
}

/// Returns the schema of a server's database whose tables are named without it.
pub fn default_schema(source: &SourceName) -> &str {
    source.place.split_once("?schema=").map_or(DEFAULT_SCHEMA, |(_, schema)| schema)
}

fn bare<'n>(schema: Option<&str>, written: &'n str, is_known: impl FnOnce(&str) -> bool) -> &'n str {
    let Some(schema) = schema else { return written };
    let without = || {
        let (head, rest) = (written.get(..schema.len())?, written.get(schema.len()..)?);
        rest.strip_prefix('.').filter(|rest| !rest.is_empty() && head.eq_ignore_ascii_case(schema))
    };
    match without() {
        Some(rest) if !is_known(written) => rest,
        _ => written,
    }
}

/// Returns the identity of the database of a URL, equal for all its spellings; for a server also what the environment adds to the URL.
///
/// # Errors
/// Where the URL lacks something, or a file that it needs cannot be read.
pub fn place(cx: &Context, url: &DatabaseUrl) -> Result<String, SourceError> {
    match url.server_url() {
        Some(server) if server.kind == ServerKind::Postgres => Ok(libpq::place_of(&connection(cx, server)?)),
        _ => Ok(url.place()),
    }
}

/// Tells whether a URL that a command is given names this database of a server.
pub fn leads_to(cx: &Context, url: &str, database: &Database) -> bool {
    let url = DatabaseUrl::parse(url, &UrlOrigin::Environment, &cx.environment.cwd, &|_| false);
    url.is_ok_and(|url| place(cx, &url).is_ok_and(|place| place == database.source.place))
}

/// Finds out how a server is reached: by its URL, and by what the environment, the service file and the password file add to it.
///
/// # Errors
/// libpq's reasons, in our words.
pub fn connection(cx: &Context, url: &ServerUrl) -> Result<Connection, SourceError> {
    let environment = &cx.environment;
    let home = environment.var("HOME").or_else(|| environment.var("USERPROFILE")).map(PathBuf::from);
    libpq::connection(
        url,
        &libpq::Lookup {
            environment: &|name| environment.var(name).map(str::to_owned),
            read: &read,
            user: &environment.user,
            home: home.as_deref(),
            socket_exists: &|path| path.exists(),
        },
    )
}

/// Returns how a program that is told nothing reaches this database: by the variables of libpq (`PGDATABASE`), and by what they are without being
/// set. None where it would come to another.
pub fn default_connection(cx: &Context, database: &Database) -> Option<Connection> {
    let server = database.server()?;
    // A service's own words would go before the variables with which a program is led elsewhere.
    if cx.environment.var("PGSERVICE").is_some() {
        return None;
    }
    let url = DatabaseUrl::parse("postgres://", &UrlOrigin::Environment, &cx.environment.cwd, &|_| false).ok()?;
    // Which schema is meant says nothing about which database is.
    let found = Connection { schema: server.schema().to_owned(), ..connection(cx, url.server_url()?).ok()? };
    (libpq::place_of(&found) == database.source.place).then_some(found)
}

/// Reads a file of libpq.
fn read(path: &Path) -> Option<libpq::FileText> {
    use std::io::Read;
    let file = fs_err::File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    #[cfg(unix)]
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    #[cfg(not(unix))]
    let mode = {
        let _ = metadata;
        0o600
    };
    let mut bytes = Vec::new();
    file.take(LIBPQ_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(libpq::FileText { text: String::from_utf8_lossy(&bytes).into_owned(), mode })
}

/// What SQLite adds to a database's name for the files that it keeps beside it.
pub const JOURNALS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Names a database's files: what SQLite keeps beside it, and last its own. Without its database a journal is nobody's.
pub fn files(path: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    JOURNALS.into_iter().chain([""]).map(move |suffix| named(path, suffix))
}

/// Adds to a file's name.
fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Place for Database {
    #[cfg(unix)]
    fn look(&self) -> Option<FileLook> {
        use std::os::unix::fs::MetadataExt;
        let metadata = self.file()?.metadata().ok()?;
        Some(FileLook { id: (metadata.dev(), metadata.ino()), mode: metadata.mode() & 0o7777, owner: (metadata.uid(), metadata.gid()) })
    }

    #[cfg(not(unix))]
    fn look(&self) -> Option<FileLook> {
        None
    }

    fn set_aside(&self, like: Option<&FileLook>) -> std::io::Result<Option<PathBuf>> {
        let Some(path) = self.file() else { return Ok(None) };
        let is_free = |aside: &PathBuf| files(aside).all(|file| file.symlink_metadata().is_err());
        let free = (1..=u32::MAX).map(|n| named(path, &format!(".failed-{n}"))).find(is_free);
        let aside = free.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::AlreadyExists))?;
        let mut was_there = false;
        for (from, to) in files(path).zip(files(&aside)) {
            if from.symlink_metadata().is_ok() {
                dbelay::durable::rename(&from, &to)?;
                was_there |= from == path;
            }
        }
        if let Some(look) = like {
            drop(dbelay::durable::open_private(path)?);
            // Else it stays its owner's alone.
            let _ = self.protect(look);
        }
        Ok(was_there.then_some(aside))
    }

    fn sync(&self) -> std::io::Result<()> {
        let Some(path) = self.file() else { return Ok(()) };
        // Not the index of a write-ahead log, which is made anew.
        let lasting = files(path).filter(|file| !file.as_os_str().to_string_lossy().ends_with("-shm"));
        dbelay::durable::sync_others(&lasting.collect::<Vec<_>>())
    }

    #[cfg(unix)]
    fn protect(&self, look: &FileLook) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let Some(path) = self.file() else { return Ok(()) };
        // Only root may give a file away; whoever else made it has it anyway.
        let _ = std::os::unix::fs::chown(path, Some(look.owner.0), Some(look.owner.1));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(look.mode))
    }

    #[cfg(not(unix))]
    fn protect(&self, _: &FileLook) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(schema: Option<&str>, written: &str, known: &[&str], expected: &str) {
        assert_eq!(bare(schema, written, |name| known.contains(&name)), expected);
    }

    #[test]
    fn the_default_schema_may_stand_before_a_name() {
        check_name(Some("public"), "public.users", &["users"], "users");
        check_name(Some("public"), "Public.users.legacy_name", &["users"], "users.legacy_name");
        check_name(Some("public"), "users", &["users"], "users");
        check_name(Some("public"), "audit.users", &["audit.users"], "audit.users");
        check_name(Some("app"), "app.users", &["users"], "users");
        check_name(Some("app"), "public.users", &["public.users"], "public.users");
        check_name(Some("public"), "public.", &[], "public.");
        check_name(Some("public"), "publicity.users", &[], "publicity.users");
    }

    #[test]
    fn a_name_that_is_known_as_it_is_written_is_left_alone() {
        check_name(Some("app"), "app.name", &["app", "app.name"], "app.name");
        check_name(None, "public.users", &["users"], "public.users");
    }

    #[test]
    fn the_default_schema_of_a_snapshot_is_told_by_its_place() {
        let source = |engine: &str, place: &str| SourceName { engine: engine.to_owned(), place: place.to_owned() };
        let name = |source: &SourceName| name_in(source, "public.users", |_| false).to_owned();
        assert_eq!(name(&source("postgres", "postgres://localhost:5432/shop")), "users");
        assert_eq!(name(&source("postgres", "postgres://localhost:5432/shop?schema=app")), "public.users");
        assert_eq!(name(&source("sqlite", "/srv/app.db")), "public.users");
    }

    #[cfg(feature = "postgres")]
    fn context(vars: &[(&str, &str)]) -> Context {
        let global = super::super::Global::default();
        let environment = super::super::Environment {
            cwd: "/p".into(),
            program: "dbelay".into(),
            vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            now: Box::new(|| chrono::DateTime::UNIX_EPOCH),
            random: |_| {},
            user: "me".to_owned(),
            host: String::new(),
            pid: 1,
            stdin_terminal: false,
            stdout_terminal: false,
            stderr_terminal: false,
        };
        let output = super::super::Output::new(&global, &environment);
        Context { global, environment, output }
    }

    #[cfg(feature = "postgres")]
    fn database(cx: &Context, url: &str) -> Result<Database, CliError> {
        let url = DatabaseUrl::parse(url, &UrlOrigin::Flag, Path::new("/p"), &|_| false)?;
        Database::of(cx, &url, None)
    }

    #[cfg(feature = "postgres")]
    #[track_caller]
    fn check_default(vars: &[(&str, &str)], url: &str, is_default: bool) {
        let cx = context(vars);
        let database = database(&context(&[]), url).expect("a database");
        assert_eq!(default_connection(&cx, &database).is_some(), is_default, "{vars:?} {url}");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_variables_of_libpq_may_name_the_database() {
        let vars = [("PGHOST", "db.example.org"), ("PGDATABASE", "shop"), ("PGUSER", "anna")];
        check_default(&vars, "postgres://bert:hunter2@db.example.org/shop", true);
        check_default(&vars, "postgres://bert:hunter2@db.example.org/shop?schema=app", true);
        check_default(&vars, "postgres://db.example.org/other", false);
        check_default(&vars, "postgres://db.example.org:5433/shop", false);
        check_default(&[("PGHOST", "db.example.org")], "postgres://db.example.org/shop", false);
        check_default(&[vars[0], vars[1], ("PGSERVICE", "shop")], "postgres://db.example.org/shop", false);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_database_beside_another_differs_in_its_name_alone() {
        let cx = context(&[]);
        let real = database(&cx, "postgresql://me:hunter2@db.example.org:5433/shop?sslmode=require").expect("a database");
        let scratch = real.beside("scratch_1").expect("a server");
        assert_eq!(real.source.place.replace("shop", "scratch_1"), scratch.source.place);
        let real_url = real.server().expect("a server").url();
        assert!(leads_to(&cx, &real_url, &real) && !leads_to(&cx, &real_url, &scratch));
        assert!(leads_to(&cx, &scratch.server().expect("a server").url(), &scratch));
        let (real, scratch) = (real.server().expect("a server"), scratch.server().expect("a server"));
        assert_eq!((scratch.name(), real.url().replace("shop", "scratch_1")), ("scratch_1", scratch.url()));
        assert!(scratch.url().starts_with("postgresql://me:hunter2@db.example.org:5433/"), "the password is the command's to use");
        assert!(!format!("{:?}", real.place()).contains("hunter2"));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_file_has_no_server_and_a_server_has_no_file() {
        let cx = context(&[]);
        let (file, server) = (database(&cx, "app.db").expect("a file"), database(&cx, "postgres://h/d").expect("a database"));
        assert!(file.file().is_some() && file.server().is_none() && file.beside("x").is_none() && file.at("x".into()).is_some());
        assert!(server.file().is_none() && server.server().is_some() && server.at("x".into()).is_none());
        assert_eq!(server.look(), None);
        assert_eq!(server.set_aside(None).expect("nothing to do"), None);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_environment_belongs_to_the_place_of_a_server() {
        let cx = context(&[("PGHOST", "db.example.org"), ("PGPORT", "5433")]);
        let parse = |url: &str| DatabaseUrl::parse(url, &UrlOrigin::Flag, Path::new("/p"), &|_| false).expect("a URL");
        let of = |url: &str| place(&cx, &parse(url)).expect("a place");
        assert_eq!(of("postgres:///shop"), of("postgresql://anna:secret@db.example.org:5433/shop"));
        assert_ne!(of("postgres:///shop"), of("postgres:///other"));
        assert_eq!(of("app.db"), parse("app.db").place());
    }
}
