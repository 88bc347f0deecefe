//! Objects on their way into the store.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::crypt::{Cipher, Place};
use super::pack::{self, Codec, Entry, PackWriter};
use super::{Holder, OBJECT_BYTES_MAX, Store, StoreError};
use crate::durable::{self, TemporaryFile};
use crate::id::ObjectId;

/// What becomes of the objects of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchMode {
    /// They are in the store for good, once the batch is finished.
    Durable,
    /// They can be read through this [`Store`] value as long as it lives, and never become part of the store.
    Scratch,
    /// Only their ids are computed.
    IdsOnly,
}

/// What a batch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BatchStats {
    /// Objects that were written.
    pub objects_new: u64,
    /// Objects that were there already.
    pub objects_known: u64,
    /// The JSON bytes of the new ones.
    pub raw_bytes: u64,
    /// The bytes that they take.
    pub stored_bytes: u64,
}

/// Objects on their way into the store. Dropped before [`Batch::finish`], none of them is in it.
pub struct Batch<'s> {
    store: &'s Store,
    mode: BatchMode,
    state: Mutex<BatchState>,
}

#[derive(Default)]
struct BatchState {
    seen: HashSet<ObjectId>,
    stats: BatchStats,
    packs: Vec<(PathBuf, Vec<Entry>)>,
    durable: Option<PackWriter<TemporaryFile>>,
    scratch: Option<PackWriter<File>>,
}

/// What an object is stored as a delta to: its id, and its bytes.
type Base<'b> = (ObjectId, Cow<'b, [u8]>);

impl<'s> Batch<'s> {
    pub(super) fn new(store: &'s Store, mode: BatchMode) -> Self {
        Self { store, mode, state: Mutex::default() }
    }
}

