//! What can stop the store, each with what people are told.

use std::io;
use std::path::{Path, PathBuf};

use super::{FORMAT_VERSION, LockHolder};
use crate::id::ObjectId;

/// What stopped the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store here.
    #[error("there is no store at `{}`", .0.display())]
    NoStore(PathBuf),
    /// A store is here already.
    #[error("there is a store at `{}` already", .0.display())]
    Exists(PathBuf),
    /// A newer dbelay made it.
    #[error("the store `{}` has format version {found}; this dbelay reads up to {FORMAT_VERSION}", .dir.display())]
    NewerFormat {
        /// Where.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The directory's `config.json` is not one.
    #[error("`{}` is damaged: {what}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The store is encrypted, and no secret was given.
    #[error("the store `{}` is encrypted", .0.display())]
    KeyNeeded(PathBuf),
    /// No key of the store opens with this secret.
    #[error("this opens none of the {keys} {} of the store `{}`", if *.keys == 1 { "key" } else { "keys" }, .dir.display())]
    WrongKey {
        /// Where.
        dir: PathBuf,
        /// How many keys there are.
        keys: usize,
    },
    /// A key cannot be made, exchanged or removed.
    #[error("{0}")]
    Key(String),
    /// No pack has this object.
    #[error("object {0} is missing from the store")]
    Missing(ObjectId),
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(ObjectId),
    /// The snapshot is pinned.
    #[error("snapshot {0} is pinned")]
    Pinned(ObjectId),
    /// An object cannot be read.
    #[error("object {id} in `{}` is damaged: {what}", .path.display())]
    Damaged {
        /// Where it stands.
        path: PathBuf,
        /// Which one.
        id: ObjectId,
        /// What is wrong.
        what: String,
    },
    /// A snapshot's file does not have the id that its name says.
    #[error("`{}` is damaged: its bytes do not have its id", .0.display())]
    DamagedSnapshot(PathBuf),
    /// A tag's file is not one.
    #[error("the tag `{0}` is damaged: it holds no snapshot id")]
    DamagedTag(String),
    /// The operation log is not whole.
    #[error("line {line} of `{}` is damaged: {what}", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Another process holds the lock.
    #[error("the store is locked by {}", .holder.as_ref().map_or("another process".to_owned(), describe))]
    Locked {
        /// Which one, where it said so.
        holder: Option<LockHolder>,
    },
    /// Other processes read the store, and must not.
    #[error("the store is being read by another process")]
    Read,
    /// A tag cannot have this name.
    #[error("`{name}` cannot be a tag: {why}")]
    TagName {
        /// The name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// An object is longer than [`OBJECT_BYTES_MAX`].
    #[error("a value of {0} bytes is longer than the store can hold")]
    TooLong(u64),
    /// The system failed.
    #[error("{doing} `{}` failed", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}

fn describe(holder: &LockHolder) -> String {
    format!("`dbelay {}` (process {} on {}, since {})", holder.command, holder.pid, holder.host, holder.since)
}
