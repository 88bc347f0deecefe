//! Saving what is whole out of a damaged store.
//!
//! A plan reads everything and changes nothing: what it can save it keeps in scratch objects of a second [`Store`] value that knows the damaged packs no
//! more, so that anybody can look at what the store will be. Carrying it out is, in this order: the cache is emptied, which may know of
//! objects that are gone; new packs are written and read back; damaged packs are moved away; files of which one bit was turned are written as they
//! were; tags, then snapshots, that are lost are moved away; the operation log keeps its whole beginning. *Must*: nothing is moved before
//! what is saved of it is durable, and nothing is ever deleted: what is taken out stands in `damaged/`. Dying at any step leaves a store of which the
//! same repair makes the same.

pub mod config;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::index::{Holder, read_pack};
use super::named::SNAPSHOTS;
use super::pack::{self, Entry};
use super::{BatchMode, Store, StoreError, entries, log, salvage};
use crate::durable;
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};

/// The folder of what was taken out.
const DAMAGED: &str = "damaged";

/// The longest pack that is searched without an index.
const SEARCH_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// The longest file of which a turned bit is looked for.
const BIT_BYTES_MAX: usize = 256 * 1024;

/// What is to be done with a damaged pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackRepair {
    /// The file, from the store's directory.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// Objects that are saved into a new pack.
    pub saved: u64,
    /// Objects that other packs have as well.
    pub known: u64,
    /// Objects that it is known to have had, and that cannot be read.
    pub lost: Vec<ObjectId>,
    /// Whether its bytes are those that were written, and only what they stand on is gone.
    #[serde(skip)]
    has_own_bytes: bool,
}

/// A file that is moved to `damaged/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aside {
    /// The file, from the store's directory.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

/// What is to be done with a damaged operation log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogRepair {
    /// How many entries it keeps.
    pub kept: u64,
    /// The first damaged line, counted from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
    #[serde(skip)]
    bytes_kept: usize,
}

/// What a repair will do.
#[derive(Debug, Serialize)]
pub struct RepairPlan {
    /// Damaged packs.
    pub packs: Vec<PackRepair>,
    /// Snapshot files of which one bit was turned: they are written as they were.
    pub mended: Vec<String>,
    /// Tags and snapshot files that cannot be used.
    pub aside: Vec<Aside>,
    /// The operation log, if that is damaged.
    pub log: Option<LogRepair>,
    /// Folders that are missing.
    pub folders: Vec<String>,
    #[serde(skip)]
    store: Store,
    /// What is saved, in the order in which it must be written, with what it may be a delta to.
    #[serde(skip)]
    saved: Vec<(ObjectId, Option<ObjectId>)>,
    #[serde(skip)]
    mended_bytes: Vec<(PathBuf, Vec<u8>)>,
    /// Snapshots whose pins are damaged, and are written anew.
    pub pinned: Vec<ObjectId>,
}

impl RepairPlan {
    /// Tells whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
            && self.mended.is_empty()
            && self.pinned.is_empty()
            && self.aside.is_empty()
            && self.log.is_none()
            && self.folders.is_empty()
    }

    /// Returns the store as it will be, to look at. Files that will be written as they were are not yet.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the snapshots that the store will have.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn snapshot_ids(&self) -> Result<Vec<ObjectId>, StoreError> {
        let is_gone = |id: &ObjectId| self.aside.iter().any(|aside| aside.path == self.store.snapshot_place(id));
        Ok(self.store.snapshot_ids()?.into_iter().filter(|id| !is_gone(id)).collect())
    }

    /// Carries it out. The store must be locked since before the plan was made.
    ///
    /// # Errors
    /// The system's. What was done so far is done, and the same repair goes on from there.
    pub fn execute(&self, progress: &dyn Progress) -> Result<(), StoreError> {
        let dir = &self.store.dir;
        for folder in &self.folders {
            let path = dir.join(folder);
            durable::create_dir(&path).map_err(|source| StoreError::io("creating", &path, source))?;
        }
        for (_, path) in entries(&dir.join("cache"))?.into_iter().filter(|(_, path)| path.is_file()) {
            durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))?;
        }
        progress.begin("saving objects", Some(self.saved.len() as u64), Unit::Objects);
        // What others may be deltas to is durable before they are.
        for is_delta in [false, true] {
            let batch = self.store.begin(BatchMode::Durable)?;
            for (id, base) in self.saved.iter().filter(|(_, base)| base.is_some() == is_delta) {
                batch.put(&self.store.get(id)?, base.as_ref())?;
                progress.advance(1);
            }
            batch.finish()?;
        }
        progress.finish();
        for pack in &self.packs {
            // Where everything could be saved the new pack may be the old one as it was, and stand in its place.
            if pack.has_own_bytes || !pack::is_whole(&dir.join(&pack.path)) {
                move_aside(dir, &pack.path)?;
            }
        }
        for (path, bytes) in &self.mended_bytes {
            durable::write(path, bytes).map_err(|source| StoreError::io("writing", path, source))?;
        }
        for id in &self.pinned {
            self.store.pin(id)?;
        }
        for aside in &self.aside {
            move_aside(dir, &aside.path)?;
        }
        if let Some(log) = &self.log {
            cut_log(&self.store, log)?;
        }
        Ok(())
    }
}

