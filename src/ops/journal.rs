//! The operation log's entries: what was done to which database, by whom, from where to where.
//!
//! An operation that changes a database writes a `begin` entry before it touches anything and an `end` entry afterwards, so that
//! a crash between the two is seen by the next command. The store chains the entries by hash.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::guard::Known;
use super::{OpError, Session, capture, compare, files};
use crate::engine::Finding;
use crate::id::ObjectId;
use crate::snapshot::manifest::SourceName;
use crate::store::{BatchMode, Store, StoreError};

/// One entry of the operation log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, as snapshots write it.
    pub time: String,
    /// What was done.
    pub kind: OperationKind,
    /// Whether this begins or ends it.
    pub phase: Phase,
    /// For an end: the index of the entry that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<u64>,
    /// To which database.
    pub source: SourceName,
    /// By whom.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// On which host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// By which process.
    pub pid: u32,
    /// The migration command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The state before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ObjectId>,
    /// The state after; at a beginning, the state that it is to become where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ObjectId>,
    /// The state that a rolled-back migration left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<ObjectId>,
    /// For undo and redo: the index of the entry that began what is undone or redone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Whether the files beside the database went with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub files: bool,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<OperationResult>,
    /// The command's exit code, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// What the engine's checks found before a migration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What guards know from before a migration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Known>,
    /// The snapshots that are forgotten: at a beginning those that are to be, at an end those that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgotten: Vec<Forgotten>,
    /// More, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// For a proof that a snapshot restores, which is `after`: what was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drilled>,
}

/// A snapshot that was restored into a scratch database, held against what it should be, and written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// How long it took to restore it, in milliseconds.
    pub restored_ms: u64,
    /// How long all took.
    pub ms: u64,
    /// The rows that were restored.
    pub rows: u64,
    /// The tables that there are to write into.
    pub tables: u64,
    /// The tables that a row was written into.
    pub written: u64,
}

/// When a snapshot was last proven restorable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// When.
    pub time: String,
    /// How.
    #[serde(flatten)]
    pub drill: Drilled,
}

/// Finds the last proof of each snapshot that has one.
pub fn proofs(log: &[Indexed]) -> HashMap<ObjectId, Proof> {
    log.iter().filter_map(|(_, _, entry)| proof(entry)).collect()
}

/// Finds the last proof of a source, with its snapshot.
pub fn last_proof(log: &[Indexed], source: &SourceName) -> Option<(ObjectId, Proof)> {
    log.iter().rev().filter(|(_, _, entry)| entry.source == *source).find_map(|(_, _, entry)| proof(entry))
}

fn proof(entry: &Entry) -> Option<(ObjectId, Proof)> {
    let is_proof = entry.kind == OperationKind::Verify && entry.result == Some(OperationResult::Done);
    if is_proof { Some((entry.after?, Proof { time: entry.time.clone(), drill: entry.drill? })) } else { None }
}

/// A snapshot that was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Its id.
    pub id: ObjectId,
    /// When it was taken; none where its file could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The tags that named it, and went with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// A snapshot was taken.
    Snapshot,
    /// A migration command ran.
    Migrate,
    /// The database was made equal to a snapshot.
    Rollback,
    /// A snapshot was written into another database.
    Restore,
    /// An operation was undone.
    Undo,
    /// An undone operation was done again.
    Redo,
    /// A tag was set, moved or deleted.
    Tag,
    /// Snapshots were forgotten.
    Forget,
    /// Space was freed.
    Gc,
    /// Snapshots were proven restorable.
    Verify,
    /// What was whole was saved out of a damaged store.
    Repair,
    /// A key was added, removed or exchanged.
    Key,
    /// A snapshot was made from a file.
    Import,
    /// A snapshot was pinned, or its pin removed.
    Pin,
}

impl OperationKind {
    /// Returns the command's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Migrate => "migrate",
            Self::Rollback => "rollback",
            Self::Restore => "restore",
            Self::Undo => "undo",
            Self::Redo => "redo",
            Self::Tag => "tag",
            Self::Forget => "forget",
            Self::Gc => "gc",
            Self::Verify => "verify",
            Self::Repair => "fsck --repair",
            Self::Key => "key",
            Self::Import => "import",
            Self::Pin => "pin",
        }
    }

    /// Tells whether it is about the store alone. Interrupted, such an operation leaves the database as it was, and the store sound.
    pub fn is_of_store(self) -> bool {
        matches!(self, Self::Tag | Self::Forget | Self::Gc | Self::Verify | Self::Repair | Self::Key | Self::Import | Self::Pin)
    }
}

/// Whether an entry begins or ends an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It begins; nothing was touched yet.
    Begin,
    /// It ended, or needed no beginning.
    End,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationResult {
    /// As intended.
    Done,
    /// The migration was not fine, and the database was put back.
    RolledBack,
    /// The migration was not fine, and the database was left as it was then.
    Kept,
    /// It failed, and the database is as it was before.
    Failed,
    /// A later command found it unfinished and settled it.
    Abandoned,
}

impl Entry {
    /// Makes an entry of this session, at this time, with nothing filled in.
    pub fn new(session: &Session<'_>, kind: OperationKind, phase: Phase) -> Self {
        let by = Author { user: session.origin.user.clone(), host: session.origin.host.clone(), pid: session.pid };
        Self::by(&by, session.source.clone(), session.stamp(), kind, phase)
    }

