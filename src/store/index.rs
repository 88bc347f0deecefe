//! Where every object is: one table over all packs, read when it is first needed.
//!
//! An object has a *position* in the table, which it keeps as long as the table lives, so that sets of objects can be bits over positions
//! ([`super::Marks`]). An object costs 72 bytes, and 6 to 11 more for finding it by its id.
//!
//! # Invariants
//! - Of several copies of an object one that is no delta is chosen, if there is one: what serves as a base is readable as one.
//! - What a pack held that is gone is absent, until another pack has it.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crypt::{Cipher, Vault};
use super::pack::{self, Codec, Entry};
use crate::id::ObjectId;

/// A file that holds objects.
#[derive(Debug, Clone)]
pub(super) enum Holder {
    /// A pack, opened when it is needed, and what its payloads are sealed with.
    Pack(PathBuf, Option<Arc<Cipher>>),
    /// A file without a name, which goes with this value.
    Scratch(Arc<File>, Option<Arc<Cipher>>),
}

/// Where an object is.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) holder: u32,
    pub(super) entry: Entry,
}

/// No holder, or no base.
const NONE: u32 = u32::MAX;

/// From so many packs on their indexes are read on several cores.
const PARALLEL_PACKS_MIN: usize = 4;

/// How many indexes are in memory beside the table, a core.
const PACKS_AT_ONCE: usize = 32;

/// An object's place, or, without a holder, one that is only known as a base.
#[derive(Debug)]
struct Record {
    id: ObjectId,
    holder: u32,
    /// The position of what a delta needs.
    base: u32,
    offset: u64,
    stored: u64,
    raw: u64,
    codec: Codec,
}

/// Objects by id: records in the order in which they came, and a table of positions probed from the id's first bytes, which are those of a hash.
#[derive(Debug, Default)]
pub(super) struct Table {
    records: Vec<Record>,
    slots: Vec<u32>,
    /// How many records have a holder.
    present: usize,
}

impl Table {
    /// Returns how many positions there are.
    pub(super) fn positions(&self) -> usize {
        self.records.len()
    }

    fn start(&self, id: &ObjectId) -> usize {
        let first = u64::from_le_bytes(std::array::from_fn(|at| id.0[at]));
        usize::try_from(first & (self.slots.len() as u64 - 1)).expect("a slot's number is below their count")
    }

    /// Finds the slot of an id, or the empty one where it belongs. There is always an empty one.
    fn slot(&self, id: &ObjectId) -> usize {
        let mut at = self.start(id);
        while self.slots[at] != NONE && self.records[self.slots[at] as usize].id != *id {
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    /// Makes room for so many more.
    fn reserve(&mut self, more: usize) {
        self.records.reserve(more);
        if (self.records.len() + more) * 3 >= self.slots.len() * 2 {
            self.grow_to(((self.records.len() + more) * 2).next_power_of_two());
        }
    }

    fn grow(&mut self) {
        self.grow_to(self.slots.len() * 2);
    }

    fn grow_to(&mut self, count: usize) {
        let count = count.max(64);
        self.slots = vec![NONE; count];
        for at in 0..self.records.len() {
            let slot = self.slot(&self.records[at].id);
            self.slots[slot] = u32::try_from(at).expect("a position is below 2^32");
        }
    }

    fn position_or_new(&mut self, id: &ObjectId) -> u32 {
        if self.records.len() * 3 >= self.slots.len() * 2 {
            self.grow();
        }
        let slot = self.slot(id);
        if self.slots[slot] == NONE {
            self.slots[slot] = u32::try_from(self.records.len()).ok().filter(|at| *at < NONE).expect("fewer than 2^32 objects are known");
            self.records.push(Record { id: *id, holder: NONE, base: NONE, offset: 0, stored: 0, raw: 0, codec: Codec::Raw });
        }
        self.slots[slot]
    }

    fn insert(&mut self, entry: &Entry, holder: u32) {
        let base = entry.base.as_ref().map_or(NONE, |base| self.position_or_new(base));
        let at = self.position_or_new(&entry.id) as usize;
        let record = &mut self.records[at];
        let is_absent = record.holder == NONE;
        if is_absent || (record.base != NONE && base == NONE) {
            self.present += usize::from(is_absent);
            *record = Record { id: entry.id, holder, base, offset: entry.offset, stored: entry.stored, raw: entry.raw, codec: entry.codec };
        }
    }

    /// Returns the position of an object that is there.
    pub(super) fn position(&self, id: &ObjectId) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let at = self.slots[self.slot(id)];
        self.records.get(at as usize).filter(|record| record.holder != NONE).map(|_| at)
    }

    /// Returns where the object at a position is, if it is there.
    pub(super) fn at(&self, position: u32) -> Option<Location> {
        let record = self.records.get(position as usize).filter(|record| record.holder != NONE)?;
        let base = self.records.get(record.base as usize).map(|base| base.id);
        let entry = Entry { id: record.id, codec: record.codec, base, offset: record.offset, stored: record.stored, raw: record.raw };
        Some(Location { holder: record.holder, entry })
    }

    pub(super) fn get(&self, id: &ObjectId) -> Option<Location> {
        self.at(self.position(id)?)
    }

    /// Returns the position of what the object at a position is a delta to; none where it is none, or that is not there.
    pub(super) fn base(&self, position: u32) -> Option<u32> {
        let base = self.records.get(position as usize)?.base;
        self.records.get(base as usize).filter(|record| record.holder != NONE).map(|_| base)
    }

    /// Lists what is there, by position.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Location)> {
        (0..NONE).zip(&self.records).filter_map(|(at, _)| Some((at, self.at(at)?)))
    }

