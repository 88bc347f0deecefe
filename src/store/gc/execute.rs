//! Doing what a plan says: writing anew, condemning, deleting. The order of steps is in [`super`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::{GcPlan, NONE, PackAction, PackPlan, copy_of, is_due, pack_id};
use crate::durable::{self, TemporaryFile};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};
use crate::store::index::read_pack;
use crate::store::pack::{self, Entry, PackWriter};
use crate::store::{LockGuard, Store, StoreError, batch};

/// What freeing space did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcOutcome {
    /// Packs that were written, with their bytes.
    pub written: u64,
    /// See `written`.
    pub written_bytes: u64,
    /// Packs that this run condemned.
    pub condemned: u64,
    /// Packs that had been condemned, and are needed again.
    pub pardoned: u64,
    /// Packs that were deleted, with the sizes of their files.
    pub deleted: u64,
    /// See `deleted`.
    pub deleted_bytes: u64,
    /// Packs that stay condemned, with the sizes of their files.
    pub waiting: u64,
    /// See `waiting`.
    pub waiting_bytes: u64,
    /// When the last of them may be deleted.
    pub waiting_until: Option<String>,
    /// Whether a reader kept packs from being deleted that were due.
    pub is_held: bool,
    /// Packs that were left alone, since their bytes do not have their ids.
    pub damaged: Vec<ObjectId>,
}

impl GcOutcome {
    /// Tells whether anything in the store is different.
    pub fn has_changed(&self) -> bool {
        self.written + self.condemned + self.pardoned + self.deleted > 0
    }
}

/// `condemned.json`.
#[derive(Serialize, Deserialize)]
struct CondemnedFile {
    format: u32,
    packs: Vec<CondemnedPack>,
}

#[derive(Serialize, Deserialize)]
struct CondemnedPack {
    pack: ObjectId,
    /// When it was found to be unneeded.
    time: DateTime<Utc>,
}

impl Store {
    /// Does what a plan says. The store *must* have been locked since before the marks were set.
    ///
    /// # Errors
    /// [`StoreError::Io`], and [`StoreError::Missing`] where what would be left does not have all that is needed. Nothing that is needed was
    /// deleted then, and the next run finishes.
    pub fn execute_gc(&self, lock: &LockGuard, plan: &GcPlan, progress: &dyn Progress) -> Result<GcOutcome, StoreError> {
        let mut outcome = GcOutcome::default();
        let written = self.repack(plan, progress, &mut outcome)?;
        let mut condemned: BTreeMap<ObjectId, DateTime<Utc>> = BTreeMap::new();
        for pack in &plan.packs {
            let is_unneeded = pack.action != PackAction::Keep && !outcome.damaged.contains(&pack.pack) && !written.contains(&pack.pack);
            // What was needed until now is condemned from now on.
            let since = plan.condemned.get(&pack.pack).filter(|_| pack.action != PackAction::Repack);
            match (is_unneeded, since) {
                (true, _) => drop(condemned.insert(pack.pack, *since.unwrap_or(&plan.now))),
                (false, Some(_)) => outcome.pardoned += 1,
                (false, None) => {}
            }
            outcome.condemned += u64::from(is_unneeded && since.is_none());
        }
        if !condemned.is_empty() {
            self.prove_rest(plan, &condemned)?;
        }
        if condemned != plan.condemned {
            self.write_condemned(&condemned)?;
        }
        self.delete_due(lock, plan, condemned, progress, &mut outcome)?;
        self.refresh()?;
        Ok(outcome)
    }

