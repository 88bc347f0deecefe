//! A database of a PostgreSQL server.

use std::path::PathBuf;
use std::time::Duration;

use dbelay::config::Config;
use dbelay::engine::postgres::{self, Options, Postgres, admin};
use dbelay::engine::{Engine, EngineError};
use dbelay::schema::Settings;
use dbelay::source::ServerUrl;
use dbelay::source::libpq::{self, Connection};

use crate::cli::{CliError, Context};

/// The least and the most connections that read at once, where nothing else is said.
const READERS: (usize, usize) = (2, 8);

/// How long an engine that does not wait does so for a lock, in milliseconds; none at all would mean for ever to the server.
const NO_WAIT_MS: u64 = 1;

/// A database of a server, and how to open it.
#[derive(Debug, Clone)]
pub struct Server {
    options: Options,
    /// How the project's database was named, and what that means; this may be another one beside it.
    named: Box<(ServerUrl, Connection)>,
}

/// A name of a scratch database, taken as long as this lives.
pub type Hold = admin::Hold;

impl Server {
    /// Finds out how the database of a URL is opened.
    ///
    /// # Errors
    /// Where the URL, or what the environment adds to it, makes no sense.
    pub fn of(cx: &Context, url: &ServerUrl, config: &Config) -> Result<Self, CliError> {
        let connection = super::connection(cx, url)?;
        let cores = std::thread::available_parallelism().map_or(READERS.0, usize::from);
        let path = cx.environment.var("PATH").unwrap_or_default();
        let options = Options {
            place: libpq::place_of(&connection),
            connection,
            lock_ms: config.postgres.lock_timeout_ms,
            readers: config.postgres.readers.unwrap_or(cores.clamp(READERS.0, READERS.1)),
            program_folders: std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect::<Vec<PathBuf>>(),
            with_owners: config.postgres.owners && !cx.global.no_owner,
        };
        let named = Box::new((url.clone(), options.connection.clone()));
        Ok(Self { options, named })
    }

    /// Returns its place, without secrets.
    pub fn place(&self) -> &str {
        &self.options.place
    }

    /// Returns its name on the server.
    pub fn name(&self) -> &str {
        &self.options.connection.database
    }

    /// Returns the schema whose tables are named without it.
    pub fn schema(&self) -> &str {
        &self.options.connection.schema
    }

    /// Returns its URL, password included, in the form in which the project's was given.
    pub fn url(&self) -> String {
        let (url, connection) = &*self.named;
        libpq::url_of(connection, self.name(), url)
    }

    /// Opens it.
    pub fn open(&self) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(Postgres::open(&self.options)?))
    }

    /// Opens it without waiting for anybody's lock.
    pub fn open_impatient(&self) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(Postgres::open(&Options { lock_ms: NO_WAIT_MS, ..self.options.clone() })?))
    }

    /// Makes it, empty, with these settings.
    pub fn create(&self, settings: &Settings) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(Postgres::create(&self.options, settings)?))
    }

    /// As [`super::Database::fingerprint`].
    pub fn fingerprint(&self) -> Option<String> {
        postgres::fingerprint(&self.options)
    }

    /// Names another database of the same server.
    pub fn beside(&self, name: &str) -> Self {
        let mut options = self.options.clone();
        name.clone_into(&mut options.connection.database);
        options.place = libpq::place_of(&options.connection);
        Self { options, named: self.named.clone() }
    }

    /// Makes it wait no longer than this for anybody.
    pub fn hurry(&mut self, wait_ms: u64) {
        self.options.lock_ms = self.options.lock_ms.min(wait_ms);
        let wait = Duration::from_millis(wait_ms);
        let timeout = &mut self.options.connection.connect_timeout;
        *timeout = Some(timeout.map_or(wait, |timeout| timeout.min(wait)));
    }

    /// Lets the server copy it; false where others stand in the way, or the right to do so is missing.
    pub fn copy(&self, scratch: &str) -> Result<bool, EngineError> {
        admin::copy(&self.options, scratch)
    }

    /// Drops a database of this server, if it is there.
    pub fn drop_database(&self, name: &str) -> Result<(), EngineError> {
        admin::drop(&self.options, name)
    }

    /// Takes the name of a scratch database.
    pub fn hold(&self, name: &str) -> Result<Hold, EngineError> {
        admin::hold(&self.options, name)
    }

    /// Lists the databases whose names begin so and that nobody holds.
    pub fn stale(&self, prefix: &str) -> Result<Vec<String>, EngineError> {
        let mut stale = Vec::new();
        for name in admin::scratches(&self.options, prefix)? {
            if !admin::is_in_use(&self.options, &name)? {
                stale.push(name);
            }
        }
        Ok(stale)
    }
}
