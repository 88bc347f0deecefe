//! What forgetting must know of each snapshot before it decides: what its file says, its tags, whether it is good, and what protects it.
//!
//! Reads files, schemas and manifests, each of them once; never a row. A snapshot that cannot be read is a fact like others, never an error.

use std::collections::{HashMap, HashSet};

use chrono::DateTime;

use super::{About, Item, Protection};
use crate::id::ObjectId;
use crate::ops::journal::{self, Entry, Indexed, OperationKind, Phase};
use crate::ops::{OpError, capture, with_causes};
use crate::progress::{Progress, Unit};
use crate::snapshot::manifest::{self, SourceName};
use crate::store::Store;

/// Looks up all snapshots of a store, oldest first; those whose files cannot be read come last.
///
/// # Errors
/// The store's, where directories, tags or pins cannot be read.
pub fn look(store: &Store, log: &[Indexed], progress: &dyn Progress) -> Result<Vec<Item>, OpError> {
    let mut tags: HashMap<ObjectId, Vec<String>> = HashMap::new();
    for (name, id) in store.tags()? {
        tags.entry(id).or_default().push(name);
    }
    let mut tags_of = |id: &ObjectId| tags.remove(id).unwrap_or_default();
    let ids = store.snapshot_ids()?;
    progress.begin("reading snapshots", Some(ids.len() as u64), Unit::Objects);
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    let mut sound = Sound::default();
    for id in ids {
        match capture::read_snapshot(store, id) {
            Ok(snapshot) => readable.push((id, snapshot)),
            Err(error) => unreadable.push((id, with_causes(&error))),
        }
        progress.advance(1);
    }
    progress.finish();
    capture::sort(&mut readable);
    let mut items: Vec<Item> = Vec::new();
    for (id, snapshot) in &readable {
        let (time, damage) = match DateTime::parse_from_rfc3339(&snapshot.time) {
            Ok(time) => (time.to_utc(), sound.fault(store, snapshot)),
            Err(_) => (DateTime::UNIX_EPOCH, Some(format!("`{}` is no time", snapshot.time))),
        };
        let about = About { source: snapshot.source.clone(), kind: snapshot.kind, time, message: snapshot.message.clone() };
        items.push(Item { id: *id, about: Some(about), tags: tags_of(id), damage, protections: Vec::new() });
    }
    items.extend(unreadable.into_iter().map(|(id, damage)| Item {
        id,
        about: None,
        tags: tags_of(&id),
        damage: Some(damage),
        protections: Vec::new(),
    }));
    protect(&mut items, &store.pins()?.into_iter().collect(), log);
    Ok(items)
}

/// What was found sound already, so that it is not read again for the next snapshot.
#[derive(Default)]
struct Sound {
    schemas: HashSet<ObjectId>,
    manifests: HashSet<ObjectId>,
}

impl Sound {
    /// Says what is wrong below a snapshot's file; nothing if schema and manifests can be read.
    fn fault(&mut self, store: &Store, snapshot: &manifest::Snapshot) -> Option<String> {
        let unknown = snapshot.tables.iter().filter(|table| !self.manifests.contains(&table.manifest)).cloned().collect();
        let rest = manifest::Snapshot { tables: unknown, ..snapshot.clone() };
        if rest.tables.is_empty() && self.schemas.contains(&rest.schema) {
            return None;
        }
        match capture::load(store, &rest) {
            Ok(_) => {
                self.schemas.insert(rest.schema);
                self.manifests.extend(rest.tables.iter().map(|table| table.manifest));
                None
            }
            Err(error) => Some(with_causes(&error)),
        }
    }
}

/// Notes why snapshots must not go. They are given oldest first.
pub(super) fn protect(items: &mut [Item], pins: &HashSet<ObjectId>, log: &[Indexed]) {
    let mut why: HashMap<ObjectId, Vec<Protection>> = HashMap::new();
    let mut add = |id: ObjectId, protection: Protection| {
        let list = why.entry(id).or_default();
        if !list.contains(&protection) {
            list.push(protection);
        }
    };
    pins.iter().for_each(|id| add(*id, Protection::Pinned));
    for (_, _, begin) in journal::open(log).into_iter().filter(|(_, _, entry)| !entry.kind.is_of_store()) {
        for id in [begin.before, begin.after, begin.failed].into_iter().flatten() {
            add(id, Protection::Unfinished(begin.kind));
        }
    }
    let mut sources: Vec<SourceName> = Vec::new();
    for about in items.iter().filter_map(|item| item.about.as_ref()) {
        if !sources.contains(&about.source) {
            sources.push(about.source.clone());
        }
    }
    for source in &sources {
        if let Some(id) = journal::last_migration(log, source).pre {
            add(id, Protection::LatestPre);
        }
        let of_source = || items.iter().filter(|item| item.about.as_ref().is_some_and(|about| about.source == *source));
        let head = of_source().next_back().map(|item| item.id);
        head.into_iter().for_each(|id| add(id, Protection::Head));
        if let Some(id) = last_state(log, source).filter(|id| Some(*id) != head) {
            add(id, Protection::LastState);
        }
        let newest_good = of_source().rfind(|item| item.damage.is_none()).map(|item| item.id);
        if let Some(id) = newest_good.filter(|id| Some(*id) != head) {
            add(id, Protection::NewestGood);
        }
    }
    for item in items {
        item.protections = why.remove(&item.id).unwrap_or_default();
    }
}

/// Returns the state that the last operation left a database in, or began from if it was interrupted: by the order of the operation log, which no
/// clock decides.
fn last_state(log: &[Indexed], source: &SourceName) -> Option<ObjectId> {
    use OperationKind::{Migrate, Redo, Rollback, Snapshot, Undo};
    let of_source = |entry: &&Entry| matches!(entry.kind, Snapshot | Migrate | Rollback | Undo | Redo) && entry.source == *source;
    let mut entries = log.iter().rev().map(|(_, _, entry)| entry).filter(of_source);
    entries.find_map(|entry| if entry.phase == Phase::End { entry.after.or(entry.before) } else { entry.before })
}