/// Moves a file to `damaged/`, under its own name; one that is there already keeps it.
fn move_aside(dir: &Path, relative: &str) -> Result<(), StoreError> {
    let from = dir.join(relative);
    if !from.exists() {
        return Ok(());
    }
    let to = free_name(&dir.join(DAMAGED).join(relative));
    let io = |source| StoreError::io("moving", &from, source);
    if let Some(folder) = to.parent() {
        durable::create_dir(folder).map_err(io)?;
    }
    durable::rename(&from, &to).map_err(io)
}

fn free_name(path: &Path) -> PathBuf {
    let numbered = |n: u32| if n == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{n}", path.display())) };
    (0..).map(numbered).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| path.to_owned())
}

/// Keeps a copy of the damaged log in `damaged/`, named by its content so that doing it again changes nothing, and then its whole beginning alone.
fn cut_log(store: &Store, repair: &LogRepair) -> Result<(), StoreError> {
    let path = store.log_path();
    let io = |source| StoreError::io("repairing", &path, source);
    let bytes = fs::read(&path).map_err(io)?;
    let copy = store.dir.join(DAMAGED).join(format!("ops-{}.jsonl", ObjectId::of(&bytes).short()));
    durable::create_dir(&store.dir.join(DAMAGED)).map_err(io)?;
    durable::write(&copy, &bytes).map_err(io)?;
    durable::write(&path, bytes.get(..repair.bytes_kept).unwrap_or_default()).map_err(io)
}

impl Store {
    /// Reads everything, and plans how to save what is whole. The store must be locked.
    ///
    /// # Errors
    /// [`StoreError::Io`] where a directory cannot be read, or there is no room for scratch objects.
    pub fn plan_repair(&self, progress: &dyn Progress) -> Result<RepairPlan, StoreError> {
        let damaged = self.damaged_packs(progress)?;
        let left_out: HashSet<PathBuf> = damaged.iter().map(|pack| pack.path.clone()).collect();
        let clean = self.without(left_out)?;
        let mut plan = RepairPlan {
            packs: Vec::new(),
            mended: Vec::new(),
            aside: Vec::new(),
            log: None,
            folders: ["packs", "snapshots", "tags", "cache"]
                .map(str::to_owned)
                .into_iter()
                .filter(|name| !self.dir.join(name).is_dir())
                .collect(),
            saved: Vec::new(),
            mended_bytes: Vec::new(),
            pinned: Vec::new(),
            store: clean,
        };
        plan.save(self, damaged)?;
        plan.files(self)?;
        Ok(plan)
    }

    /// Returns what reads a pack, with what its index was sealed with where that can be told; else it is what new ones are sealed with.
    fn holder(&self, path: &Path) -> Holder {
        let known = read_pack(path, self.vault.as_ref()).ok().map(|(_, cipher)| cipher);
        Holder::Pack(path.to_owned(), known.unwrap_or_else(|| self.vault.as_ref().map(|vault| vault.current.clone())))
    }

    /// Tells whether bytes are those of the snapshot file that stands there.
    fn is_snapshot(&self, path: &Path, bytes: &[u8]) -> bool {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        match self.sealed_stem(file) {
            Some(stem) => self.unseal(SNAPSHOTS, stem, bytes).is_ok(),
            None => file.strip_suffix(SNAPSHOTS.suffix).and_then(|id| id.parse().ok()) == Some(ObjectId::of(bytes)),
        }
    }

