//! Freeing the space of what no snapshot needs: marking, planning, and doing it.
//!
//! Everything that a snapshot reaches is marked ([`crate::snapshot::reach`]); the store makes a plan of the marks and carries it out
//! ([`Store::plan_gc`], [`Store::execute_gc`]). Where anything that the walk has to read cannot be read, nothing is freed: what it names
//! would be taken for unneeded.
//!
//! Large values are named by column chunks alone, which are most of a store. They are read only where something is left that nothing
//! reaches, and that could be a large value; and a chunk that was read once is remembered ([`scanned`]).
//!
//! Memory: what the store says of its own ([`GcPlan`]), 32 bytes for each chunk that has to be read and for each long object that nothing
//! reaches, and the nodes and chunks that are being read.

mod scanned;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{OpError, capture};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};
use crate::snapshot::reach::{self, Role, Visitor};
use crate::store::{GcOutcome, GcPlan, LockGuard, Mark, Marks, Store};
use crate::value::LARGE_BYTES;
use scanned::Scanned;

/// How long a pack is condemned before it is deleted, where nobody says otherwise.
pub const GRACE: Duration = Duration::from_secs(60 * 60);

/// How many things that cannot be read are named.
const LOST_MAX: usize = 20;

/// How many chunks are read before it is looked whether that was enough.
const SCANNED_AT_ONCE: usize = 4096;

/// When a plan is made, and what may be deleted.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Now.
    pub now: DateTime<Utc>,
    /// How long ago a pack must have been condemned to be deleted.
    pub grace: Duration,
}

/// Marks what snapshots need, and says what would be freed. Changes nothing but a cache.
///
/// # Errors
/// [`OpError::Unmarkable`] where anything that must be read cannot be; the store's.
pub fn plan(store: &Store, lock: &LockGuard, terms: Terms, progress: &dyn Progress) -> Result<GcPlan, OpError> {
    let marks = mark(store, progress)?;
    Ok(store.plan_gc(lock, &marks, terms.now, terms.grace)?)
}

/// Does what a plan says.
///
/// # Errors
/// The store's. Nothing that is needed is lost then, and the next run finishes.
pub fn execute(store: &Store, lock: &LockGuard, plan: &GcPlan, progress: &dyn Progress) -> Result<GcOutcome, OpError> {
    Ok(store.execute_gc(lock, plan, progress)?)
}

/// Frees what can be freed: [`plan`], then [`execute`].
///
/// # Errors
/// As both.
pub fn run(store: &Store, lock: &LockGuard, terms: Terms, progress: &dyn Progress) -> Result<(GcPlan, GcOutcome), OpError> {
    let plan = plan(store, lock, terms, progress)?;
    let outcome = execute(store, lock, &plan, progress)?;
    Ok((plan, outcome))
}

/// What is needed, as it is found.
struct Needed<'a> {
    store: &'a Store,
    marks: Marks,
    /// Manifests and nodes that were gone into.
    entered: Marks,
    /// Lists of files that were gone into: apart, since the bytes of a file may be those of anything.
    listings: Marks,
    /// Column chunks.
    chunks: Marks,
    lost: Mutex<Vec<String>>,
}

impl Needed<'_> {
    fn lose(&self, what: String) {
        let mut lost = lock(&self.lost);
        if lost.len() < LOST_MAX {
            lost.push(what);
        }
    }

    /// Fails if anything could not be read.
    fn check(&self) -> Result<(), OpError> {
        let mut lost = std::mem::take(&mut *lock(&self.lost));
        lost.sort();
        lost.dedup();
        if lost.is_empty() { Ok(()) } else { Err(OpError::Unmarkable(lost)) }
    }
}

impl Visitor for Needed<'_> {
    fn meet(&self, id: &ObjectId, role: Role) -> bool {
        if self.store.mark(&self.marks, id) == Mark::Missing {
            self.lose(format!("{} {id} is missing", role.word()));
            return false;
        }
        match role {
            Role::Manifest | Role::Node => self.store.mark(&self.entered, id) == Mark::New,
            Role::Chunk => self.store.mark(&self.chunks, id) == Mark::New,
            Role::Listing => self.store.mark(&self.listings, id) == Mark::New,
            Role::Schema | Role::Large | Role::FileBytes => false,
        }
    }

    fn lost(&self, id: &ObjectId, role: Role, why: String) {
        self.lose(format!("{} {id} cannot be read: {why}", role.word()));
    }
}

/// Marks everything that snapshots need.
fn mark(store: &Store, progress: &dyn Progress) -> Result<Marks, OpError> {
    let needed = Needed {
        store,
        marks: store.marks(),
        entered: store.marks(),
        listings: store.marks(),
        chunks: store.marks(),
        lost: Mutex::default(),
    };
    for file in store.unreadable_snapshots()? {
        needed.lose(format!("snapshot file `{file}` cannot be read"));
    }
    let snapshots = store.snapshot_ids()?;
    progress.begin("marking", Some(snapshots.len() as u64), Unit::Objects);
    let advance = Mutex::new(());
    let read = |id: &ObjectId| {
        let snapshot = capture::read_snapshot(store, *id);
        let _one = lock(&advance);
        progress.advance(1);
        snapshot.map_err(|error| needed.lose(format!("snapshot {id} cannot be read: {}", super::with_causes(&error)))).ok()
    };
    reach::walk_all(&snapshots, &read, store, &needed);
    progress.finish();
    needed.check()?;
    mark_large(store, &needed, progress)?;
    store.mark_bases(&needed.marks);
    Ok(needed.marks)
}

/// Marks the large values that are needed, as far as anything that could be one is not marked yet.
fn mark_large(store: &Store, needed: &Needed<'_>, progress: &dyn Progress) -> Result<(), OpError> {
    let is_open = |ids: &[ObjectId]| ids.iter().any(|id| !store.is_marked(&needed.marks, id));
    let unmarked = store.unmarked(&needed.marks, LARGE_BYTES as u64);
    if unmarked.is_empty() {
        return Ok(());
    }
    let scanned = Scanned::read(store, &needed.chunks, needed);
    let left = store.marked_but(&needed.chunks, scanned.marks());
    let mut candidates = unmarked;
    // What nothing reaches is looked at only where that is less work than to read the chunks.
    if candidates.len() < left.len() {
        progress.begin("looking for large values", Some(candidates.len() as u64), Unit::Objects);
        let mut perhaps = Vec::new();
        for some in candidates.chunks(SCANNED_AT_ONCE) {
            perhaps.extend(reach::perhaps_large(some, store));
            progress.advance(some.len() as u64);
        }
        progress.finish();
        candidates = perhaps;
    }
    progress.begin("looking for large values", Some(left.len() as u64), Unit::Objects);
    for some in left.chunks(SCANNED_AT_ONCE) {
        if !is_open(&candidates) {
            break;
        }
        reach::scan(some, store, needed, &|chunk, large| scanned.remember(chunk, large));
        progress.advance(some.len() as u64);
    }
    progress.finish();
    needed.check()?;
    scanned.write();
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left a plain list behind, which is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
