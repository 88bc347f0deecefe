//! The store, format versions 1 to 3: content-addressed objects in packs, snapshot files, tags, pins, the operation log, the project lock.
//!
//! It knows bytes and ids, never SQL, schemas, or what an object means. Everything is one directory (`.dbelay`), made 0700 with files 0600:
//!
//! | path | content | written |
//! |---|---|---|
//! | `config.json` | `{"format":3,"store":"<32 hex digits>","check":"<hex>"}`; of an encrypted store see below | once, last of all at creation; replaced whole where its encryption changes |
//! | `packs/xx/<id>.pack` | objects; the id is the SHA-256 of the whole file, xx its first two digits | once |
//! | `snapshots/<id>.json` | a snapshot; the id is the SHA-256 of the file | once, deleted |
//! | `tags/<name>` | a snapshot's id and a newline | replaced whole |
//! | `pins/<id>` | the id of a snapshot that is not to be forgotten, and a newline; the folder may be missing | once, deleted |
//! | `ops.jsonl` | the operation log | grows |
//! | `lock` | held through the operating system; who holds it, as JSON | any time |
//! | `leases` | empty; held through the operating system, shared by all who read | once |
//! | `condemned.json` | packs that nothing needs, with the time when that was found; absent where there are none | replaced whole |
//! | `cache/` | nothing that is needed; may be deleted while no dbelay runs | any time |
//! | `keys/<id>.json` | a key that opens an encrypted store, see [`keys`]; empty else | replaced whole |
//! | `damaged/` | what a repair took out of the store, under the name that it had; never read | moved there |
//! | `.gitignore` | `*` | once |
//!
//! `check` in `config.json` is the SHA-256 of everything that stands before it and a closing brace (`{"format":…,"store":…}`). A reader *must* refuse a larger `format` and *must not*
//! write then. Files of other names are ignored; those that begin with `tmp-` are leftovers that the holder of the lock may delete.
//!
//! ## Formats
//! A store of format 1 or 2 *must not* have objects of codec 3: the versions that made it do not know that, and would take it for damage. Format 3 is
//! that of new stores. A store keeps its format, but for 1, which becomes 2 where the store is encrypted.
//!
//! ## Encryption
//! A store of format 1 is not encrypted, one of format 2 is; one of format 3 is if it says so. Then its `config.json` has a field `encryption` before `check`: `{"master","unsettled"?,"mac"}`, the id of the
//! master key that everything new is sealed with; `plain` or `former` while files that are not encrypted, or are with the key before, may still be there; and the
//! HMAC-SHA256, under the names key and with the purpose `config`, of the JSON array of format, store, master and unsettled. [`crypt`] says what sealing is. Then
//!
//! - snapshots, tags and cache files are called `<64 hex digits>.enc`, and hold, sealed, their plain name, a zero byte, and their plain bytes;
//! - a pack has flag 1; its payloads and its index are sealed one by one, and the stored length of an entry is that of the sealed payload;
//! - a line of the operation log is the base64 of the sealed plain line (without its newline), and a newline.
//!
//! A reader *must not* take what is not sealed in a store that is settled, or a store that is not encrypted and has keys.
//!
//! ## Object
//! JSON bytes, or the raw bytes of a file's chunk (where this page says JSON, it means an object's bytes, whatever they are); the id is their SHA-256.
//! How a pack holds them has no part in the id.
//!
//! ## Pack
//! `DBLYPAK1`, the payloads one after the other, the index, and a footer of 64 bytes. Numbers are little endian.
//!
//! | bytes | footer field |
//! |---|---|
//! | 8 | offset of the index |
//! | 8 | length of the index; the footer follows it |
//! | 4 | number of entries |
//! | 1, 1 | bytes of an id (32), bytes of a base id (32) |
//! | 2 | flags: 0, or 1 where it is sealed; a reader *must* refuse others |
//! | 32 | SHA-256 of the index |
//! | 8 | `DBLYEND1` |
//!
//! An index entry: id; codec (1 byte); for codec 2 the base's id; stored length and JSON length, both unsigned LEB128 in their shortest form.
//! Payloads stand in the order of their entries without gaps, so offsets follow from lengths, and the last one *must* end where the
//! index begins. Codec 0: the JSON itself. 1: a zstd frame. 2: a zstd frame made with the base's JSON as prefix (`ZSTD_CCtx_refPrefix`);
//! the base is an object of the store, in this pack or another, and *must not* be of codec 2 itself. 3: a typed object, see [`typed`]. A reader refuses a pack with
//! another codec. An object has at most 4 GiB of JSON. An object may be in several packs.
//!
//! ## Operation log
//! Lines `{"id":"<hex>","prev":"<hex>","n":<number>,"op":<entry>}`. `id` is the SHA-256 of the line's JSON without the `id` field (so from
//! `{"prev"` on), `prev` the `id` of the line before (64 zeros in the first), `n` counts from 0. A last line without its newline, or
//! one in which a whole sector (512 bytes of the file, or the part of the line in one) is zeros, was never reported as written and is cut off before
//! the next is appended: a power cut came while it was written, in whatever order the disk likes.
//!
//! ## Order of writes
//! Before an object goes into a pack, its stored form is decoded and compared with what it was made from. A pack is synced and renamed, its
//! directory synced, and its bytes are read back and found to have its id, before a snapshot that needs it is written (*must*); then the
//! snapshot; then tags and the log. Whatever dies in between leaves objects that nothing refers to, never
//! a reference to nothing.
//!
//! ## Order of deletions
//! The opposite: the tags that name a snapshot, then its file; one that is pinned *must not* be deleted; and later the packs that nothing needs any more, under the project lock. A pack *must* be
//! named in `condemned.json`, `{"format":1,"packs":[{"pack":"<id>","time":"<RFC 3339>"}]}`, for a grace period before it is deleted; what is needed
//! of it *must* be in other packs, durable and read back. Whoever lists packs *must* hold a shared lock on `leases` before and as long as it
//! reads them, and whoever deletes a pack the exclusive one (where a file system has no such locks, the grace period is what is left). A
//! condemned pack is read as any other. A writer *must* list the packs again once it has the project lock.