    /// Makes an entry of somebody, with nothing filled in: for what needs no database to be open.
    pub fn by(author: &Author, source: SourceName, time: String, kind: OperationKind, phase: Phase) -> Self {
        Self {
            time,
            kind,
            phase,
            begin: None,
            source,
            user: author.user.clone(),
            host: author.host.clone(),
            pid: author.pid,
            command: Vec::new(),
            before: None,
            after: None,
            failed: None,
            of: None,
            files: false,
            result: None,
            exit: None,
            findings: Vec::new(),
            guards: Vec::new(),
            forgotten: Vec::new(),
            note: None,
            drill: None,
        }
    }
}

/// Who acts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Author {
    /// The user's name.
    pub user: String,
    /// The host's name.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// Writes an entry durably; returns its index.
///
/// # Errors
/// The store's.
pub fn write(store: &Store, entry: &Entry) -> Result<u64, StoreError> {
    let body = serde_json::to_value(entry).expect("an entry has string keys and no failing serializer");
    Ok(store.append_operation(body)?.index)
}

/// An entry with its place in the log.
pub type Indexed = (u64, ObjectId, Entry);

/// Reads the whole log, oldest first.
///
/// # Errors
/// The store's; [`OpError::Format`] for an entry that this version cannot read.
pub fn read(store: &Store) -> Result<Vec<Indexed>, OpError> {
    store
        .operations()?
        .into_iter()
        .map(|logged| {
            let entry =
                serde_json::from_value(logged.body).map_err(|source| OpError::Format { what: "operation", id: logged.id, source })?;
            Ok((logged.index, logged.id, entry))
        })
        .collect()
}

/// Finds operations of a source that began and did not end, and may have left its database between two states.
pub fn unfinished<'a>(log: &'a [Indexed], source: &SourceName) -> Vec<&'a Indexed> {
    open(log).into_iter().filter(|(_, _, entry)| entry.source == *source && !entry.kind.is_of_store()).collect()
}

/// Finds all operations that began and did not end.
pub fn open(log: &[Indexed]) -> Vec<&Indexed> {
    let ended: HashSet<u64> = log.iter().filter_map(|(_, _, entry)| entry.begin).collect();
    log.iter().filter(|(index, _, entry)| entry.phase == Phase::Begin && !ended.contains(index)).collect()
}

/// Finds the operation that forgot a snapshot, the last one where several tried; also one that was interrupted.
pub fn forgotten(log: &[Indexed], is_meant: impl Fn(&Forgotten) -> bool) -> Option<(&Entry, &Forgotten)> {
    let operations = log.iter().rev().filter(|(_, _, entry)| entry.kind == OperationKind::Forget);
    operations.into_iter().find_map(|(_, _, entry)| Some((entry, entry.forgotten.iter().find(|forgotten| is_meant(forgotten))?)))
}

/// Returns what marks the processes of an operation's command: it may outlive us. See [`crate::process::marked`].
pub fn mark(store: &Store, begin: u64) -> String {
    format!("{}-{begin}", store.id())
}

/// What is known of an operation that began and did not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// The database is as it was before: nothing happened, or it was put back.
    AsBefore,
    /// The database is what it was to become.
    AsIntended,
    /// It is neither: what the operation did so far is in it, or others changed it.
    Neither,
}

/// Compares the live database with what an unfinished operation began from and went to.
///
/// # Errors
/// The engine's and the store's.
pub fn look_at(session: &Session<'_>, entry: &Entry) -> Result<Leftover, OpError> {
    let is_live = |id: Option<ObjectId>| -> Result<bool, OpError> {
        let Some(id) = id else { return Ok(false) };
        let snapshot = capture::read_snapshot(session.store, id)?;
        let state = capture::load(session.store, &snapshot)?;
        let is_same = compare::live(session, Some(&state), BatchMode::IdsOnly)?.is_same(&state);
        Ok(is_same && (!entry.files || files::is_live(session, snapshot.files)?))
    };
    if is_live(entry.before)? {
        return Ok(Leftover::AsBefore);
    }
    Ok(if entry.kind != OperationKind::Migrate && is_live(entry.after)? { Leftover::AsIntended } else { Leftover::Neither })
}

/// Writes the end of an operation that did not write it itself: `after` is the state that the database has now.
///
/// # Errors
/// The store's.
pub fn settle(session: &Session<'_>, begin: &Indexed, result: OperationResult, after: Option<ObjectId>) -> Result<(), OpError> {
    let (index, _, entry) = begin;
    let end = Entry {
        time: session.stamp(),
        phase: Phase::End,
        begin: Some(*index),
        after,
        result: Some(result),
        findings: Vec::new(),
        guards: Vec::new(),
        note: Some("it was interrupted, and settled by a later command".to_owned()),
        ..entry.clone()
    };
    write(session.store, &end)?;
    Ok(())
}

/// The snapshots that `pre`, `post` and `failed` mean: those of the last migration of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastMigration {
    /// The state before it.
    pub pre: Option<ObjectId>,
    /// The state after it, if it was kept.
    pub post: Option<ObjectId>,
    /// The state that it left, if it was rolled back.
    pub failed: Option<ObjectId>,
}

/// Finds the last migration of a source.
pub fn last_migration(log: &[Indexed], source: &SourceName) -> LastMigration {
    let migrations = || log.iter().filter(|(_, _, entry)| entry.kind == OperationKind::Migrate && entry.source == *source);
    let Some((index, _, begin)) = migrations().rfind(|(_, _, entry)| entry.phase == Phase::Begin) else {
        return LastMigration::default();
    };
    let end = migrations().rfind(|(_, _, entry)| entry.begin == Some(*index)).map(|(_, _, entry)| entry);
    LastMigration {
        pre: begin.before,
        post: end.and_then(|entry| entry.after.filter(|_| entry.result != Some(OperationResult::RolledBack))),
        failed: end.and_then(|entry| entry.failed),
    }
}
