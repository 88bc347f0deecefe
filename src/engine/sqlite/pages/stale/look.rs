//! Leaves against what is remembered of them, on all cores.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::Odd;
use super::super::memory::Mark;
use super::super::rows::{Rows, read_pages};
use super::super::source::Source;
use super::super::structure::LeafCheck;
use super::super::table::Table;
use super::{Alignment, ENDLESS, LeafState};
use crate::rows::TableShape;

/// Fewer leaves are not worth another share of the work.
const SHARE_LEAVES_MIN: usize = 512;

/// In how many shares each thread's part of the work is divided.
const SHARES_PER_THREAD: usize = 16;

/// The most threads that look at leaves.
const THREADS_MAX: usize = 16;

/// What was remarkable in leaves that were looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Remarks {
    /// Whether a record has more fields than there are columns.
    pub has_surplus: bool,
    /// Whether the structure of a leaf is odd.
    pub is_unchecked: bool,
}

/// What was found in some leaves: those that changed, and what is remarkable in them.
#[derive(Default)]
pub(super) struct Looked {
    pub changed: Vec<Changed>,
    pub remarks: Remarks,
}

/// A leaf that changed.
pub(super) struct Changed {
    pub place: usize,
    pub state: LeafState,
    pub mark: Mark,
    /// The hashes of its columns.
    pub hashes: Vec<u128>,
}

/// Compares leaves with their marks on all cores, and marks those anew that changed. None where most did.
pub(super) fn look(
    table: &Table,
    source: &Source,
    shape: &TableShape,
    marks: &[Mark],
    places: &Alignment,
    wanted: &[u32],
) -> Result<Option<Vec<Looked>>, Odd> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, THREADS_MAX);
    // Small enough that nobody ends long after the others.
    let share = wanted.len().div_ceil(threads * SHARES_PER_THREAD).max(SHARE_LEAVES_MIN);
    let changed_max = marks.len() / 2 + SHARE_LEAVES_MIN;
    let changed = AtomicUsize::new(0);
    let work = |wanted: &[u32]| -> Result<Option<Looked>, Odd> {
        let mut found = Looked::default();
        let mut rows = Rows::new(table, source, shape, ENDLESS);
        let mut check = LeafCheck::new(source);
        let pages: Vec<u32> = wanted.iter().filter_map(|place| table.leaves.get(*place as usize)).copied().collect();
        let mut wanted = wanted.iter();
        let flow = read_pages(source, &pages, &mut |number, bytes| {
            let place = *wanted.next().ok_or_else(|| Odd::new("a leaf is not there"))? as usize;
            let mark = marks.get(place).ok_or_else(|| Odd::new("a leaf is not there"))?;
            let is_old = places.is_old(place);
            if is_old && rows.hash_leaf(number, bytes, mark.overflows)? == mark.hash {
                return Ok(ControlFlow::Continue(()));
            }
            // A builder of its own, since what it collects is of no use.
            let mut reader = Rows::new(table, source, shape, ENDLESS);
            let now =
                reader.read_leaf(number, bytes, &mut |_| ControlFlow::Continue(()))?.ok_or_else(|| Odd::new("a leaf is not there"))?;
            let is_edited = is_old && (now.cuts, now.rows) == (mark.cuts, mark.rows);
            found.remarks.has_surplus |= reader.has_surplus;
            found.remarks.is_unchecked |= table.check_leaf(&mut check, place, number, bytes).is_err();
            let state = if is_edited { LeafState::Edited } else { LeafState::Recut };
            found.changed.push(Changed { place, state, mark: now, hashes: std::mem::take(&mut reader.hashes) });
            let changed = changed.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(if changed > changed_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(flow.is_continue().then_some(found))
    };
    let shares: Vec<&[u32]> = wanted.chunks(share).collect();
    let next = AtomicUsize::new(0);
    let some = || -> Result<Option<Vec<(usize, Looked)>>, Odd> {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(wanted) = shares.get(at) else { return Ok(Some(done)) };
            match work(wanted)? {
                Some(looked) => done.push((at, looked)),
                None => return Ok(None),
            }
        }
    };
    let done = std::thread::scope(|scope| {
        let beside: Vec<_> = (1..threads.min(shares.len())).map(|_| scope.spawn(some)).collect();
        let own = some();
        let others = beside.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Odd::new("a reader ended before its time"))));
        std::iter::once(own).chain(others.collect::<Vec<_>>()).collect::<Result<Option<Vec<_>>, Odd>>()
    })?;
    let Some(done) = done else { return Ok(None) };
    let mut looked: Vec<(usize, Looked)> = done.into_iter().flatten().collect();
    looked.sort_unstable_by_key(|(at, _)| *at);
    Ok(Some(looked.into_iter().map(|(_, looked)| looked).collect()))
}
