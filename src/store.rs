//! The store, format version 1: content-addressed objects in packs, snapshot files, tags, the operation log, the project lock.
//!
//! It knows bytes and ids, never SQL, schemas, or what an object means. Everything is one directory (`.dbelay`), made 0700 with files 0600:
//!
//! | path | content | written |
//! |---|---|---|
//! | `config.json` | `{"format":1,"store":"<32 hex digits>","check":"<hex>"}` | once, last of all at creation |
//! | `packs/xx/<id>.pack` | objects; the id is the SHA-256 of the whole file, xx its first two digits | once |
//! | `snapshots/<id>.json` | a snapshot; the id is the SHA-256 of the file | once |
//! | `tags/<name>` | a snapshot's id and a newline | replaced whole |
//! | `ops.jsonl` | the operation log | grows |
//! | `lock` | held through the operating system; who holds it, as JSON | any time |
//! | `cache/` | nothing that is needed; may be deleted while no dbelay runs | any time |
//! | `keys/` | kept for encryption, empty in this version | |
//! | `.gitignore` | `*` | once |
//!
//! `check` in `config.json` is the SHA-256 of `{"format":…,"store":…}` as it stands there. A reader *must* refuse a larger `format` and *must not*
//! write then. Files of other names are ignored; those that begin with `tmp-` are leftovers that the holder of the lock may delete.
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
//! | 2 | flags, 0; a reader *must* refuse others |
//! | 32 | SHA-256 of the index |
//! | 8 | `DBLYEND1` |
//!
//! An index entry: id; codec (1 byte); for codec 2 the base's id; stored length and JSON length, both unsigned LEB128 in their shortest form.
//! Payloads stand in the order of their entries without gaps, so offsets follow from lengths, and the last one *must* end where the
//! index begins. Codec 0: the JSON itself. 1: a zstd frame. 2: a zstd frame made with the base's JSON as prefix (`ZSTD_CCtx_refPrefix`);
//! the base is an object of the store, in this pack or another, and *must not* be of codec 2 itself. A reader refuses a pack with
//! another codec. An object has at most 4 GiB of JSON. An object may be in several packs.
//!
//! ## Operation log
//! Lines `{"id":"<hex>","prev":"<hex>","n":<number>,"op":<entry>}`. `id` is the SHA-256 of the line's JSON without the `id` field (so from
//! `{"prev"` on), `prev` the `id` of the line before (64 zeros in the first), `n` counts from 0. A last line without its newline was never
//! reported as written and is cut off before the next is appended.
//!
//! ## Order of writes
//! Before an object goes into a pack, its stored form is decoded and compared with what it was made from. A pack is synced and renamed, its
//! directory synced, and its bytes are read back and found to have its id, before a snapshot that needs it is written (*must*); then the
//! snapshot; then tags and the log. Whatever dies in between leaves objects that nothing refers to, never
//! a reference to nothing.

mod batch;
mod fsck;
mod lock;
mod log;
mod pack;
mod tags;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

pub use batch::{Batch, BatchMode, BatchStats};
pub use fsck::{Damage, FsckDepth, FsckReport};
pub use lock::{LockGuard, LockHolder};
pub use log::LogEntry;
pub use pack::OBJECT_BYTES_MAX;
pub use tags::{TAG_BYTES_MAX, check_tag_name};

use crate::durable;
use crate::id::ObjectId;
use pack::Entry;