impl Batch<'_> {
    fn state(&self) -> MutexGuard<'_, BatchState> {
        // Whoever panicked did so while compressing, outside the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the packs of this batch are sealed with.
    fn cipher(&self) -> Option<&Arc<Cipher>> {
        self.store.vault.as_ref().map(|vault| &vault.current)
    }

    /// Tells whether anything is written: whether it matters to what an object is similar.
    pub fn keeps(&self) -> bool {
        self.mode != BatchMode::IdsOnly
    }

    /// Puts an object; may be called from many threads. `base` names an object that is likely to be similar.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::TooLong`].
    pub fn put(&self, json: &[u8], base: Option<&ObjectId>) -> Result<ObjectId, StoreError> {
        self.put_with(json, &|id| self.store.delta_base(base.filter(|base| *base != id)?).map(|(base, json)| (base, Cow::Owned(json))))
    }

    /// As [`Batch::put`], where what is likely to be similar was read: `base_json` is what `base` names.
    ///
    /// # Errors
    /// As [`Batch::put`].
    pub fn put_like(&self, json: &[u8], base: &ObjectId, base_json: &[u8]) -> Result<ObjectId, StoreError> {
        self.put_with(json, &|id| match base {
            base if base == id => None,
            base if self.store.is_whole(base) => Some((*base, Cow::Borrowed(base_json))),
            base => self.store.delta_base(base).map(|(base, json)| (base, Cow::Owned(json))),
        })
    }

    /// Puts an object; `base` finds what it is stored as a delta to, if it is new.
    fn put_with<'b>(&self, json: &[u8], base: &dyn Fn(&ObjectId) -> Option<Base<'b>>) -> Result<ObjectId, StoreError> {
        let id = ObjectId::of(json);
        if self.mode == BatchMode::IdsOnly {
            return Ok(id);
        }
        if json.len() as u64 > OBJECT_BYTES_MAX {
            return Err(StoreError::TooLong(json.len() as u64));
        }
        let is_known = self.store.contains(&id);
        {
            let mut state = self.state();
            if is_known || !state.seen.insert(id) {
                state.stats.objects_known += 1;
                return Ok(id);
            }
        }
        let packs = self.store.dir.join("packs");
        let io = |source| StoreError::io("writing a pack in", &packs, source);
        let base = base(&id);
        let base = base.as_ref().map(|(base, bytes)| (base, &**bytes));
        let (codec, base_id, stored) = pack::encode_object(json, base, self.store.codecs).map_err(io)?;
        let prefix = base.filter(|_| base_id.is_some()).map(|(_, bytes)| bytes);
        if !pack::is_encoding_of(json, codec, &stored, prefix) {
            return Err(StoreError::Damaged { path: packs, id, what: "what was compressed does not decompress to the same".to_owned() });
        }
        let stored = match self.cipher() {
            None => stored,
            Some(cipher) => {
                let sealed = cipher.seal(Place::Object(&id), &stored);
                if cipher.open(Place::Object(&id), &sealed).as_ref() != Ok(&stored) {
                    return Err(StoreError::Damaged { path: packs, id, what: "what was sealed does not open to the same".to_owned() });
                }
                sealed
            }
        };
        let mut state = self.state();
        state.stats.objects_new += 1;
        state.stats.raw_bytes += json.len() as u64;
        state.stats.stored_bytes += stored.len() as u64;
        let full = self.append(&mut state, id, codec, base_id, json.len() as u64, &stored, &packs)?;
        drop(state);
        if let Some(full) = full {
            // Waiting for the disk need not keep others from going on with the next pack.
            let published = publish(full, &packs)?;
            self.state().packs.push(published);
        }
        Ok(id)
    }

    /// Appends an object; returns the pack that it filled.
    #[expect(clippy::too_many_arguments, reason = "an index entry, and where it goes")]
    fn append(
        &self,
        state: &mut BatchState,
        id: ObjectId,
        codec: Codec,
        base: Option<ObjectId>,
        raw: u64,
        stored: &[u8],
        packs: &Path,
    ) -> Result<Option<PackWriter<TemporaryFile>>, StoreError> {
        let io = |source| StoreError::io("writing a pack in", packs, source);
        if self.mode == BatchMode::Scratch {
            let writer = match &mut state.scratch {
                Some(writer) => writer,
                none => {
                    let cache = self.store.dir.join("cache");
                    durable::create_dir(&cache).map_err(io)?;
                    none.insert(tempfile::tempfile_in(&cache).and_then(|file| PackWriter::new(file, self.cipher().cloned())).map_err(io)?)
                }
            };
            writer.append(id, codec, base, raw, stored).map_err(io)?;
            return Ok(None);
        }
        let writer = match &mut state.durable {
            Some(writer) => writer,
            none => {
                let file = TemporaryFile::create_in(packs).map_err(io)?;
                none.insert(PackWriter::new(file, self.cipher().cloned()).map_err(io)?)
            }
        };
        writer.append(id, codec, base, raw, stored).map_err(io)?;
        let is_full = writer.is_full();
        Ok(if is_full { state.durable.take() } else { None })
    }

    /// Makes the objects durable, and reads back what was written; only then are they part of the store.
    ///
    /// # Errors
    /// [`StoreError::Io`], also where what was read back is not what was written.
    pub fn finish(self) -> Result<BatchStats, StoreError> {
        let cipher = self.cipher().cloned();
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = state.durable.take() {
            state.packs.push(publish(writer, &self.store.dir.join("packs"))?);
        }
        let mut index = self.store.index_mut();
        for (path, entries) in state.packs {
            index.add(Holder::Pack(path, cipher.clone()), entries, true);
        }
        if let Some(scratch) = state.scratch {
            let (file, entries) = scratch.into_parts();
            index.add(Holder::Scratch(Arc::new(file), cipher), entries, false);
        }
        Ok(state.stats)
    }
}

/// Makes a pack durable, and proves that it has the bytes that were written.
pub(super) fn publish(writer: PackWriter<TemporaryFile>, packs: &Path) -> Result<(PathBuf, Vec<Entry>), StoreError> {
    let (path, id, entries) = writer.publish(packs)?;
    let io = |source| StoreError::io("reading back", &path, source);
    let found = File::open(&path).and_then(|file| pack::hash_file(&file, &mut |_| {})).map_err(io)?;
    if found != id {
        return Err(io(io::Error::other("the bytes on disk are not those that were written")));
    }
    Ok((path, entries))
}
