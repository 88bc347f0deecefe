//! Freeing space: which packs hold what nothing needs, writing anew what they hold besides, and deleting them in two phases.
//!
//! What is needed is for those to say who can read snapshots: they mark objects ([`Store::mark`]). From the marks follows a plan
//! ([`Store::plan_gc`], which changes nothing), and [`Store::execute_gc`] does what it says. Both run under the project lock.
//!
//! ## Order of steps
//! 1. What is needed of packs that are not kept is copied into new ones, which are published and read back as any pack. A pack whose bytes
//!    do not have its id is neither copied from nor condemned: what is copied are the bytes that were proven when they were written.
//! 2. `condemned.json` is written: every pack without anything that is needed and is not elsewhere, with the time when that was found first.
//!    Condemned packs stay readable.
//! 3. Packs that were condemned at least the grace period ago, and that this run's marks find unneeded too, are deleted one by one, if no
//!    reader holds a lease ([`super::lease`]); then `condemned.json` is written again.
//!
//! A run that dies leaves duplicates, which the next run finds unneeded, or entries of packs that are gone, which it drops. A snapshot that
//! uses what only a condemned pack has makes it one that is needed: the next run takes it out of `condemned.json`.
//!
//! ## Which copy is kept
//! Of an object in several packs exactly one copy counts as needed: that of the pack with the largest needed share, condemned packs last. A
//! delta counts only with the base that the index has for it, and only where no copy is whole, since bases must be whole.
//!
//! ## Memory
//! Besides the index (about 80 bytes an object): one bit an object for each kind of marks, four bytes an object for the copy that is kept, and
//! the index of one pack.

mod execute;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::index::{Index, Location};
use super::pack::{Entry, PACK_BYTES_MAX};
use super::{LockGuard, Store, StoreError};
use crate::id::ObjectId;

pub use execute::GcOutcome;

/// The share of a pack, as one in so many bytes, that may be unneeded before the pack is written anew.
pub const DEAD_SHARE_MAX: u64 = 5;

/// A pack below this size is small.
const SMALL_BYTES_MAX: u64 = PACK_BYTES_MAX / 4;

/// More small packs than this are merged.
const SMALL_PACKS_MAX: usize = 16;

/// No pack.
const NONE: u32 = u32::MAX;

/// A set of objects: one bit for each position of the index. May be filled from many threads.
#[derive(Debug)]
pub struct Marks {
    bits: Vec<AtomicU64>,
}

/// What came of marking an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It was not marked before.
    New,
    /// It was.
    Known,
    /// No pack has it.
    Missing,
}

impl Marks {
    fn set(&self, position: u32) -> Mark {
        let bit = 1_u64 << (position % 64);
        match self.bits.get(position as usize / 64) {
            None => Mark::Missing,
            Some(word) if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 => Mark::New,
            Some(_) => Mark::Known,
        }
    }

    fn has(&self, position: u32) -> bool {
        self.bits.get(position as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (position % 64) & 1 == 1)
    }

    /// Returns how many objects are marked.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PackAction {
    /// It stays.
    Keep,
    /// What is needed of it is written anew, and it is condemned.
    Repack,
    /// It is condemned, or stays so; or deleted, where it has been for long enough.
    Drop,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PackReason {
    /// All of it is needed, or nearly all.
    Needed,
    /// It cannot be read, so it is left alone.
    Damaged,
    /// More of it is unneeded than may be.
    DeadShare,
    /// It is one of many small ones.
    Small,
    /// Nothing in it is needed that is not in another.
    Unneeded,
}

/// What is planned for a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackPlan {
    /// The pack.
    pub pack: ObjectId,
    /// The size of its file.
    pub bytes: u64,
    /// Objects in it that are needed, and their stored bytes.
    pub live: u64,
    /// See `live`.
    pub live_bytes: u64,
    /// Objects in it that are not needed, or needed and kept elsewhere, and their stored bytes.
    pub dead: u64,
    /// See `dead`.
    pub dead_bytes: u64,
    /// What is done.
    pub action: PackAction,
    /// Why.
    pub reason: PackReason,
    /// Since when it is condemned, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condemned: Option<String>,
    /// Whether that is long enough ago for it to be deleted.
    pub is_due: bool,
    #[serde(skip)]
    path: PathBuf,
}