    /// Lists ids, without the rest.
    pub(super) fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.records.iter().filter(|record| record.holder != NONE).map(|record| &record.id)
    }

    fn forget(&mut self, is_gone: impl Fn(u32) -> bool) {
        for record in &mut self.records {
            if record.holder != NONE && is_gone(record.holder) {
                record.holder = NONE;
                self.present -= 1;
            }
        }
    }
}

/// All that this process can read.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) holders: Vec<Holder>,
    /// Objects in packs.
    pub(super) durable: Table,
    /// Objects of scratch batches.
    pub(super) scratch: Table,
    /// The packs that are known, with their numbers as holders.
    packs: BTreeMap<PathBuf, u32>,
    /// Those of them whose index was not read yet.
    unread: Vec<PathBuf>,
    /// Whether an index could not be read.
    has_unreadable: bool,
    /// What opens them.
    vault: Option<Vault>,
}

impl Index {
    pub(super) fn new(vault: Option<Vault>) -> Self {
        Self { vault, ..Self::default() }
    }

    pub(super) fn add(&mut self, holder: Holder, entries: Vec<Entry>, is_durable: bool) {
        let number = self.number(holder);
        let table = if is_durable { &mut self.durable } else { &mut self.scratch };
        table.reserve(entries.len());
        for entry in &entries {
            table.insert(entry, number);
        }
    }

    fn number(&mut self, holder: Holder) -> u32 {
        let number = u32::try_from(self.holders.len()).expect("fewer than 2^32 packs are open");
        if let Holder::Pack(path, _) = &holder {
            if let Some(known) = self.packs.get(path).copied() {
                // What it is sealed with is known once its index was read.
                if let Some(place) = self.holders.get_mut(known as usize) {
                    *place = holder;
                }
                return known;
            }
            self.packs.insert(path.clone(), number);
        }
        self.holders.push(holder);
        number
    }

    /// Learns which packs there are now. Tells whether others were known before.
    pub(super) fn follow(&mut self, paths: Vec<PathBuf>) -> bool {
        let mut has_changed = false;
        let is_there = |path: &Path| paths.binary_search_by(|other| other.as_path().cmp(path)).is_ok();
        let mut gone = HashSet::new();
        self.packs.retain(|path, number| is_there(path) || !gone.insert(*number));
        if !gone.is_empty() {
            has_changed = true;
            self.durable.forget(|holder| gone.contains(&holder));
            // What is lost with them may have copies in packs that were read already.
            self.unread = self.packs.keys().cloned().collect();
        }
        for path in paths {
            if !self.packs.contains_key(&path) {
                has_changed = true;
                self.number(Holder::Pack(path.clone(), None));
                self.unread.push(path);
            }
        }
        has_changed
    }

    /// Reads the index of a pack anew.
    pub(super) fn entries_of(&self, path: &Path) -> Result<Vec<Entry>, String> {
        read_pack(path, self.vault.as_ref()).map(|(entries, _)| entries)
    }

    /// Tells whether the index of a pack could not be read.
    pub(super) fn has_unreadable(&self) -> bool {
        self.has_unreadable
    }

    /// Tells whether every pack's index was read.
    pub(super) fn is_read(&self) -> bool {
        self.unread.is_empty()
    }

