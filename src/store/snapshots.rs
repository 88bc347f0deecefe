//! The files of snapshots: written once, proven by their ids each time that they are read, deleted with the tags that name them.

use std::collections::HashMap;
use std::path::PathBuf;

use super::named::SNAPSHOTS;
use super::{Store, StoreError};
use crate::id::ObjectId;

impl Store {
    /// Writes a snapshot's file, durably, and reads it back. Everything that it refers to *must* be durable already.
    ///
    /// # Errors
    /// [`StoreError::Io`]; there is no snapshot then.
    pub fn put_snapshot(&self, json: &[u8]) -> Result<ObjectId, StoreError> {
        let id = ObjectId::of(json);
        self.write_named(SNAPSHOTS, &id.to_string(), json)?;
        self.snapshot(&id)?;
        Ok(id)
    }

    /// Reads a snapshot's file, and proves it by its id.
    ///
    /// # Errors
    /// [`StoreError::NoSnapshot`], [`StoreError::DamagedSnapshot`], [`StoreError::Io`].
    pub fn snapshot(&self, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let file = self.read_named(SNAPSHOTS, &id.to_string())?.ok_or(StoreError::NoSnapshot(*id))?;
        match file.bytes {
            Ok(json) if ObjectId::of(&json) == *id => Ok(json),
            _ => Err(StoreError::DamagedSnapshot(file.path)),
        }
    }

    /// Lists all snapshots, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn snapshot_ids(&self) -> Result<Vec<ObjectId>, StoreError> {
        let mut ids: Vec<ObjectId> = self.snapshot_files()?.into_iter().filter_map(|(_, id)| id).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// Lists the files of snapshots. In an encrypted store one that does not open has no id.
    pub(super) fn snapshot_files(&self) -> Result<Vec<(PathBuf, Option<ObjectId>)>, StoreError> {
        let files = self.list_named(SNAPSHOTS)?.into_iter();
        Ok(files.map(|file| (file.path, file.name.and_then(|name| name.parse().ok()))).collect())
    }

    /// Lists the files of snapshots of which nobody can tell which they are, from the store's directory: those of an encrypted store that do not
    /// open. Elsewhere a damaged file still has its name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn unreadable_snapshots(&self) -> Result<Vec<String>, StoreError> {
        let files = self.snapshot_files()?.into_iter().filter(|(_, id)| self.is_encrypted() && id.is_none());
        Ok(files.map(|(path, _)| self.relative(&path)).collect())
    }

    /// Returns where the file of a snapshot is, or would be, from the store's directory.
    pub fn snapshot_place(&self, id: &ObjectId) -> String {
        let candidates = self.candidates(SNAPSHOTS, &id.to_string());
        let found = candidates.iter().find(|path| path.exists()).or(candidates.first());
        found.map(|path| self.relative(path)).unwrap_or_default()
    }

    /// Deletes snapshots one after the other, durably: first the tags that name one, then its file. Tells of each that is gone. Their objects stay.
    /// The caller holds the project lock.
    ///
    /// # Errors
    /// [`StoreError::Pinned`] before anything is deleted; [`StoreError::DamagedTag`], [`StoreError::Io`]. Those that were not told of are there
    /// then, though their tags may be gone; trying again goes on.
    pub fn delete_snapshots(&self, ids: &[ObjectId], gone: &mut dyn FnMut(&ObjectId)) -> Result<(), StoreError> {
        let pins = self.pins()?;
        if let Some(id) = ids.iter().find(|id| pins.contains(id)) {
            return Err(StoreError::Pinned(*id));
        }
        let mut tags: HashMap<ObjectId, Vec<String>> = HashMap::new();
        for (name, id) in self.tags()? {
            tags.entry(id).or_default().push(name);
        }
        for id in ids {
            for name in tags.remove(id).into_iter().flatten() {
                self.delete_tag(&name)?;
            }
            self.remove_named(SNAPSHOTS, &id.to_string())?;
            gone(id);
        }
        Ok(())
    }

    /// Tells whether a snapshot's file is there. Does not read it.
    pub fn has_snapshot(&self, id: &ObjectId) -> bool {
        self.has_named(SNAPSHOTS, &id.to_string())
    }
}
