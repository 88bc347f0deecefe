//! What was seen of a database, and under which fingerprint: so that one that nobody wrote since need not be read again.
//!
//! Kept in the store's cache, one file a database; only ever saves time. A snapshot's state is recalled if and only if the fingerprint is the same
//! and the snapshot is there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::capture::{self, State};
use super::memory::Memory;
use super::{OpError, Session};
use crate::engine::Finding;
use crate::engine::since::Extent;
use crate::id::ObjectId;
use crate::snapshot::manifest::FORMAT_VERSION;

/// What the cache keeps of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Under which fingerprint it was seen.
    pub fingerprint: String,
    /// The snapshot of what was seen.
    pub snapshot: ObjectId,
    /// What the engine's checks found then, if they ran.
    #[serde(default)]
    pub findings: Option<Vec<Finding>>,
    /// Whether its structure was checked then, and found sound, without the other checks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_sound: bool,
    /// The snapshot under which it is remembered how what was seen was read, if it is: then, from the very file that has this fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ObjectId>,
}

impl Seen {
    /// Makes what is remembered of a database that was checked.
    pub(super) fn with(fingerprint: String, snapshot: ObjectId, findings: &[Finding], extent: Extent, memory: Option<ObjectId>) -> Self {
        let all = (extent == Extent::All).then(|| findings.to_vec());
        Self { fingerprint, snapshot, is_sound: all.is_none() && findings.is_empty(), findings: all, memory }
    }

    /// Returns what the engine's checks found and how much they checked; none where that was not enough.
    pub(super) fn checked(&self, is_all_meant: bool) -> Option<(Vec<Finding>, Extent)> {
        match &self.findings {
            Some(findings) => Some((findings.clone(), Extent::All)),
            None => (self.is_sound && !is_all_meant).then(|| (Vec::new(), Extent::Structure)),
        }
    }
}

fn name(session: &Session<'_>, what: &str) -> String {
    let source = &session.source;
    format!("{what}-{}.json", ObjectId::of(format!("{} {}", source.engine, source.place).as_bytes()).short())
}

/// Remembers what was seen. That it cannot be kept is no error.
pub fn remember(session: &Session<'_>, seen: &Seen) {
    let json = serde_json::to_vec(seen).expect("plain data with string keys serialises");
    session.store.write_cache(&name(session, "seen"), &json);
}

/// Recalls the state of a database that nobody wrote since; none where that cannot be told, or the store is damaged.
///
/// # Errors
/// None so far.
pub fn recall(session: &Session<'_>) -> Result<Option<(Seen, State)>, OpError> {
    // What a damaged store lacks is only put back by reading.
    if session.store.has_unreadable_packs() {
        return Ok(None);
    }
    let Some(json) = session.store.read_cache(&name(session, "seen")) else { return Ok(None) };
    let Ok(seen) = serde_json::from_slice::<Seen>(&json) else { return Ok(None) };
    if (session.fingerprint)().as_ref() != Some(&seen.fingerprint) {
        return Ok(None);
    }
    let Ok(snapshot) = capture::read_snapshot(session.store, seen.snapshot) else { return Ok(None) };
    // What an earlier format left out would be missing in what is made of it.
    if snapshot.source != session.source || snapshot.format != FORMAT_VERSION {
        return Ok(None);
    }
    let Ok(mut state) = capture::load(session.store, &snapshot) else { return Ok(None) };
    // The same content has the same mark, whichever of the snapshots of it was read.
    if let Some(marked) = read_mark(session)
        && let Ok(other) = capture::read_snapshot(session.store, marked.snapshot)
        && (other.schema, &other.tables, &other.settings) == (snapshot.schema, &snapshot.tables, &snapshot.settings)
    {
        state.mark = Some(marked.mark);
    }
    Ok(Some((seen, state)))
}

/// An engine's mark of the state that a snapshot holds.
#[derive(Debug, Serialize, Deserialize)]
struct Marked {
    snapshot: ObjectId,
    mark: String,
}

fn read_mark(session: &Session<'_>) -> Option<Marked> {
    serde_json::from_slice(&session.store.read_cache(&name(session, "mark"))?).ok()
}

/// Remembers the engine's mark of what a snapshot holds, in place of an earlier one. That it cannot be kept is no error.
pub(super) fn remember_mark(session: &Session<'_>, snapshot: ObjectId, mark: &str) {
    let json = serde_json::to_vec(&Marked { snapshot, mark: mark.to_owned() }).expect("plain data with string keys serialises");
    session.store.write_cache(&name(session, "mark"), &json);
}

/// Remembers how what a snapshot holds was read, in place of an earlier memory. That it cannot be kept is no error.
pub(super) fn remember_memory(session: &Session<'_>, snapshot: ObjectId, memory: &Memory) {
    session.store.write_cache(&memory_name(session), &memory.to_bytes(&snapshot));
}

fn memory_name(session: &Session<'_>) -> String {
    name(session, "memory").replace(".json", ".bin")
}

/// Returns how the database as it is now was read; none where somebody wrote it since, or that is not remembered.
pub(super) fn memory_of_now(session: &Session<'_>) -> Option<Arc<Memory>> {
    let seen: Seen = serde_json::from_slice(&session.store.read_cache(&name(session, "seen"))?).ok()?;
    if (session.fingerprint)().as_ref() != Some(&seen.fingerprint) {
        return None;
    }
    let (id, memory) = remembered(session)?;
    (seen.memory == Some(id)).then(|| Arc::new(memory))
}

/// Returns how a state was read last, and which snapshot holds it; none where that is not remembered.
pub(super) fn remembered(session: &Session<'_>) -> Option<(ObjectId, Memory)> {
    Memory::of_bytes(session.store.read_cache(&memory_name(session))?)
}

/// Returns the state of the newest snapshot that the engine has a mark of, or a memory; none where there is none, or it cannot be read.
///
/// # Errors
/// None so far.
pub fn marked(session: &Session<'_>) -> Result<Option<State>, OpError> {
    if session.store.has_unreadable_packs() {
        return Ok(None);
    }
    let marked = read_mark(session);
    let remembered = if marked.is_none() { remembered(session) } else { None };
    let Some(id) = marked.as_ref().map(|marked| marked.snapshot).or(remembered.as_ref().map(|(id, _)| *id)) else { return Ok(None) };
    let Ok(snapshot) = capture::read_snapshot(session.store, id) else { return Ok(None) };
    if snapshot.source != session.source || snapshot.format != FORMAT_VERSION {
        return Ok(None);
    }
    let Ok(state) = capture::load(session.store, &snapshot) else { return Ok(None) };
    let memory = remembered.map(|(_, memory)| Arc::new(memory));
    Ok(Some(State { mark: marked.map(|marked| marked.mark), memory, ..state }))
}