/// The sums of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GcTotals {
    /// Packs that there are, and the sizes of their files.
    pub packs: u64,
    /// See `packs`.
    pub bytes: u64,
    /// Objects that are needed.
    pub live: u64,
    /// What nothing needs: stored bytes of objects.
    pub dead_bytes: u64,
    /// Packs of which something is written anew, and how many bytes of objects.
    pub repacked: u64,
    /// See `repacked`.
    pub repacked_bytes: u64,
    /// Packs without anything that is needed.
    pub dropped: u64,
    /// How much smaller the store is when all that was repacked or dropped is deleted.
    pub freed_bytes: u64,
    /// Packs that are deleted by this run, and the sizes of their files. With no grace period those that are repacked too.
    pub due: u64,
    /// See `due`.
    pub due_bytes: u64,
}

/// What freeing space would do.
#[derive(Debug)]
pub struct GcPlan {
    /// Every pack; of two that hold the same object the earlier keeps it.
    pub packs: Vec<PackPlan>,
    /// The sums.
    pub totals: GcTotals,
    /// For each position the pack whose copy is kept.
    owners: Vec<u32>,
    condemned: BTreeMap<ObjectId, DateTime<Utc>>,
    now: DateTime<Utc>,
    grace: Duration,
}

/// One pack on the way to its plan.
struct Facts {
    plan: PackPlan,
    stored: u64,
}

impl Store {
    /// Makes an empty set of objects. It has room for what is in the store now.
    pub fn marks(&self) -> Marks {
        let words = self.index().durable.positions().div_ceil(64);
        Marks { bits: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Marks an object.
    pub fn mark(&self, marks: &Marks, id: &ObjectId) -> Mark {
        self.index().durable.position(id).map_or(Mark::Missing, |position| marks.set(position))
    }

    /// Tells whether an object is marked.
    pub fn is_marked(&self, marks: &Marks, id: &ObjectId) -> bool {
        self.index().durable.position(id).is_some_and(|position| marks.has(position))
    }

    /// Marks what the deltas among the marked objects need.
    pub fn mark_bases(&self, marks: &Marks) {
        let index = self.index();
        let count = u32::try_from(index.durable.positions()).unwrap_or(NONE);
        for position in (0..count).filter(|position| marks.has(*position)) {
            if let Some(base) = index.durable.base(position) {
                marks.set(base);
            }
        }
    }

    /// Lists marked objects that another set does not have, in the order in which they stand in packs.
    pub fn marked_but(&self, marks: &Marks, but: &Marks) -> Vec<ObjectId> {
        self.listed(|position, _| marks.has(position) && !but.has(position))
    }

    /// Lists objects that are not marked and have more than so many bytes of JSON.
    pub fn unmarked(&self, marks: &Marks, raw_bytes: u64) -> Vec<ObjectId> {
        self.listed(|position, location| location.entry.raw > raw_bytes && !marks.has(position))
    }

    fn listed(&self, is_wanted: impl Fn(u32, &Location) -> bool) -> Vec<ObjectId> {
        let index = self.index();
        index.durable.iter().filter(|(position, location)| is_wanted(*position, location)).map(|(_, location)| location.entry.id).collect()
    }

    /// Says for each pack what is to be done with it, if what is marked is needed, and nothing else; bases *must* be marked.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Missing`] where no pack that can be read has what is marked; [`StoreError::Key`] while the encryption changes.
    pub fn plan_gc(&self, _: &LockGuard, marks: &Marks, now: DateTime<Utc>, grace: Duration) -> Result<GcPlan, StoreError> {
        if self.is_unsettled() {
            return Err(StoreError::Key(
                "a change of the encryption was begun and is not done; `dbelay key resume` goes on with it".to_owned(),
            ));
        }
        let condemned = self.condemned(now)?;
        let index = self.index();
        let mut packs = Vec::new();
        for path in self.pack_paths()? {
            let bytes = path.metadata().map_err(|source| StoreError::io("reading", &path, source))?.len();
            let since = pack_id(&path).and_then(|pack| condemned.get(&pack));
            packs.extend(facts(&index, marks, path, bytes, since));
        }
        // The best holder of an object is asked first.
        packs.sort_by_key(|Facts { plan, stored }| {
            let needed = u128::from(plan.live_bytes) * 1_000_000 / u128::from((*stored).max(1));
            (plan.condemned.is_some(), Reverse(needed), Reverse(plan.bytes), plan.pack)
        });
        let mut owners = vec![NONE; index.durable.positions()];
        for (number, Facts { plan, .. }) in (0..).zip(&mut packs) {
            if plan.reason != PackReason::Damaged {
                claim(&index, marks, plan, number, &mut owners);
            }
        }
        for (position, owner) in (0..).zip(&owners) {
            if *owner == NONE && marks.has(position) {
                let id = index.durable.at(position).map_or(ObjectId([0; 32]), |location| location.entry.id);
                return Err(StoreError::Missing(id));
            }
        }
        drop(index);
        let mut packs: Vec<PackPlan> = packs.into_iter().map(|facts| facts.plan).collect();
        decide(&mut packs, now, grace);
        let totals = totals(&packs, marks.count(), grace);
        Ok(GcPlan { packs, totals, owners, condemned, now, grace })
    }
}

/// Returns the position of an object if this copy of it can stand for it: a delta only where no copy is whole, and with the base that is known.
fn copy_of(index: &Index, entry: &Entry) -> Option<u32> {
    let position = index.durable.position(&entry.id)?;
    let known = index.durable.at(position)?.entry;
    (known.base == entry.base).then_some(position)
}

fn pack_id(path: &Path) -> Option<ObjectId> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn is_due(since: DateTime<Utc>, now: DateTime<Utc>, grace: Duration) -> bool {
    (now - since).to_std().is_ok_and(|age| age >= grace)
}

/// Looks at a pack: how much of it could be kept.
fn facts(index: &Index, marks: &Marks, path: PathBuf, bytes: u64, since: Option<&DateTime<Utc>>) -> Option<Facts> {
    let pack = pack_id(&path)?;
    let entries = index.entries_of(&path);
    let reason = if entries.is_ok() { PackReason::Needed } else { PackReason::Damaged };
    let entries = entries.unwrap_or_default();
    let live = entries.iter().filter(|entry| copy_of(index, entry).is_some_and(|position| marks.has(position)));
    let live_bytes = live.map(|entry| entry.stored).sum();
    let stored = entries.iter().map(|entry| entry.stored).sum();
    let plan = PackPlan {
        pack,
        bytes,
        live: 0,
        live_bytes,
        dead: entries.len() as u64,
        dead_bytes: stored,
        action: PackAction::Keep,
        reason,
        condemned: since.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)),
        is_due: false,
        path,
    };
    Some(Facts { plan, stored })
}