/// The newest format version that this build reads, and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// What stopped the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store here.
    #[error("there is no store at `{}`", .0.display())]
    NoStore(PathBuf),
    /// A store is here already.
    #[error("there is a store at `{}` already", .0.display())]
    Exists(PathBuf),
    /// A newer dbelay made it.
    #[error("the store `{}` has format version {found}; this dbelay reads up to {FORMAT_VERSION}", .dir.display())]
    NewerFormat {
        /// Where.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The directory's `config.json` is not one.
    #[error("`{}` is damaged: {what}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No pack has this object.
    #[error("object {0} is missing from the store")]
    Missing(ObjectId),
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSnapshot(ObjectId),
    /// An object cannot be read.
    #[error("object {id} in `{}` is damaged: {what}", .path.display())]
    Damaged {
        /// Where it stands.
        path: PathBuf,
        /// Which one.
        id: ObjectId,
        /// What is wrong.
        what: String,
    },
    /// A snapshot's file does not have the id that its name says.
    #[error("`{}` is damaged: its bytes do not have its id", .0.display())]
    DamagedSnapshot(PathBuf),
    /// A tag's file is not one.
    #[error("the tag `{0}` is damaged: it holds no snapshot id")]
    DamagedTag(String),
    /// The operation log is not whole.
    #[error("line {line} of `{}` is damaged: {what}", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Another process holds the lock.
    #[error("the store is locked by {}", .holder.as_ref().map_or("another process".to_owned(), describe))]
    Locked {
        /// Which one, where it said so.
        holder: Option<LockHolder>,
    },
    /// A tag cannot have this name.
    #[error("`{name}` cannot be a tag: {why}")]
    TagName {
        /// The name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// An object is longer than [`OBJECT_BYTES_MAX`].
    #[error("a value of {0} bytes is longer than the store can hold")]
    TooLong(u64),
    /// The system failed.
    #[error("{doing} `{}` failed", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}

fn describe(holder: &LockHolder) -> String {
    format!("`dbelay {}` (process {} on {}, since {})", holder.command, holder.pid, holder.host, holder.since)
}

#[derive(Serialize, Deserialize)]
struct Config {
    format: u32,
    store: String,
}

#[derive(Deserialize)]
struct ConfigFile {
    format: u32,
    store: String,
    check: ObjectId,
}

/// A file that holds objects.
#[derive(Debug, Clone)]
enum Holder {
    /// A pack, opened when it is needed.
    Pack(PathBuf),
    /// A file without a name, which goes with this value.
    Scratch(Arc<File>),
}

/// Where an object is.
#[derive(Debug, Clone)]
struct Location {
    holder: u32,
    entry: Entry,
}

#[derive(Debug, Default)]
struct Index {
    holders: Vec<Holder>,
    /// Objects in packs.
    durable: HashMap<ObjectId, Location>,
    /// Objects of scratch batches.
    scratch: HashMap<ObjectId, Location>,
}

impl Index {
    fn add(&mut self, holder: Holder, entries: Vec<Entry>, is_durable: bool) {
        let number = u32::try_from(self.holders.len()).expect("fewer than 2^32 packs are open");
        self.holders.push(holder);
        let map = if is_durable { &mut self.durable } else { &mut self.scratch };
        map.reserve(entries.len());
        for entry in entries {
            map.entry(entry.id).or_insert(Location { holder: number, entry });
        }
    }
}

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
    index: RwLock<Index>,
    /// Packs that could not be opened: what they held is missing, the rest is not.
    damage: Vec<Damage>,
    glimpses: Mutex<Glimpses>,
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
        for directory in [dir.to_owned(), dir.join("packs"), dir.join("snapshots"), dir.join("tags"), dir.join("cache"), dir.join("keys")] {
            durable::create_dir(&directory).map_err(|source| StoreError::io("creating", &directory, source))?;
        }
        let ignore = dir.join(".gitignore");
        durable::write(&ignore, b"*\n").map_err(|source| StoreError::io("writing", &ignore, source))?;
        let config = Config { format: FORMAT_VERSION, store: id.iter().map(|byte| format!("{byte:02x}")).collect() };
        let json = serde_json::to_string(&config).expect("a config has string keys and no failing serializer");
        let check = ObjectId::of(json.as_bytes());
        let file = format!("{},\"check\":\"{check}\"}}\n", json.trim_end_matches('}'));
        durable::write(&config_path, file.as_bytes()).map_err(|source| StoreError::io("writing", &config_path, source))?;
        Self::open(dir)
    }

    /// Opens a store. Damaged packs do not keep it from opening.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::NewerFormat`], [`StoreError::Config`], [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("config.json");
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(StoreError::NoStore(dir.to_owned()));
            }
            Err(source) => return Err(StoreError::io("reading", &path, source)),
        };
        let damaged = |what: String| StoreError::Config { path: path.clone(), what };
        let config: ConfigFile = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        let checked = Config { format: config.format, store: config.store.clone() };
        let checked = serde_json::to_vec(&checked).expect("a config has string keys and no failing serializer");
        if config.format > FORMAT_VERSION {
            return Err(StoreError::NewerFormat { dir: dir.to_owned(), found: config.format });
        }
        if ObjectId::of(&checked) != config.check {
            return Err(damaged("its check does not fit".to_owned()));
        }
        let mut store =
            Self { dir: dir.to_owned(), id: config.store, index: RwLock::default(), damage: Vec::new(), glimpses: Mutex::default() };
        let mut index = Index::default();
        for path in store.pack_paths()? {
            match store.open_pack(&path) {
                Ok(entries) => index.add(Holder::Pack(path), entries, true),
                Err(what) => store.damage.push(Damage { path: store.relative(&path), object: None, what }),
            }
        }
        store.index = RwLock::new(index);
        Ok(store)
    }

    /// Returns the store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the store's own id, 32 hex digits.
    pub fn id(&self) -> &str {
        &self.id
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

    fn open_pack(&self, path: &Path) -> Result<Vec<Entry>, String> {
        let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
        pack::read_index(&file).map_err(|error| error.to_string())
    }

    fn locate(&self, id: &ObjectId, scratch: bool) -> Option<(Location, Holder)> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let location = index.durable.get(id).or_else(|| if scratch { index.scratch.get(id) } else { None })?.clone();
        let holder = index.holders.get(location.holder as usize)?.clone();
        Some((location, holder))
    }

    /// Tells whether a pack has an object. Does not read it.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).durable.contains_key(id)
    }

    /// Reads an object, and proves it by its id.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`].
    pub fn get(&self, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let (location, holder) = self.locate(id, true).ok_or(StoreError::Missing(*id))?;
        self.read(&location.entry, &holder)
    }

    fn read(&self, entry: &Entry, holder: &Holder) -> Result<Vec<u8>, StoreError> {
        let damaged = |what: String| {
            let path = match holder {
                Holder::Pack(path) => path.clone(),
                Holder::Scratch(_) => self.dir.join("cache"),
            };
            StoreError::Damaged { path, id: entry.id, what }
        };
        let stored = match holder {
            Holder::Pack(path) => File::open(path).and_then(|file| pack::read_stored(&file, entry)),
            Holder::Scratch(file) => pack::read_stored(file, entry),
        }
        .map_err(|error| damaged(error.to_string()))?;
        let base = match &entry.base {
            None => None,
            Some(base) => {
                let (location, holder) = self.locate(base, true).ok_or_else(|| damaged(format!("its base {base} is missing")))?;
                // Deltas never stand on deltas, so this ends.
                if location.entry.base.is_some() {
                    return Err(damaged(format!("its base {base} is a delta itself")));
                }
                Some(self.read(&location.entry, &holder)?)
            }
        };
        pack::decode_object(entry, stored, base.as_deref()).map_err(|error| damaged(error.to_string()))
    }

    /// Finds bytes that an object can be stored as a delta to: those of this object, or of what it is a delta to itself.
    fn delta_base(&self, id: &ObjectId) -> Option<(ObjectId, Vec<u8>)> {
        let (location, holder) = self.locate(id, false)?;
        match location.entry.base {
            None => Some((*id, self.read(&location.entry, &holder).ok()?)),
            Some(base) => {
                let (location, holder) = self.locate(&base, false)?;
                Some((base, self.read(&location.entry, &holder).ok()?))
            }
        }
    }

    /// Counts what packs hold.
    pub fn object_stats(&self) -> ObjectStats {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.durable.values().fold(ObjectStats::default(), |mut stats, location| {
            stats.objects += 1;
            stats.raw_bytes += location.entry.raw;
            stats.stored_bytes += location.entry.stored;
            stats
        })
    }

    /// Finds the objects whose ids start with these digits, at most a handful.
    pub fn find(&self, digits: &str) -> Vec<ObjectId> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<ObjectId> = index.durable.keys().filter(|id| id.to_string().starts_with(digits)).take(8).copied().collect();
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

    /// Writes a snapshot's file, durably, and reads it back. Everything that it refers to *must* be durable already.
    ///
    /// # Errors
    /// [`StoreError::Io`]; there is no snapshot then.
    pub fn put_snapshot(&self, json: &[u8]) -> Result<ObjectId, StoreError> {
        let id = ObjectId::of(json);
        let path = self.snapshot_path(&id);
        durable::write(&path, json).map_err(|source| StoreError::io("writing", &path, source))?;
        self.snapshot(&id)?;
        Ok(id)
    }

    fn snapshot_path(&self, id: &ObjectId) -> PathBuf {
        self.dir.join("snapshots").join(format!("{id}.json"))
    }

    /// Reads a snapshot's file, and proves it by its id.
    ///
    /// # Errors
    /// [`StoreError::NoSnapshot`], [`StoreError::DamagedSnapshot`], [`StoreError::Io`].
    pub fn snapshot(&self, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
        let path = self.snapshot_path(id);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::NoSnapshot(*id)),
            Err(source) => return Err(StoreError::io("reading", &path, source)),
        };
        if ObjectId::of(&json) == *id { Ok(json) } else { Err(StoreError::DamagedSnapshot(path)) }
    }

    /// Lists all snapshots, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn snapshot_ids(&self) -> Result<Vec<ObjectId>, StoreError> {
        let files = entries(&self.dir.join("snapshots"))?;
        let mut ids: Vec<ObjectId> = files.iter().filter_map(|(name, _)| name.strip_suffix(".json")?.parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// Reads a file of the cache, if it is there.
    pub fn read_cache(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.join("cache").join(name)).ok()
    }

    /// Writes a file of the cache, whole or not at all. The cache only saves time, so that a failure is nothing to tell.
    pub fn write_cache(&self, name: &str, bytes: &[u8]) {
        let cache = self.dir.join("cache");
        let _ = durable::create_dir(&cache).and_then(|()| durable::write(&cache.join(name), bytes));
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
        let reading = log::read(&path).map_err(|source| StoreError::io("reading", &path, source))?;
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
        log::append(&self.log_path(), body)
    }

    /// Takes the project lock, and clears away what a holder that died was writing.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Io`].
    pub fn lock(&self, holder: &LockHolder) -> Result<LockGuard, StoreError> {
        let guard = lock::acquire(&self.dir.join("lock"), holder)?;
        for directory in ["", "packs", "snapshots", "tags", "cache"] {
            for (name, path) in entries(&self.dir.join(directory))? {
                if name.starts_with(durable::TEMPORARY) {
                    durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))?;
                }
            }
        }
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
        let config = fs::read_to_string(&path).expect("a config").replace("\"format\":1", "\"format\":2");
        fs::write(&path, &config).expect("written");
        assert!(matches!(Store::open(store.dir()), Err(StoreError::NewerFormat { found: 2, .. })));
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
            if [".gitignore", "lock"].iter().any(|name| file.file_name() == *name) {
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