    /// Reads the indexes that were not read yet. Packs that cannot be opened are left out: what they held is missing, the rest is not.
    pub(super) fn read(&mut self) {
        let paths = std::mem::take(&mut self.unread);
        let threads = match paths.len() {
            ..PARALLEL_PACKS_MIN => 1,
            _ => std::thread::available_parallelism().map_or(1, NonZero::get),
        };
        for some in paths.chunks(PACKS_AT_ONCE * threads) {
            let vault = self.vault.as_ref();
            let read = |paths: &[PathBuf]| -> Vec<_> { paths.iter().map(|path| read_pack(path, vault)).collect() };
            let share = some.len().div_ceil(threads);
            let found: Vec<_> = std::thread::scope(|scope| {
                let mut shares = some.chunks(share);
                let own = shares.next().unwrap_or_default();
                let others: Vec<_> = shares.map(|share| scope.spawn(move || read(share))).collect();
                let mut found = read(own);
                for other in others {
                    found.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                }
                found
            });
            for (path, entries) in some.iter().zip(found) {
                self.has_unreadable |= entries.is_err();
                let (entries, cipher) = entries.unwrap_or_default();
                self.add(Holder::Pack(path.clone(), cipher), entries, true);
            }
        }
    }
}

/// Reads the index of a pack; tells what its payloads are sealed with, if they are.
pub(super) fn read_pack(path: &Path, vault: Option<&Vault>) -> Result<(Vec<Entry>, Option<Arc<Cipher>>), String> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    pack::read_index(&file, vault).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, base: Option<&str>) -> Entry {
        let id = |name: &str| ObjectId::of(name.as_bytes());
        let codec = if base.is_some() { Codec::ZstdPrefix } else { Codec::Raw };
        Entry { id: id(name), codec, base: base.map(id), offset: 8, stored: 1, raw: 1 }
    }

    #[test]
    fn every_object_is_found_and_nothing_else() {
        let mut table = Table::default();
        assert_eq!(table.position(&ObjectId([0; 32])), None);
        for n in 0..5_000 {
            table.insert(&entry(&n.to_string(), None), n);
        }
        for n in 0..5_000_u32 {
            assert_eq!(table.get(&ObjectId::of(n.to_string().as_bytes())).map(|location| location.holder), Some(n));
        }
        assert_eq!(table.position(&ObjectId::of(b"5000")), None);
        assert_eq!((table.positions(), table.ids().count(), table.iter().count()), (5_000, 5_000, 5_000));
    }

    #[test]
    fn a_base_that_is_not_there_is_no_object_until_it_comes() {
        let mut table = Table::default();
        table.insert(&entry("delta", Some("base")), 0);
        let base = ObjectId::of(b"base");
        assert_eq!((table.position(&base), table.base(1)), (None, None));
        assert_eq!(table.get(&ObjectId::of(b"delta")).and_then(|found| found.entry.base), Some(base));
        table.insert(&entry("base", None), 1);
        assert_eq!((table.position(&base), table.base(1)), (Some(0), Some(0)));
    }

    #[test]
    fn a_copy_that_is_no_delta_is_chosen_whichever_came_first() {
        for order in [[0, 1], [1, 0]] {
            let copies = [entry("x", Some("base")), entry("x", None)];
            let mut table = Table::default();
            order.iter().zip(0..).for_each(|(at, holder)| table.insert(&copies[*at], holder));
            assert_eq!(table.get(&ObjectId::of(b"x")).map(|found| found.entry.base), Some(None));
        }
    }

    #[test]
    fn what_a_pack_held_that_is_gone_is_absent_unless_another_has_it() {
        let mut index = Index::default();
        let path = |name: &str| PathBuf::from(name);
        index.add(Holder::Pack(path("a"), None), vec![entry("x", None), entry("y", None)], true);
        index.add(Holder::Pack(path("b"), None), vec![entry("y", None)], true);
        assert!(!index.follow(vec![path("a"), path("b")]));
        let position = index.durable.position(&ObjectId::of(b"y"));
        assert!(index.follow(vec![path("b")]));
        assert_eq!(index.durable.position(&ObjectId::of(b"x")), None);
        assert!(!index.is_read());
        index.add(Holder::Pack(path("b"), None), vec![entry("y", None)], true);
        assert_eq!(index.durable.position(&ObjectId::of(b"y")), position);
    }
}
