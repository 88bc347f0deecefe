//! Reading many objects one after the other: packs stay open for a while, and of two objects that are alike the base is decoded once.
//!
//! An open file is only ever a short cut. What it gives is proven by the object's id as anything that is read; where it cannot be, the pack is opened anew
//! by its name before anything is said of it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::index::{Holder, Location};
use super::{Store, StoreError};
use crate::id::ObjectId;

/// How many packs stay open.
const OPEN_PACKS_MAX: usize = 64;

impl Store {
    /// Reads two objects, and proves both by their ids. What one is a delta to is decoded once, if it is the other, or both are deltas to it.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get_pair(&self, ids: [&ObjectId; 2]) -> Result<[Vec<u8>; 2], StoreError> {
        let located = |id: &ObjectId| self.locate(id, true);
        let at_once = || -> Option<[Vec<u8>; 2]> {
            let ((first, first_holder), (second, second_holder)) = (located(ids[0])?, located(ids[1])?);
            let with_base = |location: &Location, holder: &Holder, base: &[u8]| self.read_open(location, holder, Some(base)).ok();
            match (first.entry.base, second.entry.base) {
                (None, Some(base)) if base == *ids[0] => {
                    let json = self.read_located(&first, &first_holder).ok()?;
                    let delta = with_base(&second, &second_holder, &json)?;
                    Some([json, delta])
                }
                (Some(base), None) if base == *ids[1] => {
                    let json = self.read_located(&second, &second_holder).ok()?;
                    Some([with_base(&first, &first_holder, &json)?, json])
                }
                (Some(base), Some(other)) if base == other => {
                    let (location, holder) = located(&base).filter(|(location, _)| location.entry.base.is_none())?;
                    let json = self.read_located(&location, &holder).ok()?;
                    Some([with_base(&first, &first_holder, &json)?, with_base(&second, &second_holder, &json)?])
                }
                _ => None,
            }
        };
        match at_once() {
            Some(pair) => Ok(pair),
            // One by one it is found out what is wrong, if anything is.
            None => Ok([self.get(ids[0])?, self.get(ids[1])?]),
        }
    }

    pub(super) fn open_packs(&self) -> MutexGuard<'_, HashMap<u32, Arc<File>>> {
        self.open_packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads an object from its file, which stays open for the next one.
    pub(super) fn read_located(&self, location: &Location, holder: &Holder) -> Result<Vec<u8>, StoreError> {
        let read = match location.entry.base {
            None => self.read_open(location, holder, None),
            Some(base) => self.base(&location.entry, holder, &base).and_then(|base| self.read_open(location, holder, Some(&base))),
        };
        // The file may be another by now; it is opened anew before anything is said of it.
        read.or_else(|_| {
            self.open_packs().remove(&location.holder);
            self.read(&location.entry, holder)
        })
    }

    fn read_open(&self, location: &Location, holder: &Holder, base: Option<&[u8]>) -> Result<Vec<u8>, StoreError> {
        let Holder::Pack(path, cipher) = holder else { return self.decode(&location.entry, holder, base) };
        let known = self.open_packs().get(&location.holder).cloned();
        let file = match known {
            Some(file) => file,
            None => {
                let file = Arc::new(File::open(path).map_err(|source| StoreError::io("reading", path, source))?);
                let mut open = self.open_packs();
                if open.len() >= OPEN_PACKS_MAX {
                    open.clear();
                }
                open.insert(location.holder, Arc::clone(&file));
                file
            }
        };
        self.decode(&location.entry, &Holder::Scratch(file, cipher.clone()), base)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::BatchMode;

    #[test]
    fn a_pair_is_what_each_is_alone_and_damage_in_either_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::create(&dir.path().join(".dbelay"), [7; 16]).expect("a store");
        let object = |n: usize| {
            format!("[{}]", (0..100).map(|i| (i * i * 7919 + usize::from(i == 50) * n).to_string()).collect::<Vec<_>>().join(","))
        };
        let objects: Vec<String> = (0..3).map(object).chain(["[1]".to_owned()]).collect();
        let ids: Vec<ObjectId> = objects.iter().map(|json| ObjectId::of(json.as_bytes())).collect();
        for json in &objects {
            let batch = store.begin(BatchMode::Durable).expect("a batch");
            batch.put(json.as_bytes(), Some(&ids[0])).expect("put");
            batch.finish().expect("finished");
        }
        let check = |store: &Store| {
            let mut failed = 0;
            for (a, b) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))) {
                let alone = [store.get(&ids[a]).ok(), store.get(&ids[b]).ok()];
                match store.get_pair([&ids[a], &ids[b]]) {
                    Ok(pair) => assert_eq!(pair, [objects[a].as_bytes(), objects[b].as_bytes()]),
                    Err(_) => failed += 1,
                }
                assert!(alone.iter().flatten().count() < 2 || store.get_pair([&ids[a], &ids[b]]).is_ok());
            }
            failed
        };
        assert_eq!(store.locate(&ids[2], false).expect("there").0.entry.base, Some(ids[0]));
        assert_eq!(check(&store), 0);
        for path in store.pack_paths().expect("listed") {
            let bytes = fs::read(&path).expect("readable");
            for at in (8..bytes.len()).step_by(41) {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                fs::write(&path, &flipped).expect("written");
                assert!(check(&Store::open(store.dir()).expect("opens")) > 0, "byte {at}");
            }
            fs::write(&path, &bytes).expect("written");
            // What is open is not believed where the file is whole again.
            assert_eq!(check(&store), 0);
        }
    }
}