mod batch;
mod config;
pub mod crypt;
mod error;
mod fsck;
mod gc;
mod index;
pub mod keys;
mod lease;
mod lock;
mod log;
mod named;
mod pack;
mod pins;
mod reading;
mod recrypt;
mod repair;
mod salvage;
mod snapshots;
mod tags;
pub mod typed;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::Serialize;

pub use batch::{Batch, BatchMode, BatchStats};
pub use error::StoreError;
pub use fsck::{Damage, FsckDepth, FsckReport, SHARE_ALL};
pub use gc::{DEAD_SHARE_MAX, GcOutcome, GcPlan, GcTotals, Mark, Marks, PackAction, PackPlan, PackReason};
pub use lock::{LockGuard, LockHolder};
pub use log::LogEntry;
pub use pack::OBJECT_BYTES_MAX;
pub use repair::config::{ConfigFate, look_at_config, write_config};
pub use repair::{Aside, LogRepair, PackRepair, RepairPlan};
pub use tags::{TAG_BYTES_MAX, check_tag_name};

use crate::durable;
use crate::id::ObjectId;
use config::{Config, Unsettled};
use crypt::{Random, Vault};
use index::{Holder, Index, Location};
use keys::{KeySlot, Secret};
use lease::Lease;
use named::CACHE;
use pack::{Codecs, Entry};

/// The format version of a store that is not encrypted.
const FORMAT_PLAIN: u32 = 1;
/// The format version of one that is.
const FORMAT_ENCRYPTED: u32 = 2;
/// The format version of one whose objects may be typed; encrypted or not.
const FORMAT_TYPED: u32 = 3;
/// The newest format version that this build reads.
pub const FORMAT_VERSION: u32 = FORMAT_TYPED;

