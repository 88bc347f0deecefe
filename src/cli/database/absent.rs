//! Stands for the databases of servers in a build that opens none.

use std::convert::Infallible;

use dbelay::config::Config;
use dbelay::engine::{Engine, EngineError};
use dbelay::schema::Settings;
use dbelay::source::ServerUrl;

use crate::cli::{CliError, Context, ErrorKind};

/// A database of a server: there is none.
#[derive(Debug, Clone)]
pub struct Server(Infallible);

/// A name of a scratch database: there is none.
pub struct Hold(#[allow(dead_code, reason = "nobody makes one")] Infallible);

#[allow(missing_docs, reason = "nothing here can be called")]
impl Server {
    /// Says that this build has none.
    pub fn of(_: &Context, url: &ServerUrl, _: &Config) -> Result<Self, CliError> {
        let message = format!("this build of dbelay has no PostgreSQL, and `{url}` is a PostgreSQL database");
        Err(CliError::new(ErrorKind::Config, message).hint("build it with the feature `postgres`, or name a SQLite file with `--db`"))
    }

    pub fn place(&self) -> &str {
        match self.0 {}
    }

    pub fn name(&self) -> &str {
        match self.0 {}
    }

    pub fn schema(&self) -> &str {
        match self.0 {}
    }

    pub fn url(&self) -> String {
        match self.0 {}
    }

    pub fn open(&self) -> Result<Box<dyn Engine>, EngineError> {
        match self.0 {}
    }

    pub fn open_impatient(&self) -> Result<Box<dyn Engine>, EngineError> {
        match self.0 {}
    }

    pub fn create(&self, _: &Settings) -> Result<Box<dyn Engine>, EngineError> {
        match self.0 {}
    }

    pub fn fingerprint(&self) -> Option<String> {
        match self.0 {}
    }

    pub fn beside(&self, _: &str) -> Self {
        match self.0 {}
    }

    pub fn hurry(&mut self, _: u64) {
        match self.0 {}
    }

    pub fn copy(&self, _: &str) -> Result<bool, EngineError> {
        match self.0 {}
    }

    pub fn drop_database(&self, _: &str) -> Result<(), EngineError> {
        match self.0 {}
    }

    pub fn hold(&self, _: &str) -> Result<Hold, EngineError> {
        match self.0 {}
    }

    pub fn stale(&self, _: &str) -> Result<Vec<String>, EngineError> {
        match self.0 {}
    }
}