/// Gives a pack what it can keep and no other has been given yet.
fn claim(index: &Index, marks: &Marks, plan: &mut PackPlan, number: u32, owners: &mut [u32]) {
    (plan.live, plan.live_bytes, plan.dead, plan.dead_bytes) = (0, 0, 0, 0);
    for entry in index.entries_of(&plan.path).unwrap_or_default() {
        let position = copy_of(index, &entry).filter(|position| marks.has(*position));
        let owner = position.and_then(|position| owners.get_mut(position as usize)).filter(|owner| **owner == NONE);
        if let Some(owner) = owner {
            *owner = number;
            plan.live += 1;
            plan.live_bytes += entry.stored;
        } else {
            plan.dead += 1;
            plan.dead_bytes += entry.stored;
        }
    }
}

/// Decides what becomes of each pack.
fn decide(packs: &mut [PackPlan], now: DateTime<Utc>, grace: Duration) {
    for pack in packs.iter_mut().filter(|pack| pack.reason != PackReason::Damaged) {
        if pack.live == 0 {
            (pack.action, pack.reason) = (PackAction::Drop, PackReason::Unneeded);
            let since = pack.condemned.as_deref().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
            pack.is_due = is_due(since.map_or(now, |time| time.to_utc()), now, grace);
        } else if pack.dead_bytes.saturating_mul(DEAD_SHARE_MAX) > pack.live_bytes.saturating_add(pack.dead_bytes) {
            (pack.action, pack.reason) = (PackAction::Repack, PackReason::DeadShare);
        }
    }
    let is_small = |pack: &PackPlan| pack.reason == PackReason::Needed && pack.bytes < SMALL_BYTES_MAX;
    if packs.iter().filter(|pack| is_small(pack)).count() > SMALL_PACKS_MAX {
        for pack in packs.iter_mut().filter(|pack| is_small(pack)) {
            (pack.action, pack.reason) = (PackAction::Repack, PackReason::Small);
        }
    }
}

fn totals(packs: &[PackPlan], live: u64, grace: Duration) -> GcTotals {
    let mut totals = GcTotals { live, ..GcTotals::default() };
    let mut written = 0;
    for pack in packs {
        totals.packs += 1;
        totals.bytes += pack.bytes;
        totals.dead_bytes += pack.dead_bytes;
        match pack.action {
            PackAction::Keep => {}
            PackAction::Repack => {
                totals.repacked += 1;
                totals.repacked_bytes += pack.live_bytes;
                totals.freed_bytes += pack.bytes;
                written += pack.live_bytes;
            }
            PackAction::Drop => {
                totals.dropped += 1;
                totals.freed_bytes += pack.bytes;
            }
        }
        if pack.is_due || (pack.action == PackAction::Repack && grace.is_zero()) {
            totals.due += 1;
            totals.due_bytes += pack.bytes;
        }
    }
    totals.freed_bytes = totals.freed_bytes.saturating_sub(written);
    totals
}
