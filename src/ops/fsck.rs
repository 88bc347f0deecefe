//! Checking the whole store: files and packs by the store itself, and here what snapshots need of them.

use std::collections::{HashMap, HashSet};

use super::capture;
use super::{OpError, journal};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};
use crate::snapshot::files::{content, listing};
use crate::snapshot::manifest::{Node, TableManifest};
use crate::store::{Damage, FsckDepth, FsckReport, Store};
use crate::value::{Value, split_array};

/// Checks a store; `ReadData` also reads every byte of every pack, and the cells of every chunk.
///
/// # Errors
/// Only what keeps the check itself from going on; damage is in the report.
pub fn fsck(store: &Store, depth: FsckDepth, progress: &dyn Progress) -> Result<FsckReport, OpError> {
    let mut report = store.fsck(depth, progress)?;
    let mut walk = Walk { store, depth, known: HashMap::new(), large: HashSet::new() };
    let ids = store.snapshot_ids()?;
    progress.begin("checking snapshots", Some(ids.len() as u64), Unit::Objects);
    for id in ids {
        let path = format!("snapshots/{id}.json");
        match capture::read_snapshot(store, id) {
            Ok(snapshot) => {
                let mut lost = walk.object(snapshot.schema);
                for table in &snapshot.tables {
                    lost = lost.or_else(|| walk.manifest(table.manifest).map(|what| format!("table `{}`: {what}", table.name)));
                }
                if let Some(files) = &snapshot.files {
                    lost = lost.or_else(|| walk.files(*files).map(|what| format!("its files: {what}")));
                }
                if let Some(what) = lost {
                    report.damage.push(Damage { path, object: None, what: format!("cannot be restored whole: {what}") });
                }
            }
            // A file that does not match its name was reported by the store.
            Err(OpError::Store(_)) => {}
            Err(error) => report.damage.push(Damage { path, object: None, what: error.to_string() }),
        }
        progress.advance(1);
    }
    progress.finish();
    if let Err(OpError::Format { id, source, .. }) = journal::read(store) {
        report.damage.push(Damage { path: "ops.jsonl".to_owned(), object: None, what: format!("entry {id}: {source}") });
    }
    Ok(report)
}

/// A walk over everything that snapshots reach; what was seen once is not read again.
struct Walk<'a> {
    store: &'a Store,
    depth: FsckDepth,
    /// Objects looked at, with what is wrong below them.
    known: HashMap<ObjectId, Option<String>>,
    large: HashSet<ObjectId>,
}

impl Walk<'_> {
    fn object(&mut self, id: ObjectId) -> Option<String> {
        if self.store.contains(&id) { None } else { Some(format!("object {id} is missing")) }
    }

    fn remember(&mut self, id: ObjectId, look: impl FnOnce(&mut Self) -> Option<String>) -> Option<String> {
        if let Some(found) = self.known.get(&id) {
            return found.clone();
        }
        let found = look(self);
        self.known.insert(id, found.clone());
        found
    }

    fn read<T: serde::de::DeserializeOwned>(&self, id: ObjectId) -> Result<T, String> {
        let json = self.store.get(&id).map_err(|error| error.to_string())?;
        serde_json::from_slice(&json).map_err(|error| format!("object {id}: {error}"))
    }

    fn manifest(&mut self, id: ObjectId) -> Option<String> {
        self.remember(id, |walk| {
            let manifest: TableManifest = match walk.read(id) {
                Ok(manifest) => manifest,
                Err(what) => return Some(what),
            };
            match (manifest.root, manifest.depth) {
                (None, 0) if manifest.rows == 0 => None,
                (Some(root), depth) if depth > 0 => match walk.node(root, depth) {
                    Ok(rows) if rows == manifest.rows => None,
                    Ok(rows) => Some(format!("manifest {id} says {} rows, its groups have {rows}", manifest.rows)),
                    Err(what) => Some(what),
                },
                _ => Some(format!("manifest {id} has no root for its depth {}", manifest.depth)),
            }
        })
    }

    /// Checks a subtree; returns its rows.
    fn node(&mut self, id: ObjectId, depth: u32) -> Result<u64, String> {
        match (self.read(id)?, depth) {
            (Node::Groups(groups), 1) => {
                let mut rows: u64 = 0;
                for group in groups {
                    rows = rows.saturating_add(group.rows);
                    for chunk in group.columns.into_iter().flatten() {
                        if let Some(what) = self.chunk(chunk, group.rows) {
                            return Err(what);
                        }
                    }
                }
                Ok(rows)
            }
            (Node::Nodes(children), 2..) => {
                let mut rows: u64 = 0;
                for child in children {
                    let found = self.node(child.node, depth - 1)?;
                    if found != child.rows {
                        return Err(format!("node {} has {found} rows, its parent says {}", child.node, child.rows));
                    }
                    rows = rows.saturating_add(found);
                }
                Ok(rows)
            }
            _ => Err(format!("node {id} does not stand at the depth that its manifest says")),
        }
    }

    fn files(&mut self, id: ObjectId) -> Option<String> {
        self.remember(id, |walk| {
            let listing = match listing::read(walk.store, &id) {
                Ok(listing) => listing,
                Err(error) => return Some(super::with_causes(&error)),
            };
            listing.entries.iter().find_map(|entry| match content::chunks(walk.store, entry) {
                // What is read of packs proves each chunk by its id.
                Ok(chunks) => chunks.into_iter().find_map(|chunk| walk.object(chunk)).map(|what| format!("`{}`: {what}", entry.path)),
                Err(error) => Some(format!("`{}`: {}", entry.path, super::with_causes(&error))),
            })
        })
    }

    fn chunk(&mut self, id: ObjectId, rows: u64) -> Option<String> {
        self.remember(id, |walk| {
            if walk.depth == FsckDepth::Structure {
                return walk.object(id);
            }
            let json = match walk.store.get(&id) {
                Ok(json) => json,
                Err(error) => return Some(error.to_string()),
            };
            let cells = match split_array(&json) {
                Ok(cells) => cells,
                Err(error) => return Some(format!("chunk {id}: {error}")),
            };
            if cells.len() as u64 != rows {
                return Some(format!("chunk {id} has {} cells, its group {rows} rows", cells.len()));
            }
            for cell in cells {
                match Value::decode(cell) {
                    Ok(Value::Large { id: large, .. }) if walk.large.insert(large) => {
                        if let Err(error) = walk.store.get(&large) {
                            return Some(error.to_string());
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return Some(format!("chunk {id}: {error}")),
                }
            }
            None
        })
    }
}