    /// Finds the packs whose bytes are not those that were written, and those with deltas to what nobody has.
    fn damaged_packs(&self, progress: &dyn Progress) -> Result<Vec<DamagedPack>, StoreError> {
        let paths = self.pack_paths()?;
        let bytes = paths.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
        progress.begin("reading packs", Some(bytes), Unit::Bytes);
        let mut damaged = Vec::new();
        let mut whole = Vec::new();
        let of = |path, entries: Option<Vec<Entry>>, what| {
            let has_whole_index = entries.is_some();
            DamagedPack { path, entries, what, has_whole_index, has_own_bytes: false }
        };
        for path in paths {
            let hash = File::open(&path).and_then(|file| pack::hash_file(&file, &mut |bytes| progress.advance(bytes)));
            let expected = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let index = read_pack(&path, self.vault.as_ref()).map(|(entries, _)| entries);
            match (hash, index) {
                (Ok(hash), Ok(entries)) if hash.to_string() == expected => whole.push((path, entries)),
                // It is as it was written, by a version that knows more.
                (Ok(hash), Err(_)) if hash.to_string() == expected => {}
                // Whoever may not read it knows nothing of it.
                (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => return Err(StoreError::io("reading", &path, error)),
                (Err(error), index) => damaged.push(of(path, index.ok(), format!("it cannot be read: {error}"))),
                (Ok(_), Ok(entries)) => damaged.push(of(path, Some(entries), "its bytes do not have its id".to_owned())),
                (Ok(_), Err(what)) => damaged.push(of(path, None, what)),
            }
        }
        progress.finish();
        let mut plain: HashSet<ObjectId> =
            whole.iter().flat_map(|(_, entries)| entries).filter(|e| e.base.is_none()).map(|e| e.id).collect();
        for pack in &damaged {
            let holder = self.holder(&pack.path);
            let entries = pack.entries.iter().flatten().filter(|entry| entry.base.is_none());
            plain.extend(entries.filter(|entry| self.read(entry, &holder).is_ok()).map(|entry| entry.id));
            if pack.entries.is_none() {
                search_pack(&pack.path, &mut |json| {
                    plain.insert(ObjectId::of(json));
                });
            }
        }
        for (path, entries) in whole {
            if entries.iter().any(|entry| entry.base.is_some_and(|base| !plain.contains(&base))) {
                let what = "objects in it stand on one that is gone".to_owned();
                damaged.push(DamagedPack { path, entries: Some(entries), what, has_whole_index: true, has_own_bytes: true });
            }
        }
        Ok(damaged)
    }
}

struct DamagedPack {
    path: PathBuf,
    /// What its index says, if that is whole.
    entries: Option<Vec<Entry>>,
    what: String,
    has_whole_index: bool,
    has_own_bytes: bool,
}

/// Searches a pack without believing its index. What cannot be read has nothing to find.
fn search_pack(path: &Path, found: &mut dyn FnMut(&[u8])) -> Vec<Entry> {
    match path.metadata() {
        Ok(metadata) if metadata.len() <= SEARCH_BYTES_MAX => {
            fs::read(path).map(|bytes| salvage::search(&bytes, found)).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

impl RepairPlan {
    /// Puts everything that can be read out of damaged packs into scratch objects.
    fn save(&mut self, damaged_store: &Store, damaged: Vec<DamagedPack>) -> Result<(), StoreError> {
        let mut all: Vec<(DamagedPack, PackRepair)> = damaged
            .into_iter()
            .map(|pack| {
                let path = damaged_store.relative(&pack.path);
                let repair =
                    PackRepair { path, what: pack.what.clone(), saved: 0, known: 0, lost: Vec::new(), has_own_bytes: pack.has_own_bytes };
                (pack, repair)
            })
            .collect();
        let mut seen = HashSet::new();
        // What stands by itself.
        {
            let batch = self.store.begin(BatchMode::Scratch)?;
            for (pack, repair) in &mut all {
                let holder = damaged_store.holder(&pack.path);
                let mut failed = None;
                let mut keep = |id: ObjectId, json: &[u8], seen: &mut HashSet<ObjectId>| {
                    if self.store.contains(&id) {
                        repair.known += u64::from(seen.insert(id));
                    } else if seen.insert(id) {
                        repair.saved += 1;
                        self.saved.push((id, None));
                        failed = failed.take().or(batch.put(json, None).err());
                    }
                };
                if pack.entries.is_none() {
                    let loose = search_pack(&pack.path, &mut |json| keep(ObjectId::of(json), json, &mut seen));
                    pack.entries = Some(loose);
                }
                for entry in pack.entries.iter().flatten().filter(|entry| entry.base.is_none()) {
                    if !seen.contains(&entry.id)
                        && let Ok(json) = self.store.read(entry, &holder)
                    {
                        keep(entry.id, &json, &mut seen);
                    }
                }
                if let Some(error) = failed {
                    return Err(error);
                }
            }
            batch.finish()?;
        }
        // What stands on that.
        let batch = self.store.begin(BatchMode::Scratch)?;
        for (pack, repair) in &mut all {
            let holder = damaged_store.holder(&pack.path);
            for entry in pack.entries.iter().flatten().filter(|entry| entry.base.is_some()) {
                if seen.contains(&entry.id) {
                    continue;
                }
                if let Ok(json) = self.store.read(entry, &holder) {
                    seen.insert(entry.id);
                    if self.store.contains(&entry.id) {
                        repair.known += 1;
                    } else {
                        repair.saved += 1;
                        self.saved.push((entry.id, entry.base));
                        batch.put(&json, None)?;
                    }
                }
            }
        }
        batch.finish()?;
        for (pack, repair) in &mut all {
            let mut lost: Vec<&Entry> = pack.entries.iter().flatten().collect();
            let count = lost.len() as u64;
            lost.retain(|entry| !seen.contains(&entry.id) && !self.store.contains(&entry.id));
            if !pack.has_whole_index {
                // An index that is not whole may give an object that was found another id; deltas are never found without it.
                lost.sort_by_key(|entry| entry.base.is_none());
                lost.truncate(usize::try_from(count.saturating_sub(repair.saved + repair.known)).unwrap_or(usize::MAX));
            }
            repair.lost = lost.into_iter().map(|entry| entry.id).collect();
        }
        self.packs = all.into_iter().map(|(_, repair)| repair).collect();
        Ok(())
    }

    /// Plans what becomes of snapshot files, tags and the operation log.
    fn files(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut gone = HashSet::new();
        let mut snapshots = Vec::new();
        for (path, id) in store.snapshot_files()? {
            let what = match id {
                None if store.vault.is_none() => continue,
                None => "it was not sealed with this key, or was changed since",
                Some(id) => match store.snapshot(&id) {
                    Ok(_) => continue,
                    Err(StoreError::DamagedSnapshot(_)) => "its bytes do not have its id",
                    Err(error) => return Err(error),
                },
            };
            match fs::read(&path).ok().and_then(|bytes| turn_back(bytes, &|bytes| store.is_snapshot(&path, bytes))) {
                Some(bytes) => {
                    self.mended.push(store.relative(&path));
                    self.mended_bytes.push((path, bytes));
                }
                None => {
                    gone.extend(id);
                    snapshots.push(Aside { path: store.relative(&path), what: what.to_owned() });
                }
            }
        }
        let told = |id: &ObjectId, word: &str| match () {
            () if gone.contains(id) => Some(format!("it {word} snapshot {id}, whose file is damaged")),
            () if !store.has_snapshot(id) => Some(format!("it {word} snapshot {id}, which is not there")),
            () => None,
        };
        for tag in store.tag_files()? {
            let what = tag.id.map_or(Some("it holds no snapshot id".to_owned()), |id| told(&id, "names"));
            self.aside.extend(what.map(|what| Aside { path: tag.file, what }));
        }
        for pin in store.pin_files()? {
            match pin.id.map(|id| (id, told(&id, "pins"))) {
                Some((_, None)) if pin.is_whole => {}
                Some((id, None)) => self.pinned.push(id),
                Some((_, Some(what))) => self.aside.push(Aside { path: pin.file, what }),
                None => self.aside.push(Aside { path: pin.file, what: "nobody can tell what it pins".to_owned() }),
            }
        }
        // What refers goes before what it refers to.
        self.aside.extend(snapshots);
        let path = store.log_path();
        let io = |source| StoreError::io("reading", &path, source);
        let reading = log::read(&path, store.vault.as_ref()).map_err(io)?;
        if let Some((line, what)) = reading.damage {
            let bytes = fs::read(&path).map_err(io)?;
            let kept: usize = bytes.split_inclusive(|byte| *byte == b'\n').take(line - 1).map(<[u8]>::len).sum();
            self.log = Some(LogRepair { kept: reading.entries.len() as u64, line: line as u64, what, bytes_kept: kept });
        }
        Ok(())
    }
}

/// Looks for the one bit that was turned in a file of which it can be told when it is right.
fn turn_back(mut bytes: Vec<u8>, is_right: &dyn Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    if bytes.len() > BIT_BYTES_MAX {
        return None;
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            if is_right(&bytes) {
                return Some(bytes);
            }
            bytes[at] ^= 1 << bit;
        }
    }
    None
}
