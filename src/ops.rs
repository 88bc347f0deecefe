//! The verbs. The only modules that see both a database and the store.
//!
//! Each verb takes a [`Session`] and returns plain data; what it prints and which exit code follows is the command line's affair.

pub mod capture;
pub mod check;
pub mod compare;
pub mod drill;
pub mod export;
pub mod files;
pub mod forget;
pub mod fsck;
pub mod gc;
pub mod guard;
mod history;
pub mod import;
pub mod inspect;
pub mod journal;
pub mod memory;
pub mod migrate;
pub mod part;
pub mod partial;
pub mod plan;
pub mod query;
pub mod rehearse;
pub mod repair;
pub mod rollback;
pub mod seen;
mod tables;
pub mod undo;
pub mod validate;
pub mod verdict;

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::engine::{BoxError, Engine, EngineError, Obstacle};
use crate::id::ObjectId;
use crate::progress::Progress;
use crate::schema::Settings;
use crate::snapshot::compare::{CompareError, Objects, glimpse};
use crate::snapshot::manifest::{Origin, SourceName};
use crate::store::{Glimpse, Store, StoreError};

/// Opens a fresh connection to the session's database.
pub type Opener<'a> = dyn Fn() -> Result<Box<dyn Engine>, EngineError> + Sync + 'a;

/// Makes the session's database anew, empty, with these settings.
pub type Creator<'a> = dyn Fn(&Settings) -> Result<Box<dyn Engine>, EngineError> + Sync + 'a;

/// The file of a database, for engines that have one.
pub trait Place: Sync {
    /// Tells which file it is; none where there is none, or this system does not say.
    fn look(&self) -> Option<FileLook>;

    /// Gives what stands there, and what the engine keeps beside it, other names. For what is no database any more. Where it is known what the
    /// file was like, an empty one like it is left, so that what is filled into it is never open to more people. Returns the old file's new name, if
    /// there was one.
    ///
    /// # Errors
    /// The system's; the file is where it was then.
    fn set_aside(&self, like: Option<&FileLook>) -> std::io::Result<Option<std::path::PathBuf>>;

    /// Makes durable what others wrote, whatever they left to chance. No engine *must* have the database open in this process. Where there is no
    /// file, there is nothing to do.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }

    /// Gives the file its permissions, and its owner where that may be done.
    ///
    /// # Errors
    /// The system's.
    fn protect(&self, look: &FileLook) -> std::io::Result<()>;
}

/// Which file a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLook {
    /// Device and inode.
    pub id: (u64, u64),
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// What every verb works with.
pub struct Session<'a> {
    /// The project's store.
    pub store: &'a Store,
    /// The database.
    pub source: SourceName,
    /// Opens the database.
    pub open: &'a Opener<'a>,
    /// Makes it anew where it is gone.
    pub create: &'a Creator<'a>,
    /// Its file.
    pub place: &'a dyn Place,
    /// Tells, where it can, by a text that stays the same exactly as long as nobody writes the database.
    pub fingerprint: &'a (dyn Fn() -> Option<String> + Sync),
    /// Who and where; `command` stays empty here.
    pub origin: Origin,
    /// The folder whose files are kept with the database, where there are such.
    pub files: Option<&'a crate::files::Folder>,
    /// The process that acts.
    pub pid: u32,
    /// The time now.
    pub now: &'a (dyn Fn() -> DateTime<Utc> + Sync),
    /// Hears of progress.
    pub progress: &'a dyn Progress,
}

impl Session<'_> {
    /// Returns the time now, to measure from.
    pub fn clock(&self) -> DateTime<Utc> {
        (self.now)()
    }

    /// Returns how long ago that was; nothing where the clock was set back since.
    pub fn since(&self, begun: DateTime<Utc>) -> std::time::Duration {
        ((self.now)() - begun).to_std().unwrap_or_default()
    }

    /// Returns the time now as the format writes it.
    pub fn stamp(&self) -> String {
        (self.now)().to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

/// What stopped a verb.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Files beside the database.
    #[error(transparent)]
    Files(#[from] files::FileError),
    /// Comparing.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// A snapshot or an object of one cannot be read as what it should be.
    #[error("{what} {id} cannot be read as this format of snapshots has it")]
    Format {
        /// What it should be: `snapshot`, `schema`, `table manifest`.
        what: &'static str,
        /// Which one.
        id: ObjectId,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A snapshot is of a later format.
    #[error("snapshot {id} has format version {found}; this dbelay reads up to {supported}")]
    NewerSnapshot {
        /// Which one.
        id: ObjectId,
        /// Its version.
        found: u32,
        /// The newest known.
        supported: u32,
    },
    /// A rollback did not end in the target state; nothing was changed.
    #[error("the result would not have been exact, so nothing was committed: {what}")]
    NotProven {
        /// What differed.
        what: String,
    },
    /// Tables would have to be written that this build of the engine cannot write; nothing was changed.
    #[error("{}", unwritable(.0))]
    Unwritable(Vec<Obstacle>),
    /// There is nothing left to undo or redo.
    #[error("there is no operation to {0}")]
    NothingTo(&'static str),
    /// A table that was named is not there.
    #[error("there is no table `{0}` in {1}")]
    NoTable(String, String),
    /// A table cannot come back alone, because something else has a name that it needs.
    #[error("{what} of `{table}` cannot come back, since `{other}` has one of that name now")]
    NameTaken {
        /// What needs the name.
        what: String,
        /// The table that it belongs to.
        table: String,
        /// The table that has it.
        other: String,
    },
    /// What stands in the database's place cannot be set aside.
    #[error("what stands at `{place}` cannot be given another name")]
    Aside {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An assertion cannot be answered before the migration.
    #[error("the guard `{name}` cannot be judged")]
    Guard {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// What snapshots need cannot be told, so nothing was freed.
    #[error("nothing was freed, since what snapshots need cannot be told: {}", .0.join("; "))]
    Unmarkable(Vec<String>),
    /// The command could not be started.
    #[error("the command could not be started: `{command}`")]
    Command {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Says an error with its causes, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn unwritable(obstacles: &[Obstacle]) -> String {
    obstacles.iter().map(Obstacle::to_string).collect::<Vec<_>>().join("; ")
}

impl Objects for Store {
    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, BoxError> {
        Ok(self.get(id)?)
    }

    fn read_pair(&self, ids: [&ObjectId; 2]) -> Result<[Vec<u8>; 2], BoxError> {
        Ok(self.get_pair(ids)?)
    }

    fn glimpse(&self, id: &ObjectId, places: &[usize]) -> Result<Arc<Glimpse>, BoxError> {
        Store::glimpse(self, id, places, &mut |json| glimpse(json, places))
    }
}