    /// Writes anew what is kept of the packs that are repacked; returns the new packs.
    fn repack(&self, plan: &GcPlan, progress: &dyn Progress, outcome: &mut GcOutcome) -> Result<BTreeSet<ObjectId>, StoreError> {
        let packs = self.dir.join("packs");
        let io = |source| StoreError::io("writing a pack in", &packs, source);
        let repacked = || (0..).zip(&plan.packs).filter(|(_, pack)| pack.action == PackAction::Repack);
        let mut written = BTreeSet::new();
        if repacked().next().is_none() {
            return Ok(written);
        }
        progress.begin("repacking", Some(repacked().map(|(_, pack)| pack.bytes).sum()), Unit::Bytes);
        let mut writer: Option<PackWriter<TemporaryFile>> = None;
        let mut copied = BTreeSet::new();
        for (number, old) in repacked() {
            let reading = |source| StoreError::io("reading", &old.path, source);
            let file = File::open(&old.path).map_err(reading)?;
            if pack::hash_file(&file, &mut |bytes| progress.advance(bytes)).map_err(reading)? != old.pack {
                outcome.damaged.push(old.pack);
                continue;
            }
            let (entries, _) = read_pack(&old.path, self.vault.as_ref()).map_err(|what| reading(io::Error::other(what)))?;
            copied.clear();
            for entry in entries.iter().filter(|entry| self.owner(plan, entry) == Some(number)) {
                // One pack may hold an object twice.
                if !copied.insert(entry.id) {
                    continue;
                }
                let stored = pack::read_stored(&file, entry).map_err(reading)?;
                let into = match &mut writer {
                    Some(writer) => writer,
                    none => {
                        let cipher = self.vault.as_ref().map(|vault| vault.current.clone());
                        none.insert(TemporaryFile::create_in(&packs).and_then(|file| PackWriter::new(file, cipher)).map_err(io)?)
                    }
                };
                into.append(entry.id, entry.codec, entry.base, entry.raw, &stored).map_err(io)?;
                if into.is_full()
                    && let Some(full) = writer.take()
                {
                    self.publish_repacked(full, &packs, &mut written, outcome)?;
                }
            }
        }
        if let Some(last) = writer {
            self.publish_repacked(last, &packs, &mut written, outcome)?;
        }
        progress.finish();
        Ok(written)
    }

    fn publish_repacked(
        &self,
        writer: PackWriter<TemporaryFile>,
        packs: &Path,
        written: &mut BTreeSet<ObjectId>,
        outcome: &mut GcOutcome,
    ) -> Result<(), StoreError> {
        let (path, _) = batch::publish(writer, packs)?;
        outcome.written += 1;
        outcome.written_bytes += path.metadata().map_err(|source| StoreError::io("reading", &path, source))?.len();
        written.extend(pack_id(&path));
        Ok(())
    }

    /// Returns the number of the pack that keeps this copy of an object; none where it is no copy that can be kept.
    fn owner(&self, plan: &GcPlan, entry: &Entry) -> Option<u32> {
        let index = self.index();
        let position = copy_of(&index, entry)?;
        plan.owners.get(position as usize).copied().filter(|owner| *owner != NONE)
    }

    /// Proves that the packs which are not condemned have everything that is needed, by their indexes as they are on the disk now.
    fn prove_rest(&self, plan: &GcPlan, condemned: &BTreeMap<ObjectId, DateTime<Utc>>) -> Result<(), StoreError> {
        let covered = self.marks();
        for path in self.pack_paths()? {
            if pack_id(&path).is_some_and(|pack| condemned.contains_key(&pack)) {
                continue;
            }
            let Ok((entries, _)) = read_pack(&path, self.vault.as_ref()) else { continue };
            let index = self.index();
            for position in entries.iter().filter_map(|entry| copy_of(&index, entry)) {
                covered.set(position);
            }
        }
        let index = self.index();
        for (position, owner) in (0..).zip(&plan.owners) {
            if *owner != NONE && !covered.has(position) {
                let id = index.durable.at(position).map_or(ObjectId([0; 32]), |location| location.entry.id);
                return Err(StoreError::Missing(id));
            }
        }
        Ok(())
    }

    /// Deletes the condemned packs whose time has come.
    fn delete_due(
        &self,
        _: &LockGuard,
        plan: &GcPlan,
        mut condemned: BTreeMap<ObjectId, DateTime<Utc>>,
        progress: &dyn Progress,
        outcome: &mut GcOutcome,
    ) -> Result<(), StoreError> {
        let mut due: Vec<&PackPlan> =
            plan.packs.iter().filter(|pack| condemned.get(&pack.pack).is_some_and(|since| is_due(*since, plan.now, plan.grace))).collect();
        if !due.is_empty() {
            let spared = self.prove_copies(plan, &due, progress, outcome)?;
            due.retain(|pack| !spared.contains(&pack.pack));
        }
        if !due.is_empty() {
            match self.lease.alone() {
                None => outcome.is_held = true,
                Some(_alone) => {
                    progress.begin("deleting packs", Some(due.len() as u64), Unit::Objects);
                    for pack in due {
                        durable::remove(&pack.path).map_err(|source| StoreError::io("deleting", &pack.path, source))?;
                        condemned.remove(&pack.pack);
                        outcome.deleted += 1;
                        outcome.deleted_bytes += pack.bytes;
                        progress.advance(1);
                    }
                    progress.finish();
                    self.write_condemned(&condemned)?;
                }
            }
        }
        outcome.waiting = condemned.len() as u64;
        outcome.waiting_bytes = plan.packs.iter().filter(|pack| condemned.contains_key(&pack.pack)).map(|pack| pack.bytes).sum();
        let last = condemned.values().max().and_then(|since| since.checked_add_signed(chrono::Duration::from_std(plan.grace).ok()?));
        outcome.waiting_until = last.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
        Ok(())
    }

