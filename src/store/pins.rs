//! Pins: marks on snapshots that must not be forgotten, a small file each.
//!
//! A pin's file is named after the snapshot and holds the same id once more, so that a damaged one is found. A store without the folder has no pins.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{Store, StoreError, entries};
use crate::durable;
use crate::id::ObjectId;

impl Store {
    /// Lists the pinned snapshots. A pin whose file is damaged still pins the snapshot that it is named after.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn pins(&self) -> Result<BTreeSet<ObjectId>, StoreError> {
        Ok(entries(&self.dir.join("pins"))?.iter().filter_map(|(name, _)| name.parse().ok()).collect())
    }

    /// Lists the files of pins; without an id where a file does not hold the one that it is named after.
    pub(super) fn pin_files(&self) -> Result<Vec<(String, Option<ObjectId>)>, StoreError> {
        let mut pins = Vec::new();
        for (name, path) in entries(&self.dir.join("pins"))? {
            let Ok(id) = name.parse::<ObjectId>() else { continue };
            let text = fs::read(&path).map_err(|source| StoreError::io("reading", &path, source))?;
            pins.push((name, (text == line(&id)).then_some(id)));
        }
        pins.sort();
        Ok(pins)
    }

    /// Pins a snapshot, durably.
    ///
    /// # Errors
    /// [`StoreError::NoSnapshot`], [`StoreError::Io`].
    pub fn pin(&self, id: &ObjectId) -> Result<(), StoreError> {
        if !self.has_snapshot(id) {
            return Err(StoreError::NoSnapshot(*id));
        }
        let path = self.pin_path(id);
        let write = durable::create_dir(&self.dir.join("pins")).and_then(|()| durable::write(&path, &line(id)));
        write.map_err(|source| StoreError::io("writing", &path, source))
    }

    /// Removes a pin. One that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn unpin(&self, id: &ObjectId) -> Result<(), StoreError> {
        let path = self.pin_path(id);
        durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))
    }

    fn pin_path(&self, id: &ObjectId) -> PathBuf {
        self.dir.join("pins").join(id.to_string())
    }
}

fn line(id: &ObjectId) -> Vec<u8> {
    format!("{id}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::store::FsckDepth;

    fn store() -> (tempfile::TempDir, Store, ObjectId) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::create(&dir.path().join(".dbelay"), [7; 16]).expect("a store");
        let id = store.put_snapshot(b"{}").expect("a snapshot");
        (dir, store, id)
    }

    fn damage(store: &Store) -> Vec<String> {
        let report = store.fsck(FsckDepth::Structure, &Silent).expect("a report");
        report.damage.into_iter().map(|damage| format!("{}: {}", damage.path, damage.what)).collect()
    }

    #[test]
    fn a_store_without_the_folder_has_no_pins_and_takes_one() {
        let (_dir, store, id) = store();
        assert!(!store.dir().join("pins").exists());
        assert!(store.pins().expect("none").is_empty());
        store.unpin(&id).expect("nothing to do");
        store.pin(&id).expect("pinned");
        store.pin(&id).expect("still pinned");
        assert_eq!(store.pins().expect("one"), BTreeSet::from([id]));
        assert!(matches!(store.pin(&ObjectId([9; 32])), Err(StoreError::NoSnapshot(_))));
        store.unpin(&id).expect("gone");
        assert!(store.pins().expect("none").is_empty());
    }

    #[test]
    fn a_pinned_snapshot_is_not_deleted_and_neither_is_what_is_named_with_it() {
        let (_dir, store, pinned) = store();
        let other = store.put_snapshot(b"{\"n\":1}").expect("a snapshot");
        store.set_tag("t", &other).expect("a tag");
        store.pin(&pinned).expect("pinned");
        let refused = store.delete_snapshots(&[other, pinned], &mut |_| panic!("nothing may go"));
        assert!(matches!(refused, Err(StoreError::Pinned(id)) if id == pinned));
        assert!(store.has_snapshot(&other) && store.has_snapshot(&pinned));
        let mut gone = Vec::new();
        store.delete_snapshots(&[other], &mut |id| gone.push(*id)).expect("deleted");
        assert_eq!((gone, store.snapshot_ids().expect("one")), (vec![other], vec![pinned]));
        assert!(store.tags().expect("none").is_empty());
        assert_eq!(damage(&store), Vec::<String>::new());
    }

    #[test]
    fn fsck_finds_every_flipped_byte_of_a_pin_and_one_of_nothing() {
        let (_dir, store, id) = store();
        store.pin(&id).expect("pinned");
        assert_eq!(damage(&store), Vec::<String>::new());
        let path = store.pin_path(&id);
        let bytes = fs::read(&path).expect("a pin");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).expect("written");
            assert_eq!(damage(&store), [format!("pins/{id}: it does not hold the id that it is named after")], "byte {at}");
            assert!(store.pins().expect("still pinned").contains(&id));
        }
        fs::write(&path, &bytes).expect("written");
        fs::remove_file(store.snapshot_path(&id)).expect("deleted");
        assert_eq!(damage(&store), [format!("pins/{id}: it pins snapshot {id}, which is not there")]);
    }
}