/// How much is in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ObjectStats {
    /// Objects in packs.
    pub objects: u64,
    /// Their JSON bytes.
    pub raw_bytes: u64,
    /// The bytes that they take in packs.
    pub stored_bytes: u64,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    id: String,
    /// How new objects may be written.
    codecs: Codecs,
    vault: Option<Vault>,
    /// The key that opened it.
    slot: Option<KeySlot>,
    /// Packs that are read as if they were not there.
    left_out: HashSet<PathBuf>,
    /// Held from before the packs are listed, so that none of them is deleted.
    lease: Lease,
    /// The packs that were there when this was opened, or later; their indexes are read when an object is first asked for.
    index: RwLock<Index>,
    glimpses: Mutex<Glimpses>,
    /// Packs that were read from lately, by their numbers as holders.
    open_packs: Mutex<HashMap<u32, Arc<File>>>,
    /// How often the packs were listed anew for what was not found then either.
    fruitless: AtomicU32,
}

/// Pieces of an object that others took out of it; they may be asked for again before the process ends.
#[derive(Debug)]
pub struct Glimpse {
    /// The pieces, one for each place that was asked for.
    pub pieces: Vec<Box<[u8]>>,
    /// How many bytes the object has.
    pub bytes: u64,
    /// Whether it refers to other objects.
    pub has_references: bool,
}

/// Glimpses by object and places.
type Glimpses = HashMap<(ObjectId, Vec<usize>), Arc<Glimpse>>;

/// How many glimpses are kept.
const GLIMPSES_MAX: usize = 100_000;

/// How often the packs are listed anew in vain.
const FRUITLESS_MAX: u32 = 16;

/// How many bytes the pieces of one that is kept have.
const GLIMPSE_BYTES_MAX: usize = 256;

impl Store {
    /// Returns the pieces of an object at these places, as they were taken out before, or as they are taken out now.
    ///
    /// # Errors
    /// As [`Store::get`], and what `take` says.
    pub fn glimpse<E: From<StoreError>>(
        &self,
        id: &ObjectId,
        places: &[usize],
        take: &mut dyn FnMut(&[u8]) -> Result<Glimpse, E>,
    ) -> Result<Arc<Glimpse>, E> {
        let key = (*id, places.to_vec());
        let glimpses = || self.glimpses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = glimpses().get(&key) {
            return Ok(Arc::clone(known));
        }
        let glimpse = Arc::new(take(&self.get(id)?)?);
        let mut glimpses = glimpses();
        let bytes: usize = glimpse.pieces.iter().map(|piece| piece.len()).sum();
        if glimpses.len() < GLIMPSES_MAX && bytes <= GLIMPSE_BYTES_MAX {
            glimpses.insert(key, Arc::clone(&glimpse));
        }
        Ok(glimpse)
    }

    /// Makes a store in a directory, which may be there already but must not hold one.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Io`]. What was begun can be finished by trying again.
    pub fn create(dir: &Path, id: [u8; 16]) -> Result<Self, StoreError> {
        let config_path = dir.join("config.json");
        if config_path.exists() {
            return Err(StoreError::Exists(dir.to_owned()));
        }
        durable::create_dir(dir).map_err(|source| StoreError::io("creating", dir, source))?;
        // Of two that make one at once, the second finds that of the first.
        let Some(_lock) = lock::acquire_unless(&dir.join("lock"), &|| config_path.exists())? else {
            return Err(StoreError::Exists(dir.to_owned()));
        };
        for directory in [dir.join("packs"), dir.join("snapshots"), dir.join("tags"), dir.join("cache"), dir.join("keys")] {
            durable::create_dir(&directory).map_err(|source| StoreError::io("creating", &directory, source))?;
        }
        let ignore = dir.join(".gitignore");
        durable::write(&ignore, b"*\n").map_err(|source| StoreError::io("writing", &ignore, source))?;
        Config::plain(id.iter().map(|byte| format!("{byte:02x}")).collect()).write(dir)?;
        Self::open(dir)
    }