    /// Reads every byte of the packs that keep other copies of what is about to be deleted; returns the packs that must stay, since a copy is not
    /// sound.
    fn prove_copies(
        &self,
        plan: &GcPlan,
        due: &[&PackPlan],
        progress: &dyn Progress,
        outcome: &mut GcOutcome,
    ) -> Result<BTreeSet<ObjectId>, StoreError> {
        // What this run wrote was read back; what was kept as it was is read now.
        let mut sound: BTreeMap<u32, bool> = BTreeMap::new();
        let mut spared = BTreeSet::new();
        progress.begin("proving what is kept", None, Unit::Bytes);
        for pack in due {
            // One that cannot be read has nothing to spare.
            let Ok((entries, _)) = read_pack(&pack.path, self.vault.as_ref()) else { continue };
            for entry in &entries {
                let position = self.index().durable.position(&entry.id);
                let Some(owner) = position.and_then(|position| plan.owners.get(position as usize)).copied() else { continue };
                let Some(keeper) = plan.packs.get(owner as usize) else { continue };
                let is_sound = match sound.get(&owner) {
                    Some(is_sound) => *is_sound,
                    None if keeper.action == PackAction::Repack => !outcome.damaged.contains(&keeper.pack),
                    None => {
                        let hash = File::open(&keeper.path).and_then(|file| pack::hash_file(&file, &mut |bytes| progress.advance(bytes)));
                        let is_sound = hash.is_ok_and(|hash| hash == keeper.pack);
                        sound.insert(owner, is_sound);
                        is_sound
                    }
                };
                if !is_sound {
                    spared.insert(pack.pack);
                    if !outcome.damaged.contains(&keeper.pack) {
                        outcome.damaged.push(keeper.pack);
                    }
                }
            }
        }
        progress.finish();
        Ok(spared)
    }

    fn condemned_path(&self) -> PathBuf {
        self.dir.join("condemned.json")
    }

