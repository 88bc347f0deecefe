//! PostgreSQL.

pub mod connect;

use std::path::PathBuf;

use crate::source::libpq::Connection;

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