    /// Opens a store that is not encrypted. Damaged packs do not keep it from opening.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::NewerFormat`], [`StoreError::KeyNeeded`], [`StoreError::Config`], [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let config = Config::read(dir)?;
        if config.encryption.is_some() {
            return Err(StoreError::KeyNeeded(dir.to_owned()));
        }
        // What is not encrypted has no keys; whoever says so of a store that has some may want to read what is written next.
        if let Some((_, path)) = Self::slot_files(dir)?.into_iter().find(|(stem, _)| !stem.starts_with(keys::PENDING)) {
            let what = "the store has keys, and its `config.json` says that it is not encrypted".to_owned();
            return Err(StoreError::Config { path, what });
        }
        Self::load(dir, config.codecs(), config.store, None, None, HashSet::new())
    }

    /// Opens a store that is encrypted, with a secret.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::WrongKey`].
    pub fn open_with(dir: &Path, secret: &Secret, random: Random) -> Result<Self, StoreError> {
        let config = Config::read(dir)?;
        let Some(encryption) = &config.encryption else { return Self::open(dir) };
        let opened = Self::unlock(dir, secret, random)?;
        let (current, former) = (Arc::new(opened.current), opened.former.map(Arc::new));
        // A key that was made for an exchange which never began holds both, the newer first.
        let (current, former) = match former {
            Some(former) if former.id() == encryption.master => (former, None),
            former => (current, former.filter(|_| encryption.unsettled == Some(Unsettled::Former))),
        };
        if current.id() != encryption.master || !config.is_proven(&current) {
            let what = "it was changed by someone without the key, or the key is of another time".to_owned();
            return Err(StoreError::Config { path: dir.join("config.json"), what });
        }
        let vault = Vault { current, former, has_plain: encryption.unsettled == Some(Unsettled::Plain) };
        Self::load(dir, config.codecs(), config.store, Some(vault), Some(opened.slot), HashSet::new())
    }

    /// Opens the same store anew, as if these packs were not there.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Io`].
    fn without(&self, left_out: HashSet<PathBuf>) -> Result<Self, StoreError> {
        Self::load(&self.dir, self.codecs, self.id.clone(), self.vault.clone(), self.slot.clone(), left_out)
    }

    /// Opens the same store anew.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Io`].
    pub fn reopen(&self) -> Result<Self, StoreError> {
        self.without(HashSet::new())
    }

    fn load(
        dir: &Path,
        codecs: Codecs,
        id: String,
        vault: Option<Vault>,
        slot: Option<KeySlot>,
        left_out: HashSet<PathBuf>,
    ) -> Result<Self, StoreError> {
        let lease = match Lease::take(&dir.join("leases")) {
            Ok(lease) => lease,
            Err(_) => return Err(StoreError::Locked { holder: lock::holder(&dir.join("lock")).ok().flatten() }),
        };
        let store = Self {
            dir: dir.to_owned(),
            id,
            codecs,
            index: RwLock::new(Index::new(vault.clone())),
            vault,
            slot,
            left_out,
            lease,
            glimpses: Mutex::default(),
            open_packs: Mutex::default(),
            fruitless: AtomicU32::default(),
        };
        store.refresh()?;
        Ok(store)
    }

    /// Lists the packs anew: those that others wrote since are seen, those that are gone are not looked for. Tells whether anything is
    /// different. Objects keep their positions.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn refresh(&self) -> Result<bool, StoreError> {
        let mut paths = self.pack_paths()?;
        paths.retain(|path| !self.left_out.contains(path));
        // A pack that is gone shall not take up space because it is open here.
        self.open_packs().clear();
        Ok(self.index.write().unwrap_or_else(PoisonError::into_inner).follow(paths))
    }

    /// Returns the index, all of it read.
    fn index(&self) -> RwLockReadGuard<'_, Index> {
        loop {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            if index.is_read() {
                return index;
            }
            drop(index);
            self.index.write().unwrap_or_else(PoisonError::into_inner).read();
        }
    }

    /// Returns the index to change it. What stands in it already goes before what is added.
    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.read();
        index
    }

    /// Returns the store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the store's own id, 32 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Tells whether there are packs of which nothing is known, since their indexes are damaged.
    pub fn has_unreadable_packs(&self) -> bool {
        self.index().has_unreadable()
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.dir).unwrap_or(path).display().to_string()
    }

    /// Lists packs by the form of their names, sorted.
    fn pack_paths(&self) -> Result<Vec<PathBuf>, StoreError> {
        let packs = self.dir.join("packs");
        let mut paths = Vec::new();
        for (name, directory) in entries(&packs)? {
            if name.len() != 2 || !directory.is_dir() {
                continue;
            }
            for (file, path) in entries(&directory)? {
                if file.strip_suffix(".pack").is_some_and(|stem| stem.starts_with(&name) && stem.parse::<ObjectId>().is_ok()) {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn locate(&self, id: &ObjectId, scratch: bool) -> Option<(Location, Holder)> {
        let index = self.index();
        let location = index.durable.get(id).or_else(|| if scratch { index.scratch.get(id) } else { None })?;
        let holder = index.holders.get(location.holder as usize)?.clone();
        Some((location, holder))
    }

    /// Tells whether a pack has an object. Does not read it.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.index().durable.position(id).is_some()
    }

    /// Reads an object, and proves it by its id.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`].
    pub fn get(&self, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let read = || {
            let (location, holder) = self.locate(id, true).ok_or(StoreError::Missing(*id))?;
            self.read_located(&location, &holder)
        };
        let error = match read() {
            Ok(json) => return Ok(json),
            Err(error) => error,
        };
        // Packs may have come since they were listed; or gone, for a reader without a lease. What is damaged shall not cost a look each time.
        if self.fruitless.load(Ordering::Relaxed) >= FRUITLESS_MAX {
            return Err(error);
        }
        if !self.refresh()? {
            self.fruitless.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        read()
    }

    fn damaged(&self, entry: &Entry, holder: &Holder, what: String) -> StoreError {
        let path = match holder {
            Holder::Pack(path, _) => path.clone(),
            Holder::Scratch(..) => self.dir.join("cache"),
        };
        StoreError::Damaged { path, id: entry.id, what }
    }

    fn read(&self, entry: &Entry, holder: &Holder) -> Result<Vec<u8>, StoreError> {
        let base = entry.base.map(|base| self.base(entry, holder, &base)).transpose()?;
        self.decode(entry, holder, base.as_deref())
    }

    /// Reads what an entry is a delta to.
    fn base(&self, entry: &Entry, holder: &Holder, base: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let missing = || self.damaged(entry, holder, format!("its base {base} is missing"));
        let (location, base_holder) = self.locate(base, true).ok_or_else(missing)?;
        // Deltas never stand on deltas, so this ends.
        if location.entry.base.is_some() {
            return Err(self.damaged(entry, holder, format!("its base {base} is a delta itself")));
        }
        self.read_located(&location, &base_holder)
    }

    /// Reads an entry's bytes and decodes them; `base` is the base's bytes, for a delta.
    fn decode(&self, entry: &Entry, holder: &Holder, base: Option<&[u8]>) -> Result<Vec<u8>, StoreError> {
        let damaged = |what: String| self.damaged(entry, holder, what);
        let (stored, cipher) = match holder {
            Holder::Pack(path, cipher) => (File::open(path).and_then(|file| pack::read_stored(&file, entry)), cipher),
            Holder::Scratch(file, cipher) => (pack::read_stored(file, entry), cipher),
        };
        let stored = stored.map_err(|error| damaged(error.to_string()))?;
        let stored = pack::unseal(entry, stored, cipher.as_deref()).map_err(|error| damaged(error.to_string()))?;
        pack::decode_object(entry, stored, base).map_err(|error| damaged(error.to_string()))
    }

    /// Tells whether an object is there, and is no delta.
    fn is_whole(&self, id: &ObjectId) -> bool {
        self.locate(id, false).is_some_and(|(location, _)| location.entry.base.is_none())
    }

    /// Finds bytes that an object can be stored as a delta to: those of this object, or of what it is a delta to itself.
    fn delta_base(&self, id: &ObjectId) -> Option<(ObjectId, Vec<u8>)> {
        let (location, holder) = self.locate(id, false)?;
        match location.entry.base {
            None => Some((*id, self.read_located(&location, &holder).ok()?)),
            Some(base) => {
                let (location, holder) = self.locate(&base, false)?;
                Some((base, self.read_located(&location, &holder).ok()?))
            }
        }
    }

    /// Counts what packs hold.
    pub fn object_stats(&self) -> ObjectStats {
        self.index().durable.iter().fold(ObjectStats::default(), |mut stats, (_, location)| {
            stats.objects += 1;
            stats.raw_bytes += location.entry.raw;
            stats.stored_bytes += location.entry.stored;
            stats
        })
    }

    /// Finds the objects whose ids start with these digits, at most a handful.
    pub fn find(&self, digits: &str) -> Vec<ObjectId> {
        let index = self.index();
        let mut found: Vec<ObjectId> = index.durable.ids().filter(|id| id.to_string().starts_with(digits)).take(8).copied().collect();
        found.sort();
        found
    }

    /// Begins to put objects.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn begin(&self, mode: BatchMode) -> Result<Batch<'_>, StoreError> {
        Ok(Batch::new(self, mode))
    }

    /// Reads a file of the cache, if it is there.
    pub fn read_cache(&self, name: &str) -> Option<Vec<u8>> {
        self.read_named(CACHE, name).ok()??.bytes.ok()
    }

    /// Writes a file of the cache, whole or not at all, without waiting for the disk: after a power cut it may be anything, and whoever reads it *must*
    /// be able to tell. The cache only saves time, so that a failure is nothing to tell.
    pub fn write_cache(&self, name: &str, bytes: &[u8]) {
        if durable::create_dir(&self.dir.join(CACHE.name)).is_ok() {
            let _ = self.write_named(CACHE, name, bytes);
        }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("ops.jsonl")
    }

    /// Reads the operation log, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Log`] where it is damaged, [`StoreError::Io`].
    pub fn operations(&self) -> Result<Vec<LogEntry>, StoreError> {
        let path = self.log_path();
        let reading = log::read(&path, self.vault.as_ref()).map_err(|source| StoreError::io("reading", &path, source))?;
        match reading.damage {
            Some((line, what)) => Err(StoreError::Log { path, line, what }),
            None => Ok(reading.entries),
        }
    }

    /// Appends to the operation log, durably.
    ///
    /// # Errors
    /// [`StoreError::Log`] where it is damaged, [`StoreError::Io`].
    pub fn append_operation(&self, body: serde_json::Value) -> Result<LogEntry, StoreError> {
        log::append(&self.log_path(), body, self.vault.as_ref())
    }

    /// Takes the project lock, and clears away what a holder that died was writing.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Io`].
    pub fn lock(&self, holder: &LockHolder) -> Result<LockGuard, StoreError> {
        let guard = lock::acquire(&self.dir.join("lock"), holder)?;
        for directory in ["", "packs", "snapshots", "tags", "pins", "cache", "keys"] {
            for (name, path) in entries(&self.dir.join(directory))? {
                if name.starts_with(durable::TEMPORARY) {
                    durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))?;
                }
            }
        }
        // What is believed to be there is what is there now: another may have written, or deleted, before the lock was free.
        self.refresh()?;
        Ok(guard)
    }

    /// Returns who holds the project lock now.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn lock_holder(&self) -> Result<Option<LockHolder>, StoreError> {
        let path = self.dir.join("lock");
        lock::holder(&path).map_err(|source| StoreError::io("reading", &path, source))
    }
}

