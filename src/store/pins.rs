//! Pins: marks on snapshots that must not be forgotten, a small file each.
//!
//! A pin's file is named after the snapshot and holds the same id once more, so that a damaged one is found. A store without the folder has no pins.

use std::collections::BTreeSet;

use super::named::{Named, PINS};
use super::{Store, StoreError};
use crate::durable;
use crate::id::ObjectId;

/// The file of a pin.
#[derive(Debug)]
pub(super) struct PinFile {
    /// The file, from the store's directory.
    pub file: String,
    /// The snapshot that it is named after; none where nobody can tell.
    pub id: Option<ObjectId>,
    /// Whether it holds that id.
    pub is_whole: bool,
}

impl Store {
    /// Lists the pinned snapshots. A pin whose file is damaged still pins the snapshot that it is named after.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn pins(&self) -> Result<BTreeSet<ObjectId>, StoreError> {
        Ok(self.pin_files()?.into_iter().filter_map(|pin| pin.id).collect())
    }

    /// Lists the files of pins.
    pub(super) fn pin_files(&self) -> Result<Vec<PinFile>, StoreError> {
        let mut pins = Vec::new();
        for found in self.list_named(PINS)? {
            let file = self.relative(&found.path);
            let Some(name) = &found.name else {
                pins.push(PinFile { file, id: self.pinned_by(&found)?, is_whole: false });
                continue;
            };
            let Ok(id) = name.parse::<ObjectId>() else { continue };
            let bytes = self.read_named(PINS, name)?.and_then(|content| content.bytes.ok());
            pins.push(PinFile { file, id: Some(id), is_whole: bytes == Some(line(&id)) });
        }
        Ok(pins)
    }

    /// Finds the snapshot that a sealed pin is named after which does not open: it has one of their names.
    fn pinned_by(&self, pin: &Named) -> Result<Option<ObjectId>, StoreError> {
        Ok(self.snapshot_ids()?.into_iter().find(|id| self.candidates(PINS, &id.to_string()).contains(&pin.path)))
    }

    /// Pins a snapshot, durably.
    ///
    /// # Errors
    /// [`StoreError::NoSnapshot`], [`StoreError::Io`].
    pub fn pin(&self, id: &ObjectId) -> Result<(), StoreError> {
        if !self.has_snapshot(id) {
            return Err(StoreError::NoSnapshot(*id));
        }
        let folder = self.dir.join(PINS.name);
        durable::create_dir(&folder).map_err(|source| StoreError::io("creating", &folder, source))?;
        self.write_named(PINS, &id.to_string(), &line(id)).map(drop)
    }

    /// Removes a pin. One that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn unpin(&self, id: &ObjectId) -> Result<(), StoreError> {
        self.remove_named(PINS, &id.to_string())
    }
}

fn line(id: &ObjectId) -> Vec<u8> {
    format!("{id}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let path = store.dir().join("pins").join(id.to_string());
        let bytes = fs::read(&path).expect("a pin");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).expect("written");
            assert_eq!(damage(&store), [format!("pins/{id}: it does not hold the id that it is named after")], "byte {at}");
            assert!(store.pins().expect("still pinned").contains(&id));
        }
        fs::write(&path, &bytes).expect("written");
        fs::remove_file(store.dir().join(format!("snapshots/{id}.json"))).expect("deleted");
        assert_eq!(damage(&store), [format!("pins/{id}: it pins snapshot {id}, which is not there")]);
    }
}