    /// Reads which packs are condemned since when. What cannot be read condemns nothing, so that the grace period begins anew; so does a time
    /// that has not come yet.
    pub(super) fn condemned(&self, now: DateTime<Utc>) -> Result<BTreeMap<ObjectId, DateTime<Utc>>, StoreError> {
        let path = self.condemned_path();
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(StoreError::io("reading", &path, source)),
        };
        let Ok(file) = serde_json::from_slice::<CondemnedFile>(&json) else { return Ok(BTreeMap::new()) };
        if file.format != 1 {
            return Ok(BTreeMap::new());
        }
        Ok(file.packs.into_iter().filter(|entry| entry.time <= now).map(|entry| (entry.pack, entry.time)).collect())
    }

    fn write_condemned(&self, condemned: &BTreeMap<ObjectId, DateTime<Utc>>) -> Result<(), StoreError> {
        let path = self.condemned_path();
        if condemned.is_empty() {
            return durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source));
        }
        let packs = condemned.iter().map(|(pack, time)| CondemnedPack { pack: *pack, time: *time }).collect();
        let json = serde_json::to_vec(&CondemnedFile { format: 1, packs }).expect("plain data with string keys serialises");
        durable::write(&path, &json).map_err(|source| StoreError::io("writing", &path, source))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::progress::Silent;
    use crate::store::{BatchMode, LockHolder, Mark, Marks, PackReason};

    const HOUR: Duration = Duration::from_secs(3600);

    fn object(n: u32) -> Vec<u8> {
        (0..200).map(|at| ObjectId::of(format!("{n} {at}").as_bytes()).to_string()).collect::<String>().into_bytes()
    }

    fn put(store: &Store, objects: &[u32]) {
        let batch = store.begin(BatchMode::Durable).expect("a batch");
        for n in objects {
            batch.put(&object(*n), None).expect("put");
        }
        batch.finish().expect("finished");
    }

    fn id(n: u32) -> ObjectId {
        ObjectId::of(&object(n))
    }

    fn at(hour: u32) -> DateTime<Utc> {
        format!("2026-01-01T{hour:02}:00:00Z").parse().expect("a time")
    }

    fn marked(store: &Store, needed: &[u32]) -> Marks {
        let marks = store.marks();
        for n in needed {
            assert_eq!(store.mark(&marks, &id(*n)), Mark::New);
        }
        marks
    }

    /// Frees what is not needed; returns the outcome and how many packs there are then.
    fn run(store: &Store, needed: &[u32], now: DateTime<Utc>, grace: Duration) -> (GcOutcome, usize) {
        let holder = LockHolder { pid: 1, host: String::new(), command: "test".into(), since: String::new() };
        let lock = store.lock(&holder).expect("free");
        let plan = store.plan_gc(&lock, &marked(store, needed), now, grace).expect("planned");
        let outcome = store.execute_gc(&lock, &plan, &Silent).expect("done");
        needed.iter().for_each(|n| assert_eq!(store.get(&id(*n)).expect("there"), object(*n)));
        (outcome, store.pack_paths().expect("listed").len())
    }

    fn new_store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::create(&dir.path().join(".dbelay"), [7; 16]).expect("a store");
        (dir, store)
    }

    #[test]
    fn what_is_not_needed_waits_for_the_grace_period_from_the_first_time_that_this_was_found() {
        let (_dir, store) = new_store();
        put(&store, &[1]);
        put(&store, &[2]);
        assert_eq!(run(&store, &[1, 2], at(1), HOUR), (GcOutcome::default(), 2));
        let (first, packs) = run(&store, &[1], at(2), HOUR);
        assert_eq!((first.condemned, first.deleted, first.waiting, packs), (1, 0, 1, 2));
        assert_eq!(first.waiting_until.as_deref(), Some("2026-01-01T03:00:00Z"));
        let early = at(3) - chrono::Duration::seconds(1);
        assert_eq!(run(&store, &[1], early, HOUR).1, 2);
        let (last, packs) = run(&store, &[1], at(3), HOUR);
        assert_eq!((last.condemned, last.deleted, last.waiting, packs), (0, 1, 0, 1));
    }

    #[test]
    fn a_time_that_has_not_come_yet_begins_anew() {
        let (_dir, store) = new_store();
        put(&store, &[1]);
        assert_eq!(run(&store, &[], at(9), HOUR).0.condemned, 1);
        let (outcome, packs) = run(&store, &[], at(2), HOUR);
        assert_eq!((outcome.condemned, outcome.waiting_until.as_deref(), packs), (1, Some("2026-01-01T03:00:00Z"), 1));
        std::fs::write(store.dir().join("condemned.json"), "no json").expect("written");
        assert_eq!(run(&store, &[], at(8), HOUR).1, 1);
    }

    #[test]
    fn what_is_needed_of_a_pack_that_is_mostly_not_is_written_anew_once() {
        let (_dir, store) = new_store();
        put(&store, &[1, 2, 3, 4]);
        let (outcome, packs) = run(&store, &[2], at(1), Duration::ZERO);
        assert_eq!((outcome.written, outcome.deleted, packs), (1, 1, 1));
        assert!(store.get(&id(1)).is_err());
        assert_eq!(run(&store, &[2], at(2), Duration::ZERO), (GcOutcome::default(), 1));
    }

    #[test]
    fn of_two_copies_one_is_kept_and_only_after_its_bytes_are_proven() {
        let (_dir, store) = new_store();
        let other = Store::open(store.dir()).expect("opens");
        put(&store, &[1, 2]);
        // This one does not know what the other wrote, and writes it too.
        put(&other, &[2, 3]);
        drop(other);
        let kept = {
            let holder = LockHolder { pid: 1, host: String::new(), command: "test".into(), since: String::new() };
            let lock = store.lock(&holder).expect("free");
            let plan = store.plan_gc(&lock, &marked(&store, &[1, 2]), at(1), HOUR).expect("planned");
            assert_eq!(plan.packs.iter().map(|pack| pack.reason).collect::<Vec<_>>(), [PackReason::Needed, PackReason::Unneeded]);
            plan.packs[0].path.clone()
        };
        let sound = std::fs::read(&kept).expect("readable");
        let mut damaged = sound.clone();
        damaged[sound.len() / 2] ^= 1;
        std::fs::write(&kept, &damaged).expect("written");
        let holder = LockHolder { pid: 1, host: String::new(), command: "test".into(), since: String::new() };
        let lock = store.lock(&holder).expect("free");
        let plan = store.plan_gc(&lock, &marked(&store, &[1, 2]), at(1), Duration::ZERO).expect("planned");
        let outcome = store.execute_gc(&lock, &plan, &Silent).expect("done");
        assert_eq!((outcome.deleted, outcome.damaged.len()), (0, 1));
        drop(lock);
        std::fs::write(&kept, &sound).expect("written");
        let (outcome, packs) = run(&store, &[1, 2], at(1), Duration::ZERO);
        assert_eq!((outcome.deleted, packs), (1, 1));
    }
}