/// Lists a directory: names that are UTF-8, with paths. One that is not there is empty.
fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let io = |source| StoreError::io("reading", directory, source);
    let list = match fs::read_dir(directory) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut found = Vec::new();
    for entry in list {
        let entry = entry.map_err(io)?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::create(&dir.path().join(".dbelay"), [7; 16]).expect("a store");
        (dir, store)
    }

    fn put(store: &Store, mode: BatchMode, objects: &[&[u8]]) -> BatchStats {
        let batch = store.begin(mode).expect("a batch");
        for json in objects {
            batch.put(json, None).expect("put");
        }
        batch.finish().expect("finished")
    }

    #[test]
    fn objects_are_there_once_and_after_reopening() {
        let (_dir, store) = store();
        let stats = put(&store, BatchMode::Durable, &[b"[1]", b"[2]", b"[1]"]);
        assert_eq!((stats.objects_new, stats.objects_known), (2, 1));
        assert_eq!(put(&store, BatchMode::Durable, &[b"[1]"]).objects_new, 0);
        let reopened = Store::open(store.dir()).expect("opens");
        assert_eq!(reopened.get(&ObjectId::of(b"[2]")).expect("there"), b"[2]");
        assert_eq!(reopened.pack_paths().expect("listed").len(), 1);
        assert_eq!(reopened.id(), "07".repeat(16));
    }

    #[test]
    fn two_that_make_a_store_at_once_have_the_same() {
        for round in 0..20 {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join(".dbelay");
            let make = |id: u8| match Store::create(&path, [id; 16]) {
                Err(StoreError::Exists(_)) => Store::open(&path).expect("it is there").id().to_owned(),
                store => store.expect("a store").id().to_owned(),
            };
            let ids: Vec<String> = std::thread::scope(|scope| {
                let threads: Vec<_> = (1..=4).map(|id| scope.spawn(move || make(id))).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert!(ids.iter().all(|id| *id == ids[0]), "round {round}: {ids:?}");
        }
    }

    #[test]
    fn scratch_objects_never_become_part_of_the_store() {
        let (_dir, store) = store();
        put(&store, BatchMode::Scratch, &[b"[1]"]);
        let id = ObjectId::of(b"[1]");
        assert_eq!(store.get(&id).expect("readable"), b"[1]");
        assert!(!store.contains(&id));
        assert!(Store::open(store.dir()).expect("opens").get(&id).is_err());
        assert_eq!(put(&store, BatchMode::Durable, &[b"[1]"]).objects_new, 1);
        assert!(Store::open(store.dir()).expect("opens").get(&id).is_ok());
    }

    #[test]
    fn an_unfinished_batch_is_not_in_the_store() {
        let (_dir, store) = store();
        let batch = store.begin(BatchMode::Durable).expect("a batch");
        let id = batch.put(b"[1]", None).expect("put");
        drop(batch);
        assert!(store.get(&id).is_err());
        assert_eq!(entries(&store.dir.join("packs")).expect("listed"), []);
    }

    #[test]
    fn deltas_never_stand_on_deltas() {
        let (_dir, store) = store();
        let object = |n: usize| {
            format!("[{}]", (0..500).map(|i| (i * i * 7919 + usize::from(i == 250) * n).to_string()).collect::<Vec<_>>().join(","))
        };
        let mut last = None;
        for n in 0..4 {
            let batch = store.begin(BatchMode::Durable).expect("a batch");
            last = Some(batch.put(object(n).as_bytes(), last.as_ref()).expect("put"));
            batch.finish().expect("finished");
        }
        let reopened = Store::open(store.dir()).expect("opens");
        let first = ObjectId::of(object(0).as_bytes());
        for n in 1..4 {
            let id = ObjectId::of(object(n).as_bytes());
            assert_eq!(reopened.locate(&id, false).expect("there").0.entry.base, Some(first));
            assert_eq!(reopened.get(&id).expect("there"), object(n).as_bytes());
        }
    }

    #[test]
    fn a_store_of_a_newer_format_is_refused_and_untouched() {
        let (_dir, store) = store();
        let path = store.dir().join("config.json");
        let config = fs::read_to_string(&path).expect("a config").replace("\"format\":3", "\"format\":4");
        fs::write(&path, &config).expect("written");
        assert!(matches!(Store::open(store.dir()), Err(StoreError::NewerFormat { found: 4, .. })));
        assert!(matches!(Store::create(store.dir(), [0; 16]), Err(StoreError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).expect("a config"), config);
    }

    #[test]
    fn tags_have_names_that_can_be_said() {
        let (_dir, store) = store();
        let id = store.put_snapshot(b"{}").expect("a snapshot");
        for name in ["v1", "before-import", "2026.11", "ünï", "abc"] {
            store.set_tag(name, &id).expect(name);
        }
        for name in ["", "HEAD", "pre", "a b", "a~1", "@{x}", "../x", "-x", ".x", "deadbeef", "tmp-1", &"x".repeat(101)] {
            assert!(matches!(store.set_tag(name, &id), Err(StoreError::TagName { .. })), "{name}");
        }
        assert!(matches!(store.set_tag("none", &ObjectId([1; 32])), Err(StoreError::NoSnapshot(_))));
        assert_eq!(store.tags().expect("tags").len(), 5);
        store.delete_tag("v1").expect("deleted");
        assert_eq!(store.tags().expect("tags").len(), 4);
    }

    #[test]
    fn the_lock_clears_what_a_dead_writer_left() {
        let (_dir, store) = store();
        fs::write(store.dir().join("packs/tmp-0"), b"half").expect("written");
        fs::write(store.dir().join("snapshots/tmp-9"), b"half").expect("written");
        let holder = LockHolder { pid: 1, host: String::new(), command: "test".into(), since: String::new() };
        let guard = store.lock(&holder).expect("free");
        assert_eq!(store.lock_holder().expect("readable"), Some(holder));
        assert!(!store.dir().join("packs/tmp-0").exists() && !store.dir().join("snapshots/tmp-9").exists());
        drop(guard);
    }

    #[test]
    fn fsck_finds_every_flipped_byte() {
        let (_dir, store) = store();
        put(&store, BatchMode::Durable, &[b"[1,2,3]", &b"\"abc\",".repeat(50)]);
        let id = store.put_snapshot(b"{\"format\":1}").expect("a snapshot");
        store.set_tag("t", &id).expect("a tag");
        for n in 0..2 {
            store.append_operation(serde_json::json!({ "n": n })).expect("logged");
        }
        let dir = store.dir().to_owned();
        let sound = |dir: &Path| {
            Store::open(dir).is_ok_and(|store| store.fsck(FsckDepth::ReadData, &Silent).is_ok_and(|report| report.damage.is_empty()))
        };
        assert!(sound(&dir));
        for file in walkdir::WalkDir::new(&dir).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
            if [".gitignore", "lock", "leases"].iter().any(|name| file.file_name() == *name) {
                continue;
            }
            let bytes = fs::read(file.path()).expect("readable");
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                fs::write(file.path(), &flipped).expect("written");
                assert!(!sound(&dir), "byte {at} of {}", file.path().display());
            }
            fs::write(file.path(), &bytes).expect("written");
            fs::remove_file(file.path()).expect("deleted");
            // The log and tags may be absent; what refers to a pack is for the caller to know.
            let may_be_gone =
                ["ops.jsonl", "t"].iter().any(|name| file.file_name() == *name) || file.path().extension().is_some_and(|e| e == "pack");
            assert!(may_be_gone || !sound(&dir), "{} is gone", file.path().display());
            fs::write(file.path(), &bytes).expect("written");
        }
        assert!(sound(&dir));
    }
}
